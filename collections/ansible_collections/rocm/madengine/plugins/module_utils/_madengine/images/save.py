# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the local daemon into the store: only the layers that the store lacks, and each from its cheapest source.

Where every layer's digest and length can be known beforehand, the image's documents come first, and who waits for the image
is told: a plain layer's digest is its diff id, and its length follows from what the daemon keeps of it. The layers follow
from the bottom up, in the order in which daemons unpack them. The name comes last, so it never names an image that lacks one.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..docker import archive
from ..docker.engine import Engine
from ..docker.layer_server import Source
from ..docker.layerdb import Unexpected
from ..oci import compression, digests, lease
from ..oci.image import Identity, Reference, digest_of
from ..oci.image_manifest import Layer, Stored, manifest_of
from ..oci.root import SITE
from ..oci.store import ImageStore
from . import pinned


def publish(
    engine: Engine,
    store: ImageStore,
    name: Reference,
    namespace: str,
    identity: Identity,
    document: Mapping[str, Any],
    deadline: Deadline,
    reader: Optional[Source],
    taken: lease.Lease,
    kind: str = compression.NONE,
    early: Optional[Callable[[Stored], None]] = None,
) -> Tuple[Stored, str, Tuple[int, int]]:
    """Bring the image into the store; return it, how, and how many layers and bytes that took.

    :param document: what the daemon says of it; empty if it has it no more.
    :param reader: what reads the daemon's own layer files; without one, or where it fails, ``docker save`` is used.
    :param taken: a lease on the image's layers; it is extended to all that the image needs.
    :param kind: how new layers are packed; one that the store has stays as it is.
    :param early: is told of the image as soon as its documents lie there, if that is before its layers do. Should they turn out
        otherwise after all, another image is returned in the end.
    :raises ShareFault: the store cannot be written, or is full; or the daemon does not have what is named by digest as its registry has it.
    :raises JobFault: the image is not what it was a moment ago.
    """
    stored = _kept(store, name, namespace, identity, taken)
    if stored is not None:
        return stored, "none", (0, 0)
    if name.digest:
        return _pinned(engine, store, name, namespace, identity, deadline, reader, taken)
    before = present(store, identity, [namespace, SITE] if kind != compression.NONE else [])
    lease.extend(store, taken, [*identity.diff_ids, *(each.digest for each in before.values())])
    image_id, unpacked = str(document.get("Id")), None
    if reader is not None:
        if early is not None and kind == compression.NONE:
            _foretell(reader, store, image_id, identity, before, taken, early)
        unpacked = _read(reader, store, image_id, identity, before, kind)
    method = "save" if unpacked is None else "graph"
    if unpacked is None:
        unpacked = _saved(engine, store, name, before, kind, int(document.get("Size") or 0), deadline)
    documents = [digest_of(unpacked.config), digest_of(manifest_of(unpacked.config, unpacked.layers))]
    lease.extend(store, taken, [*documents, *(each.digest for each in unpacked.layers)])
    stored = store.commit(name, namespace, unpacked.config, unpacked.layers)
    if stored.identity != identity:
        raise JobFault("transport: the image changed while it was saved", "start the job again", image=str(name))
    new = {each.digest: each.size_bytes for each in stored.layers if before.get(each.diff_id) != each}
    return stored, method, (len(new), sum(new.values()))


def intact(store: ImageStore, name: Reference, namespaces: Sequence[str]) -> Optional[Stored]:
    """Return the stored image if it is whole; a damaged one counts as none, for it is about to be written anew."""
    try:
        stored = store.find(name, namespaces)
    except ShareFault:
        return None
    return stored if stored is not None and not store.doubtful(stored) else None


def present(store: ImageStore, identity: Identity, namespaces: Sequence[str]) -> Dict[str, Layer]:
    """Return diff id → layer for those of the image's layers that the store has.

    :param namespaces: in whose images a layer is looked for that does not lie there plain: only an image tells which blob
        is the packed form of which layer.
    """
    found = {diff_id: Layer(diff_id, diff_id, size) for diff_id in identity.diff_ids if (size := store.blobs.counted(diff_id)) is not None}
    for namespace, _name, manifest_digest in store.images() if namespaces else ():
        if len(found) == len(set(identity.diff_ids)):
            break
        if namespace in namespaces:
            with contextlib.suppress(Fault):
                packed = {each.diff_id: each for each in store.read(manifest_digest).layers if each.diff_id in identity.diff_ids}
                found.update({key: each for key, each in packed.items() if key not in found and _is_whole(store, each)})
    return found


def _is_whole(store: ImageStore, each: Layer) -> bool:
    return store.blobs.counted(each.digest, each.size_bytes) is not None


def _pinned(
    engine: Engine,
    store: ImageStore,
    name: Reference,
    namespace: str,
    identity: Identity,
    deadline: Deadline,
    reader: Optional[Source],
    taken: lease.Lease,
) -> Tuple[Stored, str, Tuple[int, int]]:
    """Bring an image that is named by digest into the store as its registry has it; arguments and faults as `publish`."""
    found, method, new = pinned.fetch(engine, store, name, identity, deadline, reader)
    lease.extend(store, taken, found.digests)
    stored = store.keep_as_it_is(found)
    store.point(name, namespace, stored)
    return stored, method, (len(new), sum(each.size_bytes for each in new))


def _kept(store: ImageStore, name: Reference, namespace: str, identity: Identity, taken: lease.Lease) -> Optional[Stored]:
    """Return the image if the store holds it and will go on doing so."""
    stored = intact(store, name, [namespace, SITE])
    if stored is None or stored.identity != identity:
        return None
    lease.extend(store, taken, stored.digests)
    store.touch(name, namespace)
    # Once more, now that the lease names all of it: the pruner may have been faster.
    return stored if intact(store, name, [namespace, SITE]) == stored else None


def _read(
    reader: Source, store: ImageStore, image_id: str, identity: Identity, before: Dict[str, Layer], kind: str
) -> Optional[archive.Unpacked]:
    """Publish the layers that the store lacks from the daemon's files; None if those are not what they should be."""
    layers, lacking = dict(before), _lacking(identity, before)
    try:
        config = reader.config(image_id)
        if lacking:
            sizes = reader.sizes(image_id)
            store.require_space(sum(sizes[index] for index in lacking.values()))
        for diff_id, index in lacking.items():
            layers[diff_id] = store.put_layer(reader.layer(image_id, index), diff_id, kind)
    except (Unexpected, digests.Differs, IndexError):
        return None
    return archive.Unpacked(config, tuple(layers[diff_id] for diff_id in identity.diff_ids))


def _lacking(identity: Identity, before: Dict[str, Layer]) -> Dict[str, int]:
    """Return diff id → place in the image for the layers that are to come, in their order."""
    return {diff_id: index for index, diff_id in enumerate(identity.diff_ids) if diff_id not in before}


def _foretell(
    reader: Source,
    store: ImageStore,
    image_id: str,
    identity: Identity,
    before: Dict[str, Layer],
    taken: lease.Lease,
    early: Callable[[Stored], None],
) -> None:
    """Write the documents of the image that is to come and tell of it; do nothing if it cannot be known."""
    lacking = _lacking(identity, before)
    # What lies under the digest and does not count is wrong: a reader must not take it for what he waits for.
    if not lacking or any(store.blobs.size_of(diff_id) is not None for diff_id in lacking):
        return
    try:
        config = reader.config(image_id)
        if Identity.of_config(json.loads(config)) != identity:
            return
        coming = {diff_id: Layer(diff_id, diff_id, reader.length(image_id, index)) for diff_id, index in lacking.items()}
    except (Unexpected, ValueError, Fault):
        return
    layers = {**before, **coming}
    store.require_space(sum(each.size_bytes for each in coming.values()))
    stored = store.put_documents(config, [layers[diff_id] for diff_id in identity.diff_ids])
    lease.extend(store, taken, stored.digests)
    early(stored)


def _saved(
    engine: Engine, store: ImageStore, name: Reference, before: Dict[str, Layer], kind: str, size_bytes: int, deadline: Deadline
) -> archive.Unpacked:
    """Publish from what ``docker save`` gives.

    :raises ShareFault: that is not the whole image; who can have it in another way may.
    """
    if not before:
        store.require_space(size_bytes)
    try:
        with contextlib.suppress(archive.Stale):
            return archive.unpack(engine.save(str(name), deadline.left()), store, name, before, kind=kind)
        return archive.unpack(engine.save(str(name), deadline.left()), store, name, before, trusts_size=False, kind=kind)
    except (JobFault, ShareFault) as fault:
        if not archive.is_refusal(fault):
            raise
        # The containerd store goes on running an image of which only snapshots are left, and saves what it has of it.
        remedy = "pull or load the image again on the job's first node"
        raise ShareFault("transport: docker does not give the whole image", remedy, image=str(name), reason=str(fault)) from fault
