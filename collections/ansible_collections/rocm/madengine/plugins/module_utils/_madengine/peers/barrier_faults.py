# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a barrier from ever opening, in words: who did not come, who has not loaded, and what to do."""

from __future__ import annotations

from typing import Dict, Sequence

from ..core.errors import JobFault, ShareFault
from ..slurm.hostlist import listed
from .barrier_protocol import LeaderState


def late(leader: LeaderState, waited_seconds: float) -> ShareFault:
    """Return the fault of a barrier whose time is up, with the nodes that everybody waited for."""
    missing, not_loaded = leader.missing(), leader.not_loaded() if leader.has_published else []
    seen: Dict[str, object] = {"waited_seconds": round(waited_seconds, 1)}
    if missing:
        seen["never_arrived"] = listed(missing)
    if not_loaded:
        seen["not_loaded"] = listed(not_loaded)
    for fault in leader.declined()[:1]:
        seen["cannot_load"] = f"{fault.node}: {fault}"
    seen.update(leader.strangers())
    first = (missing or not_loaded or [leader.allocation.leader])[0]
    return ShareFault("rendezvous: the time is up", f"read the prolog log of {first}, or raise Deadline", **seen)


def absent(leader: LeaderState, waited_seconds: float, silent: Sequence[str]) -> ShareFault:
    """Return the fault of a barrier that not all nodes have come to, with their names.

    :param silent: those of them whose machines do not answer at all.
    """
    missing = leader.missing()
    seen: Dict[str, object] = {"waited_seconds": round(waited_seconds, 1), "never_arrived": listed(missing)}
    if silent:
        seen["no_answer_from"] = listed(silent)
    seen.update(leader.strangers())
    remedy = f"see whether {missing[0]} has the hooks, and what other prologs do there, or raise ArrivalGrace"
    return ShareFault("rendezvous: not all nodes came", remedy, **seen)


def hookless(leader: LeaderState) -> ShareFault:
    """Return the fault of a barrier where all are missing who have no hooks, and nobody else is."""
    bare = leader.missing()
    seen: Dict[str, object] = {"without_hooks": listed(bare), **leader.strangers()}
    remedy = f"apply rocm.madengine.site to {bare[0]}, or bake the hooks into its image; until then --exclude={listed(bare)}"
    return ShareFault("rendezvous: a node has no hooks", remedy, **seen)


def ended(leader: LeaderState, state: str) -> JobFault:
    """Return the fault of a barrier whose job is over for SLURM: cancelled, say, or another prolog has failed on one of its nodes."""
    seen: Dict[str, object] = {"state": state}
    if leader.missing():
        seen["never_arrived"] = listed(leader.missing())
    return JobFault("rendezvous: the job is over", "read slurmctld's log, and slurmd's of the nodes that did not come", **seen)
