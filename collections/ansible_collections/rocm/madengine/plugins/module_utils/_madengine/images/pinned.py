# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that is named by digest, from the local daemon into the store: byte for byte what its registry has.

The digest is that of the registry's manifest, or of the index that names it, so both are kept as they are, and so are the
layers, however they are packed. Of an index with several platforms only what this node has is there.

Docker's containerd store keeps all of it. The classic one unpacks the layers and forgets the manifest.

Source: OCI image-spec v1.1, manifest.md, image-index.md; ``docker save`` of a name by digest, 26.1 and 28.5 (containerd store).
"""

from __future__ import annotations

import itertools
from typing import Dict, Iterable, List, Optional, Tuple

from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..docker import archive
from ..docker.engine import Engine
from ..docker.layer_server import Source
from ..docker.layerdb import Unexpected
from ..docker.tar_stream import TarStream
from ..oci import digests
from ..oci.blobs import LARGEST_DOCUMENT
from ..oci.image import Identity, Reference, digest_of, is_digest
from ..oci.image_manifest import Layer, Stored, manifests_in, read_image
from ..oci.store import ImageStore

_BLOBS = "blobs/sha256/"
_MOST_DOCUMENTS = 4 * LARGEST_DOCUMENT  # bytes


def fetch(
    engine: Engine, store: ImageStore, name: Reference, identity: Identity, deadline: Deadline, reader: Optional[Source]
) -> Tuple[Stored, str, List[Layer]]:
    """Bring the layers that the store lacks into its blobs; return the image, how, and which layers those were.

    :param reader: what reads the daemon's own files; without one, or where it fails, ``docker save`` is used.
    :returns: an image whose documents are not in the store yet.
    :raises ShareFault: this daemon does not have it as its registry has it, so another way has to bring it; or the store is full.
    """
    if not engine.info().is_containerd_store:
        raise not_kept(name)
    try:
        return _read(reader, store, str(name.digest), identity)
    except (Unexpected, digests.Differs, IndexError):
        return _saved(engine, store, name, identity, deadline)


def not_kept(name: Reference) -> ShareFault:
    """Return the fault of a leader whose Docker has the image and not what its registry calls by that digest."""
    remedy = "use transport=registry, or turn on Docker's containerd image store on all nodes"
    return ShareFault("transport: the classic image store keeps no registry's manifest", remedy, image=str(name))


def _read(reader: Optional[Source], store: ImageStore, digest: str, identity: Identity) -> Tuple[Stored, str, List[Layer]]:
    """Bring the layers from the daemon's files.

    :raises Unexpected: they are not all there.
    """
    if reader is None:
        raise Unexpected("no reader")
    stored = _image({digest_of(data): data for data in reader.documents(digest)}, digest, identity)
    lacking = _lacking(store, stored)
    store.require_space(sum(each.size_bytes for each in lacking))
    for each in lacking:
        store.blobs.put(reader.packed(digest, stored.layers.index(each)), each.digest)
    return stored, "graph", lacking


def _saved(engine: Engine, store: ImageStore, name: Reference, identity: Identity, deadline: Deadline) -> Tuple[Stored, str, List[Layer]]:
    """Bring the layers from what ``docker save`` gives: an OCI layout of what the daemon has."""
    try:
        put, documents = _unpacked(engine.save(str(name.pinned), deadline.left()), store)
        stored = _image(documents, str(name.digest), identity)
    except (JobFault, Unexpected) as fault:
        if isinstance(fault, JobFault) and not archive.is_refusal(fault):
            raise
        raise _incomplete(name, str(fault)) from fault
    for absent in _lacking(store, stored):
        raise _incomplete(name, f"no blob {absent.digest}")
    return stored, "save", [each for each in archive.wanted(stored, frozenset()) if each.digest in put]


def _unpacked(chunks: Iterable[bytes], store: ImageStore) -> Tuple[Dict[str, int], Dict[str, bytes]]:
    """Put the blobs of an OCI layout into the store as they are; return digest → size of those, and digest → content of its documents."""
    put: Dict[str, int] = {}
    documents: Dict[str, bytes] = {}
    stream = TarStream(chunks)
    for member in stream.members():
        digest = f"sha256:{member.name[len(_BLOBS) :]}"
        if member.target or not member.name.startswith(_BLOBS) or not is_digest(digest):
            continue
        content = stream.chunks()
        head = next(content, b"")
        if head[:1] == b"{" and member.size_bytes <= LARGEST_DOCUMENT and sum(map(len, documents.values())) <= _MOST_DOCUMENTS:
            data = head + b"".join(content)
            documents[digest_of(data)] = data
        elif store.blobs.counted(digest, member.size_bytes) is None:
            put.update([store.blobs.put(itertools.chain([head], content), digest)])
    return put, documents


def _image(documents: Dict[str, bytes], root_digest: str, identity: Identity) -> Stored:
    """Return the image that *root_digest* names and that is of this *identity*.

    :raises Unexpected: there is none among *documents*.
    """

    def read(digest: str) -> bytes:
        if digest not in documents:
            raise Unexpected(f"no such document: {digest}")
        return documents[digest]

    reasons: List[str] = []
    for manifest_digest in manifests_in(read(root_digest)) or [root_digest]:
        try:
            stored = read_image(manifest_digest, read, root_digest)
        except (Unexpected, Fault) as error:  # of another platform, which is not here
            reasons.append(str(error))
            continue
        if stored.identity == identity:
            return stored
    raise Unexpected("; ".join(reasons)[:500] or "another image")


def _lacking(store: ImageStore, stored: Stored) -> List[Layer]:
    """Return the layers that a publisher cannot build on, each once."""
    return [each for each in archive.wanted(stored, frozenset()) if store.blobs.counted(each.digest, each.size_bytes) is None]


def _incomplete(name: Reference, reason: str) -> ShareFault:
    # The containerd store goes on running an image whose blobs are gone, or of which it has some layers for another image's sake.
    remedy = "pull the image again on the job's first node, or use transport=registry"
    return ShareFault("transport: docker does not give the whole image", remedy, image=str(name), reason=reason[:500])
