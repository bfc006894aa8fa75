# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the nodes of a job come together in the prolog: order, agreement and shared fate, without a shared filesystem.

Nobody loads before it is published, nobody runs before all have loaded, and when one fails, all know within a second,
and why. The first node of the node list leads. `host` and `visit` hold the protocol, `leader` and `member` the sockets.

Source: design of the rendezvous.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Callable, Optional, Sequence, Tuple, Type

from ..core.deadline import Deadline
from ..slurm.allocation import Allocation
from . import addresses
from .credential import Credential
from .leader import Leader
from .member import GRACE_SECONDS, Member
from .session import Session, SoloBarrier

PORTS = addresses.PORTS
_ABORT_SECONDS = 3.0  # a node that gives up before it has joined looks for its peers no longer than this


class Barrier:
    """Where the nodes of one job wait for each other; use it as a context manager, and `join` it once.

    Leaving the block by an exception tells all other nodes why, also where this node has not joined: it looks for them
    for a moment then, since they would wait for it until the deadline.

    :param credential: gives this node's proof that it belongs to the cluster; a node that is alone needs none, and no key.
    :param deadline: the leader's is the one deadline of all; a member's own counts until it is welcome.
    :param ports: first and last, the same on all nodes.
    :param grace_seconds: how long a member looks for a leader that is not up yet.
    """

    def __init__(
        self,
        allocation: Allocation,
        credential: Callable[[], Credential],
        deadline: Deadline,
        *,
        ports: Tuple[int, int] = PORTS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._allocation, self._credential, self._deadline = allocation, credential, deadline
        self._ports, self._grace_seconds = ports, grace_seconds
        self._session: Optional[Session] = None
        self._has_tried = False

    def __enter__(self) -> Barrier:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if self._session is not None:
            self._session.__exit__(kind, error, trace)
        elif isinstance(error, Exception) and not self._has_tried:
            self.abort(error)

    def join(self, have: Sequence[str] = ()) -> Session:
        """Return the session with the other nodes: the leader listens then, a member is welcome.

        :param have: the layers that a member has, a text of at most 90 characters each.
        :raises PeerFault: nobody was there.
        :raises NodeFault: this node has no key, or no port to listen on (part ``key`` or ``network``).
        """
        self._has_tried = True  # where nobody was found, or no port, nobody is looked for again
        self._session = self._session_for(have, self._grace_seconds).__enter__()
        return self._session

    def abort(self, error: Exception) -> None:
        """Tell the other nodes why this one does not join, if they can be found within seconds."""
        with contextlib.suppress(Exception), self._session_for((), _ABORT_SECONDS):
            raise error

    def _session_for(self, have: Sequence[str], grace_seconds: float) -> Session:
        if len(self._allocation.nodes) == 1:
            return SoloBarrier(self._allocation, self._deadline)
        if self._allocation.is_leader:
            return Leader(self._allocation, self._credential(), self._deadline, self._ports)
        return Member(self._allocation, self._credential(), self._deadline, have, self._ports, grace_seconds)
