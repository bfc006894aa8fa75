# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only several nodes together can tell: who has another key, who sees another store, whose clock or name is wrong.

Where nodes differ, the most are right and the others fail; among equally many, those with the first node are right.

Source: NTP's on-wire protocol (RFC 5905, section 8) for the clocks.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Collection, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

from ..slurm.hostlist import listed
from .checks import FAIL, OK, WARN, Check, shortened

_SITE = "apply rocm.madengine.site to this node"


@dataclass(frozen=True)
class Answer:
    """What one node said.

    :param checks: what it judged alone.
    :param facts: what must be compared: ``key``, ``release``, ``settings``, ``nonce``, ``addresses``, ``clock``, ...
    :param met: what it saw of the others: ``missing``, ``unknown`` and ``wrong``; None if it was not asked.
    """

    checks: Tuple[Check, ...]
    facts: Mapping[str, Any]
    met: Optional[Mapping[str, Any]] = None


def of(look: Mapping[str, Any], peers: Mapping[str, Any]) -> Optional[Answer]:
    """Return what the two results of ``preflight_info`` on one node say; None if the node has not answered at all."""
    if not isinstance(look.get("checks"), list) or not isinstance(look.get("facts"), dict):
        return None
    said = [*look["checks"], *peers.get("checks", ())]
    checks = tuple(Check(*(str(each.get(name, "")) for name in ("name", "status", "seen", "remedy"))) for each in said)
    met = peers.get("met")
    return Answer(checks, look["facts"], met if isinstance(met, dict) else None)


def judge(answers: Mapping[str, Optional[Answer]], clock_seconds: float, skip: Collection[str] = ()) -> Dict[str, List[Check]]:
    """Return all checks of each node: its own, and what the comparison adds.

    :param answers: by node; None for a node that has not answered.
    :param clock_seconds: how far a clock may be from the others.
    :param skip: checks that nobody wants.
    """
    every: Dict[str, List[Check]] = {node: list(answer.checks) if answer else [_silent()] for node, answer in answers.items()}
    answered = {node: answer for node, answer in answers.items() if answer}
    if answered and not any(check.name == "slurm" for checks in every.values() for check in checks):
        every[next(iter(answered))].append(_unasked())
    for comparison in (
        _alike(answered),
        _clocks(answered, clock_seconds),
        _known(answered),
        _names(answered),
        _reach(answered),
        _stores(answered),
    ):
        for node, check in comparison:
            every[node].append(check)
    return {node: _settled(checks, skip) for node, checks in every.items()}


def _silent() -> Check:
    return Check("node", FAIL, "no answer", "see that Ansible reaches it (`ansible -m ping`), and read its message above")


def _unasked() -> Check:
    return Check("slurm", WARN, "no node has asked the controller for its settings", "run it again when the first node of the play answers")


def _settled(checks: Sequence[Check], skip: Collection[str]) -> List[Check]:
    """Return *checks* without those that are not wanted, and without an ok beside something worse of the same name."""
    bad = {check.name for check in checks if check.status != OK}
    return list(dict.fromkeys(check for check in checks if check.name not in skip and (check.status != OK or check.name not in bad)))


@dataclass(frozen=True)
class _Alike:
    """A fact that must be the same everywhere: which check it belongs to, and what a difference means."""

    fact: str
    check: str
    status: str
    what: str
    remedy: str
    is_shown: bool = True


_ALIKE = (
    _Alike("key", "key", FAIL, "another key", "copy the cluster's key to this node, and restart munged", is_shown=False),
    _Alike("settings", "settings", FAIL, "another hooks.conf", _SITE, is_shown=False),
    _Alike("release", "release", FAIL, "another release", _SITE),
    _Alike("docker_version", "docker", WARN, "another version of Docker", "bring all nodes to one version of Docker"),
    _Alike(
        "docker_store", "docker_store", WARN, "another kind of image store", "give all nodes one kind: layers travel more often between two"
    ),
)


def _alike(answers: Mapping[str, Answer]) -> Iterable[Tuple[str, Check]]:
    for rule in _ALIKE:
        values = {node: str(answer.facts[rule.fact]) for node, answer in answers.items() if answer.facts.get(rule.fact)}
        if len(set(values.values())) < 2:
            continue
        usual = most(values.values())
        count = sum(value == usual for value in values.values())
        for node, value in values.items():
            if value != usual:
                shown = f" ({value}, not {usual})" if rule.is_shown else ""
                yield node, Check(rule.check, rule.status, f"{rule.what} than {count} of {len(values)} nodes{shown}", rule.remedy)


def most(values: Iterable[Any]) -> Any:
    """Return the most frequent of *values*, the first of them among equals.

    >>> most(["b", "a", "a", "b"])
    'b'
    """
    counts: Dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return max(counts, key=lambda value: counts[value])


def _clocks(answers: Mapping[str, Answer], most_seconds: float) -> Iterable[Tuple[str, Check]]:
    clocks = {node: answer.facts["clock"] for node, answer in answers.items() if answer.facts.get("clock")}
    if not clocks:
        return
    # Against the middle of all nodes: the controller's own clock proves nothing.
    middle = statistics.median_low(float(clock["offset_seconds"]) for clock in clocks.values())
    for node, clock in clocks.items():
        yield node, _clock(float(clock["offset_seconds"]) - middle, float(clock["uncertainty_seconds"]), most_seconds)


def _clock(offset: float, uncertainty: float, most_seconds: float) -> Check:
    seen = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the others (within {uncertainty:.1f} s)"
    # What the measurement itself may have added is not held against the node.
    if abs(offset) - uncertainty > most_seconds:
        return Check("clock", FAIL, seen, "start an NTP client such as chrony on it")
    return Check("clock", OK, seen)


def _known(answers: Mapping[str, Answer]) -> Iterable[Tuple[str, Check]]:
    known = {name for answer in answers.values() for name in answer.facts.get("slurm_nodes") or ()}
    known |= {name.partition(".")[0] for name in known if not name.replace(".", "").isdigit()}
    for node in answers if known else ():
        if node not in known:
            remedy = "set preflight_node to its NodeName for this host, or add it to slurm.conf"
            yield node, Check("names", FAIL, "SLURM knows no node of this name", remedy)


def _names(answers: Mapping[str, Answer]) -> Iterable[Tuple[str, Check]]:
    """Blame the one whose name most of the others cannot use; else those that cannot use a name which the others can."""
    asked = {node: answer.met for node, answer in answers.items() if answer.met and "wrong" in answer.met}
    lost = {node: {**dict.fromkeys(met.get("unknown", ()), ()), **met["wrong"]} for node, met in asked.items()}
    for subject in answers:
        askers = {asker: tuple(found[subject]) for asker, found in lost.items() if subject in found}
        if not askers:
            continue
        if 2 * len(askers) > len(set(asked) - {subject}):
            yield subject, _misnamed(subject, askers)
        else:
            for asker, found in askers.items():
                yield asker, Check("names", FAIL, f"{subject} {_leads(found)} here", f"correct {subject} in this node's /etc/hosts or DNS")


def _reach(answers: Mapping[str, Answer]) -> Iterable[Tuple[str, Check]]:
    """Name each node with those that cannot connect to it."""
    asked = {node: answer.met["blocked"] for node, answer in answers.items() if answer.met and isinstance(answer.met.get("blocked"), dict)}
    for subject in answers:
        askers = {asker: str(found[subject]) for asker, found in asked.items() if subject in found}
        if askers:
            seen = f"{listed(list(askers))} cannot connect to it ({most(askers.values())})"
            yield subject, Check("ports", FAIL, seen, "open PortRange between the nodes in its firewall, or set slurm_hooks_open_ports")


def _misnamed(subject: str, askers: Mapping[str, Tuple[str, ...]]) -> Check:
    seen = f"its name {_leads(most(askers.values()))} on {listed(list(askers))}"
    remedy = f"give {subject} its real address in DNS, in /etc/hosts of the other nodes, or as NodeAddr in slurm.conf"
    return Check("names", FAIL, seen, remedy)


def _leads(found: Tuple[str, ...]) -> str:
    return f"leads to {shortened(found)}, which is not its address," if found else "leads nowhere"


def _stores(answers: Mapping[str, Answer]) -> Iterable[Tuple[str, Check]]:
    """Group the nodes by whose notes they see: each group has a store of its own, and the largest has the share."""
    writers = [node for node, answer in answers.items() if answer.facts.get("nonce")]
    seen: Dict[str, FrozenSet[str]] = {}
    for node in writers:
        met = answers[node].met
        if met and isinstance(met.get("missing"), list):
            seen[node] = frozenset(writers) - frozenset(met["missing"])
    if len(set(seen.values())) < 2:
        return
    usual = most(seen.values())
    is_shared = list(seen.values()).count(usual) > 1  # else nobody is right: each node is alone with its own
    for node, whose in seen.items():
        if whose != usual or not is_shared:
            unseen = [other for other in writers if other not in whose]
            yield node, Check("store", FAIL, f"it does not see what {listed(unseen)} wrote there", "mount the share on this node")
