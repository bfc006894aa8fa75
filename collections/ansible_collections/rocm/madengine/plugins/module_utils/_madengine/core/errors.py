# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose failure is it: the job's, the share's, a peer's or this node's.

A fault is raised where it is noticed and decided upon in one place, ``context``. Whatever is raised and is no
`Fault` is a defect of ours.

Source: the outcome table of SLURM's prolog and epilog guide ("Failure Handling").
"""

from __future__ import annotations

import enum
from typing import Any, Dict, Mapping, Optional, Type

from .text import cut, printable

_LONGEST_VALUE = 300


class Part(str, enum.Enum):
    """A part of a node for which it can leave service: what ``DrainOn`` lists."""

    DOCKER = "docker"
    DISK = "disk"
    KEY = "key"

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class Fault(Exception):
    """What happened, the values that show it, and the next step.

    :param what: ``noun: fact``, e.g. ``image: no tag or digest``.
    :param remedy: what the reader can do next, as an imperative.
    :param seen: the values that show it; never a secret.
    """

    kind = "job"

    def __init__(self, what: str, remedy: str, **seen: object) -> None:
        super().__init__(what, remedy, seen)
        self.what, self.remedy, self.seen = what, remedy, seen

    def __str__(self) -> str:
        """Return the one line for a person, without the leader that says whose fault it is."""
        values = ", ".join(f"{name}={_shown(value)}" for name, value in self.seen.items())
        return printable(self.what + (f" ({values})" if values else "") + f"; {self.remedy}")

    def line(self) -> str:
        """Return the whole message, ``madengine: <kind>: <noun>: <fact> (<values>); <next step>``."""
        return f"madengine: {self.kind}: {self}"

    def to_dict(self) -> Dict[str, Any]:
        """Return what `from_dict` needs; values become text, so the result always fits into JSON."""
        return {
            "kind": self.kind,
            "what": self.what,
            "remedy": self.remedy,
            "seen": {name: str(value) for name, value in self.seen.items()},
        }


class JobFault(Fault):
    """The request, the manifest or the image is wrong. This node is healthy and keeps its other jobs."""

    kind = "job"


class ShareFault(Fault):
    """The shared store or the time is at fault, not this node: it stays in service."""

    kind = "share"


class NodeFault(Fault):
    """This node can serve no such job until an admin has looked at it.

    Before it leaves service, root looks at that part by itself (`node_probe`): who raises this may have been told.

    :param part: which part of the node, if it is one for which it can leave service.
    """

    kind = "node"

    def __init__(self, what: str, remedy: str, part: Optional[Part] = None, **seen: object) -> None:
        super().__init__(what, remedy, **seen)
        self.part = part

    def to_dict(self) -> Dict[str, Any]:
        return {**super().to_dict(), "part": str(self.part or "")}


class PeerFault(Fault):
    """Another node of the job gave up, and this is why. This node is healthy.

    :param node: the node whose fault it is.
    :param cause: that node's fault.
    """

    def __init__(self, node: str, cause: Fault) -> None:
        super().__init__(cause.what, cause.remedy)
        self.seen = cause.seen  # not as arguments: a peer chooses the names
        self.node, self.cause = node, cause
        # A peer's broken node is, seen from here, a matter of the job's surroundings.
        self.kind = "job" if cause.kind == "job" else "share"

    def line(self) -> str:
        return f"madengine: {self.cause.kind}: {printable(self.node)}: {self}"

    def to_dict(self) -> Dict[str, Any]:
        return {**self.cause.to_dict(), "node": self.node}


_KINDS: Dict[str, Type[Fault]] = {"job": JobFault, "share": ShareFault, "node": NodeFault}


def from_dict(document: Mapping[str, Any]) -> Fault:
    """Return the fault that `Fault.to_dict` wrote, on this node or another.

    The document may come from a peer or a user's process, so every field is taken as text and cut.

    :raises ValueError: it does not describe a fault.
    """
    kind = _KINDS.get(str(document.get("kind")))
    seen = document.get("seen", {})
    if kind is None or not isinstance(seen, Mapping):
        raise ValueError(f"not a fault: {str(document)[:200]!r}")
    what, remedy = str(document.get("what"))[:1000], str(document.get("remedy"))[:1000]
    fault = kind(what, remedy)
    fault.seen = {str(name)[:40]: cut(str(value), _LONGEST_VALUE) for name, value in list(seen.items())[:12]}
    if isinstance(fault, NodeFault):
        fault.part = next((part for part in Part if part == document.get("part")), None)
    if document.get("node"):
        return PeerFault(str(document["node"])[:255], fault)
    return fault


def _shown(value: object) -> str:
    return cut(repr(value) if isinstance(value, (str, bytes)) else str(value), _LONGEST_VALUE)
