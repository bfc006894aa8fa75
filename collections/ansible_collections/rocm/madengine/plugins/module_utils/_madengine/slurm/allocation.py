# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who meets: the nodes of one attempt of one job of one cluster.

Source: ``SLURM_CLUSTER_NAME``, ``SLURM_JOB_ID``, ``SLURM_RESTART_COUNT`` and the node list, which all of a job's
prologs get alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Tuple

from ..core.errors import JobFault

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


def named(nodes: Iterable[str]) -> str:
    """Return *nodes* for a message: the first by name, the rest by number.

    >>> named(["n17", "n23"])
    'n17, n23'
    """
    every = list(nodes)
    rest = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
