# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's small documents: its manifest, its config and the index that names it.

They come from users: every digest is proved by who reads, and nothing of a form that no store of ours has is believed.

Source: OCI image-spec v1.1, manifest.md, image-index.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..core.errors import JobFault, ShareFault
from . import compression
from .image import Identity, Reference, digest_of, is_digest

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPES = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_INDEX_TYPES = (_INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json")
_MEANT = "rocm.madengine.image-manifest"  # of an entry for a registry's index: the digest of that image manifest in it which is here


@dataclass(frozen=True)
class Layer:
    """One layer as the store holds it: what it is (diff id), and which blob holds it how."""

    diff_id: str
    digest: str
    size_bytes: int
    media_type: str = compression.PLAIN_TYPE


@dataclass(frozen=True)
class Stored:
    """An image of the store, its small documents read and proved, its layers not.

    :param index_bytes: the registry's index of several platforms, where it is that by whose digest the image is named.
    """

    identity: Identity
    manifest_digest: str
    manifest_bytes: bytes
    config_digest: str
    config_bytes: bytes
    layers: Tuple[Layer, ...]
    index_bytes: bytes = b""

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.layers)

    @property
    def digests(self) -> List[str]:
        """Return the digests of all blobs that the image needs."""
        return [*self.documents, *(each.digest for each in self.layers)]

    @property
    def root_digest(self) -> str:
        """Return the digest by which a registry, and a daemon that pulls, names the image."""
        return digest_of(self.index_bytes) if self.index_bytes else self.manifest_digest

    @property
    def documents(self) -> Dict[str, Tuple[bytes, str]]:
        """Return digest → (content, media type) of the small documents, the image manifest first."""
        found = {
            self.manifest_digest: (self.manifest_bytes, _type_of(self.manifest_bytes)),
            self.config_digest: (self.config_bytes, CONFIG_TYPE),
        }
        return {**found, self.root_digest: (self.index_bytes, _type_of(self.index_bytes))} if self.index_bytes else found

    @property
    def created(self) -> str:
        """Return when the image was made, as its config says, or ""."""
        return str(json.loads(self.config_bytes).get("created") or "")


def read_image(manifest_digest: str, read: Callable[[str], bytes], root_digest: Optional[str] = None) -> Stored:
    """Return the image with this manifest, its documents given by *read*, which proves them.

    :param root_digest: the digest in the image's name, if it has one: of the manifest, or of an index that names that.
    :raises ShareFault: a document is missing, damaged, or of a form that no store of ours has.
    """
    manifest_bytes = read(manifest_digest)
    manifest = _document(manifest_bytes, manifest_digest)
    config_digest = _descriptor(manifest.get("config"))[0]
    config_bytes = read(config_digest)
    try:
        identity = Identity.of_config(_document(config_bytes, config_digest))
    except JobFault as fault:
        raise ShareFault(fault.what, "publish the image again", digest=config_digest, **fault.seen) from fault
    layers = _layers(identity.diff_ids, manifest.get("layers"))
    index_bytes = read(root_digest) if root_digest not in (None, manifest_digest) else b""
    if index_bytes and manifest_digest not in manifests_in(index_bytes):
        raise ShareFault(
            "store: the image is not the one of this digest", "publish the image again", digest=root_digest, image=manifest_digest
        )
    return Stored(identity, manifest_digest, manifest_bytes, config_digest, config_bytes, layers, index_bytes)


def manifests_in(index_bytes: bytes) -> List[str]:
    """Return the digests of the image manifests that a registry's index names, in its order; of what is none, nothing."""
    document = _document(index_bytes, digest_of(index_bytes))
    entries = document.get("manifests")
    descriptors = [_descriptor(each) for each in entries] if isinstance(entries, list) else []
    return [digest for digest, _size_bytes, media_type in descriptors if media_type in _MANIFEST_TYPES]


def manifest_of(config: bytes, layers: Sequence[Layer]) -> bytes:
    """Return the OCI image manifest of an image with this config and these layers."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": each.media_type, "digest": each.digest, "size": each.size_bytes} for each in layers],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def index_of(reference: Reference, stored: Stored) -> Dict[str, Any]:
    """Return the OCI index that says: this image is called *reference*."""
    notes = {"org.opencontainers.image.ref.name": reference.tag or "", "io.containerd.image.name": reference.pinned.full}
    notes.update({_MEANT: stored.manifest_digest} if stored.index_bytes else {})
    root_bytes = stored.index_bytes or stored.manifest_bytes
    entry = {"mediaType": _type_of(root_bytes), "digest": stored.root_digest, "size": len(root_bytes), "annotations": notes}
    return {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [entry]}


def _type_of(data: bytes) -> str:
    """Return the media type of a manifest or an index, which an OCI one need not say."""
    document = json.loads(data)
    said = document.get("mediaType")
    return str(said) if said in _MANIFEST_TYPES + _INDEX_TYPES else _INDEX_TYPE if "manifests" in document else MANIFEST_TYPE


def _document(data: bytes, digest: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShareFault("store: not JSON", "publish the image again", digest=digest, error=str(error)) from error
    if not isinstance(document, Mapping):
        raise ShareFault("store: not a JSON object", "publish the image again", digest=digest)
    return document


def only_digest(index: Any) -> str:
    """Return the digest of the one image manifest that a layout's index names, or that it says is meant of a registry's index.

    :raises ValueError: it is not an index of one image.
    :raises ShareFault: what it has is no descriptor.
    """
    entries = index.get("manifests") if isinstance(index, Mapping) else None
    if not isinstance(entries, list) or len(entries) != 1:
        raise ValueError("not an index of one image")
    digest, _size, media_type = _descriptor(entries[0])
    notes = entries[0].get("annotations")
    if media_type in _INDEX_TYPES and isinstance(notes, Mapping) and is_digest(notes.get(_MEANT)):
        return str(notes[_MEANT])
    if media_type not in _MANIFEST_TYPES:
        raise ValueError(f"not an image manifest: {media_type[:100]!r}")
    return digest


def _descriptor(value: Any) -> Tuple[str, int, str]:
    """Return digest, size in bytes and media type of an OCI descriptor."""
    if isinstance(value, Mapping):
        digest, media_type = value.get("digest"), value.get("mediaType")
        size_bytes: Any = value.get("size")
        if isinstance(digest, str) and is_digest(digest) and _is_size(size_bytes) and isinstance(media_type, str):
            return digest, size_bytes, media_type
    raise ShareFault("store: not a descriptor", "publish the image again", value=str(value)[:200])


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _layers(diff_ids: Sequence[str], values: Any) -> Tuple[Layer, ...]:
    if not isinstance(values, list) or len(values) != len(diff_ids):
        raise ShareFault("store: image manifest and config disagree", "publish the image again", diff_ids=len(diff_ids))
    layers = tuple(Layer(diff_id, *_descriptor(value)) for diff_id, value in zip(diff_ids, values))
    for each in layers:
        if compression.kind_of(each.media_type) is None:
            raise ShareFault("store: unknown kind of layer", "publish the image again", media_type=each.media_type[:100])
    return layers
