# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two halves of a barrier as state machines: bytes of connections in, bytes and news out.

They know no socket and no clock. `LeaderEnd` and `MemberEnd` are the ends of one connection, `LeaderState` is what the
leader knows of all of them.

=========== =================================================================================================
end         goes from
=========== =================================================================================================
`LeaderEnd` *challenged* (anybody) over *proven* (holds the key) to *present* (the member has chosen this
            connection); only one that is present counts
`MemberEnd` *dialled* over *joining* (has seen a challenge) to *welcome* (the other end holds the key), which a
            member may have several of, until `choose` makes one of them the one; *loaded* once it has said so, or
            that it cannot load what is offered, and back to *chosen* where the leader offers something else
=========== =================================================================================================

Source: design of the rendezvous, the table of lines.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from ..core.errors import Fault, PeerFault, ShareFault
from ..slurm.allocation import Allocation
from . import framing
from .credential import Credential
from .handshake import ClientEnd, ServerEnd, ServerState, State, fault_in, told

_MOST_LAYERS = 16384  # that differ, among all members: what goes beyond is sent once more than needed
_MEMBERS_LAYERS = 4096
_MOST_GENERATIONS = 1 << 20
_LONGEST_LAYER = 92  # as JSON
_LAYERS_PER_LINE = 80  # a line stays below its limit


class LeaderEnd(ServerEnd):
    """The leader's end of one connection."""

    def __init__(self, leader: LeaderState) -> None:
        super().__init__(leader)
        self._leader = leader
        self.layers = 0
        self.generation = 0
        self.identities: List[str] = []

    def __repr__(self) -> str:
        return f"<LeaderEnd {self._state} rank={self.rank} images={len(self.identities)}>"

    @property
    def is_present(self) -> bool:
        return self._state == State.PRESENT

    def lost(self) -> None:
        was_present = self.is_present
        self._state = State.OVER
        if was_present:
            self._leader.vanished(self)

    def show(self, offers: Sequence[Any], generation: int) -> None:
        """Say which images there are; what was loaded of an older generation does not count any more."""
        self.generation, self.identities = generation, []
        for index, offer in enumerate(offers or [None]):
            self.say("IMAGE", generation=generation, index=index, of=len(offers), offer=offer)

    def release(self) -> None:
        self.say("GO")
        self._state = State.OVER

    def _hear(self, document: Dict[str, Any]) -> None:
        step = (self._state, document.get("line"))
        if step == (State.PROVEN, "HAVE"):
            self._have(document)
        elif step == (State.PRESENT, "LOADED"):
            self._loaded(document)
        elif step == (State.PRESENT, "DECLINED"):
            if framing.number(document, "generation", 0, self.generation) == self.generation:
                self._leader.has_declined(self, fault_in(document))
        elif step == (State.PRESENT, "FAILED"):
            cause = fault_in(document)
            self._state = State.OVER
            self._leader.abort(PeerFault(self._leader.allocation.nodes[self.rank], cause))
        else:
            raise framing.BadLine("not now")

    def _have(self, document: Dict[str, Any]) -> None:
        layers = document.get("layers")
        if not isinstance(layers, list):
            raise framing.BadLine("no layers")
        self.layers |= self._leader.mask(layers)
        if document.get("more") is not True:
            self._state = State.PRESENT
            self._leader.arrived(self)

    def _loaded(self, document: Dict[str, Any]) -> None:
        if framing.number(document, "generation", 0, self.generation) < self.generation:
            return  # it was on its way when another offer took the place of that one
        count = framing.number(document, "of", 0, framing.MOST_IMAGES)
        framing.number(document, "index", len(self.identities), len(self.identities))
        if count:
            self.identities.append(self._leader.same(document.get("identity")))
        if len(self.identities) > count:
            raise framing.BadLine("too many images")
        if len(self.identities) == count:
            self._leader.has_loaded(self)


class LeaderState(ServerState):
    """What the leader knows of all connections."""

    def __init__(self, allocation: Allocation, credential: Credential, port: int, left: Callable[[], float]) -> None:
        super().__init__(allocation, credential, port, left)
        self._offers: Optional[Sequence[Any]] = None
        self._generation = 0
        self._present: Dict[int, LeaderEnd] = {}
        self._loaded: Set[int] = set()
        self._declined: Dict[int, Fault] = {}
        self._bits: Dict[str, int] = {}
        self._identities: Dict[str, str] = {}
        self.is_over = False
        self.fault: Optional[PeerFault] = None

    def __repr__(self) -> str:
        return f"<LeaderState present={sorted(self._present)} loaded={sorted(self._loaded)} fault={self.fault!r} is_over={self.is_over}>"

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

    def have_all_answered(self) -> bool:
        return len(self._loaded) + len(self._declined) == len(self.allocation.nodes) - 1

    def declined(self) -> List[PeerFault]:
        """Return why those nodes cannot load what is offered who have said so."""
        return [PeerFault(self.allocation.nodes[rank], fault) for rank, fault in sorted(self._declined.items())]

    def members(self) -> List[LeaderEnd]:
        return list(self._present.values())

    def common(self) -> Set[str]:
        """Return the layers that every member said it has."""
        shared = -1
        for end in self._present.values():
            shared &= end.layers
        return {layer for layer, bit in self._bits.items() if shared & bit}

    def publish(self, offers: Sequence[Any]) -> None:
        """Tell all who are there, and all who come later, which images there are; earlier offers are withdrawn by that."""
        self._offers = offers
        self._generation += 1
        self._loaded.clear()
        self._declined.clear()
        for end in self.members():
            end.show(offers, self._generation)

    def first_mismatch(self, identities: Optional[Sequence[Any]]) -> Optional[PeerFault]:
        """Return the fault of the first node whose images are not *identities*, or None.

        :param identities: the leader's own; None: those of the offers, or else of the first member.
        """
        if identities is None and all(isinstance(offer, dict) and "identity" in offer for offer in self._offers or ()):
            identities = [offer["identity"] for offer in self._offers or ()]
        wanted = None if identities is None else [self.same(identity) for identity in identities]
        for rank, end in sorted(self._present.items()):
            wanted = end.identities if wanted is None else wanted
            if end.identities != wanted:
                return PeerFault(self.allocation.nodes[rank], _differs(wanted, end.identities))
        return None

    def go(self) -> None:
        """Release all."""
        self.is_over = True
        for end in self.members():
            end.release()

    def abort(self, fault: PeerFault) -> None:
        """End the barrier for all, now and later; only the first fault counts, and nothing after GO."""
        if self.is_over:
            return
        self.is_over, self.fault = True, fault
        for end in self.members():
            end.dismiss(fault)

    # What the ends report.

    def arrived(self, end: LeaderEnd) -> None:
        older = self._present.get(end.rank)
        self._present[end.rank] = end
        self._loaded.discard(end.rank)
        self._declined.pop(end.rank, None)
        if older is not None:
            node = self.allocation.nodes[end.rank]
            older.dismiss(
                PeerFault(node, ShareFault("rendezvous: this node came a second time", "look for a second prolog of this job there"))
            )
        if self.fault is not None:
            end.dismiss(self.fault)
        elif self._offers is not None:
            end.show(self._offers, self._generation)

    def has_loaded(self, end: LeaderEnd) -> None:
        self._declined.pop(end.rank, None)
        self._loaded.add(end.rank)

    def has_declined(self, end: LeaderEnd, fault: Fault) -> None:
        if end.rank not in self._loaded:
            self._declined[end.rank] = fault

    def vanished(self, end: LeaderEnd) -> None:
        node = self.allocation.nodes[end.rank]
        self.abort(PeerFault(node, ShareFault("rendezvous: the node vanished after it had come", f"read the prolog log of {node}")))

    # What the ends need.

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


class MemberEnd(ClientEnd):
    """The member's end of one connection."""

    def __init__(self, allocation: Allocation, credential: Credential, port: int) -> None:
        super().__init__(allocation, credential, port)
        self._offers: List[Any] = []
        self._wanted = -1
        self.generation = 0
        self.is_released = False

    def __repr__(self) -> str:
        return f"<MemberEnd {self._state} images={len(self._offers)}/{self._wanted} is_released={self.is_released} fault={self.fault!r}>"

    @property
    def offers(self) -> Optional[List[Any]]:
        """The images, or None as long as they are not all known."""
        return self._offers if len(self._offers) == self._wanted else None

    def lost(self) -> None:
        """Take note that the connection is gone, or as good as gone: after `choose` this is the leader's end."""
        if self._state in (State.CHOSEN, State.LOADED):
            cause = ShareFault("rendezvous: the leader vanished", f"read the prolog log of {self._allocation.leader}")
            self.fault = PeerFault(self._allocation.leader, cause)
        self._state = State.OVER

    def choose(self, layers: Sequence[str] = ()) -> None:
        """Make this connection the one, and say which layers this node has."""
        known = [layer for layer in layers if len(json.dumps(layer)) <= _LONGEST_LAYER][:_MEMBERS_LAYERS]
        parts = [known[start : start + _LAYERS_PER_LINE] for start in range(0, len(known), _LAYERS_PER_LINE)] or [[]]
        for index, part in enumerate(parts):
            self.say("HAVE", layers=part, more=index + 1 < len(parts))
        self._state = State.CHOSEN

    def loaded(self, identities: Sequence[Any]) -> None:
        """Say what was loaded, an identity an image."""
        for index, identity in enumerate(identities or [None]):
            self.say("LOADED", generation=self.generation, index=index, of=len(identities), identity=identity)
        self._state = State.LOADED

    def declined(self, fault: Fault) -> None:
        """Say why this node cannot load what is offered; another offer may do."""
        self.say("DECLINED", generation=self.generation, fault=told(fault))
        self._state = State.LOADED

    def failed(self, fault: Fault) -> None:
        """Say why this node gives up."""
        if self._state in (State.CHOSEN, State.LOADED):
            self.say("FAILED", fault=told(fault))
        self._state = State.OVER

    def _hear(self, document: Dict[str, Any]) -> None:
        name = document.get("line")
        if self._state == State.JOINING and name == "WELCOME":
            self._welcome(document)
        elif self._state in (State.CHOSEN, State.LOADED) and name == "IMAGE":
            self._image(document)
        elif self._state == State.LOADED and name == "GO":
            self.is_released, self._state = True, State.OVER
        elif self._state in (State.CHOSEN, State.LOADED) and name == "ABORT":
            self._abort(document)
        else:
            raise framing.BadLine("not now")

    def _image(self, document: Dict[str, Any]) -> None:
        generation = framing.number(document, "generation", self.generation, _MOST_GENERATIONS)
        if generation > self.generation:  # also where half of the older ones, or a load of them, is on its way
            self.generation, self._offers, self._wanted, self._state = generation, [], -1, State.CHOSEN
        wanted, index = framing.number(document, "of", 0, framing.MOST_IMAGES), framing.number(document, "index", 0, framing.MOST_IMAGES)
        if self.offers is not None or index != len(self._offers) or self._wanted not in (-1, wanted):
            raise framing.BadLine("images out of order")
        self._wanted = wanted
        if wanted:
            self._offers.append(document.get("offer"))


def _differs(wanted: Sequence[str], got: Sequence[str]) -> Fault:
    return ShareFault(
        "rendezvous: the node loaded another image",
        "remove the image there and submit again",
        wanted=", ".join(wanted),
        loaded=", ".join(got),
    )
