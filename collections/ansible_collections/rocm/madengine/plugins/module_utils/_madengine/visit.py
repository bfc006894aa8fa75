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

from . import wire
from .credential import Credential
from .errors import Fault, PeerFault, ShareFault, from_dict
from .party import Party, told

_DIALLED, _JOINING, _WELCOME, _CHOSEN, _WAITING, _OVER = "dialled", "joining", "welcome", "chosen", "waiting", "over"
_LONGEST_DEADLINE = 7 * 86400.0
_MOST_LAYERS = 4096
_LONGEST_LAYER = 92  # as JSON
_LAYERS_PER_LINE = 80  # a line stays below its limit


class Visit:
    """The member's end of one connection. What is in `outgoing` waits to be sent."""

    def __init__(self, party: Party, credential: Credential, port: int) -> None:
        self._party, self._credential, self._port = party, credential, port
        self._lines, self._nonce = wire.Lines(), wire.nonce()
        self._channel: Optional[wire.Channel] = None
        self._state = _DIALLED
        self._offers: List[Any] = []
        self._wanted = -1
        self.outgoing = bytearray()
        self.left_seconds = 0.0
        self.is_released = False
        self.fault: Optional[PeerFault] = None

    def __repr__(self) -> str:
        return f"<Visit {self._state} images={len(self._offers)}/{self._wanted} is_released={self.is_released} fault={self.fault!r}>"

    @property
    def is_over(self) -> bool:
        return self._state == _OVER

    @property
    def is_welcome(self) -> bool:
        return self._state == _WELCOME

    @property
    def was_refused(self) -> bool:
        """Whether somebody challenged us and then did not take our proof."""
        return self.is_over and self._channel is not None and self.left_seconds == 0.0

    @property
    def offers(self) -> Optional[List[Any]]:
        """The images, or None as long as they are not all known."""
        return self._offers if len(self._offers) == self._wanted else None

    def receive(self, data: bytes) -> None:
        """Take what the network delivered; from a bad line on, nothing counts any more."""
        try:
            for line in self._lines.feed(data):
                if self.is_over:
                    return
                self._take(line)
        except wire.BadLine:
            self.lost()

    def lost(self) -> None:
        """Take note that the connection is gone, or as good as gone: after `choose` this is the leader's end."""
        if self._state in (_CHOSEN, _WAITING):
            cause = ShareFault("rendezvous: the leader vanished", f"read the prolog log of {self._party.leader}")
            self.fault = PeerFault(self._party.leader, cause)
        self._state = _OVER

    def choose(self, layers: Sequence[str] = ()) -> None:
        """Make this connection the one, and say which layers this node has."""
        known = [layer for layer in layers if len(json.dumps(layer)) <= _LONGEST_LAYER][:_MOST_LAYERS]
        parts = [known[start : start + _LAYERS_PER_LINE] for start in range(0, len(known), _LAYERS_PER_LINE)] or [[]]
        for index, part in enumerate(parts):
            self._say("HAVE", layers=part, more=index + 1 < len(parts))
        self._state = _CHOSEN

    def loaded(self, identities: Sequence[Any]) -> None:
        """Say what was loaded, an identity an image."""
        for index, identity in enumerate(identities or [None]):
            self._say("LOADED", index=index, of=len(identities), identity=identity)
        self._state = _WAITING

    def failed(self, fault: Fault) -> None:
        """Say why this node gives up."""
        if self._state in (_CHOSEN, _WAITING):
            self._say("FAILED", fault=told(fault))
        self._state = _OVER

    def _say(self, name: str, **fields: Any) -> None:
        if self._channel is not None and not self.is_over:
            self.outgoing += self._channel.seal(name, **fields)

    def _take(self, line: bytes) -> None:
        if self._channel is None:
            self._join(line)
            return
        document = self._channel.open(line)
        name = document.get("line")
        if self._state == _JOINING and name == "WELCOME":
            self.left_seconds = wire.seconds(document, "left", _LONGEST_DEADLINE)
            self._state = _WELCOME
        elif self._state == _CHOSEN and name == "IMAGE":
            self._image(document)
        elif self._state == _WAITING and name == "GO":
            self.is_released, self._state = True, _OVER
        elif self._state in (_CHOSEN, _WAITING) and name == "ABORT":
            self._abort(document)
        else:
            raise wire.BadLine("not now")

    def _join(self, line: bytes) -> None:
        challenge, party = wire.parse(line), self._party
        if challenge.get("line") != "CHALLENGE" or wire.number(challenge, "v", 0, 1 << 20) != wire.VERSION:
            raise wire.BadLine("no challenge")
        theirs = wire.text(challenge, "nonce", 64)
        try:
            secret = self._credential.secret(challenge)
        except ValueError as error:
            raise wire.BadLine(str(error)) from None
        leader_key, member_key = party.channel(secret, party.rank, self._port, theirs, self._nonce)
        self._channel, self._state = wire.Channel(member_key, leader_key), _JOINING
        self._say("JOIN", job=party.job_id, attempt=party.attempt, rank=party.rank, node=party.node, nonce=self._nonce)

    def _image(self, document: Dict[str, Any]) -> None:
        wanted, index = wire.number(document, "of", 0, wire.MOST_IMAGES), wire.number(document, "index", 0, wire.MOST_IMAGES)
        if self.offers is not None or index != len(self._offers) or self._wanted not in (-1, wanted):
            raise wire.BadLine("images out of order")
        self._wanted = wanted
        if wanted:
            self._offers.append(document.get("offer"))

    def _abort(self, document: Dict[str, Any]) -> None:
        fault = document.get("fault")
        try:
            cause = from_dict(fault if isinstance(fault, dict) else {})
        except ValueError:
            raise wire.BadLine("no fault") from None
        self.fault = cause if isinstance(cause, PeerFault) else PeerFault(self._party.leader, cause)
        self._state = _OVER
