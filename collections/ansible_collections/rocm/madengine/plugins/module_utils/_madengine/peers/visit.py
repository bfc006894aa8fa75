# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The member's half of a meeting, as a state machine: one connection's bytes in, bytes and news out.

It knows no socket and no clock. A visit goes from *dialled* over *joining* (has seen a challenge) to *welcome* (the
other end holds the key); a member may have several visits until one is welcome, and then `choose` makes it the one.

Source: design of the rendezvous, the table of lines.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence

from ..core.errors import Fault, PeerFault, ShareFault
from ..slurm.allocation import Allocation
from . import framing
from .credential import Credential
from .handshake import JOINING, OVER, ClientEnd, told

_CHOSEN, _WAITING = "chosen", "waiting"
_MOST_LAYERS = 4096
_LONGEST_LAYER = 92  # as JSON
_LAYERS_PER_LINE = 80  # a line stays below its limit


class MemberEnd(ClientEnd):
    """The member's end of one connection."""

    def __init__(self, allocation: Allocation, credential: Credential, port: int) -> None:
        super().__init__(allocation, credential, port)
        self._offers: List[Any] = []
        self._wanted = -1
        self.is_released = False

    def __repr__(self) -> str:
        return f"<Visit {self._state} images={len(self._offers)}/{self._wanted} is_released={self.is_released} fault={self.fault!r}>"

    @property
    def offers(self) -> Optional[List[Any]]:
        """The images, or None as long as they are not all known."""
        return self._offers if len(self._offers) == self._wanted else None

    def lost(self) -> None:
        """Take note that the connection is gone, or as good as gone: after `choose` this is the leader's end."""
        if self._state in (_CHOSEN, _WAITING):
            cause = ShareFault("rendezvous: the leader vanished", f"read the prolog log of {self._allocation.leader}")
            self.fault = PeerFault(self._allocation.leader, cause)
        self._state = OVER

    def choose(self, layers: Sequence[str] = ()) -> None:
        """Make this connection the one, and say which layers this node has."""
        known = [layer for layer in layers if len(json.dumps(layer)) <= _LONGEST_LAYER][:_MOST_LAYERS]
        parts = [known[start : start + _LAYERS_PER_LINE] for start in range(0, len(known), _LAYERS_PER_LINE)] or [[]]
        for index, part in enumerate(parts):
            self.say("HAVE", layers=part, more=index + 1 < len(parts))
        self._state = _CHOSEN

    def loaded(self, identities: Sequence[Any]) -> None:
        """Say what was loaded, an identity an image."""
        for index, identity in enumerate(identities or [None]):
            self.say("LOADED", index=index, of=len(identities), identity=identity)
        self._state = _WAITING

    def failed(self, fault: Fault) -> None:
        """Say why this node gives up."""
        if self._state in (_CHOSEN, _WAITING):
            self.say("FAILED", fault=told(fault))
        self._state = OVER

    def _hear(self, document: Dict[str, Any]) -> None:
        name = document.get("line")
        if self._state == JOINING and name == "WELCOME":
            self._welcome(document)
        elif self._state == _CHOSEN and name == "IMAGE":
            self._image(document)
        elif self._state == _WAITING and name == "GO":
            self.is_released, self._state = True, OVER
        elif self._state in (_CHOSEN, _WAITING) and name == "ABORT":
            self._abort(document)
        else:
            raise framing.BadLine("not now")

    def _image(self, document: Dict[str, Any]) -> None:
        wanted, index = framing.number(document, "of", 0, framing.MOST_IMAGES), framing.number(document, "index", 0, framing.MOST_IMAGES)
        if self.offers is not None or index != len(self._offers) or self._wanted not in (-1, wanted):
            raise framing.BadLine("images out of order")
        self._wanted = wanted
        if wanted:
            self._offers.append(document.get("offer"))
