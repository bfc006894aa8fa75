# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's half of a delivery, as a state machine: members bring their parcels, a few at a time.

It knows no socket and no clock. A bearer goes from *challenged* over *proven* (holds the key) to *waiting* (has said how
much it brings), *bringing* (it is its turn) and *whole*; then it is told ``TAKEN``, or why not.

========== ====== ==============================================
line       from   carries
========== ====== ==============================================
CHALLENGE  leader as in the prolog's meeting, like JOIN, WELCOME
PARCEL     member how many characters it is going to send
SEND       leader its turn has come
PART       member the next characters
TAKEN      leader all of it is on the leader's disk
ABORT      leader why it is not
========== ====== ==============================================

Source: results.md, "Choose"; rendezvous.md for the lines.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Optional

from ..core.errors import Fault, ShareFault
from ..peers import framing
from ..peers.credential import Credential
from ..peers.handshake import ServerEnd, ServerState, State
from ..slurm.allocation import Allocation
from .bundle import LONGEST_TEXT

PURPOSE = b"delivery"
PART_CHARACTERS = 3600  # the worst of them become two in JSON, and a line has 8192
_ROOM = 16 << 20  # characters of all who may send at a time: what the leader holds in memory
_WAITING, _BRINGING, _WHOLE = "waiting", "bringing", "whole"


class UploadServerEnd(ServerEnd):
    """The leader's end of one connection."""

    def __init__(self, depot: UploadState) -> None:
        super().__init__(depot)
        self._depot = depot
        self.size = 0
        self._parts: List[str] = []
        self._received = 0

    def __repr__(self) -> str:
        return f"<Bearer {self._state} rank={self.rank} {self._received}/{self.size}>"

    @property
    def is_present(self) -> bool:
        return self._state in (_WAITING, _BRINGING, _WHOLE)

    @property
    def is_whole(self) -> bool:
        return self._state == _WHOLE

    @property
    def has_turn(self) -> bool:
        return self._state in (_BRINGING, _WHOLE)

    def lost(self) -> None:
        was_present = self.is_present
        self._state = State.OVER
        if was_present:
            self._depot.gone(self)

    def send_now(self) -> None:
        """Say that it is this one's turn."""
        self.say("SEND")
        self._state = _BRINGING

    def taken(self) -> None:
        """Say that its parcel is safe."""
        self.say("TAKEN")
        self._state = State.OVER

    def text(self) -> str:
        """Return the parcel, which is JSON if the member is honest; it can be had once."""
        parts, self._parts = self._parts, []
        return "".join(parts)

    def _hear(self, document: Dict[str, Any]) -> None:
        step = (self._state, document.get("line"))
        if step == (State.PROVEN, "PARCEL"):
            self.size = framing.number(document, "size", 1, LONGEST_TEXT)
            self._state = _WAITING
            self._depot.arrived(self)
        elif step == (_BRINGING, "PART"):
            self._part(framing.text(document, "text", PART_CHARACTERS))
        else:
            raise framing.BadLine("not now")

    def _part(self, text: str) -> None:
        self._parts.append(text)
        self._received += len(text)
        if self._received > self.size:
            raise framing.BadLine("more than it said")
        if self._received == self.size:
            self._state = _WHOLE


class UploadState(ServerState):
    """What the leader knows of the whole delivery.

    :param awaited: the ranks whose parcels are to come; others are taken as well.
    :param refusal: why nothing can be taken here; None if it can.
    """

    def __init__(
        self,
        allocation: Allocation,
        credential: Credential,
        port: int,
        left: Callable[[], float],
        awaited: Iterable[int],
        refusal: Optional[Fault] = None,
    ) -> None:
        super().__init__(allocation, credential, port, left, PURPOSE)
        self.awaited = set(awaited)
        self.delivered: Dict[int, bool] = {}
        self._refusal = refusal
        self._bearers: Dict[int, UploadServerEnd] = {}

    def __repr__(self) -> str:
        return f"<Depot awaited={sorted(self.awaited)} delivered={sorted(self.delivered)} bearers={list(self._bearers.values())}>"

    @property
    def is_busy(self) -> bool:
        """Whether somebody is here whose parcel is not settled."""
        return bool(self._bearers)

    def next(self) -> Optional[UploadServerEnd]:
        """Return somebody whose parcel has come whole, to be settled by `settle`."""
        return next((bearer for bearer in self._bearers.values() if bearer.is_whole), None)

    def settle(self, bearer: UploadServerEnd, fault: Optional[Fault] = None) -> None:
        """Tell *bearer* what has become of its parcel.

        :param fault: why it was not taken; None if it was.
        """
        if fault is None:
            bearer.taken()
        else:
            bearer.dismiss(fault)
        self.awaited.discard(bearer.rank)
        self.delivered[bearer.rank] = fault is None
        self.gone(bearer)

    def close(self, fault: Fault) -> None:
        """Tell all who are here why the delivery is over."""
        for bearer in list(self._bearers.values()):
            bearer.dismiss(fault)
        self._bearers.clear()

    # What the bearers report.

    def arrived(self, bearer: UploadServerEnd) -> None:
        older = self._bearers.pop(bearer.rank, None)
        if older is not None:
            older.dismiss(ShareFault("delivery: this node came a second time", "look for a second epilog of this job there"))
        self._bearers[bearer.rank] = bearer
        if self._refusal is not None:
            self.settle(bearer, self._refusal)
        self._call_up()

    def gone(self, bearer: UploadServerEnd) -> None:
        if self._bearers.get(bearer.rank) is bearer:
            del self._bearers[bearer.rank]
        self._call_up()

    def _call_up(self) -> None:
        """Let those send whose parcels have room beside the others', in the order in which they came."""
        held = sum(bearer.size for bearer in self._bearers.values() if bearer.has_turn)
        for bearer in self._bearers.values():
            if not bearer.has_turn and held + bearer.size <= max(_ROOM, bearer.size):
                bearer.send_now()
                held += bearer.size
