# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The member's half of a delivery, as a state machine: one connection's bytes in, bytes and news out.

It knows no socket and no clock. A courier goes from *dialled* over *joining* and *welcome* to *announced* (`choose` has
made this connection the one), *sent*, and the end: its parcel `is_taken`, or there is a `fault`.

Source: `depot` has the table of lines.
"""

from __future__ import annotations

from typing import Any, Dict

from ..core.errors import PeerFault, ShareFault
from ..peers import framing
from ..peers.credential import Credential
from ..peers.handshake import ClientEnd, State
from ..slurm.allocation import Allocation
from .depot import PART_CHARACTERS, PURPOSE

_ANNOUNCED, _SENT = "announced", "sent"


class UploadClientEnd(ClientEnd):
    """The member's end of one connection.

    :param text: the parcel, as JSON in ASCII.
    """

    def __init__(self, allocation: Allocation, credential: Credential, port: int, text: str) -> None:
        super().__init__(allocation, credential, port, PURPOSE)
        self._text = text
        self.is_taken = False

    def __repr__(self) -> str:
        return f"<Courier {self._state} size={len(self._text)} is_taken={self.is_taken} fault={self.fault!r}>"

    def lost(self) -> None:
        """Take note that the connection is gone, or as good as gone: after `choose` this is the leader's end."""
        if self._state in (_ANNOUNCED, _SENT):
            cause = ShareFault("delivery: the leader vanished", f"read the epilog log of {self._allocation.leader}")
            self.fault = PeerFault(self._allocation.leader, cause)
        self._state = State.OVER

    def choose(self) -> None:
        """Make this connection the one, and say how much there is to bring."""
        self.say("PARCEL", size=len(self._text))
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
