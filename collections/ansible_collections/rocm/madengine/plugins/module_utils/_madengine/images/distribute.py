# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image gets from the node that has it to the nodes that need it, moving only what is missing.

`publish` runs on the leader and returns an offer; `obtain` runs on each member and takes that offer. Both are meant for
a child process that is the job's user: plain values go in, dictionaries that fit into JSON come out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from ..core import locks
from ..core.deadline import Deadline
from ..core.errors import Fault, ShareFault
from ..docker import archive
from ..docker.engine import Engine
from ..oci.image import Identity, Reference
from ..oci.store import ImageStore
from ..slurm import sbcast
from . import conflict, save, site_images, sources, transports
from . import load as loading
from .offer import FIGURES, Figures, Offer
from .request import ImageRequest
from .transports import TransportOptions

Done = Dict[str, Any]
Image = Union[str, Mapping[str, Any]]


def publish_all(
    engine: Engine,
    store_path: str,
    images: Sequence[Image],
    namespace: str,
    deadline: Deadline,
    options: Optional[TransportOptions] = None,
    early: Optional[Callable[[List[Done]], None]] = None,
) -> List[Done]:
    """Publish each of *images* once, in their order; arguments and faults as `publish`.

    :param early: is told of all offers as soon as they can be taken, if that is before the last image is whole; see `are_kept`.
    """
    done: List[Done] = []
    requests = _distinct(images)
    for wanted in requests:
        tell = None if early is None or wanted is not requests[-1] else lambda offer: early([*done, offer])
        done.append(publish(engine, store_path, wanted, namespace, deadline, options, tell))
    return done


def are_kept(early: Sequence[Mapping[str, Any]], offers: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a node that takes the offers that were told of *early* gets what *offers* are in the end."""
    return len(early) == len(offers) and all(Offer.of(one).is_kept_by(Offer.of(two)) for one, two in zip(early, offers))


def ensure_all(
    engine: Engine, store_path: str, images: Sequence[Image], namespace: str, deadline: Deadline, options: Optional[TransportOptions] = None
) -> List[Done]:
    """See that this node has each of *images*, for a job of one node: nothing is published.

    :param store_path: a store to look in, or "".
    :returns: reference, identity and source of each.
    :raises JobFault: nobody has one of them.
    """
    found: List[Done] = []
    known, store = options or TransportOptions(), ImageStore(store_path) if store_path else None
    for wanted in _distinct(images):
        source, identity, decision = _ensured(engine, store, wanted, namespace, deadline, known)
        done = {"reference": str(wanted.reference), "identity": identity.digest, "source": source, "method": "none"}
        found.append({**done, **({"decision": decision} if decision else {})})
    return found


def _ensured(
    engine: Engine, store: Optional[ImageStore], wanted: ImageRequest, namespace: str, deadline: Deadline, options: TransportOptions
) -> Tuple[str, Identity, str]:
    """Bring the image into the local daemon, from where this site lets it come; return as `sources.ensure`."""
    if options.is_site_s:
        return (*site_images.ensure(engine, store, wanted.reference, deadline), "")
    return sources.ensure(engine, store, wanted, namespace, deadline, options.sources, options.on_conflict)


def obtain_all(engine: Engine, offers: Sequence[Mapping[str, Any]], deadline: Deadline, flocks: Sequence[int] = ()) -> List[Done]:
    """Obtain what each of *offers* offers; arguments and faults as `obtain`."""
    return [obtain(engine, offer, deadline, flocks) for offer in offers]


def publish(
    engine: Engine,
    store_path: str,
    image: Union[Image, ImageRequest],
    namespace: str,
    deadline: Deadline,
    options: Optional[TransportOptions] = None,
    early: Optional[Callable[[Done], None]] = None,
) -> Done:
    """See that this node has *image*, make it available to the other nodes, and return the offer for them.

    :param store_path: the store's directory, which is made if it is not there; or "" if there is none.
    :param image: a name, or an entry of ``manifest.images`` with its ``work_dir``.
    :param namespace: whose images are published: ``site`` or one per uid.
    :param early: is told of the offer as soon as it can be taken, if that is before the image is whole. What is returned may be
        another one in the end, where the image turns out otherwise.
    :returns: an `Offer`, as a dictionary.
    :raises JobFault: nobody has the image; the fault names the places. No Docker access.
    :raises ShareFault: the store cannot be used, or the broadcast failed.
    """
    started, options = time.monotonic(), options or TransportOptions()
    request = image if isinstance(image, ImageRequest) else ImageRequest.of(image)
    store = ImageStore(store_path) if store_path else None
    source, identity, decision = _ensured(engine, store, request, namespace, deadline, options)

    def told(offer: Offer) -> Done:
        return dataclasses.replace(offer, source=source, decision=decision).to_dict()

    tell = None if early is None else lambda offer: early(told(offer))
    return told(transports.choose(transports.Publication(engine, store, request, namespace, identity, deadline, options, started, tell)))


def obtain(engine: Engine, document: Mapping[str, Any], deadline: Deadline, flocks: Sequence[int] = ()) -> Done:
    """See that this node has the very image that an offer offers, under its name.

    Nothing is read if it is here already. Otherwise the daemon pulls what it lacks.

    :param document: the offer.
    :param flocks: as in `TransportOptions`.
    :returns: reference, identity, transport, what `Figures` holds, and a ``decision`` where a newer image lost its name to it.
    :raises ShareFault: the store is not the leader's, or the image in it is damaged.
    :raises JobFault: the daemon refuses the image.
    :raises NodeFault: no daemon, no space.
    """
    started, offer = time.monotonic(), Offer.of(document)
    way = transports.TRANSPORTS.get(offer.transport)
    if way is None:
        raise ShareFault("transport: not an offer", "install the same release on all nodes", transport=offer.transport)
    done = {"reference": str(offer.reference), "identity": offer.identity, "transport": offer.transport}
    delivery = transports.Delivery(engine, offer, deadline, started)
    with contextlib.ExitStack() as stack:
        stack.callback(way.taken, offer)
        before = _held(engine, offer.reference, "this node")
        if not _is_of(before, offer):
            stack.enter_context(locks.try_flock(flocks, f"load.{offer.identity[7:]}", deadline))
            if flocks:  # another job may have loaded it meanwhile
                before = _held(engine, offer.reference, "this node")
        if _is_of(before, offer):
            way.skip(delivery)
            return {**done, **Figures.since(started, "none").to_dict()}
        figures = way.take(delivery)
        # A name by digest is never another image's.
        now = _held(engine, offer.reference, "the first node") if before and not offer.reference.digest else None
        decision = conflict.lost(str(offer.reference), before, now) if before and now else ""
        return {**done, **figures.to_dict(), **({"decision": decision} if decision else {})}


def _held(engine: Engine, name: Reference, who: str) -> Optional[conflict.Holder]:
    """Return what the daemon has under *name*."""
    document = engine.inspect(str(name))
    return conflict.Holder(who, Identity.of_inspect(document).digest, str(document.get("Created") or "")) if document else None


def _is_of(held: Optional[conflict.Holder], offer: Offer) -> bool:
    return held is not None and held.identity == offer.identity


def release(offers: Iterable[Mapping[str, Any]]) -> None:
    """Give back what the leader holds for offers that every node has taken; harmless if called twice."""
    for document in offers:
        with contextlib.suppress(Fault):
            offer = Offer.of(document)
            transports.TRANSPORTS[offer.transport].release(offer)


def forget(store_path: str, job_id: str, spool: str = sbcast.SPOOL) -> None:
    """Remove what a job that is over has left on its images' way, if anything: leases in a store, pieces of a broadcast.

    :param store_path: the store, or "" if there is none.
    """
    for way in transports.TRANSPORTS.values():
        way.forget(job_id, store_path, spool)


def load(engine: Engine, store_path: str, reference: str, namespaces: Sequence[str], deadline: Deadline) -> Done:
    """Load *reference* from the store into this node's daemon, if it is not there as the store has it.

    :raises JobFault: the store has no such image.
    """
    started = time.monotonic()
    name, store = Reference.parse(reference), ImageStore(store_path)
    stored = store.find(name, namespaces)
    if stored is None:
        raise sources.nowhere(str(name), [f"store {store.path} ({', '.join(namespaces)})"])
    done = {"reference": str(name), "identity": stored.identity.digest}
    if loading.is_here(engine, name, stored.identity.digest):
        return {**done, **Figures.since(started, "none", stored.layers).to_dict()}
    loaded = loading.from_store(engine, store, stored, name, deadline)
    figures = Figures.since(started, loaded.method, stored.layers, (loaded.layers, loaded.size_bytes), loaded.reason)
    return {**done, **figures.to_dict()}


def compare(engine: Engine, store_path: str, reference: str, namespaces: Sequence[str]) -> Dict[str, Any]:
    """Say what this node's daemon and the store hold under *reference*, and change nothing.

    :returns: reference; local and stored, each an identity or None, and created_local and created_stored, when they were made, or
        ""; layers_local and layers_stored; layers_lacking_in_store
        and layers_lacking_in_daemon: how many of them the other side would get.
    """
    name, store = Reference.parse(reference), ImageStore(store_path)
    document, stored = engine.inspect(str(name)), save.intact(store, name, namespaces)
    local = Identity.of_inspect(document) if document else None
    diff_ids = local.diff_ids if local else ()
    held = engine.layers_held(stored.identity.diff_ids, engine.info().is_containerd_store) if stored else set()
    return {
        "reference": str(name),
        "local": local.digest if local else None,
        "stored": stored.identity.digest if stored else None,
        "created_local": str(document.get("Created") or "") if document else "",
        "created_stored": stored.created if stored else "",
        "layers_local": len(diff_ids),
        "layers_stored": len(stored.layers) if stored else 0,
        "layers_lacking_in_store": len(set(diff_ids) - set(save.present(store, local, namespaces) if local else ())),
        "layers_lacking_in_daemon": len(archive.wanted(stored, held)) if stored else 0,
    }


def _distinct(images: Sequence[Image]) -> List[ImageRequest]:
    found: Dict[Reference, ImageRequest] = {}
    for image in images:
        request = ImageRequest.of(image)
        found.setdefault(request.reference, request)
    return list(found.values())


__all__ = ["FIGURES", "are_kept", "compare", "ensure_all", "forget", "load", "obtain", "obtain_all", "publish", "publish_all", "release"]
