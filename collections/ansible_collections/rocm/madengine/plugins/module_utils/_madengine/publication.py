# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the local daemon into the store: only the layers that the store lacks, and each from its cheapest source."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from . import archive, layer, lease
from .deadline import Deadline
from .engine import Engine
from .errors import JobFault, ShareFault
from .feed import Source
from .graph import Unexpected
from .image import Identity, Reference, digest_of
from .layout import SITE, Layer, Layout, Stored, manifest_of


def publish(
    engine: Engine,
    store: Layout,
    name: Reference,
    namespace: str,
    identity: Identity,
    deadline: Deadline,
    reader: Optional[Source],
    taken: lease.Lease,
) -> Tuple[Stored, str, Tuple[int, int]]:
    """Bring the image into the store; return it, how, and how many layers and bytes that took.

    :param reader: what reads the daemon's own layer files; without one, or where it fails, ``docker save`` is used.
    :param taken: a lease on the image's layers; it is extended to all that the image needs.
    :raises ShareFault: the store cannot be written, or is full.
    :raises JobFault: the image is not what it was a moment ago.
    """
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


def intact(store: Layout, name: Reference, namespaces: Sequence[str]) -> Optional[Stored]:
    """Return the stored image if it is whole; a damaged one counts as none, for it is about to be written anew."""
    try:
        stored = store.find(name, namespaces)
    except ShareFault:
        return None
    return stored if stored is not None and not store.missing(stored) else None


def digests_of(stored: Stored) -> List[str]:
    """Return the digests of all blobs that the image needs."""
    return [stored.manifest_digest, stored.config_digest, *(each.digest for each in stored.layers)]


def _kept(store: Layout, name: Reference, namespace: str, identity: Identity, taken: lease.Lease) -> Optional[Stored]:
    """Return the image if the store holds it and will go on doing so."""
    stored = intact(store, name, [namespace, SITE])
    if stored is None or stored.identity != identity:
        return None
    lease.extend(store, taken, digests_of(stored))
    store.touch(name, namespace)
    # Once more, now that the lease names all of it: the pruner may have been faster.
    return stored if intact(store, name, [namespace, SITE]) == stored else None


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


def _saved(engine: Engine, store: Layout, name: Reference, identity: Identity, size_bytes: int, deadline: Deadline) -> archive.Unpacked:
    present = _present(store, identity)
    if not present:
        store.require_space(size_bytes)
    try:
        return archive.unpack(engine.save(str(name), deadline.left()), store.blobs, name, present)
    except archive.Stale:
        return archive.unpack(engine.save(str(name), deadline.left()), store.blobs, name, present, trusts_size=False)
