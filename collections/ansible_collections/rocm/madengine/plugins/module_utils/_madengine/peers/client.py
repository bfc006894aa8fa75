# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every other node finds the leader among strangers.

A stranger on one of the ports costs nothing and wins nothing: the ports are tried side by side, a moment apart, and only
an end that proves itself is believed.

Source: RFC 8305 (Happy Eyeballs) for the order of the attempts.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from typing import Deque, Dict, Generic, List, Optional, Tuple, TypeVar

from ..core.deadline import Deadline
from ..core.errors import PeerFault, ShareFault
from ..slurm.allocation import Allocation
from . import addresses
from .connection import Connection, dial
from .handshake import ClientEnd
from .session import IDLE_SECONDS, Session

HANDSHAKE_SECONDS = 5.0

_STAGGER_SECONDS = 0.05
_BACKOFF_SECONDS = (0.05, 1.0)
_MARGIN_SECONDS = 5.0  # after the deadline, for the leader's last word: it has the names of those who are missing

Target = Tuple[int, str, int]
AnyClientEnd = TypeVar("AnyClientEnd", bound=ClientEnd)


class Client(Session, Generic[AnyClientEnd]):
    """A session that this node has to find; what it does there is a subclass's business.

    :param grace_seconds: how long it looks for a leader that is not up yet.
    :param at_end: whether it is the epilogs that come together.
    """

    def __init__(
        self, allocation: Allocation, deadline: Deadline, ports: Tuple[int, int], grace_seconds: float, at_end: bool = False
    ) -> None:
        super().__init__(allocation, deadline)
        self._grace = deadline.sooner(grace_seconds)
        self._ports = addresses.candidates(ports, allocation.job_id, at_end)
        self._hook = "epilog" if at_end else "prolog"
        self._dialled: Dict[Connection[AnyClientEnd], Tuple[Target, float]] = {}
        self._queue: Deque[Target] = deque()
        self._next, self._backoff = 0.0, _BACKOFF_SECONDS[0]
        self._refused, self._unknown = 0, ""
        self._chosen: Optional[Connection[AnyClientEnd]] = None

    # What a subclass fills in.

    def _new_end(self, port: int) -> AnyClientEnd:
        """Return the end of one more connection, to *port*."""
        raise NotImplementedError

    def _choose(self, end: AnyClientEnd) -> None:
        """Say at the connection that was welcome first that it is the one."""
        raise NotImplementedError

    # The search.

    @property
    def _end(self) -> AnyClientEnd:
        if self._chosen is None:
            raise RuntimeError("the session is not open")
        return self._chosen.end

    def _open(self) -> None:
        while self._chosen is None:
            if self._grace.has_passed():
                raise self._nobody()
            self._turn(min(self._dial_more(), self._grace.left()))
        for connection in list(self._dialled):
            self._hang_up(connection)
        self._limit = Deadline(self._end.left_seconds + _MARGIN_SECONDS)

    def _check(self) -> None:
        if self._end.fault is not None:
            raise self._end.fault
        if self._limit.has_passed():
            raise ShareFault("rendezvous: no word from the leader in time", f"read the {self._hook} log of {self.allocation.leader}")

    def _flush(self) -> None:
        if self._chosen is not None:
            self._chosen.flush()

    def _dial_more(self) -> float:
        """Dial the next target if its time has come; return the seconds until there is something to do again."""
        now = time.monotonic()
        for connection, (_target, until) in list(self._dialled.items()):
            if now >= until:
                self._hang_up(connection)
        if now >= self._next:
            self._fill_queue()
            self._dial_next(now)
        return min(IDLE_SECONDS, self._next - now)

    def _fill_queue(self) -> None:
        """Begin another round if the last one is through; who is still being dialled is not dialled twice."""
        if not self._queue:
            found, busy = self._addresses(), {target for target, _until in self._dialled.values()}
            targets = [(family, number, port) for port in self._ports for family, number in found]
            self._queue.extend(target for target in targets if target not in busy)

    def _dial_next(self, now: float) -> None:
        if self._queue:
            target = self._queue.popleft()
            connection = dial(self._selector, *target, self._new_end(target[2]), self._moved)
            if connection is not None:
                self._dialled[connection] = (target, now + HANDSHAKE_SECONDS)
                self._next = now + _STAGGER_SECONDS
        if not self._queue:
            # The round is through: later and later, and not all members at the same instant.
            self._next = now + self._backoff * (0.5 + secrets.randbelow(1000) / 1000)
            self._backoff = min(self._backoff * 2, _BACKOFF_SECONDS[1])

    def _addresses(self) -> List[addresses.Address]:
        try:
            return addresses.resolve(self.allocation.leader_address)
        except (OSError, UnicodeError) as error:
            self._unknown = str(getattr(error, "strerror", None) or error)
            return []

    def _moved(self, connection: Connection[AnyClientEnd]) -> None:
        end = connection.end
        if self._chosen is None and end.is_welcome:
            self._chosen = connection
            del self._dialled[connection]
            self._choose(end)
            connection.flush()
        elif connection in self._dialled and (connection.is_closed or end.is_over):
            self._refused += end.was_refused
            self._hang_up(connection)
            if self._queue:
                self._next = 0.0

    def _hang_up(self, connection: Connection[AnyClientEnd]) -> None:
        del self._dialled[connection]
        connection.close()

    def _nobody(self) -> PeerFault:
        seen: Dict[str, object] = {"waited_seconds": round(self._grace.spent(), 1), "ports": f"{self._ports[0]}, ..."}
        if self._unknown:
            seen["name"] = f"{self.allocation.leader_address}: {self._unknown}"
        if self._refused:
            seen["refused_our_key"] = self._refused
        remedy = (
            "compare the cluster keys of the two nodes" if self._refused else f"read its {self._hook} log; can this node reach its ports?"
        )
        return PeerFault(self.allocation.leader, ShareFault("rendezvous: the leader did not answer", remedy, **seen))
