# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store: plain OCI image layouts over blobs that they share.

::

    <store>/blobs/sha256/<hex>                              shared by all images
    <store>/images/<namespace>/<percent-encoded reference>/ oci-layout, index.json, blobs -> ../../../blobs
    <store>/tmp/  <store>/leases/

Each image directory is an OCI layout by itself, so skopeo, podman or crane read it as it is. A store is written by
users: no path is taken from what is read, only sha256 digests, and every byte is proved before it is believed. A name
counts only if its namespace, its directory and its index belong to the user whose namespace it is.

Source: OCI image-spec v1.1, image-layout.md, manifest.md, image-index.md.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote, unquote

from ..core import files
from ..core.errors import Fault, JobFault, ShareFault
from . import compression, digests
from .blobs import OWN, BlobStore
from .folder import Folder, Foreign
from .image import Identity, Reference, digest_of, is_digest
from .root import Root, is_namespace

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPES = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_LONGEST_FILE_NAME = 255
_LARGEST_INDEX = 1 << 20
_BLOBS, _WITH_OWN = "../../../blobs", f"../{OWN}"  # where an image's layout finds its blobs


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
    def created(self) -> str:
        """Return when the image was made, as its config says, or ""."""
        return str(json.loads(self.config_bytes).get("created") or "")


class ImageStore:
    """One store.

    :param path: an absolute path; it need not exist before something is written.
    :param user: whose view it is, if not this process' own.
    """

    def __init__(self, path: str, user: Optional[int] = None) -> None:
        self.path, self.root = path, Root(path, user)
        self.blobs = BlobStore(self.root)

    @property
    def temporary(self) -> str:
        return os.path.join(self.path, "tmp")

    @property
    def leases(self) -> str:
        return os.path.join(self.path, "leases")

    def seen_by(self, namespace: str) -> ImageStore:
        """Return the store as the user sees it whose namespace that is."""
        return ImageStore(self.path, self.root.uid_of(namespace))

    def ensure(self) -> None:
        """Make the store's directories, each open to whom the store itself is open.

        :raises ShareFault: that cannot be.
        """
        try:
            self.root.make()
        except OSError as error:
            raise self.unwritable(error) from error

    def require_space(self, needed_bytes: int) -> None:
        """Do nothing if *needed_bytes* more fit into the store.

        :raises ShareFault: they do not.
        """
        files.require_space(self.path, needed_bytes, local=False)

    def find(self, reference: Reference, namespaces: Sequence[str]) -> Optional[Stored]:
        """Return the image called *reference* from the first of *namespaces* that has it, or None.

        :raises ShareFault: an index is there but cannot be believed.
        """
        for namespace in namespaces:
            digest = self.pointer(reference, namespace)
            if digest is not None:
                return self.read(digest)
        return None

    def pointer(self, reference: Reference, namespace: str) -> Optional[str]:
        """Return the digest of the image manifest that *reference* names in *namespace*, or None.

        :raises ShareFault: there is an index, but it cannot be read, or it is not that of the namespace's user.
        """
        path = self.index_path(reference, namespace)
        try:
            with self._image(reference, namespace) as folder:
                return _only_digest(json.loads(folder.read("index.json", _LARGEST_INDEX, folder.uid)))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise _damaged(path, error.strerror or str(error)) from error
        except Foreign:
            raise
        except (ValueError, RecursionError, ShareFault) as error:
            raise _damaged(path, str(error)) from error

    def index_path(self, reference: Reference, namespace: str) -> str:
        """Return the file whose presence makes *reference* an image of *namespace*."""
        self.root.uid_of(namespace)
        return os.path.join(self.path, "images", namespace, _file_name(reference), "index.json")

    def published(self, reference: Reference, namespace: str) -> os.stat_result:
        """Return the status of the index of *reference*, whose times say when it was published or found to be.

        :raises OSError: there is none.
        :raises ShareFault: it is not that of the namespace's user.
        """
        with self._image(reference, namespace) as folder:
            return folder.status("index.json")

    def read(self, manifest_digest: str) -> Stored:
        """Return the image with this manifest; its layers' presence is another matter (`missing`).

        :raises ShareFault: a document is missing, damaged, or of a form that no store of ours has.
        """
        return read_image(manifest_digest, self.blobs.read)

    def missing(self, stored: Stored) -> List[Layer]:
        """Return the layers whose blob is not there in full length, readable; no byte is read for that."""
        return [each for each in stored.layers if self.blobs.size_of(each.digest) != each.size_bytes]

    def doubtful(self, stored: Stored) -> List[Layer]:
        """Return the layers that a publisher cannot build on: missing, or another user's and not what they should be."""
        return [each for each in stored.layers if self.blobs.counted(each.digest, each.size_bytes) is None]

    def chunks(self, each: Layer, is_proved: bool = True) -> Iterator[bytes]:
        """Give a layer's blob as it lies there, proved while it flows, or by who reads it.

        :raises ShareFault: it is missing or damaged. A damaged blob is set aside if this user may.
        """
        try:
            yield from self.blobs.stream(each.digest, each.size_bytes, is_proved)
        except ShareFault:
            self.blobs.set_aside(each.digest)
            raise

    def put_layer(
        self,
        chunks: Iterable[bytes],
        diff_id: Optional[str] = None,
        kind: str = compression.NONE,
        known: Optional[Mapping[str, int]] = None,
    ) -> Layer:
        """Store a layer and return it, packed as *kind* says.

        :param chunks: its plain bytes.
        :param diff_id: what they must be, or None to take them as they are.
        :param known: see `BlobStore.put`.
        :raises ShareFault: as `BlobStore.put`.
        """
        if kind == compression.NONE:
            digest, size_bytes = self.blobs.put(chunks, diff_id, known)
            return Layer(digest, digest, size_bytes)
        plain = digests.Hashed(chunks, diff_id)
        digest, size_bytes = self.blobs.put(compression.compressed(plain, kind), known=known)
        return Layer(plain.digest, digest, size_bytes, compression.media_type_of(kind))

    def commit(self, reference: Reference, namespace: str, config: bytes, layers: Sequence[Layer]) -> Stored:
        """Make *reference* name the image of *config* and *layers*, whose blobs are all there.

        :raises ShareFault: a blob is missing, or the store cannot be written; the name is as it was then.
        """
        self.blobs.put_bytes(config)
        manifest_digest, _size_bytes = self.blobs.put_bytes(manifest_of(config, layers))
        stored = self.read(manifest_digest)
        for absent in self.doubtful(stored):
            raise ShareFault("store: a blob is missing", "publish the image again", digest=absent.digest)
        self._point(reference, namespace, stored)
        return stored

    def remove(self, reference: Reference, namespace: str) -> bool:
        """Forget *reference*; say whether it was there. Blobs stay until they are pruned."""
        try:
            with self._image(reference, namespace) as folder:
                folder.unlink("index.json")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self.unwritable(error) from error
        return True

    def touch(self, reference: Reference, namespace: str) -> None:
        """Note that the image is in use, for the pruner; only its publisher can, and if not, nothing is lost."""
        with contextlib.suppress(OSError, ShareFault), self._image(reference, namespace) as folder:
            folder.touch("index.json")

    def namespaces(self) -> List[str]:
        """Return the namespaces that belong to the users whom they name."""
        with contextlib.suppress(OSError), self.root.folder("images") as folder:
            return [name for name in folder.names() if is_namespace(name) and self._names(name) is not None]
        return []

    def images(self) -> Iterator[Tuple[str, Reference, str]]:
        """Give (namespace, reference, manifest digest) of every image that can be read; damaged ones are passed over."""
        for namespace in self.namespaces():
            for name in self._names(namespace) or []:
                try:
                    reference = Reference.parse(unquote(name))
                    digest = self.pointer(reference, namespace)
                except Fault:
                    continue
                if digest is not None and _encoded(reference) == name:
                    yield namespace, reference, digest

    def unwritable(self, error: OSError) -> ShareFault:
        """Return the fault of a store that took no writing."""
        if files.is_full(error):
            return ShareFault("store: no space left", "free space on the store, or prune it", path=self.path)
        reason = error.strerror or str(error)
        return ShareFault(
            "store: cannot write the store",
            "check the store's path and permissions",
            path=os.path.join(self.path, error.filename or ""),
            error=reason,
        )

    def _names(self, namespace: str) -> Optional[List[str]]:
        """Return what lies in a namespace, or None if it is none that counts."""
        with contextlib.suppress(OSError, ShareFault), self.root.namespace(namespace) as folder:
            return folder.names()
        return None

    @contextlib.contextmanager
    def _image(self, reference: Reference, namespace: str) -> Iterator[Folder]:
        """Open the directory of an image, which belongs to the user whose namespace it is in."""
        name = _file_name(reference)
        with self.root.namespace(namespace) as above, above.child(name, above.uid) as folder:
            yield folder

    def _point(self, reference: Reference, namespace: str, stored: Stored) -> None:
        name, mode = _file_name(reference), self.root.namespace_mode
        file_mode = self.root.file_mode & (0o600 if mode == 0o700 else 0o666)
        index = index_of(reference, stored.manifest_digest, len(stored.manifest_bytes))
        try:
            with self.root.namespace(namespace, makes=True) as above:
                above.make(name, mode, above.uid)
                blobs = self._blobs_for(stored, namespace)
                with above.child(name, above.uid) as folder:
                    folder.write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', file_mode)
                    folder.link(blobs, "blobs")
                    folder.write("index.json", json.dumps(index, indent=1).encode(), file_mode)
        except OSError as error:
            raise self.unwritable(error) from error

    def _blobs_for(self, stored: Stored, namespace: str) -> str:
        """Return where the image's layout finds its blobs; beside the user's own copies it needs links to the others."""
        own = set(self.blobs.own_names()) if namespace == str(self.root.user) else set()
        needed = {stored.manifest_digest, stored.config_digest, *(each.digest for each in stored.layers)}
        if not own & needed:
            return _BLOBS
        with self.blobs.own() as folder:
            for digest in needed - own:
                folder.link(f"../{_BLOBS}/sha256/{digest[7:]}", digest[7:])
        return _WITH_OWN


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


def _encoded(reference: Reference) -> str:
    return quote(str(reference), safe="")


def _file_name(reference: Reference) -> str:
    name = _encoded(reference)
    if len(name) > _LONGEST_FILE_NAME:
        raise JobFault("store: the image's name is too long", "give it a shorter name", image=str(reference))
    return name


def _damaged(path: str, error: str) -> ShareFault:
    return ShareFault("store: index is damaged", "publish the image again", path=path, error=error)


def _document(data: bytes, digest: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShareFault("store: not JSON", "publish the image again", digest=digest, error=str(error)) from error
    if not isinstance(document, Mapping):
        raise ShareFault("store: not a JSON object", "publish the image again", digest=digest)
    return document


def _only_digest(index: Any) -> str:
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
