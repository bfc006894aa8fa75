# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both halves of an upload, as state machines: members bring their bundles to the leader, a few at a time.

They know no socket and no clock. At the leader, a member's end goes from *challenged* over *proven* (holds the key) to
*waiting* (has said how much it brings), *bringing* (it is its turn) and *whole*; then it is told ``TAKEN``, or why not. At
the member it goes from *dialled* over *joining* and *welcome* to *announced* (`choose` has made this connection the one),
*sent*, and the end: its bundle `is_taken`, or there is a `fault`.

========== ====== ==============================================
line       from   carries
========== ====== ==============================================
CHALLENGE  leader as in the prolog's rendezvous, like JOIN, WELCOME
BUNDLE     member how many characters it is going to send
SEND       leader its turn has come
PART       member the next characters
TAKEN      leader all of it is on the leader's disk
ABORT      leader why it is not
========== ====== ==============================================

Source: results.md, "Choose"; rendezvous.md for the lines.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Optional

from ..core.errors import Fault, PeerFault, ShareFault
from ..peers import framing
from ..peers.credential import Credential
from ..peers.handshake import ClientEnd, ServerEnd, ServerState, State
from ..slurm.allocation import Allocation
from .bundle import LONGEST_TEXT

PURPOSE = b"delivery"
PART_CHARACTERS = 3600  # the worst of them become two in JSON, and a line has 8192
_ROOM = 16 << 20  # characters of all who may send at a time: what the leader holds in memory
_WAITING, _BRINGING, _WHOLE = "waiting", "bringing", "whole"
_ANNOUNCED, _SENT = "announced", "sent"


class UploadServerEnd(ServerEnd):
    """The leader's end of one connection."""

    def __init__(self, upload: UploadState) -> None:
        super().__init__(upload)
        self._upload = upload
        self.size = 0
        self._parts: List[str] = []
        self._received = 0

    def __repr__(self) -> str:
        return f"<UploadServerEnd {self._state} rank={self.rank} {self._received}/{self.size}>"

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
            self._upload.gone(self)

    def send_now(self) -> None:
        """Say that it is this one's turn."""
        self.say("SEND")
        self._state = _BRINGING

    def taken(self) -> None:
        """Say that its bundle is safe."""
        self.say("TAKEN")
        self._state = State.OVER

    def text(self) -> str:
        """Return the bundle, which is JSON if the member is honest; it can be had once."""
        parts, self._parts = self._parts, []
        return "".join(parts)

    def _hear(self, document: Dict[str, Any]) -> None:
        step = (self._state, document.get("line"))
        if step == (State.PROVEN, "BUNDLE"):
            self.size = framing.number(document, "size", 1, LONGEST_TEXT)
            self._state = _WAITING
            self._upload.arrived(self)
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
    """What the leader knows of the whole upload.

    :param awaited: the ranks whose bundles are to come; others are taken as well.
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
        self._ends: Dict[int, UploadServerEnd] = {}

    def __repr__(self) -> str:
        return f"<UploadState awaited={sorted(self.awaited)} delivered={sorted(self.delivered)} ends={list(self._ends.values())}>"

    @property
    def is_busy(self) -> bool:
        """Whether somebody is here whose bundle is not settled."""
        return bool(self._ends)

    def next(self) -> Optional[UploadServerEnd]:
        """Return somebody whose bundle has come whole, to be settled by `settle`."""
        return next((end for end in self._ends.values() if end.is_whole), None)

    def settle(self, end: UploadServerEnd, fault: Optional[Fault] = None) -> None:
        """Tell *end* what has become of its bundle.

        :param fault: why it was not taken; None if it was.
        """
        if fault is None:
            end.taken()
        else:
            end.dismiss(fault)
        self.awaited.discard(end.rank)
        self.delivered[end.rank] = fault is None
        self.gone(end)

    def close(self, fault: Fault) -> None:
        """Tell all who are here why the upload is over."""
        for end in list(self._ends.values()):
            end.dismiss(fault)
        self._ends.clear()

    # What the ends report.

    def arrived(self, end: UploadServerEnd) -> None:
        older = self._ends.pop(end.rank, None)
        if older is not None:
            older.dismiss(ShareFault("upload: this node came a second time", "look for a second epilog of this job there"))
        self._ends[end.rank] = end
        if self._refusal is not None:
            self.settle(end, self._refusal)
        self._call_up()

    def gone(self, end: UploadServerEnd) -> None:
        if self._ends.get(end.rank) is end:
            del self._ends[end.rank]
        self._call_up()

    def _call_up(self) -> None:
        """Let those send whose bundles have room beside the others', in the order in which they came."""
        held = sum(end.size for end in self._ends.values() if end.has_turn)
        for end in self._ends.values():
            if not end.has_turn and held + end.size <= max(_ROOM, end.size):
                end.send_now()
                held += end.size


class UploadClientEnd(ClientEnd):
    """The member's end of one connection.

    :param text: the bundle, as JSON in ASCII.
    """

    def __init__(self, allocation: Allocation, credential: Credential, port: int, text: str) -> None:
        super().__init__(allocation, credential, port, PURPOSE)
        self._text = text
        self.is_taken = False

    def __repr__(self) -> str:
        return f"<UploadClientEnd {self._state} size={len(self._text)} is_taken={self.is_taken} fault={self.fault!r}>"

    def lost(self) -> None:
        """Take note that the connection is gone, or as good as gone: after `choose` this is the leader's end."""
        if self._state in (_ANNOUNCED, _SENT):
            cause = ShareFault("upload: the leader vanished", f"read the epilog log of {self._allocation.leader}")
            self.fault = PeerFault(self._allocation.leader, cause)
        self._state = State.OVER

    def choose(self) -> None:
        """Make this connection the one, and say how much there is to bring."""
        self.say("BUNDLE", size=len(self._text))
        self._state = _ANNOUNCED

    def _hear(self, document: Dict[str, Any]) -> None:
        step = (self._state, document.get("line"))
        if step == (State.JOINING, "WELCOME"):
            self._welcome(document)
        elif step == (_ANNOUNCED, "SEND"):
            self._send()
        elif step == (_SENT, "TAKEN"):
            self.is_taken, self._state = True, State.OVER
        elif self._state in (_ANNOUNCED, _SENT) and step[1] == "ABORT":
            self._abort(document)
        else:
            raise framing.BadLine("not now")

    def _send(self) -> None:
        for start in range(0, len(self._text), PART_CHARACTERS):
            self.say("PART", text=self._text[start : start + PART_CHARACTERS])
        self._state = _SENT
