# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image gets from the node that has it to the nodes that need it, moving only what is missing.

`publish` runs on the leader and returns an offer; `obtain` runs on each member and takes that offer. Both are meant for
a child process that is the job's user: plain values go in, dictionaries that fit into JSON come out.

``shared``: the offer names a store that all nodes see, which the member proves by a lease's number.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from . import archive, files, layer, lease, turn
from .deadline import Deadline
from .engine import Engine, Refused
from .errors import Fault, JobFault, ShareFault
from .feed import Source
from .graph import Unexpected
from .image import Identity, Reference, digest_of, is_digest
from .layout import SITE, Layer, Layout, Stored, manifest_of

SOURCES = ("local", "store", "archive", "registry")
FIGURES = ("method", "layers_total", "layers_moved", "bytes_total", "bytes_moved", "seconds")

Offer = Dict[str, Any]
Done = Dict[str, Any]


def publish_all(
    engine: Engine, store_path: str, references: Sequence[str], namespace: str, deadline: Deadline, **options: Any
) -> List[Offer]:
    """Publish each of *references* once, in their order; arguments and faults as `publish`."""
    names = dict.fromkeys(str(Reference.parse(text)) for text in references)
    return [publish(engine, store_path, name, namespace, deadline, **options) for name in names]


def ensure_all(
    engine: Engine,
    store_path: str,
    references: Sequence[str],
    namespace: str,
    deadline: Deadline,
) -> List[Done]:
    """See that this node has each of *references*, for a job of one node: nothing is published.

    :param store_path: a store to look in, or "".
    :returns: reference, identity and source of each.
    :raises JobFault: nobody has one of them.
    """
    found = []
    for name in dict.fromkeys(Reference.parse(text) for text in references):
        store = Layout(store_path) if store_path else None
        source, identity = _ensure(engine, store, name, namespace, deadline, SOURCES)
        found.append({"reference": str(name), "identity": identity.digest, "source": source, "method": "none"})
    return found


def obtain_all(engine: Engine, offers: Sequence[Offer], deadline: Deadline, **options: Any) -> List[Done]:
    """Obtain what each of *offers* offers; arguments and faults as `obtain`."""
    return [obtain(engine, offer, deadline, **options) for offer in offers]


def publish(
    engine: Engine,
    store_path: str,
    reference: str,
    namespace: str,
    deadline: Deadline,
    sources: Sequence[str] = SOURCES,
    reader: Optional[Source] = None,
    turns: str = "",
) -> Offer:
    """See that this node has *reference* and that the store holds it too, and return the offer for the other nodes.

    :param store_path: the store's directory, which is made if it is not there; or "" if there is none: then the other
        nodes must have the image.
    :param namespace: whose images are published: ``site`` or one per uid.
    :param sources: where the image is looked for, in this order: ``local`` is the daemon; ``store``, in *namespace* and
        then in ``site``; ``archive``, a plain ``docker save`` file in the store's directory; ``registry``, if the reference
        names one; ``hub``, Docker's default registry.
    :param turns: a directory of this node for locks, so that two jobs do the same work once; "" for none.
    :param reader: what reads the daemon's own layer files; without one, or where it fails, ``docker save`` is used.
    :returns: reference, identity, transport, where, manifest, lease, nonce; source (one of *sources*),
        method (``none``, ``graph`` or ``save``), bytes_total, bytes_moved, layers_total, layers_moved, seconds.
    :raises JobFault: nobody has the image; the fault names the places. No Docker access.
    :raises ShareFault: the store cannot be used.
    """
    started = time.monotonic()
    name, store = Reference.parse(reference), Layout(store_path) if store_path else None
    source, identity = _ensure(engine, store, name, namespace, deadline, sources)
    offer = {"reference": str(name), "identity": identity.digest, "source": source}
    if store is None:
        return {**offer, "transport": "none", **_figures("none", None, 0, 0, started)}
    store.ensure()
    taken = lease.take(store, identity.diff_ids)
    try:
        with turn.of(turns, f"publish.{identity.digest[7:]}", deadline):
            stored, method, moved = _published(engine, store, name, namespace, identity, deadline, reader, taken)
    except BaseException:
        lease.give_back(store, taken.name)
        raise
    offer.update(transport="shared", where=store.path, manifest=stored.manifest_digest, lease=taken.name, nonce=taken.nonce)
    return {**offer, **_figures(method, stored, *moved, started)}


def obtain(engine: Engine, offer: Mapping[str, Any], deadline: Deadline, turns: str = "") -> Done:
    """See that this node has the very image that *offer* offers, under its name.

    Nothing is read from the store if it is here already. Otherwise the daemon gets an archive of what it lacks, and if it
    turns out to lack more, the whole image.

    :param turns: as of `publish`.
    :returns: reference, identity, method (``none``, ``thin`` or ``full``), bytes_total, bytes_moved, layers_total,
        layers_moved, seconds.
    :raises ShareFault: the store is not the leader's, or the image in it is damaged.
    :raises JobFault: the daemon refuses the image.
    :raises NodeFault: no daemon, no space.
    """
    started = time.monotonic()
    name, wanted = _checked(offer)
    done = {"reference": str(name), "identity": wanted, "transport": offer["transport"]}
    if _is_here(engine, name, wanted):
        return {**done, **_figures("none", None, 0, 0, started)}
    if offer["transport"] == "none":
        raise JobFault(
            "transport: this node lacks the image and no store is shared", "set ImageStore, or store= in the comment", image=str(name)
        )
    store = Layout(str(offer.get("where")))
    lease.prove(store, lease.Lease(str(offer.get("lease")), str(offer.get("nonce"))))
    stored = store.read(str(offer.get("manifest")))
    if stored.identity.digest != wanted:
        raise ShareFault("transport: the store holds another image", "publish the image again", image=str(name), store=store.path)
    with turn.of(turns, f"load.{wanted[7:]}", deadline) as is_late:
        if is_late and _is_here(engine, name, wanted):
            return {**done, **_figures("none", stored, 0, 0, started)}
        method, moved = _loaded(engine, store, stored, name, deadline)
    return {**done, **_figures(method, stored, *moved, started)}


def release(offers: Iterable[Mapping[str, Any]]) -> None:
    """Give back the leases of offers that every node has taken; harmless if called twice."""
    for offer in offers:
        with contextlib.suppress(Fault):
            lease.give_back(Layout(str(offer.get("where"))), str(offer.get("lease")))


def load(engine: Engine, store_path: str, reference: str, namespaces: Sequence[str], deadline: Deadline) -> Done:
    """Load *reference* from the store into this node's daemon, if it is not there as the store has it.

    :raises JobFault: the store has no such image.
    """
    started = time.monotonic()
    name, store = Reference.parse(reference), Layout(store_path)
    stored = store.find(name, namespaces)
    if stored is None:
        raise nowhere(str(name), [f"store {store.path} ({', '.join(namespaces)})"])
    done = {"reference": str(name), "identity": stored.identity.digest}
    if _is_here(engine, name, stored.identity.digest):
        return {**done, **_figures("none", stored, 0, 0, started)}
    with lease.held(store, digests_of(stored)):
        method, moved = _loaded(engine, store, stored, name, deadline)
    return {**done, **_figures(method, stored, *moved, started)}


def compare(engine: Engine, store_path: str, reference: str, namespaces: Sequence[str]) -> Dict[str, Any]:
    """Say what this node's daemon and the store hold under *reference*, and change nothing.

    :returns: reference; local and stored, each an identity or None; layers_local and layers_stored; layers_lacking_in_store
        and layers_lacking_in_daemon: how many of them the other side would get.
    """
    name, store = Reference.parse(reference), Layout(store_path)
    local, stored = engine.identity(name), _intact(store, name, namespaces)
    diff_ids = local.diff_ids if local else ()
    held = engine.layers_held(stored.identity.diff_ids, engine.info().is_containerd_store) if stored else set()
    return {
        "reference": str(name),
        "local": local.digest if local else None,
        "stored": stored.identity.digest if stored else None,
        "layers_local": len(diff_ids),
        "layers_stored": len(stored.layers) if stored else 0,
        "layers_lacking_in_store": sum(store.blobs.size_of(diff_id) is None for diff_id in set(diff_ids)),
        "layers_lacking_in_daemon": len(archive.wanted(stored, held)) if stored else 0,
    }


def _ensure(
    engine: Engine, store: Optional[Layout], name: Reference, namespace: str, deadline: Deadline, sources: Sequence[str]
) -> Tuple[str, Identity]:
    """Bring the image into the local daemon; return where it came from and what it is."""
    looked: List[str] = []
    namespaces = list(dict.fromkeys([namespace, SITE]))
    for source in sources:
        if source == "local":
            looked.append(f"docker of this node ({engine.socket})")
            is_there = True
        elif source == "store" and store is not None:
            looked.append(f"store {store.path} ({', '.join(namespaces)})")
            is_there = _load_stored(engine, store, name, namespaces, deadline)
        elif source == "archive" and store is not None:
            looked.append(f"{store.path}/{_archive_names(name)[0]}")
            is_there = _unpacked(engine, store, name, namespace, deadline)
        elif source == ("registry" if name.has_registry else "hub"):
            looked.append(f"registry {name.domain}")
            is_there = _pulled(engine, name, deadline, looked)
        else:
            continue
        identity = engine.identity(name) if is_there else None
        if identity is not None:
            return source, identity
    raise nowhere(str(name), looked)


def _load_stored(engine: Engine, store: Layout, name: Reference, namespaces: Sequence[str], deadline: Deadline) -> bool:
    stored = store.find(name, namespaces)
    if stored is None or store.missing(stored):
        return False
    with lease.held(store, digests_of(stored)):
        _loaded(engine, store, stored, name, deadline)
    return True


def _archive_names(name: Reference) -> List[str]:
    """Return what madengine, or a person, calls the archive of *name*."""
    untagged = [name.familiar] if name.tag == "latest" and not name.digest else []
    return list(dict.fromkeys(re.sub(r"[^A-Za-z0-9.-]", "_", text) + ".tar" for text in [str(name), name.full, *untagged]))


def _unpacked(engine: Engine, store: Layout, name: Reference, namespace: str, deadline: Deadline) -> bool:
    """Publish and load what a plain archive in the store's directory holds, if there is one."""
    found = [path for path in (os.path.join(store.path, each) for each in _archive_names(name)) if os.path.isfile(path)]
    if not found:
        return False
    store.ensure()
    with files.opened(found[0]) as stream:
        store.require_space(os.fstat(stream.fileno()).st_size)
        unpacked = archive.unpack(layer.chunks_of(stream), store.blobs, name, {})
    stored = store.commit(name, namespace, unpacked.config, unpacked.layers)
    _loaded(engine, store, stored, name, deadline)
    return True


def _pulled(engine: Engine, name: Reference, deadline: Deadline, looked: List[str]) -> bool:
    try:
        engine.pull(name, deadline.left())
    except Refused as fault:
        looked[-1] += f": {fault.seen.get('answer')}"
        return False
    return True


def nowhere(image: str, looked: Sequence[str]) -> JobFault:
    """Return the fault of an image that is in none of the places where it was *looked* for."""
    remedy = "build or pull it on the job's first node, or publish it into the store"
    return JobFault("image: nobody has it", remedy, image=image, looked_in="; ".join(looked))


def _published(
    engine: Engine,
    store: Layout,
    name: Reference,
    namespace: str,
    identity: Identity,
    deadline: Deadline,
    reader: Optional[Source],
    taken: lease.Lease,
) -> Tuple[Stored, str, Tuple[int, int]]:
    """Bring the image into the store; return it, how, and how many layers and bytes that took."""
    stored = _kept(store, name, namespace, identity, taken)
    if stored is not None:
        return stored, "none", (0, 0)
    document = engine.inspect(str(name)) or {}
    before = _present(store, identity)
    unpacked = None if reader is None else _read(reader, store, str(document.get("Id")), identity)
    method = "save" if unpacked is None else "graph"
    if unpacked is None:
        unpacked = _saved(engine, store, name, identity, int(document.get("Size") or 0), deadline)
    documents = [digest_of(unpacked.config), digest_of(manifest_of(unpacked.config, unpacked.layers))]
    lease.extend(store, taken, [*identity.diff_ids, *documents])
    stored = store.commit(name, namespace, unpacked.config, unpacked.layers)
    if stored.identity != identity:
        raise JobFault("transport: the image changed while it was saved", "start the job again", image=str(name))
    new = {each.digest: each.size_bytes for each in stored.layers if before.get(each.diff_id) != each.size_bytes}
    return stored, method, (len(new), sum(new.values()))


def _kept(store: Layout, name: Reference, namespace: str, identity: Identity, taken: lease.Lease) -> Optional[Stored]:
    """Return the image if the store holds it and will go on doing so."""
    stored = _intact(store, name, [namespace, SITE])
    if stored is None or stored.identity != identity:
        return None
    lease.extend(store, taken, digests_of(stored))
    store.touch(name, namespace)
    # Once more, now that the lease names all of it: the pruner may have been faster.
    return stored if _intact(store, name, [namespace, SITE]) == stored else None


def digests_of(stored: Stored) -> List[str]:
    """Return the digests of all blobs that the image needs."""
    return [stored.manifest_digest, stored.config_digest, *(each.digest for each in stored.layers)]


def _present(store: Layout, identity: Identity) -> Dict[str, int]:
    sizes = {digest: store.blobs.size_of(digest) for digest in identity.diff_ids}
    return {digest: size for digest, size in sizes.items() if size is not None}


def _read(reader: Source, store: Layout, image_id: str, identity: Identity) -> Optional[archive.Unpacked]:
    """Publish the layers that the store lacks from the daemon's files; None if those are not what they should be."""
    present = _present(store, identity)
    lacking = {digest: index for index, digest in enumerate(identity.diff_ids) if digest not in present}
    try:
        config = reader.config(image_id)
        if lacking:
            sizes = reader.sizes(image_id)
            store.require_space(sum(sizes[index] for index in lacking.values()))
        for digest, index in lacking.items():
            present[digest] = store.blobs.put(reader.layer(image_id, index), digest)[1]
    except (Unexpected, layer.Differs, IndexError):
        return None
    return archive.Unpacked(config, tuple(Layer(digest, digest, present[digest]) for digest in identity.diff_ids))


def _intact(store: Layout, name: Reference, namespaces: Sequence[str]) -> Optional[Stored]:
    """Return the stored image if it is whole; a damaged one counts as none, for it is about to be written anew."""
    try:
        stored = store.find(name, namespaces)
    except ShareFault:
        return None
    return stored if stored is not None and not store.missing(stored) else None


def _saved(engine: Engine, store: Layout, name: Reference, identity: Identity, size_bytes: int, deadline: Deadline) -> archive.Unpacked:
    present = _present(store, identity)
    if not present:
        store.require_space(size_bytes)
    try:
        return archive.unpack(engine.save(str(name), deadline.left()), store.blobs, name, present)
    except archive.Stale:
        return archive.unpack(engine.save(str(name), deadline.left()), store.blobs, name, present, trusts_size=False)


def _loaded(engine: Engine, store: Layout, stored: Stored, name: Reference, deadline: Deadline) -> Tuple[str, Tuple[int, int]]:
    """Load what the daemon lacks, prove that it has the image now; return how, and how many layers and bytes it took."""
    for absent in store.missing(stored):
        store.blobs.set_aside(absent.digest)
        raise ShareFault("layout: a blob is missing", "publish the image again", digest=absent.digest, image=str(name), store=store.path)
    info = engine.info()
    omit = engine.layers_held(stored.identity.diff_ids, info.is_containerd_store)
    for left_out in _attempts(omit):
        sent = archive.wanted(stored, left_out)
        try:
            engine.load(archive.write(store, stored, name, left_out), deadline.left())
        except Refused:
            if not left_out:
                raise
            continue
        if _is_here(engine, name, stored.identity.digest):
            return ("thin" if left_out else "full"), (len(sent), sum(each.size_bytes for each in sent))
    raise JobFault("transport: the daemon has another image after loading", "remove the image there and try again", image=str(name))


def _attempts(omit: Set[str]) -> Iterator[Set[str]]:
    if omit:
        yield omit
    yield set()


def _is_here(engine: Engine, name: Reference, wanted: str) -> bool:
    identity = engine.identity(name)
    return identity is not None and identity.digest == wanted


def _checked(offer: Mapping[str, Any]) -> Tuple[Reference, str]:
    """Return the name and the identity of an offer that came over the wire."""
    name, wanted = Reference.parse(str(offer.get("reference"))), str(offer.get("identity"))
    if not is_digest(wanted) or offer.get("transport") not in ("shared", "none"):
        raise ShareFault("transport: not an offer", "install the same release on all nodes", offer=str(dict(offer))[:200])
    return name, wanted


def _figures(method: str, stored: Optional[Stored], layers_moved: int, bytes_moved: int, started: float) -> Dict[str, Any]:
    layers: Sequence[Layer] = stored.layers if stored else ()
    return {
        "method": method,
        "bytes_total": sum(each.size_bytes for each in layers),
        "bytes_moved": bytes_moved,
        "layers_total": len(layers),
        "layers_moved": layers_moved,
        "seconds": round(time.monotonic() - started, 3),
    }
