# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's allocation, as SLURM vouches for it: which job of whom, on which nodes, and which of them this one is.

`of` takes only what SLURM itself says and fails on nothing that a user wrote.

Source: prolog and epilog guide, "Environment Variables"; measured with Slurm 22.05.8 and 24.11.5 (22.05 has
SLURM_NODELIST alone and no SLURM_JOB_EXTRA; SLURM_JOB_STDOUT is absolute and keeps its ``%j``).
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Tuple

from ..core.errors import JobFault
from . import hostlist

_MARK = re.compile(r"%.?")
_NUMBER = re.compile(r"[0-9]{1,19}")
_NOBODY = 65534  # whose an allocation is that does not say; never root's


@dataclass(frozen=True)
class Allocation:
    """The nodes of one attempt of one job of one cluster, and whose it is.

    :param attempt: how often SLURM has restarted the job.
    :param nodes: the job's nodes in SLURM's order; the first leads.
    :param node: this one.
    :param address: name or number under which the others reach the leader; "" for what follows.
    :param addresses: the same by node, as SLURM was told (``NodeAddr``); a node that is not there is reached by its name.
    :param ends_by: when its time limit is up, in seconds since the epoch, as the prolog is told; 0 where it is not.
    :raises JobFault: the nodes are no allocation that *node* is part of.
    """

    cluster: str
    job_id: int
    attempt: int
    nodes: Tuple[str, ...]
    node: str
    address: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict, hash=False)
    user: str = ""
    uid: int = _NOBODY
    gid: int = _NOBODY
    work_dir: str = "/"
    stdout: str = ""
    stderr: str = ""
    comment: str = ""
    extra: str = ""
    ends_by: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        if self.node not in self.nodes or len(set(self.nodes)) != len(self.nodes):
            raise JobFault(
                "allocation: this node is not one of the job's",
                "run this as SLURM's prolog",
                node=self.node,
                nodes=hostlist.listed(self.nodes),
            )

    @property
    def leader(self) -> str:
        return self.nodes[0]

    @property
    def node_rank(self) -> int:
        """This node's place in the node list; the leader's is 0."""
        return self.nodes.index(self.node)

    @property
    def is_leader(self) -> bool:
        return self.node == self.leader

    @property
    def leader_address(self) -> str:
        return self.address or self.address_of(self.leader)

    def address_of(self, node: str) -> str:
        """Return under which name or number *node* is reached."""
        return self.addresses.get(node, node)

    def place(self) -> Dict[str, object]:
        """Return what every line of this job's timeline carries."""
        return {"job_id": self.job_id, "node": self.node, "node_rank": self.node_rank}

    def facts(self) -> Dict[str, Any]:
        """Return what ``status.json`` says of the job from the start."""
        return {
            **self.place(),
            "user": self.user,
            "uid": self.uid,
            "gid": self.gid,
            "nodes": self.nodes,
            "attempt": self.attempt,
            "ends_by": self.ends_by,
            "stderr": self.errors,
        }

    @property
    def errors(self) -> str:
        """The file of the batch script's errors; empty where it is that of its output, or cannot be told."""
        path = self.expanded(self.stderr)
        return path if path.isprintable() and path.startswith("/") and path != self.expanded(self.stdout) else ""

    def expanded(self, pattern: str) -> str:
        """Return the name of a file of the batch script's, in which SLURM leaves its marks; empty if one is not known.

        >>> Allocation("c", 7, 0, ("n1",), "n1").expanded("/out/madengine-a_%j_%t.err")
        '/out/madengine-a_7_0.err'
        """
        known = {"%j": str(self.job_id), "%J": str(self.job_id), "%A": str(self.job_id), "%t": "0", "%n": "0", "%u": self.user, "%%": "%"}
        text = _MARK.sub(lambda mark: known.get(mark.group(), "\0"), pattern)
        return "" if "\0" in text else text

    def path(self, name: str) -> str:
        """Return *name* as seen from the job's work directory."""
        return os.path.normpath(os.path.join(self.work_dir, name))


def of(environ: Mapping[str, str]) -> Allocation:
    """Return the allocation that the environment of a prolog or epilog describes.

    :raises JobFault: SLURM's own variables make no sense, or this node is not in the job's node list.
    """
    uid = _number(environ, "SLURM_JOB_UID")
    return Allocation(
        cluster=environ.get("SLURM_CLUSTER_NAME", ""),
        job_id=_number(environ, "SLURM_JOB_ID"),
        attempt=_number(environ, "SLURM_JOB_RESTART_COUNT", "0"),
        nodes=tuple(hostlist.expand(environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST", ""))),
        node=environ.get("SLURMD_NODENAME", ""),
        user=environ.get("SLURM_JOB_USER", str(uid)),
        uid=uid,
        gid=_number(environ, "SLURM_JOB_GID"),
        work_dir=environ.get("SLURM_JOB_WORK_DIR", "/"),
        stdout=environ.get("SLURM_JOB_STDOUT", ""),
        stderr=environ.get("SLURM_JOB_STDERR") or _beside(environ.get("SLURM_JOB_STDOUT", "")),
        comment=environ.get("SLURM_JOB_COMMENT", ""),
        extra=environ.get("SLURM_JOB_EXTRA", ""),
        ends_by=_number(environ, "SLURM_JOB_END_TIME", "0"),
    )


def _beside(stdout: str) -> str:
    """Return where `madengine run` has its errors, for a SLURM that does not say (22.05)."""
    folder, name = os.path.split(stdout)
    return os.path.join(folder, name[: -len(".out")] + ".err") if name.startswith("madengine-") and name.endswith(".out") else ""


def _number(environ: Mapping[str, str], name: str, default: str = "") -> int:
    text = environ.get(name) or default
    if not _NUMBER.fullmatch(text):
        raise JobFault("allocation: SLURM gave no number", "run this as SLURM's prolog or epilog", name=name, value=text)
    return int(text)
