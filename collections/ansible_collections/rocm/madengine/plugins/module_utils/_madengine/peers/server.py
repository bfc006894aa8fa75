# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first node's listening sockets: who proves itself gets in.

An idle, slow or rude connection costs nobody else a millisecond: whoever has not proven itself has few seconds, and is
the first to go when there are many.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time
from collections import OrderedDict
from typing import Callable, Dict, Generic, List, Optional, Tuple, TypeVar

from ..core.deadline import Deadline
from ..slurm.allocation import Allocation
from . import addresses
from .connection import Connection
from .handshake import ServerEnd, ServerState
from .session import IDLE_SECONDS, Session

HANDSHAKE_SECONDS = 5.0

_ACCEPTED_AT_ONCE = 64
_STRANGERS = 256  # and two for each node of the job, since all of it may knock at once
_SPARE_HANDLES = 64
_DEAF_SECONDS = 0.1

AnyState = TypeVar("AnyState", bound=ServerState)
AnyServerEnd = TypeVar("AnyServerEnd", bound=ServerEnd)


class Server(Session, Generic[AnyState, AnyServerEnd]):
    """A session that others come to; who comes and what for is a subclass's business.

    :param at_end: whether it is the epilogs that come together.
    """

    def __init__(self, allocation: Allocation, deadline: Deadline, ports: Tuple[int, int], at_end: bool = False) -> None:
        super().__init__(allocation, deadline)
        self._ports, self._at_end = ports, at_end
        self._strangers: OrderedDict[AnyServerEnd, float] = OrderedDict()
        self._connections: Dict[AnyServerEnd, Connection[AnyServerEnd]] = {}
        self._listeners: List[socket.socket] = []
        self._deaf_until: Optional[float] = None
        self._handles: Optional[Tuple[int, int]] = None
        self._most_strangers = _STRANGERS + 2 * len(allocation.nodes)
        self.port = 0

    # What a subclass fills in.

    def _new_state(self) -> AnyState:
        """Return what all ends will have in common; `port` is known by now."""
        raise NotImplementedError

    def _new_end(self) -> AnyServerEnd:
        """Return the end of one more connection."""
        raise NotImplementedError

    # Who comes in.

    def _open(self) -> None:
        self._raise_handles()
        self._listeners, self.port = addresses.listen(self.allocation, self._ports, self._at_end)
        self._state = self._new_state()
        self._hear()

    def _turn(self, seconds: float) -> None:
        super()._turn(seconds)
        self._flush()

    def _flush(self) -> None:
        pending_output, self._state.pending_output = self._state.pending_output, {}
        for end in pending_output:
            connection = self._connections.get(end)
            if connection is not None:
                connection.flush()

    def _tidy(self) -> float:
        """Send away who did not prove itself in time; the oldest are first in line."""
        now = time.monotonic()
        if self._deaf_until is not None and now >= self._deaf_until:
            self._hear()
        while self._strangers:
            end, until = next(iter(self._strangers.items()))
            if until > now:
                return min(IDLE_SECONDS, until - now)
            self._drop(end)
        return IDLE_SECONDS

    def _hear(self) -> None:
        self._deaf_until = None
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, self._accepter(listener))

    def _turn_deaf(self) -> None:
        for listener in self._listeners:
            self._selector.unregister(listener)
        self._deaf_until = time.monotonic() + _DEAF_SECONDS

    def _accepter(self, listener: socket.socket) -> Callable[[int], None]:
        def accept(_mask: int) -> None:
            for _attempt in range(_ACCEPTED_AT_ONCE):
                try:
                    sock = listener.accept()[0]
                except BlockingIOError:
                    break
                except ConnectionError:
                    continue  # it was reset while it waited
                except OSError:
                    self._make_room()
                    break
                self._let_in(sock)

        return accept

    def _let_in(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        end = self._new_end()
        self._connections[end] = Connection(self._selector, sock, end, self._moved)
        self._strangers[end] = time.monotonic() + HANDSHAKE_SECONDS
        self._connections[end].flush()
        if len(self._strangers) > self._most_strangers:
            self._drop(next(iter(self._strangers)))

    def _make_room(self) -> None:
        """Come back from a full table of descriptors: a stranger goes, or nobody is heard for a moment."""
        if self._strangers:
            self._drop(next(iter(self._strangers)))
        elif self._deaf_until is None:
            self._turn_deaf()

    def _moved(self, connection: Connection[AnyServerEnd]) -> None:
        end = connection.end
        if end.is_present:
            self._strangers.pop(end, None)
        elif connection.is_closed or (end in self._strangers and end.is_over):
            self._drop(end)

    def _drop(self, end: AnyServerEnd) -> None:
        self._strangers.pop(end, None)
        self._connections.pop(end).close()

    def _close(self) -> None:
        super()._close()
        for listener in self._listeners:
            listener.close()
        if self._handles is not None:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, self._handles)

    def _raise_handles(self) -> None:
        """Make room for one descriptor a member and the strangers beside them, as far as the hard limit allows."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = len(self.allocation.nodes) + self._most_strangers + _SPARE_HANDLES
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            self._handles = (soft, hard)
