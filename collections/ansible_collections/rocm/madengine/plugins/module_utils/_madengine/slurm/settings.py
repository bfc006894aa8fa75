# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's settings: what ``scontrol show config`` says, and which of it the hooks cannot live with.

Source: slurm.conf(5), "PrologFlags", "BatchStartTimeout", "AuthInfo", "PrologEpilogTimeout"; prolog and epilog guide.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from ..core import files, process
from ..core.errors import JobFault

_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_/]*(?:\[[0-9]+\])?)\s*= ?(.*)")
_NUMBERED = re.compile(r"(Prolog|Epilog)\[[0-9]+\]")
_INFINITE = 65533  # SLURM prints NO_VAL16 or INFINITE16 for "no limit"
_A_DAY = 86400
MARGIN_SECONDS = 30
OLDEST = (22, 5)  # the first that tells a prolog the job's comment and output; none older was tried
# The controller adds Alloc to each of these (measured with 24.11.5; X11: slurm.conf(5)), yet not to Serial, and to DeferBatch
# only in new releases.
_ALLOC = {"alloc", "contain", "forcerequeueonfail", "nohold", "runinjob", "x11"}
_DEFERS_BY_ALLOC = (26, 5)
_VERSION_SECONDS = 5.0
_VERSION = re.compile(r"(?<![0-9.])([0-9]{2})\.([0-9]{2})(?![0-9])")
_LARGEST_BYTES = 16 << 20
_FLAGS = re.compile(r'(?:^|\s)PrologFlags\s*=\s*("[^"]*"|\S*)', re.IGNORECASE)  # several settings may share a line
_INCLUDE = re.compile(r"^\s*include\s", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Problem:
    """One setting that does not fit: what it is, what it should be, and what goes wrong otherwise.

    :param is_the_sites: whether it is the site's to change: `slurm_conf.merged` leaves it as it is.
    """

    key: str
    seen: str
    wanted: str
    reason: str
    is_the_sites: bool = False

    def __str__(self) -> str:
        return f"{self.key}={self.seen or '(null)'} should be {self.wanted}: {self.reason}"


def parse(text: str) -> Dict[str, str]:
    """Return the settings that ``scontrol show config`` printed; ``(null)`` becomes an empty text.

    >>> parse("PrologFlags             = Alloc,DeferBatch")
    {'PrologFlags': 'Alloc,DeferBatch'}
    """
    settings: Dict[str, str] = {}
    for line in text.splitlines():
        # 24.11 prints Prolog[0], Prolog[1], … where 22.05 printed Prolog; 25.05 knows PrologTimeout beside PrologEpilogTimeout.
        match = _LINE.fullmatch(_NUMBERED.sub(r"\1", line).rstrip())
        if match and not (match.group(1) in settings and match.group(1) not in ("Prolog", "Epilog")):
            value = "" if match.group(2) == "(null)" else match.group(2)
            before = settings.get(match.group(1))
            settings[match.group(1)] = f"{before},{value}" if before else value
    return settings


@dataclass(frozen=True)
class Cluster:
    """What beside the settings themselves decides whether they fit.

    :param is_exclusive: whether no two jobs ever share a node.
    :param needs_sbcast: whether images may have to travel by SLURM's broadcast.
    """

    is_exclusive: bool = False
    needs_sbcast: bool = False


def judge(
    settings: Mapping[str, str], prolog: str, epilog: str, task_prolog: str, deadline_seconds: float, cluster: Cluster = Cluster()
) -> List[Problem]:
    """Return what must be changed before the hooks can work, in the order of slurm.conf's manual; empty if nothing.

    :param prolog: the value that ``Prolog`` must hold, e.g. ``/etc/slurm/prolog.d/*``; the others likewise.
    :param deadline_seconds: the longest that our prolog may take; SLURM's own timers must lie behind it.
    :returns: of a SLURM that is too old that one thing, for all others follow from it.
    :raises JobFault: no prolog may take that long.
    """
    if not 0 < deadline_seconds < _A_DAY:
        raise JobFault("slurm: not a deadline", "give seconds, more than 0 and less than a day", deadline=deadline_seconds)
    old = _release(settings)
    if old:
        return [old]
    least = math.ceil(deadline_seconds) + MARGIN_SECONDS
    found = [
        _timer(settings, "BatchStartTimeout", least, "the controller gives a batch job up while its prolog still works"),
        _credential(settings, least),
        _program(settings, "Epilog", epilog, "the epilog would never run: nothing is gathered, nothing cleaned"),
        _namespace(settings, cluster),
        _program(settings, "Prolog", prolog, "the prolog would never run"),
        _timer(settings, "PrologEpilogTimeout", least, "SLURM kills the prolog before its own deadline, and drains the node"),
        _timer(settings, "PrologTimeout", least, "SLURM kills the prolog before its own deadline, and drains the node"),
        None
        if _defers_by_alloc(settings)
        else _flag(settings, "Alloc", "the other nodes run their prolog only at their first step, and the job waits for ever"),
        _flag(settings, "DeferBatch", "the batch script starts while other nodes still load"),
        _serial(settings, cluster),
        _program(settings, "TaskProlog", task_prolog, "a task would see neither the environment nor the reason of a failure"),
    ]
    return [problem for problem in found if problem]


def is_exclusive(settings: Mapping[str, str], partitions: str) -> bool:
    """Say whether no two jobs ever share a node.

    :param partitions: what ``scontrol --oneliner show partitions`` printed.
    """
    shared = [re.search(r"\bOverSubscribe=(\S+)", line) for line in partitions.splitlines() if line.startswith("PartitionName=")]
    if settings.get("SelectType", "") == "select/linear":
        return bool(shared) and all(match is not None and match.group(1) in ("NO", "EXCLUSIVE") for match in shared)
    return bool(shared) and all(match is not None and match.group(1) == "EXCLUSIVE" for match in shared)


def version(said: str) -> Tuple[int, int]:
    """Return the release in what a command or ``SLURM_VERSION`` says, (0, 0) if there is none.

    >>> version("slurm-wlm 24.11.5"), version("22.05.8")
    ((24, 11), (22, 5))
    """
    match = _VERSION.search(said)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def search_path(slurm_dir: str, path: str = process.PATH) -> str:
    """Return where SLURM's programs are searched for: first in the site's own place for them, if it has one.

    >>> search_path("/opt/slurm", "/usr/bin")
    '/opt/slurm/bin:/usr/bin'
    """
    return f"{slurm_dir.rstrip('/')}/bin:{path}" if slurm_dir else path


def installed(slurm_dir: str = "") -> Tuple[int, int]:
    """Return the release of this node's slurmd, (0, 0) where it does not say; nobody else is asked.

    :param slurm_dir: where the site has SLURM, if outside of the usual places.
    """
    path = f"{slurm_dir.rstrip('/')}/sbin:{search_path(slurm_dir)}" if slurm_dir else process.PATH
    program = shutil.which("slurmd", path=path)
    if program is None:
        return 0, 0
    try:
        named = {"PATH": path, "LC_ALL": "C"}
        said = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=_VERSION_SECONDS, env=named, check=False).stdout
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0, 0
    return version(said)


def meets_in_prolog(path: str, release: Callable[[], Tuple[int, int]] = installed) -> bool:
    """Say whether all nodes of a job run their prolog at its start: without it they would wait for each other for ever.

    A prolog must not ask the controller, but this file lies on every node, configless ones included.

    :param path: slurm.conf, as ``SLURM_CONF`` names it; what cannot be read, or is in a file that it includes, is not held
        against the cluster.
    :param release: says which SLURM this is; asked only where that decides.
    """
    try:
        text = files.read(os.path.realpath(path), _LARGEST_BYTES).decode("utf-8", "replace")
    except JobFault:
        return True
    flags = flags_in(text)
    if flags is None:
        return bool(_INCLUDE.search(text))
    return not _ALLOC.isdisjoint(flags) or ("deferbatch" in flags and release() >= _DEFERS_BY_ALLOC)


def flags_in(text: str) -> Optional[List[str]]:
    """Return the ``PrologFlags`` that a slurm.conf sets, the last of several, in small letters; None where it does not say.

    >>> flags_in("PrologFlags=Alloc,DeferBatch # both")
    ['alloc', 'deferbatch']
    """
    found = None
    for line in text.replace("\\\n", "").splitlines():
        match = _FLAGS.search(line.partition("#")[0])
        if match:
            found = [flag.strip().lower() for flag in match.group(1).strip('"').split(",")]
    return found


def seconds(value: str) -> Optional[int]:
    """Return the number in ``10 sec``, or None for no limit."""
    match = re.match(r"[0-9]+", value)
    return int(match.group()) if match and int(match.group()) < _INFINITE else None


def _timer(settings: Mapping[str, str], key: str, least: int, reason: str) -> Optional[Problem]:
    value = settings.get(key, "")
    limit = seconds(value)
    return Problem(key, value, f"at least {least}", reason) if limit is not None and limit < least else None


def _credential(settings: Mapping[str, str], least: int) -> Optional[Problem]:
    match = re.search(r"cred_expire=([0-9]+)", settings.get("AuthInfo", ""))
    if (int(match.group(1)) if match else 120) >= least:
        return None
    return Problem("AuthInfo", settings.get("AuthInfo", ""), f"cred_expire={least} or more", "a job whose prolog takes longer cannot start")


def _flag(settings: Mapping[str, str], flag: str, reason: str) -> Optional[Problem]:
    value = settings.get("PrologFlags", "")
    has_it = flag.lower() in (name.strip().lower() for name in value.split(","))
    return None if has_it else Problem("PrologFlags", value, f"…,{flag}", reason)


def _defers_by_alloc(settings: Mapping[str, str]) -> bool:
    flags = [name.strip().lower() for name in settings.get("PrologFlags", "").split(",")]
    return "deferbatch" in flags and version(settings.get("SLURM_VERSION", "")) >= _DEFERS_BY_ALLOC


def _program(settings: Mapping[str, str], key: str, wanted: str, reason: str) -> Optional[Problem]:
    value = settings.get(key, "")
    return None if wanted in value.split(",") else Problem(key, value, wanted, reason)


def _release(settings: Mapping[str, str]) -> Optional[Problem]:
    seen = settings.get("SLURM_VERSION", "")
    if not seen or version(seen) >= OLDEST:
        return None
    return Problem("SLURM_VERSION", seen, "22.05 or newer", "an older SLURM tells a prolog too little of its job", is_the_sites=True)


def _serial(settings: Mapping[str, str], cluster: Cluster) -> Optional[Problem]:
    value = settings.get("PrologFlags", "")
    if cluster.is_exclusive or "serial" not in (name.strip().lower() for name in value.split(",")):
        return None
    reason = "two jobs that share nodes wait for each other until Deadline; it may stay where each partition has OverSubscribe=EXCLUSIVE"
    return Problem("PrologFlags", value, "without Serial", reason, is_the_sites=True)


def _namespace(settings: Mapping[str, str], cluster: Cluster) -> Optional[Problem]:
    # slurmd enters the job's namespace for sbcast, whatever plugin makes it, and from a prolog there is none yet.
    for key in ("JobContainerType", "NamespaceType"):
        value = settings.get(key, "")
        if cluster.needs_sbcast and value.rpartition("/")[2] not in ("", "none"):
            reason = "sbcast cannot enter the job's namespace from a prolog; set ImageStore, or Transport=registry"
            return Problem(key, value, "unset where images travel by sbcast", reason, is_the_sites=True)
    return None
