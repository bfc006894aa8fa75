# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the nodes of a job come together in the prolog: order, agreement and shared fate, without a shared filesystem.

Nobody loads before it is published, nobody runs before all have loaded, and when one fails, all know within a second,
and why. The first node of the node list leads. `host` and `visit` hold the protocol, `leader` and `member` the sockets.

Source: design of the rendezvous.
"""

from __future__ import annotations

from typing import Sequence, Tuple

from ..core.deadline import Deadline
from ..slurm.allocation import Allocation
from . import addresses
from .credential import Credential
from .leader import Leader
from .member import GRACE_SECONDS, Member
from .session import Session, SoloBarrier

PORTS = addresses.PORTS


def meet(
    allocation: Allocation,
    credential: Credential,
    within: Deadline,
    *,
    have: Sequence[str] = (),
    ports: Tuple[int, int] = PORTS,
    grace_seconds: float = GRACE_SECONDS,
) -> Session:
    """Return the meeting of *party*, to be entered by ``with``: the leader listens then, a member is welcome.

    :param within: the leader's is the one deadline of all; a member's own counts until it is welcome.
    :param have: the layers that a member has, a text of at most 90 characters each.
    :param ports: first and last, the same on all nodes.
    :param grace_seconds: how long a member looks for a leader that is not up yet.
    """
    if len(allocation.nodes) == 1:
        return SoloBarrier(allocation, within)
    if allocation.is_leader:
        return Leader(allocation, credential, within, ports)
    return Member(allocation, credential, within, have, ports, grace_seconds)
