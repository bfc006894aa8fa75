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
import itertools
import json
import os
import posixpath
import tarfile
from dataclasses import dataclass, field
from typing import AbstractSet, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..core.errors import Fault, JobFault, ShareFault
from ..oci import compression, digests
from ..oci.blobs import LARGEST_DOCUMENT
from ..oci.image import Identity, Reference, is_digest
from ..oci.image_manifest import Layer, Stored, index_of
from ..oci.store import ImageStore
from .answers import Refused
from .tar_stream import Member, TarStream

_MOST_MEMBERS = 20_000
_MOST_IMAGES = 100  # in one index
_MOST_LINKS = 8  # from a name to its file, and from index to index
_HEAD_BYTES = 512
_MAGIC = slice(257, 262)  # of a tar's first header
_LAYER_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
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
    yield from _head(stored, reference)
    for each in wanted(stored, omit):
        yield _header(_path(each.digest), each.size_bytes)
        yield from chunks(each)
        yield bytes(-each.size_bytes % _BLOCK)
    yield bytes(2 * _BLOCK)


def naming(stored: Stored, reference: Reference) -> Iterator[bytes]:
    """Give an archive that has no layer and only gives an image that the containerd store has the further name *reference*.

    It is the one way to a name by digest that needs no registry: Docker tags none so.
    """
    yield from _head(stored, reference)
    yield bytes(2 * _BLOCK)


def _head(stored: Stored, reference: Reference) -> Iterator[bytes]:
    yield _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield _member("index.json", json.dumps(index_of(reference, stored)).encode())
    yield _member("manifest.json", json.dumps([_docker_manifest(stored, reference)]).encode())
    for digest, (data, _media_type) in stored.documents.items():
        yield _member(_path(digest), data)


def wanted(stored: Stored, omit: AbstractSet[str]) -> List[Layer]:
    """Return the layers that an archive without *omit* holds, each once."""
    return list({each.digest: each for each in stored.layers if each.diff_id not in omit}.values())


def is_refusal(fault: Fault) -> bool:
    """Say whether *fault*, of saving an image, says that the daemon does not give the whole of it, and nothing of this end."""
    return isinstance(fault, Refused) or fault.what.startswith("archive: ")


def unpack(
    chunks: Iterable[bytes],
    store: ImageStore,
    reference: Optional[Reference],
    present: Mapping[str, Layer],
    trusts_size: bool = True,
    kind: str = compression.NONE,
) -> Unpacked:
    """Take an archive apart while it comes, and put the layers that the store lacks into its blobs.

    :param chunks: what ``docker load`` takes, plain or packed with gzip, zstd, xz or bzip2: an archive of ``docker save``, old or new, of
        skopeo, podman, buildah, jib, bazel or kaniko, or an OCI layout in a tar.
    :param reference: which image of the archive, or None for the only one.
    :param present: diff id → layer that the store has; it is not written again.
    :param trusts_size: whether a large layer that is as long as a present one is only read, not written: Docker 20.10 does
        not say which layer it sends.
    :param kind: how new layers are packed in the store.
    :raises Stale: with *trusts_size*, for a layer that is none of the present ones after all; call again without.
    :raises ShareFault: the archive is cut off or damaged.
    :raises JobFault: it is no image archive, or not of this image.
    """
    state, stream = _Reading(store, dict(present), trusts_size, kind), TarStream(_plain(chunks))
    for count, member in enumerate(stream.members()):
        if count > _MOST_MEMBERS:
            raise JobFault("archive: too many members", "give an archive that docker save wrote", limit=_MOST_MEMBERS)
        state.take(member, stream)
    return state.finished(reference)


def _plain(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give an archive's bytes unpacked, if it was packed as a whole."""
    source = iter(chunks)
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := next(source, b"")):
        head += chunk
    whole = itertools.chain([head], source)
    return compression.inflated(whole, compression.guess(head))


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

    def take(self, member: Member, stream: TarStream) -> None:
        name = posixpath.normpath(member.name)
        if member.target:  # a layer that occurs twice, or one that has two names
            above = posixpath.dirname(name) if member.is_symbolic else ""
            self.links[name] = posixpath.normpath(posixpath.join(above, member.target))
            return
        digest = _digest_in(name)
        known = self.present.get(digest)
        if known is not None and (known.digest != digest or known.size_bytes == member.size_bytes):
            self.layers[name] = known
        else:
            self._take_file(name, member.size_bytes, stream.chunks())

    def _take_file(self, name: str, size_bytes: int, chunks: Iterator[bytes]) -> None:
        """Keep what is JSON, and take what may be a layer by its name or its first bytes; tools call them as they like."""
        head = b""
        while len(head) < _HEAD_BYTES and (chunk := next(chunks, b"")):
            head += chunk
        is_tar, packed = head[_MAGIC] == b"ustar", compression.guess(head)
        if head.lstrip()[:1] in (b"{", b"[") and not is_tar:
            if size_bytes <= LARGEST_DOCUMENT:
                self._keep(name, head + b"".join(chunks))
        elif is_tar or packed != compression.NONE or name.endswith(_LAYER_NAMES) or name.startswith("blobs/"):
            self._take_layer(name, size_bytes, packed, itertools.chain([head], chunks))

    def _keep(self, name: str, data: bytes) -> None:
        self.documents[name] = data
        if sum(map(len, self.documents.values())) > 4 * LARGEST_DOCUMENT:
            raise JobFault("archive: too many documents", "give an archive that docker save wrote", limit_bytes=4 * LARGEST_DOCUMENT)

    def _take_layer(self, name: str, size_bytes: int, packed: str, chunks: Iterable[bytes]) -> None:
        has_equal = any(each.digest == each.diff_id and each.size_bytes == size_bytes for each in self.present.values())
        if packed == compression.NONE and self.trusts_size and size_bytes > _LARGE and not _digest_in(name) and has_equal:
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
        if "manifest.json" not in self.documents and "index.json" in self.documents:
            entry = self._oci_entry(reference)
        else:
            entry = _entry(_json(self.documents.get("manifest.json"), "manifest.json"), reference)
        config = self.documents.get(self._resolved(entry.get("Config")))
        identity = Identity.of_config(_json(config, "config"))
        names = entry.get("Layers") or []
        layers = [self.layers.get(self._resolved(name)) for name in names] if isinstance(names, list) else []
        if tuple(each.diff_id for each in layers if each) != identity.diff_ids:
            raise ShareFault("archive: layers and image config disagree", "save the image again", wanted=len(identity.diff_ids))
        return Unpacked(config or b"", tuple(each for each in layers if each))

    def _resolved(self, name: object) -> str:
        """Return where a name leads, link by link; links that lead nowhere end somewhere."""
        path = posixpath.normpath(str(name))
        for _step in range(_MOST_LINKS):
            if path not in self.links:
                break
            path = self.links[path]
        return path

    def _oci_entry(self, reference: Optional[Reference]) -> Mapping[str, Any]:
        """Return what Docker's manifest.json would say of an OCI layout's image: its config's and its layers' files."""
        found = [each for each in self._manifests("index.json") if self._is_ours(each[1])] or list(self._manifests("index.json"))
        entries = [
            {"RepoTags": names, "Config": _blob(manifest.get("config")), "Layers": [_blob(each) for each in manifest.get("layers") or []]}
            for names, manifest in found
        ]
        return _entry(entries, reference)

    def _manifests(self, name: str, names: Sequence[str] = (), depth: int = 0) -> Iterator[Tuple[Sequence[str], Mapping[str, Any]]]:
        """Give the image manifests that an index leads to and that are in the archive, with their names."""
        document = _mapping(_json(self.documents[name], name))
        entries = document.get("manifests")
        if isinstance(entries, list) and depth < _MOST_LINKS:
            for entry in map(_mapping, entries[:_MOST_IMAGES]):
                path = self._resolved(_blob(entry))
                if path in self.documents and not _is_attestation(entry):
                    yield from self._manifests(path, names or _annotated(entry), depth + 1)
        elif isinstance(document.get("layers"), list):
            yield names, document

    def _is_ours(self, manifest: Mapping[str, Any]) -> bool:
        """Say whether an image is for this node: of an image for several platforms each node takes its own."""
        config = self.documents.get(self._resolved(_blob(manifest.get("config"))))
        document = _mapping(_json(config, "config")) if config else {}
        machine = os.uname().machine
        return (document.get("os"), document.get("architecture")) == ("linux", _ARCHITECTURES.get(machine, machine))


def _digest_in(name: str) -> str:
    """Return the digest by which a file may be called, ``<hex>`` or ``<hex>.tar``, or ""."""
    base = posixpath.basename(name)
    digest = "sha256:" + (base[: -len(".tar")] if base.endswith(".tar") else base)
    return digest if is_digest(digest) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _blob(descriptor: Any) -> str:
    """Return the file in which an OCI layout keeps what a descriptor names."""
    digest = _mapping(descriptor).get("digest")
    return _path(str(digest)) if is_digest(digest) else ""


def _is_attestation(entry: Mapping[str, Any]) -> bool:
    return _mapping(entry.get("annotations")).get("vnd.docker.reference.type") == "attestation-manifest"


def _annotated(entry: Mapping[str, Any]) -> List[str]:
    """Return the names that an index gives an image; a bare tag, as some tools write it, is no name."""
    notes = _mapping(entry.get("annotations"))
    found = [notes.get("io.containerd.image.name"), notes.get("org.opencontainers.image.ref.name")]
    return [str(name) for name in found if name and (":" in str(name) or "/" in str(name))]


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
