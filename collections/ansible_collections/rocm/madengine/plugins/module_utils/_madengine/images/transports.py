# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of an image from the leader to the other nodes. A new one is one file with one class, and its place here.

``none``: there is no way, so every node must have the image.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..core.errors import Fault, JobFault, ShareFault
from . import pinned
from .offer import Figures, Offer
from .transport import AUTO, DECLINED, OTHERWISE, Delivery, Publication, Transport, TransportOptions, Way
from .transport_registry import Registry
from .transport_sbcast import Broadcast
from .transport_shared import Shared

_WHY = "first_node"  # the detail of an offer of nothing: why the leader gives no image by digest, a text a way


class Nothing(Way):
    """The others must have the image."""

    name, remedy = "none", "use auto"

    def can(self, image: Publication) -> bool:
        return True

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        is_lost = bool(image.name.digest) and not image.engine.info().is_containerd_store
        return {_WHY: [str(pinned.not_kept(image.name))]} if is_lost else {}, Figures.since(image.started, "none")

    def take(self, delivery: Delivery) -> Figures:
        name, why = str(delivery.offer.reference), delivery.offer.details.get(_WHY)
        if delivery.offer.reference.digest:
            fault = JobFault("transport: this node lacks the image by digest", "let every node reach its registry")
            # A value a reason, so that none is cut for another's sake.
            reasons = {f"{_WHY}_{number}": str(each) for number, each in enumerate(why if isinstance(why, list) else [], 1)}
            fault.seen = {"image": name, **reasons}
            raise fault
        remedy = "set ImageStore, or store= in the job's comment"
        raise JobFault("transport: this node lacks the image and no store is shared", remedy, image=name)


_ALL: Tuple[Transport, ...] = (Shared(), Registry(), Broadcast(), Nothing())  # in the order in which ``auto`` tries them
TRANSPORTS: Dict[str, Transport] = {each.name: each for each in _ALL}
_LONGEST_REASON = 1000  # of one way that failed; it goes to every node
NAMES = (AUTO, *(each.name for each in _ALL if each.name != Nothing.name))  # what a site or a job may ask for


def wants_layers(transport: str, has_store: bool) -> bool:
    """Say whether the leader had better know what the others' daemons have, before it publishes."""
    return transport == Broadcast.name or (transport == AUTO and not has_store)


def choose(image: Publication) -> Offer:
    """Make the image available by the way that is asked for, or the first that works.

    :raises JobFault: what is asked for cannot be used here.
    :raises ShareFault: it failed; with ``auto``, all that could be tried did, and the first one's fault tells why.
    """
    asked = image.options.transport
    ways = [each for each in _ALL if asked in (AUTO, each.name) and each.name not in image.options.declined and each.can(image)]
    if image.name.digest:
        ways = _by_digest(image, ways)
    if not ways:
        remedy = TRANSPORTS[asked].remedy if asked in TRANSPORTS else Nothing.remedy
        raise JobFault("transport: it cannot be used here", remedy, transport=asked)
    failed = [_declined(name, why) for name, why in image.options.declined.items()]
    for way in ways:
        if failed and way.name == Nothing.name and (not image.name.digest or image.options.declined):
            break
        try:
            return _offered(image, way, failed, _has_more(image, ways, way))
        except ShareFault as fault:
            failed.append(fault)
            image.deadline.check("transport: looking for a way")
    raise failed[0]


def _by_digest(image: Publication, ways: Sequence[Transport]) -> List[Transport]:
    """Return the ways of an image that is named by digest, in their order: its registry comes first, for every daemon can pull.

    Only the containerd store has what the others bring. A digest is nobody else's, so where there is no way each node may have it.
    """
    found = sorted(ways, key=lambda each: each.name != Registry.name)
    if image.engine.info().is_containerd_store or image.options.must_publish or not found:
        return found
    pulling = [each for each in found if each.name == Registry.name]
    return pulling if image.options.transport == Registry.name else [*pulling, TRANSPORTS[Nothing.name]]


def _declined(name: str, why: Mapping[str, str]) -> ShareFault:
    fault = ShareFault("transport: a node cannot take it this way", TRANSPORTS[name].remedy)
    fault.seen = {"way": name, **why}  # a value a node, so that none is cut for another's sake
    return fault


def _has_more(image: Publication, ways: Sequence[Transport], way: Transport) -> bool:
    """Say whether there is another way behind *way*, should a node be unable to take that one."""
    return any(each.name != Nothing.name for each in ways[ways.index(way) + 1 :])


def _offered(image: Publication, way: Transport, failed: Sequence[Fault], has_more: bool) -> Offer:
    details, figures = way.offer(image)
    if has_more and way.name == Registry.name:
        details = {**details, OTHERWISE: True}
    if failed:
        reasons = [str(fault)[:_LONGEST_REASON] for fault in failed]
        details = {**details, "instead_of": "; ".join(reasons), **({_WHY: reasons} if way.name == Nothing.name else {})}
    return Offer(image.name, image.identity.digest, way.name, details=details, figures=figures)


__all__ = ["AUTO", "DECLINED", "NAMES", "OTHERWISE", "TRANSPORTS", "Delivery", "Publication", "TransportOptions", "choose", "wants_layers"]
