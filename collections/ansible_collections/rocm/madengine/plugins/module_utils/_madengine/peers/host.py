# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's half of a meeting, as a state machine: bytes of many connections in, bytes and a verdict out.

It knows no socket and no clock. `LeaderEnd` is the leader's end of one connection, `LeaderState` is what all of them add up to.
A guest goes from *challenged* (anybody) over *proven* (holds the key) to *present* (has chosen this connection); only
a present guest counts.

Source: design of the rendezvous, the table of lines.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from ..core.errors import Fault, PeerFault, ShareFault
from ..slurm.allocation import Allocation, named
from . import framing
from .credential import Credential
from .handshake import OVER, PROVEN, ServerEnd, ServerState, fault_in

_MOST_LAYERS = 16384  # that differ, in the whole meeting: what goes beyond is sent once more than needed
_PRESENT = "present"


class LeaderEnd(ServerEnd):
    """The leader's end of one connection."""

    def __init__(self, host: LeaderState) -> None:
        super().__init__(host)
        self._host = host
        self.layers = 0
        self.identities: List[str] = []

    def __repr__(self) -> str:
        return f"<Guest {self._state} rank={self.rank} images={len(self.identities)}>"

    @property
    def is_present(self) -> bool:
        return self._state == _PRESENT

    def lost(self) -> None:
        was_present = self.is_present
        self._state = OVER
        if was_present:
            self._host.vanished(self)

    def show(self, offers: Sequence[Any]) -> None:
        """Say which images there are."""
        for index, offer in enumerate(offers or [None]):
            self.say("IMAGE", index=index, of=len(offers), offer=offer)

    def release(self) -> None:
        self.say("GO")
        self._state = OVER

    def _hear(self, document: Dict[str, Any]) -> None:
        step = (self._state, document.get("line"))
        if step == (PROVEN, "HAVE"):
            self._have(document)
        elif step == (_PRESENT, "LOADED"):
            self._loaded(document)
        elif step == (_PRESENT, "FAILED"):
            cause = fault_in(document)
            self._state = OVER
            self._host.abort(PeerFault(self._host.allocation.nodes[self.rank], cause))
        else:
            raise framing.BadLine("not now")

    def _have(self, document: Dict[str, Any]) -> None:
        layers = document.get("layers")
        if not isinstance(layers, list):
            raise framing.BadLine("no layers")
        self.layers |= self._host.mask(layers)
        if document.get("more") is not True:
            self._state = _PRESENT
            self._host.arrived(self)

    def _loaded(self, document: Dict[str, Any]) -> None:
        count = framing.number(document, "of", 0, framing.MOST_IMAGES)
        framing.number(document, "index", len(self.identities), len(self.identities))
        if count:
            self.identities.append(self._host.same(document.get("identity")))
        if len(self.identities) > count:
            raise framing.BadLine("too many images")
        if len(self.identities) == count:
            self._host.has_loaded(self)


class LeaderState(ServerState):
    """What the leader knows of the whole meeting."""

    def __init__(self, allocation: Allocation, credential: Credential, port: int, left: Callable[[], float]) -> None:
        super().__init__(allocation, credential, port, left)
        self._offers: Optional[Sequence[Any]] = None
        self._present: Dict[int, LeaderEnd] = {}
        self._loaded: Set[int] = set()
        self._bits: Dict[str, int] = {}
        self._identities: Dict[str, str] = {}
        self.is_over = False
        self.fault: Optional[PeerFault] = None

    def __repr__(self) -> str:
        return f"<Host present={sorted(self._present)} loaded={sorted(self._loaded)} fault={self.fault!r} is_over={self.is_over}>"

    # What the story asks.

    def missing(self) -> List[str]:
        """Return the nodes that are not there."""
        return [node for rank, node in enumerate(self.allocation.nodes) if rank and rank not in self._present]

    def not_loaded(self) -> List[str]:
        """Return the nodes that are there and have not loaded yet."""
        return [self.allocation.nodes[rank] for rank in sorted(self._present) if rank not in self._loaded]

    @property
    def has_published(self) -> bool:
        return self._offers is not None

    def has_all(self) -> bool:
        return len(self._present) == len(self.allocation.nodes) - 1

    def has_all_loaded(self) -> bool:
        return len(self._loaded) == len(self.allocation.nodes) - 1

    def guests(self) -> List[LeaderEnd]:
        return list(self._present.values())

    def common(self) -> Set[str]:
        """Return the layers that every member said it has."""
        shared = -1
        for guest in self._present.values():
            shared &= guest.layers
        return {layer for layer, bit in self._bits.items() if shared & bit}

    def publish(self, offers: Sequence[Any]) -> None:
        """Tell all who are there, and all who come later, which images there are."""
        self._offers = offers
        for guest in self.guests():
            guest.show(offers)

    def first_mismatch(self, identities: Optional[Sequence[Any]]) -> Optional[PeerFault]:
        """Return the fault of the first node whose images are not *identities*, or None.

        :param identities: the leader's own; None: those of the offers, or else of the first member.
        """
        if identities is None and all(isinstance(offer, dict) and "identity" in offer for offer in self._offers or ()):
            identities = [offer["identity"] for offer in self._offers or ()]
        wanted = None if identities is None else [self.same(identity) for identity in identities]
        for rank, guest in sorted(self._present.items()):
            wanted = guest.identities if wanted is None else wanted
            if guest.identities != wanted:
                return PeerFault(self.allocation.nodes[rank], _differs(wanted, guest.identities))
        return None

    def go(self) -> None:
        """Release all."""
        self.is_over = True
        for guest in self.guests():
            guest.release()

    def abort(self, fault: PeerFault) -> None:
        """End the meeting for all, now and later; only the first fault counts, and nothing after GO."""
        if self.is_over:
            return
        self.is_over, self.fault = True, fault
        for guest in self.guests():
            guest.dismiss(fault)

    # What the guests report.

    def arrived(self, guest: LeaderEnd) -> None:
        older = self._present.get(guest.rank)
        self._present[guest.rank] = guest
        self._loaded.discard(guest.rank)
        if older is not None:
            node = self.allocation.nodes[guest.rank]
            older.dismiss(
                PeerFault(node, ShareFault("rendezvous: this node came a second time", "look for a second prolog of this job there"))
            )
        if self.fault is not None:
            guest.dismiss(self.fault)
        elif self._offers is not None:
            guest.show(self._offers)

    def has_loaded(self, guest: LeaderEnd) -> None:
        self._loaded.add(guest.rank)

    def vanished(self, guest: LeaderEnd) -> None:
        node = self.allocation.nodes[guest.rank]
        self.abort(PeerFault(node, ShareFault("rendezvous: the node vanished after it had come", f"read the prolog log of {node}")))

    # What the guests need.

    def mask(self, layers: Sequence[Any]) -> int:
        """Return *layers* as bits: 2048 members that have the same 1000 layers cost 2048 small numbers."""
        bits = 0
        for layer in layers:
            if isinstance(layer, str) and (layer in self._bits or len(self._bits) < _MOST_LAYERS):
                bits |= self._bits.setdefault(layer, 1 << len(self._bits))
        return bits

    def same(self, identity: Any) -> str:
        """Return *identity* as text; equal ones are one object."""
        shown = json.dumps(identity, sort_keys=True)
        return self._identities.setdefault(shown, shown)


def late(host: LeaderState, waited_seconds: float) -> ShareFault:
    """Return the fault of a meeting whose time is up, with the nodes that everybody waited for."""
    missing, not_loaded = host.missing(), host.not_loaded() if host.has_published else []
    seen: Dict[str, object] = {"waited_seconds": round(waited_seconds, 1)}
    if missing:
        seen["never_arrived"] = named(missing)
    if not_loaded:
        seen["not_loaded"] = named(not_loaded)
    if host.refused:
        seen["refused_for_their_key"] = host.refused
    first = (missing or not_loaded or [host.allocation.leader])[0]
    return ShareFault("rendezvous: the time is up", f"read the prolog log of {first}, or raise Deadline", **seen)


def _differs(wanted: Sequence[str], got: Sequence[str]) -> Fault:
    return ShareFault(
        "rendezvous: the node loaded another image",
        "remove the image there and submit again",
        wanted=", ".join(wanted),
        loaded=", ".join(got),
    )
