# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's image archives as streams: what ``docker save`` gives is taken apart, what ``docker load`` takes is put together.

Neither ever lies on a disk as a whole. The archive that is written holds both an OCI ``index.json`` and Docker's
``manifest.json``, so the classic and the containerd store of any Docker since 20.10 take it, and it may leave out layers
that the daemon has.

Source: Docker image-spec v1.2 ("Combined Image JSON + Filesystem Changeset Format"), OCI image-layout.md; archives of
``docker save`` 20.10, 26.1 (classic) and 26.1 (containerd store); what 20.10 and 26.1 load was measured.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import tarfile
from dataclasses import dataclass, field
from typing import IO, AbstractSet, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, cast

from ..core.errors import JobFault, ShareFault
from ..oci import compression, digests
from ..oci.blobs import LARGEST_DOCUMENT
from ..oci.image import Identity, Reference
from ..oci.store import ImageStore, Layer, Stored, index_of

_MOST_MEMBERS = 20_000
_BLOCK = 512
_LARGE = 16 << 20  # bytes; below that, writing a layer in vain costs less than reading the archive twice


class Stale(Exception):
    """A large layer that was taken for one of the store's by its size is another one: read the archive again."""


@dataclass(frozen=True)
class Unpacked:
    """What an archive held, its layers being in the store now."""

    config: bytes
    layers: Tuple[Layer, ...]


def write(
    stored: Stored, reference: Reference, chunks: Callable[[Layer], Iterable[bytes]], omit: AbstractSet[str] = frozenset()
) -> Iterator[bytes]:
    """Give an archive of *stored* for ``docker load``, piece by piece.

    :param chunks: gives a layer's blob; it need not prove the digest, since the daemon proves each layer in any case.
    :param omit: diff ids of layers to leave out, because the daemon has them.
    :raises ShareFault: instead of the archive's end, if *chunks* does.
    """
    yield _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield _member("index.json", json.dumps(index_of(reference, stored.manifest_digest, len(stored.manifest_bytes))).encode())
    yield _member("manifest.json", json.dumps([_docker_manifest(stored, reference)]).encode())
    yield _member(_path(stored.config_digest), stored.config_bytes)
    yield _member(_path(stored.manifest_digest), stored.manifest_bytes)
    for each in wanted(stored, omit):
        yield _header(_path(each.digest), each.size_bytes)
        yield from chunks(each)
        yield bytes(-each.size_bytes % _BLOCK)
    yield bytes(2 * _BLOCK)


def wanted(stored: Stored, omit: AbstractSet[str]) -> List[Layer]:
    """Return the layers that an archive without *omit* holds, each once."""
    return list({each.digest: each for each in stored.layers if each.diff_id not in omit}.values())


def unpack(
    chunks: Iterable[bytes],
    store: ImageStore,
    reference: Optional[Reference],
    present: Mapping[str, Layer],
    trusts_size: bool = True,
    kind: str = compression.NONE,
) -> Unpacked:
    """Take an archive apart while it comes, and put the layers that the store lacks into its blobs.

    :param chunks: what ``docker save`` writes: the layout of Docker 20.10 (a directory a layer) or that of 25 and later.
    :param reference: which image of the archive, or None for the only one.
    :param present: diff id → layer that the store has; it is not written again.
    :param trusts_size: whether a large layer that is as long as a present one is only read, not written: Docker 20.10 does
        not say which layer it sends.
    :param kind: how new layers are packed in the store.
    :raises Stale: with *trusts_size*, for a layer that is none of the present ones after all; call again without.
    :raises ShareFault: the archive is cut off or damaged.
    :raises JobFault: it is no image archive, or not of this image.
    """
    state = _Reading(store, dict(present), trusts_size, kind)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], _Readable(chunks)), mode="r|", bufsize=digests.CHUNK_BYTES) as archive:
            for count, member in enumerate(archive):
                if count > _MOST_MEMBERS:
                    raise JobFault("archive: too many members", "give an archive that docker save wrote", limit=_MOST_MEMBERS)
                state.take(member, archive)
    except (tarfile.TarError, EOFError) as error:
        raise ShareFault("archive: cut off or damaged", "save the image again", error=str(error)) from error
    return state.finished(reference)


@dataclass
class _Reading:
    """What has been seen of an archive so far; the list of its layers comes last in most of them."""

    store: ImageStore
    present: Dict[str, Layer]
    trusts_size: bool
    kind: str
    documents: Dict[str, bytes] = field(default_factory=dict)
    layers: Dict[str, Layer] = field(default_factory=dict)
    links: Dict[str, str] = field(default_factory=dict)

    def take(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        name = posixpath.normpath(member.name)
        if member.issym():  # a layer that occurs twice, in Docker 20.10's archives
            self.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            self.links[name] = posixpath.normpath(member.linkname)
        elif member.isreg():
            stream = archive.extractfile(member)
            if stream is not None:
                self._take_file(name, member.size, stream)

    def _take_file(self, name: str, size_bytes: int, stream: IO[bytes]) -> None:
        is_blob = name.startswith("blobs/")
        named = f"sha256:{posixpath.basename(name)}"
        known = self.present.get(named) if is_blob else None
        if known is not None and (known.digest != named or known.size_bytes == size_bytes):
            self.layers[name] = known
        elif is_blob or name.endswith("/layer.tar"):
            self._take_blob(name, size_bytes, stream)
        elif name.endswith(".json") and size_bytes <= LARGEST_DOCUMENT:
            self._keep(name, stream.read())

    def _keep(self, name: str, data: bytes) -> None:
        self.documents[name] = data
        if sum(map(len, self.documents.values())) > 4 * LARGEST_DOCUMENT:
            raise JobFault("archive: too many documents", "give an archive that docker save wrote", limit_bytes=4 * LARGEST_DOCUMENT)

    def _take_blob(self, name: str, size_bytes: int, stream: IO[bytes]) -> None:
        head = stream.read(digests.CHUNK_BYTES)
        if head.startswith(b"{") and size_bytes <= LARGEST_DOCUMENT:
            self._keep(name, head + stream.read())
            return
        chunks = _joined(head, stream)
        packed = compression.guess(head)
        has_equal = any(each.digest == each.diff_id and each.size_bytes == size_bytes for each in self.present.values())
        if packed == compression.NONE and self.trusts_size and size_bytes > _LARGE and name.endswith("/layer.tar") and has_equal:
            self._compare(name, chunks)
        else:
            known = {each.digest: each.size_bytes for each in self.present.values()}
            self.layers[name] = self.store.put_layer(compression.inflated(chunks, packed), kind=self.kind, known=known)

    def _compare(self, name: str, chunks: Iterable[bytes]) -> None:
        diff_id = digests.digest_of(chunks)
        if diff_id not in self.present:
            raise Stale(diff_id)
        self.layers[name] = self.present[diff_id]

    def finished(self, reference: Optional[Reference]) -> Unpacked:
        entry = _entry(_json(self.documents.get("manifest.json"), "manifest.json"), reference)
        config = self.documents.get(posixpath.normpath(str(entry.get("Config"))))
        identity = Identity.of_config(_json(config, "config"))
        names = entry.get("Layers") or []
        layers = [self.layers.get(self._resolved(name)) for name in names] if isinstance(names, list) else []
        if tuple(each.diff_id for each in layers if each) != identity.diff_ids:
            raise ShareFault("archive: layers and image config disagree", "save the image again", wanted=len(identity.diff_ids))
        return Unpacked(config or b"", tuple(each for each in layers if each))

    def _resolved(self, name: object) -> str:
        path = posixpath.normpath(str(name))
        return self.links.get(path, path)


class _Readable:
    """A file to read from, over pieces that somebody makes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def read(self, size: int) -> bytes:
        parts: List[bytes] = []
        while size > 0:
            chunk = self._rest or next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk[:size])
            self._rest = chunk[size:]
            size -= len(parts[-1])
        return b"".join(parts)


def _joined(head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    yield head
    yield from digests.chunks_of(stream)


def _json(data: Optional[bytes], name: str) -> Any:
    try:
        return json.loads(data or b"")
    except (ValueError, RecursionError) as error:
        raise JobFault("archive: no image archive", "give an archive that docker save wrote", document=name, error=str(error)) from error


def _entry(entries: Any, reference: Optional[Reference]) -> Mapping[str, Any]:
    """Return manifest.json's entry of *reference*, or the only one if that has no name."""
    known = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    for entry in known:
        if reference is not None and reference in _names(entry):
            return entry
    if len(known) == 1 and (reference is None or not known[0].get("RepoTags")):
        return known[0]
    tags = [str(tag) for entry in known for tag in _names(entry)]
    raise JobFault("archive: it holds no image of this name", "save this image, and no other", image=str(reference), holds=", ".join(tags))


def _names(entry: Mapping[str, Any]) -> List[Reference]:
    found: List[Reference] = []
    tags = entry.get("RepoTags")
    for tag in tags if isinstance(tags, list) else []:
        with contextlib.suppress(JobFault):
            found.append(Reference.parse(str(tag)))
    return found


def _docker_manifest(stored: Stored, reference: Reference) -> Dict[str, Any]:
    return {
        "Config": _path(stored.config_digest),
        "RepoTags": [str(reference)] if reference.tag and not reference.digest else None,
        "Layers": [_path(each.digest) for each in stored.layers],
    }


def _path(digest: str) -> str:
    return "blobs/sha256/" + digest[len("sha256:") :]


def _member(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)
