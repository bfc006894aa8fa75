# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's nodes as ``scontrol --oneliner show nodes`` tells of them, and which of them a list of hosts leaves out.

Source: scontrol(1), "NODE STATE CODES"; measured with 22.05.8 and 24.11.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import FrozenSet, Iterable, List, Sequence, Set

from . import hostlist

_PAIR = re.compile(r"(?:^|\s)(NodeName|NodeHostName|NodeAddr|State)=(\S+)")
_UNUSED = {"DOWN", "FUTURE", "POWERED_DOWN", "POWERING_DOWN"}
_IDLE_BASES = {"IDLE", "DOWN", "UNKNOWN"}


@dataclass(frozen=True)
class Node:
    """One node.

    :param name: its ``NodeName``.
    :param names: all names that lead to it: that, its ``NodeHostName`` and its ``NodeAddr``.
    :param states: its base state first, then its flags, such as ``IDLE``, ``DRAIN``.
    """

    name: str
    names: FrozenSet[str]
    states: Sequence[str]

    def is_in_use(self) -> bool:
        """Say whether a job runs there or may start there: it does not where the node is down, drained, powered down or future.

        A node that drains still has jobs.

        >>> Node("n1", frozenset(), ("IDLE", "DRAIN")).is_in_use(), Node("n1", frozenset(), ("MIXED", "DRAIN")).is_in_use()
        (False, True)
        """
        if _UNUSED & set(self.states):
            return False
        return not ("DRAIN" in self.states and self.states[0] in _IDLE_BASES)


def parse(text: str) -> List[Node]:
    """Return the nodes that scontrol printed, one a line.

    >>> parse("NodeName=n1 NodeAddr=10.0.0.1 NodeHostName=rack1 State=IDLE+DRAIN* ThreadsPerCore=1")[0].states
    ('IDLE', 'DRAIN')
    """
    found = []
    for line in text.splitlines():
        values = dict(reversed(_PAIR.findall(line)))
        if "NodeName" in values:
            names = frozenset(values[key] for key in ("NodeName", "NodeHostName", "NodeAddr") if key in values)
            states = tuple(part.rstrip("*~#!%$@^-+") for part in values.get("State", "").split("+") if part)
            found.append(Node(values["NodeName"], names, states or ("",)))
    return found


def beyond(known: Iterable[Node], hosts: Iterable[str], absent: Iterable[str] = ()) -> List[Node]:
    """Return the nodes that no name of *hosts* leads to.

    :param hosts: names and addresses; a name counts with and without its domain.
    :param absent: host lists of nodes that are left out on purpose.
    :raises JobFault: one of *absent* is no host list.
    """
    reached: Set[str] = {name for host in hosts for name in _forms(host)}
    left_out = {name for words in absent for name in hostlist.expand(words)}
    return [node for node in known if node.name not in left_out and not reached & {form for name in node.names for form in _forms(name)}]


def _forms(name: str) -> Set[str]:
    """Return *name* with and without its domain; an address has none."""
    return {name} if re.fullmatch(r"[0-9.]+|.*:.*", name) else {name.lower(), name.lower().partition(".")[0]}
