# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker daemon's own layer files, read by root as they lie on the disk: the bytes that ``docker save`` would send.

Nothing here is a promise of Docker's, so nothing is believed: the reader proves every layer against its diff id, and
whatever looks otherwise than expected is `Unexpected`, after which ``docker save`` does it. File names come from images,
that is from strangers: they are followed below the layer's own directory only, and through no link.

Source: moby 20.10-26.1, layer/filestore.go (``layerdb``), image/fs.go (``imagedb``); github.com/vbatts/tar-split,
tar/storage/entry.go; containerd 1.6-1.7, content/local/store.go.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import stat
import zlib
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ..core import files
from ..core.errors import Fault
from ..oci import compression, digests
from ..oci.image import Identity, chain_ids, is_digest

_LARGEST_DOCUMENT = 8 << 20
_LARGEST_MANIFEST = 1 << 20
_LONGEST_LINE = 64 << 20  # one raw segment; a header with its padding has 512 or 1024 bytes, a sparse map some more
_FILE, _SEGMENT = 1, 2
_CONTENT = "io.containerd.content.v1.content/blobs/sha256"


class Unexpected(Exception):
    """The daemon's files are not there, not readable or not as known; no fault of anybody."""


class GraphDriverLayers:
    """The layers of the overlay2 driver.

    :param root_dir: ``DockerRootDir`` of ``docker info``.
    """

    def __init__(self, root_dir: str, driver: str = "overlay2") -> None:
        self._layers, self._images = os.path.join(root_dir, driver), os.path.join(root_dir, "image", driver)

    def config(self, image_id: str) -> bytes:
        """Return the config blob of the image.

        :raises Unexpected: there is none.
        """
        return _read(os.path.join(self._images, "imagedb", "content", "sha256", _hex(image_id)))

    def sizes(self, image_id: str) -> List[int]:
        """Return about how many bytes each layer has: the files' content without the tar headers."""
        return [int(_read(os.path.join(self._place(chain_id), "size"))) for chain_id in self._chain(image_id)]

    def length(self, image_id: str, index: int) -> int:
        """Return how many bytes `layer` is going to give; no file of the layer is read for that.

        :raises Unexpected: that cannot be known.
        """
        with _unexpected(), self._split(self._place(self._chain(image_id)[index])) as lines:
            return sum(map(_length, _entries(lines)))

    def layer(self, image_id: str, index: int) -> Iterator[bytes]:
        """Give the bytes of one layer as the plain tar that its diff id names.

        :raises Unexpected: they cannot be put together.
        """
        with _unexpected():
            place = self._place(self._chain(image_id)[index])
            cache_id = os.path.basename(_read(os.path.join(place, "cache-id")).decode().strip())
            files_of = _Tree(os.path.join(self._layers, cache_id, "diff"))
            try:
                with self._split(place) as lines:
                    yield from _gathered(_pieces(lines, files_of))
            finally:
                files_of.close()

    def documents(self, image_id: str) -> List[bytes]:
        """Return nothing: this store keeps no registry's manifest.

        :raises Unexpected: always.
        """
        raise Unexpected(f"the manifest is not kept: {image_id}")

    def packed(self, image_id: str, index: int) -> Iterator[bytes]:
        """Give nothing, as `documents`."""
        raise Unexpected(f"the layers are not kept as they came: {image_id}")

    def _split(self, place: str) -> gzip.GzipFile:
        return gzip.open(os.path.join(place, "tar-split.json.gz"), "rb")

    def _chain(self, image_id: str) -> List[str]:
        return chain_ids(_identity(self.config(image_id)).diff_ids)

    def _place(self, chain_id: str) -> str:
        return os.path.join(self._images, "layerdb", "sha256", _hex(chain_id))


class ContentStore:
    """The blobs of containerd's content store.

    :param roots: where containerd may keep its files; the first that has the image counts.
    """

    def __init__(self, roots: Tuple[str, ...]) -> None:
        self._roots = roots

    def config(self, image_id: str) -> bytes:
        return self._read(self._manifest(image_id)["config"]["digest"])

    def sizes(self, image_id: str) -> List[int]:
        with _unexpected():
            return [int(each["size"]) for each in self._manifest(image_id)["layers"]]

    def length(self, image_id: str, index: int) -> int:
        """Return how many bytes `layer` is going to give.

        :raises Unexpected: that cannot be known, since the blob is packed.
        """
        with _unexpected():
            descriptor = self._manifest(image_id)["layers"][index]
            if not self._is_there(descriptor) or compression.kind_of(descriptor["mediaType"]) != compression.NONE:
                raise Unexpected(f"not a plain blob: {descriptor['digest']}")
            return os.path.getsize(self._path(descriptor["digest"]))

    def layer(self, image_id: str, index: int) -> Iterator[bytes]:
        with _unexpected():
            descriptor = self._manifest(image_id)["layers"][index]
            if not self._is_there(descriptor):
                descriptor = self._packed_otherwise(_identity(self.config(image_id)).diff_ids[index])
            kind = compression.kind_of(descriptor["mediaType"])
            if kind is None:
                raise Unexpected(f"media type {descriptor['mediaType']!r}")
            with files.opened(self._path(descriptor["digest"])) as stream:
                yield from compression.inflated(digests.chunks_of(stream), kind)

    def documents(self, image_id: str) -> List[bytes]:
        """Return the image's manifest, its config and, where that names the image, its registry's index: the very bytes.

        :raises Unexpected: one is not there.
        """
        with _unexpected():
            digest, document = self._meant(image_id)
            manifest, config = self._read(digest), self._read(document["config"]["digest"])
            return [manifest, config, *([] if digest == image_id else [self._read(image_id)])]

    def packed(self, image_id: str, index: int) -> Iterator[bytes]:
        """Give one layer's blob as the registry has it, whatever its compression.

        :raises Unexpected: it is not there.
        """
        with _unexpected(), files.opened(self._path(self._manifest(image_id)["layers"][index]["digest"])) as stream:
            yield from digests.chunks_of(stream)

    def _manifest(self, image_id: str) -> Dict[str, Any]:
        return self._meant(image_id)[1]

    def _meant(self, image_id: str) -> Tuple[str, Dict[str, Any]]:
        """Return the image manifest and its digest; an image of several platforms is none of ours, since only one of them is here."""
        with _unexpected():
            digest, document = image_id, json.loads(self._read(image_id))
            present = [each["digest"] for each in document.get("manifests", []) if self._holds(each)]
            if len(present) == 1:
                digest, document = present[0], json.loads(self._read(present[0]))
            if not isinstance(document.get("layers"), list):
                raise Unexpected(f"no image manifest: {image_id}")
            return digest, dict(document)

    def _packed_otherwise(self, diff_id: str) -> Mapping[str, Any]:
        """Return another image's descriptor of the layer, whose blob is there.

        A layer that was unpacked for one image is not fetched for another, in whose manifest it has another compression.
        """
        for digest in self._documents():
            with contextlib.suppress(Unexpected, KeyError, TypeError, AttributeError):
                manifest = _parsed(self._read(digest))
                for held, descriptor in zip(_identity(self._read(manifest["config"]["digest"])).diff_ids, manifest["layers"]):
                    if held == diff_id and self._is_there(descriptor):
                        return dict(descriptor)
        raise Unexpected(f"no blob of the layer: {diff_id}")

    def _documents(self) -> Iterator[str]:
        """Give the digests of the blobs that are small enough for a manifest."""
        for root in self._roots:
            with contextlib.suppress(OSError), os.scandir(os.path.join(root, _CONTENT)) as entries:
                for entry in entries:
                    if is_digest(f"sha256:{entry.name}") and entry.stat(follow_symlinks=False).st_size <= _LARGEST_MANIFEST:
                        yield f"sha256:{entry.name}"

    def _holds(self, descriptor: Mapping[str, Any]) -> bool:
        is_image = (descriptor.get("annotations") or {}).get("vnd.docker.reference.type") != "attestation-manifest"
        return is_image and self._is_there(descriptor)

    def _is_there(self, descriptor: Mapping[str, Any]) -> bool:
        with contextlib.suppress(Unexpected):
            return bool(self._path(descriptor["digest"]))
        return False

    def _path(self, digest: str) -> str:
        for root in self._roots:
            path = os.path.join(root, _CONTENT, _hex(digest))
            if os.path.isfile(path):
                return path
        raise Unexpected(f"no such blob: {digest}")

    def _read(self, digest: str) -> bytes:
        return _read(self._path(digest))


class _Tree:
    """Opens files below one directory by their names in a tar, through no link; neighbours are found fast."""

    def __init__(self, path: str) -> None:
        self._open: List[Tuple[str, int]] = [("", os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))]

    def opened(self, name: str) -> int:
        """Return a descriptor: a layer may have tens of thousands of files, and file objects would cost more than the files."""
        *folders, last = _parts(name)
        handle = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder(folders))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise Unexpected(f"not a regular file: {name!r}")
        return handle

    def close(self) -> None:
        self._shorten(0)

    def _folder(self, folders: List[str]) -> int:
        common = 0
        while common < min(len(folders), len(self._open) - 1) and self._open[common + 1][0] == folders[common]:
            common += 1
        self._shorten(common + 1)
        for folder in folders[common:]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open.append((folder, os.open(folder, flags, dir_fd=self._open[-1][1])))
        return self._open[-1][1]

    def _shorten(self, length: int) -> None:
        while len(self._open) > length:
            os.close(self._open.pop()[1])


def _parts(name: str) -> List[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise Unexpected(f"not a name below the layer: {name!r}")
    return parts


def _entries(lines: gzip.GzipFile) -> Iterator[Mapping[str, Any]]:
    """Give what a tar-split holds: raw segments, and between them the files, whose content lies elsewhere."""
    for line in iter(lambda: lines.readline(_LONGEST_LINE), b""):
        entry = json.loads(line)
        if entry["type"] not in (_SEGMENT, _FILE):
            raise Unexpected(f"entry of type {entry['type']!r}")
        yield entry


def _pieces(lines: gzip.GzipFile, files_of: _Tree) -> Iterator[bytes]:
    """Give a layer's bytes as its tar-split tells."""
    for entry in _entries(lines):
        if entry["type"] == _SEGMENT:
            yield base64.b64decode(entry["payload"] or b"")
        elif entry.get("size"):
            yield from _content(files_of, _name(entry), entry["size"])


def _length(entry: Mapping[str, Any]) -> int:
    """Return how many bytes of the layer an entry stands for."""
    return len(base64.b64decode(entry["payload"] or b"")) if entry["type"] == _SEGMENT else int(entry.get("size") or 0)


def _name(entry: Mapping[str, Any]) -> str:
    raw = entry.get("name_raw")  # names that are not UTF-8
    return os.fsdecode(base64.b64decode(raw)) if raw else str(entry["name"])


def _content(files_of: _Tree, name: str, size_bytes: int) -> Iterator[bytes]:
    handle, left = files_of.opened(name), size_bytes
    try:
        while left:
            chunk = os.read(handle, min(left, digests.CHUNK_BYTES))
            if not chunk:
                raise Unexpected(f"file is too short: {name!r}")
            left -= len(chunk)
            yield chunk
    finally:
        os.close(handle)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Give the same bytes in fewer pieces: a layer of many small files would else come in hundreds of thousands."""
    waiting: List[bytes] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length >= digests.CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, length = [], 0
    if waiting:
        yield b"".join(waiting)


def _parsed(data: bytes) -> Dict[str, Any]:
    with _unexpected():
        return dict(json.loads(data))


def _identity(config: bytes) -> Identity:
    with _unexpected():
        return Identity.of_config(json.loads(config))


def _hex(digest: object) -> str:
    if not is_digest(digest):
        raise Unexpected(f"not a digest: {str(digest)[:100]!r}")
    return str(digest)[len("sha256:") :]


def _read(path: str) -> bytes:
    with _unexpected():
        return files.read(path, _LARGEST_DOCUMENT)


@contextlib.contextmanager
def _unexpected() -> Iterator[None]:
    """Turn whatever can go wrong with files that somebody else made into `Unexpected`."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError, RecursionError, Fault) as error:
        raise Unexpected(f"{type(error).__name__}: {error}") from error
