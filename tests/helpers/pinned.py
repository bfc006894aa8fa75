# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by digest as a registry has them, and a daemon with the containerd store that keeps them so."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.endpoint import Document
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from helpers.images import Daemon, Image, digest, members_of, pieces, refused, tar

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_CONFIG, _LAYER = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Pinned:
    """An image as a registry has it: digest → document or layer, that which its name's digest is of first."""

    image: Image
    contents: Dict[str, Document]

    @property
    def digest(self) -> str:
        return next(iter(self.contents))

    @property
    def manifest_digest(self) -> str:
        return next(each for each, content in self.contents.items() if content.media_type == MANIFEST)

    @property
    def blobs(self) -> Dict[str, bytes]:
        return {each: content.data for each, content in self.contents.items()}


def by_registry(image: Image, has_index: bool = False) -> Pinned:
    """Return *image* as Docker's builder pushes it, which no store of ours would write so.

    :param has_index: whether it is one of two platforms, of which nobody has the other one.
    """
    config = Document(image.config, _CONFIG)
    layers = [Document(gzip.compress(each, mtime=7), _LAYER) for each in image.layers]
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": _described(config), "layers": [_described(each) for each in layers]}
    found = [_document(body, MANIFEST), config, *layers]
    if has_index:
        other = _document({**body, "config": _described(_document({}, _CONFIG))}, MANIFEST)
        platforms = {"s390x": other, "amd64": found[0]}
        entries = [{**_described(each), "platform": {"os": "linux", "architecture": name}} for name, each in platforms.items()]
        found.insert(0, _document({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX))
    return Pinned(image, {digest(each.data): each for each in found})


def _document(value: Any, media_type: str) -> Document:
    return Document(json.dumps(value, indent=3).encode(), media_type)


def _described(kept: Document) -> Dict[str, Any]:
    return {"mediaType": kept.media_type, "size": kept.size_bytes, "digest": digest(kept.data)}


class Containerd(Daemon):
    """Stands in for an engine whose daemon has the containerd store: it keeps blobs as they came, and knows images by their digests."""

    def __init__(self) -> None:
        super().__init__(is_containerd_store=True)
        self.blobs: Dict[str, bytes] = {}

    def keep(self, name: Reference, pinned: Pinned) -> None:
        """Have the image as if it had been pulled under *name*."""
        self.blobs.update(pinned.blobs)
        self.images[str(name.pinned)] = pinned.image
        self.repo_digests[str(name.pinned)] = [str(name.pinned)]

    def inspect(self, name: str) -> Optional[Dict[str, Any]]:
        reference = Reference.parse(name)
        document = super().inspect(str(reference.pinned))
        return document and {**document, "Id": reference.digest or document["Id"]}

    def save(self, name: str, timeout_seconds: float) -> Iterator[bytes]:
        members = {_path(each): self.blobs[each] for each in self._reachable(str(Reference.parse(name).digest)) if each in self.blobs}
        return pieces(tar({**dict(sorted(members.items())), "index.json": b"{}", "manifest.json": b"[]", "oci-layout": b"{}"}))

    def load(self, chunks: Iterable[bytes], timeout_seconds: float) -> None:
        members = members_of(b"".join(chunks))
        self.loads.append(sorted(members))
        self.blobs.update({digest(data): data for name, data in members.items() if name.startswith("blobs/")})
        [entry] = json.loads(members["index.json"])["manifests"]
        image = self._unpacked(entry["digest"])
        self.images[str(Reference.parse(entry["annotations"]["io.containerd.image.name"]))] = image
        if [digest(each) for each in image.layers] != list(image.identity.diff_ids):
            raise refused("failed to unpack loaded image")

    def _pulled(self, reference: Reference) -> Image:
        if not self.may_pull:
            raise refused("authorization denied")
        for each in self._wanted(reference):
            if each not in self.blobs:
                kind = "manifests" if each in (reference.digest, self._manifest(str(reference.digest))) else "blobs"
                self.blobs[each] = self._fetched(reference, kind, each)
        return self._unpacked(str(reference.digest))

    def _wanted(self, reference: Reference) -> Iterator[str]:
        root = str(reference.digest)
        yield root
        yield self._manifest(root)
        yield from self._parts(self._manifest(root))

    def _reachable(self, root: str) -> List[str]:
        return list(dict.fromkeys([root, self._manifest(root), *self._parts(self._manifest(root))]))

    def _manifest(self, root: str) -> str:
        """Return the digest of the image manifest that *root* is or names for this platform."""
        entries = json.loads(self.blobs[root]).get("manifests", []) if root in self.blobs else []
        return next((str(each["digest"]) for each in entries if each["platform"]["architecture"] == "amd64"), root)

    def _parts(self, manifest_digest: str) -> List[str]:
        manifest = json.loads(self.blobs[manifest_digest])
        return [each["digest"] for each in (manifest["config"], *manifest["layers"])]

    def _unpacked(self, root: str) -> Image:
        config, *layers = self._parts(self._manifest(root))
        absent = [each for each in (config, *layers) if each not in self.blobs]
        if absent:
            raise refused(f"content digest {absent[0]}: not found")
        return Image(self.blobs[config], tuple(gzip.decompress(self.blobs[each]) for each in layers))


def _path(wanted: str) -> str:
    return "blobs/sha256/" + wanted[7:]


__all__ = ["INDEX", "MANIFEST", "Containerd", "Pinned", "by_registry"]
