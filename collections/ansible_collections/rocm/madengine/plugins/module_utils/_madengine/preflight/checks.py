# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold on a node before jobs come: one judgement for each thing that `probes` saw. Nothing here looks at a node.

A check is ``ok``, ``warn`` (jobs run, but slower, or soon no more) or ``fail`` (a job that comes here will fail), and says
what was seen and what to do. What only several nodes together can tell is in `cluster_checks`.

Source: architecture.md's fault policy; NHC's form of a check, "seen (should match)".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Set, Tuple, Union

from ..core.errors import Fault
from ..hooks import config
from ..peers import addresses
from ..slurm import settings

OK, WARN, FAIL = "ok", "warn", "fail"
STATUSES = (OK, WARN, FAIL)  # from good to bad
_SHOWN = 12
_OLDEST_PYTHON = (3, 9)
_APPLY = "apply rocm.madengine.site to this node"
_WITHOUT = {
    "Prolog": "SLURM drains this node at its next job",
    "Epilog": "SLURM drains this node at its next job's end",
    "TaskProlog": "every task of every job fails on this node",
}

Facts = Mapping[str, Any]
Outcome = Union[Facts, Fault]


@dataclass(frozen=True)
class Check:
    """One thing on one node, judged.

    :param name: one of `NAMES`.
    :param status: ``ok``, ``warn`` or ``fail``.
    :param seen: what was found, in a few words, with its values.
    :param remedy: the next step, as an imperative; empty if the check is ok.
    """

    name: str
    status: str
    seen: str
    remedy: str = ""

    def to_dict(self) -> Dict[str, str]:
        return {"name": self.name, "status": self.status, "seen": self.seen, "remedy": self.remedy}


@dataclass(frozen=True)
class Wanted:
    """What the site asks of a node.

    :param site: what hooks.conf says, as the hooks of the node read it.
    :param free_gib: less free space than this is a warning; less than *least_free_gib* is a failure.
    :param store_mb_per_second: a store that is slower is a warning.
    """

    site: config.Site = field(default_factory=config.Site)
    prolog: str = "/etc/slurm/prolog.d/*"
    epilog: str = "/etc/slurm/epilog.d/*"
    task_prolog: str = "/etc/slurm/task_prolog"
    free_gib: float = 50.0
    least_free_gib: float = 5.0
    store_mb_per_second: float = 100.0


def judge(probe: str, outcome: Outcome, wanted: Wanted) -> List[Check]:
    """Return the checks that follow from what *probe* found, or from the fault that kept it from finding anything.

    :param probe: a key of `JUDGES`.
    """
    if isinstance(outcome, Fault):
        return [failed(probe, outcome)]
    return JUDGES[probe](outcome, wanted)


def failed(name: str, fault: Fault) -> Check:
    """Return *fault* as a failed check."""
    values = ", ".join(f"{key}={value}" for key, value in fault.seen.items())
    return Check(name, FAIL, fault.what + (f" ({values})" if values else ""), fault.remedy)


def worst(statuses: Any) -> str:
    """Return the worst of *statuses*; ``ok`` if there are none.

    >>> worst(["ok", "fail", "warn"])
    'fail'
    """
    return max(statuses, key=STATUSES.index, default=OK)


def _docker(seen: Facts, wanted: Wanted) -> List[Check]:
    if not seen:
        return [Check("docker", WARN, "users have daemons of their own, and none of them was named", "name some in preflight_users")]
    kind = "containerd" if seen["is_containerd"] else "classic"
    return [
        Check("docker", OK, f"Docker {seen['version']}"),
        Check("docker_store", OK, f"{kind}, {seen['driver']}"),
        *_spaces(seen["free_gib"], wanted),
    ]


def _spaces(free: Mapping[str, float], wanted: Wanted) -> List[Check]:
    if not free:
        return [Check("docker_space", WARN, "Docker's directory is not to be seen from here", "look at its free space yourself")]
    return [_space("docker_space", path, gib, wanted) for path, gib in free.items()]


def _space(name: str, path: str, gib: float, wanted: Wanted) -> Check:
    seen = f"{gib:.1f} GiB free of {path}"
    if gib < wanted.least_free_gib:
        return Check(name, FAIL, seen, f"free space: a job needs {wanted.least_free_gib:g} GiB at the least")
    if gib < wanted.free_gib:
        return Check(name, WARN, seen, f"free space: {wanted.free_gib:g} GiB are what the site wants")
    return Check(name, OK, seen)


def _pigz(seen: Facts, wanted: Wanted) -> List[Check]:
    if seen["path"]:
        return [Check("pigz", OK, str(seen["path"]))]
    return [Check("pigz", WARN, "no unpigz: Docker unpacks compressed layers on one core", "install the package pigz")]


def _python(seen: Facts, wanted: Wanted) -> List[Check]:
    version = tuple(int(part) for part in str(seen["version"]).split("."))
    shown = f"Python {seen['version']}, Docker SDK {seen['docker'] or 'missing'}"
    if version < _OLDEST_PYTHON:
        return [Check("python", FAIL, shown, "set Python in hooks.conf to one of version 3.9 or newer")]
    if not seen["docker"]:
        return [Check("python", FAIL, shown, "install the package python3-docker")]
    return [Check("python", OK, shown)]


def _settings(seen: Facts, wanted: Wanted) -> List[Check]:
    if seen["is_disabled"]:
        return [Check("settings", WARN, f"{config.DISABLED} switches the hooks off", f"remove {config.DISABLED} when jobs may come")]
    if not seen["is_there"]:
        return [Check("settings", WARN, f"no {config.PATH}: the defaults hold", _APPLY)]
    if not wanted.site.enabled:
        return [Check("settings", WARN, "Enabled=no switches the hooks off", "write Enabled=yes into hooks.conf when jobs may come")]
    return [Check("settings", OK, str(seen["path"]))]


def _release(seen: Facts, wanted: Wanted) -> List[Check]:
    if not seen["current"]:
        return [Check("release", FAIL, "no release of the hooks is installed", _APPLY)]
    if seen["broken"]:
        return [Check("release", FAIL, f"{seen['current']} is broken: {seen['broken']}", _APPLY)]
    if seen["missing"]:
        return [Check("release", FAIL, f"missing: {shortened(seen['missing'])}", _APPLY)]
    return [Check("release", OK, str(seen["current"]))]


def _programs(seen: Facts, wanted: Wanted) -> List[Check]:
    ours = (wanted.prolog, wanted.epilog, wanted.task_prolog)
    bad = [
        Check("programs", FAIL, f"{key} {path} {reason}: {_WITHOUT[key]}", _APPLY if path in ours else _placed(path))
        for key, found in seen["bad"].items()
        for path, reason in found.items()
    ]
    return bad or [Check("programs", OK, f"all that {seen['conf'] or 'SLURM'} names can be started")]


def _placed(path: str) -> str:
    if not path.startswith("/"):
        return "give its full path in slurm.conf"
    return "place it on this node, readable and executable for all (mode 0755), or take it out of slurm.conf"


def _slurm(seen: Facts, wanted: Wanted) -> List[Check]:
    deadline, site = wanted.site.deadline_seconds, wanted.site
    needs_sbcast = site.transport == "sbcast" or (site.transport == "auto" and not site.image_store)
    cluster = settings.Cluster(bool(seen.get("is_exclusive")), needs_sbcast)
    problems = settings.judge(seen["settings"], wanted.prolog, wanted.epilog, wanted.task_prolog, deadline, cluster)
    if problems:
        remedy = "change slurm.conf, then `scontrol reconfigure`"
        return [Check("slurm", FAIL, str(problem), remedy) for problem in problems]
    return [Check("slurm", OK, f"flags and timers fit Deadline={deadline:g}")]


def _key(seen: Facts, wanted: Wanted) -> List[Check]:
    return [Check("key", OK, f"Auth={wanted.site.auth}")]


def _ports(seen: Facts, wanted: Wanted) -> List[Check]:
    low, high = wanted.site.port_range
    taken = {int(port): str(holder) for port, holder in seen["taken"].items()}
    if any(_has_no_port(wanted.site.port_range, set(taken), job_id) for job_id in range(high - low + 1)):
        return [Check("ports", FAIL, f"a job finds no port: {_holders(taken)}", "stop who holds them, or set another PortRange everywhere")]
    if taken:
        return [Check("ports", WARN, f"taken: {_holders(taken)}", "stop who holds them, or set another PortRange everywhere")]
    if seen["is_open_to_users"]:
        remedy = "set the sysctl net.ipv4.ip_unprivileged_port_start back to 1024, or know that users can stand in a job's way"
        return [Check("ports", WARN, f"users can bind ports of {low}-{high}", remedy)]
    if seen["handed_out"]:
        remedy = f"add {low}-{high} to the sysctl net.ipv4.ip_local_reserved_ports, or set another PortRange"
        return [Check("ports", WARN, f"the kernel hands out {seen['handed_out']} ports of {low}-{high} to anybody", remedy)]
    return [Check("ports", OK, f"{low}-{high} are free")]


def _has_no_port(ports: Tuple[int, int], taken: Set[int], job_id: int) -> bool:
    return taken.issuperset(addresses.candidates(ports, job_id))


def _holders(taken: Mapping[int, str]) -> str:
    return shortened(f"{port} by {holder or 'somebody'}" for port, holder in sorted(taken.items()))


def _store(seen: Facts, wanted: Wanted) -> List[Check]:
    if not seen:
        if wanted.site.transport == "shared":
            return [Check("store", FAIL, "Transport=shared and no ImageStore", "set ImageStore, or Transport=auto")]
        return [Check("store", OK, "none: images travel by sbcast or a registry")]
    return [_space("store", seen["path"], seen["free_gib"], wanted), *_speed(seen, wanted)]


def _speed(seen: Facts, wanted: Wanted) -> List[Check]:
    if not seen["write_mb_per_second"]:
        return []
    shown = f"writes {seen['write_mb_per_second']:.0f} MB/s, reads {seen['read_mb_per_second']:.0f} MB/s"
    if min(seen["write_mb_per_second"], seen["read_mb_per_second"]) < wanted.store_mb_per_second:
        remedy = f"look at the share's load, mount options and network ({wanted.store_mb_per_second:g} MB/s are what the site wants)"
        return [Check("store_speed", WARN, shown, remedy)]
    return [Check("store_speed", OK, shown)]


def _own_name(seen: Facts, wanted: Wanted) -> List[Check]:
    if not seen["addresses"]:
        return [Check("names", FAIL, "this node has no address but the loopback", "connect it to the cluster's network")]
    if not seen["named_so"]:
        return [Check("names", FAIL, f"this node cannot resolve its own {_name(seen)}", "add it to DNS or /etc/hosts")]
    if seen["is_loopback"]:
        remedy = f"give {seen['node']} its real address in this node's /etc/hosts"
        return [Check("names", WARN, f"its own name leads to {shortened(seen['named_so'])} here, which no peer can reach", remedy)]
    return [Check("names", OK, f"{seen['node']} is {shortened(seen['named_so'])}")]


def _name(seen: Facts) -> str:
    return f"name {seen['node']}" if seen["address"] == seen["node"] else f"NodeAddr {seen['address']} ({seen['node']})"


def _madengine(seen: Facts, wanted: Wanted) -> List[Check]:
    if not seen:
        return [Check("madengine", OK, "not installed here")]
    if seen["status"] != 0:
        shown = f"madengine --version ended with status {seen['status']}: {seen['said']}"
        return [Check("madengine", FAIL, shown, "install madengine anew, so that every user can run it")]
    if seen["left"]:
        remedy = "update madengine, or do not let jobs set MODEL_DIR"
        return [Check("madengine", WARN, f"madengine --version leaves files: {shortened(seen['left'])}", remedy)]
    return [Check("madengine", OK, str(seen["said"]))]


def _users(seen: Facts, wanted: Wanted) -> List[Check]:
    checks = []
    unknown, barred = seen["unknown"], seen["barred"]
    if unknown:
        checks.append(Check("users", FAIL, f"this node does not know {shortened(unknown)}", "see that its directory service answers"))
    if barred:
        remedy = f"add them to the group {seen['group']}, or set DockerAccess=service"
        if not seen["group"]:
            remedy = "let them start a Docker of their own on this node, and linger (`loginctl enable-linger`)"
        checks.append(Check("users", FAIL, f"no Docker access: {shortened(barred)}", remedy))
    return checks or [Check("users", OK, shortened(seen["may"]) or "nobody was asked about")]


_Judge = Callable[[Facts, Wanted], List[Check]]
# Every check that a report can hold, in its order, and what judges the probe of its name. None: it comes out of the row
# before, out of the comparison of the nodes, or (`node`) out of no answer at all.
_ROWS: Tuple[Tuple[str, Optional[_Judge]], ...] = (
    ("node", None),
    ("docker", _docker),
    ("docker_store", None),
    ("docker_space", None),
    ("pigz", _pigz),
    ("python", _python),
    ("users", _users),
    ("settings", _settings),
    ("release", _release),
    ("slurm", _slurm),
    ("programs", _programs),
    ("key", _key),
    ("ports", _ports),
    ("clock", None),
    ("names", _own_name),
    ("store", _store),
    ("store_speed", None),
    ("madengine", _madengine),
)
NAMES = tuple(name for name, _judge in _ROWS)
JUDGES: Dict[str, _Judge] = {name: judge for name, judge in _ROWS if judge is not None}


def shortened(words: Iterable[str]) -> str:
    """Return *words* for a line of the table: the first as they are, the rest by number.

    >>> shortened(["n17", "n23"])
    'n17, n23'
    """
    every = list(words)
    rest = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
