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
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ..core.errors import JobFault, ShareFault
from . import compression
from .image import Identity, Reference, digest_of, is_digest

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPES = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")


@dataclass(frozen=True)
class Layer:
    """One layer as the store holds it: what it is (diff id), and which blob holds it how."""

    diff_id: str
    digest: str
    size_bytes: int
    media_type: str = compression.PLAIN_TYPE


@dataclass(frozen=True)
class Stored:
    """An image of the store, its small documents read and proved, its layers not."""

    identity: Identity
    manifest_digest: str
    manifest_bytes: bytes
    config_digest: str
    config_bytes: bytes
    layers: Tuple[Layer, ...]

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.layers)

    @property
    def digests(self) -> List[str]:
        """Return the digests of all blobs that the image needs."""
        return [self.manifest_digest, self.config_digest, *(each.digest for each in self.layers)]

    @property
    def created(self) -> str:
        """Return when the image was made, as its config says, or ""."""
        return str(json.loads(self.config_bytes).get("created") or "")


def read_image(manifest_digest: str, read: Callable[[str], bytes]) -> Stored:
    """Return the image with this manifest, its documents given by *read*, which proves them.

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
    return Stored(identity, manifest_digest, manifest_bytes, config_digest, config_bytes, layers)


def manifest_of(config: bytes, layers: Sequence[Layer]) -> bytes:
    """Return the OCI image manifest of an image with this config and these layers."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": each.media_type, "digest": each.digest, "size": each.size_bytes} for each in layers],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def index_of(reference: Reference, manifest_digest: str, size_bytes: int) -> Dict[str, Any]:
    """Return the OCI index that says: this manifest is called *reference*."""
    names = {"org.opencontainers.image.ref.name": reference.tag or "", "io.containerd.image.name": reference.full}
    entry = {"mediaType": MANIFEST_TYPE, "digest": manifest_digest, "size": size_bytes, "annotations": names}
    return {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [entry]}


def _document(data: bytes, digest: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShareFault("store: not JSON", "publish the image again", digest=digest, error=str(error)) from error
    if not isinstance(document, Mapping):
        raise ShareFault("store: not a JSON object", "publish the image again", digest=digest)
    return document


def only_digest(index: Any) -> str:
    """Return the digest of the one image manifest that an index names.

    :raises ValueError: it is not an index of one image.
    :raises ShareFault: what it has is no descriptor.
    """
    entries = index.get("manifests") if isinstance(index, Mapping) else None
    if not isinstance(entries, list) or len(entries) != 1:
        raise ValueError("not an index of one image")
    digest, _size, media_type = _descriptor(entries[0])
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
