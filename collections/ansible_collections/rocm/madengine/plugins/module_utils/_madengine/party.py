# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who meets: the nodes of one attempt of one job of one cluster.

Source: ``SLURM_CLUSTER_NAME``, ``SLURM_JOB_ID``, ``SLURM_RESTART_COUNT`` and the node list, which all of a job's
prologs get alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Tuple

from . import wire
from .errors import Fault, JobFault

_SHOWN = 12


@dataclass(frozen=True)
class Party:
    """All that a meeting's members know of each other beforehand.

    :param nodes: the job's nodes in SLURM's order; the first leads.
    :param node: this one.
    :param address: name or number under which the others reach the leader; its node name if empty (``NodeAddr``).
    :raises JobFault: the nodes are no allocation that *node* is part of.
    """

    cluster: str
    job_id: int
    attempt: int
    nodes: Tuple[str, ...]
    node: str
    address: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        if self.node not in self.nodes or len(set(self.nodes)) != len(self.nodes):
            raise JobFault(
                "rendezvous: this node is not one of the job's", "report it to the admin", node=self.node, nodes=named(self.nodes)
            )

    @property
    def leader(self) -> str:
        return self.nodes[0]

    @property
    def rank(self) -> int:
        """This node's place in the node list; the leader's is 0."""
        return self.nodes.index(self.node)

    @property
    def is_leader(self) -> bool:
        return self.node == self.leader

    @property
    def leader_address(self) -> str:
        return self.address or self.leader

    def channel(self, secret: bytes, rank: int, port: int, leader_nonce: str, member_nonce: str) -> Tuple[bytes, bytes]:
        """Return the keys (leader's lines, member's lines) of the connection between the leader and *rank*.

        The port is the one that the leader listens on and the member has dialled: a stranger on another port of the
        leader's node who passes lines on between the two joins ends that do not understand each other.
        """
        facts = (self.cluster, self.job_id, self.attempt, rank, self.nodes[rank], self.leader, len(self.nodes))
        return wire.session(secret, *facts, port, leader_nonce, member_nonce)


def named(nodes: Iterable[str]) -> str:
    """Return *nodes* for a message: the first by name, the rest by number.

    >>> named(["n17", "n23"])
    'n17, n23'
    """
    every = list(nodes)
    rest = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def told(fault: Fault) -> Dict[str, Any]:
    """Return *fault* as it goes into one line, cut until it fits whatever its values hold."""
    document = fault.to_dict()
    for longest in (300, 100, 30, 10):
        cut: Dict[str, Any] = {name: value[: longest * 3] for name, value in document.items() if isinstance(value, str)}
        cut["seen"] = {name[:40]: value[:longest] for name, value in list(document["seen"].items())[:12]}
        if len(json.dumps(cut)) < wire.LONGEST_LINE - 512:
            break
    return cut
