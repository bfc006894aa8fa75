# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store: plain OCI image layouts over blobs that they share.

::

    <store>/blobs/sha256/<hex>                              shared by all images
    <store>/images/<namespace>/<percent-encoded reference>/ oci-layout, index.json, blobs -> ../../../blobs
    <store>/tmp/  <store>/leases/

Each image directory is an OCI layout by itself, so skopeo, podman or crane read it as it is. A store is written by
users: no path is taken from what is read, only sha256 digests, and every byte is proved before it is believed.

Source: OCI image-spec v1.1, image-layout.md, manifest.md, image-index.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote, unquote

from ..core import files
from ..core.errors import Fault, JobFault, ShareFault
from . import compression, digests
from .blobs import BlobStore
from .image import Identity, Reference, digest_of, is_digest

SITE = "site"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPES = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_LONGEST_FILE_NAME = 255
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FOLDERS = ("blobs", "blobs/sha256", "images", "tmp", "leases")


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
    """

    def __init__(self, path: str) -> None:
        if not os.path.isabs(path):
            raise JobFault("layout: the store is no absolute path", "give an absolute path", path=path)
        self.path = path
        self._mode = _mode_of(path)
        self.blobs = BlobStore(os.path.join(path, "blobs", "sha256"), self.temporary, self.file_mode)

    @property
    def temporary(self) -> str:
        return os.path.join(self.path, "tmp")

    @property
    def leases(self) -> str:
        return os.path.join(self.path, "leases")

    @property
    def file_mode(self) -> int:
        """Return the permissions of the store's files."""
        # The store's owner decides who may read: a file is as readable as the store's own directory.
        return (self._mode & 0o444) | 0o600

    def ensure(self) -> None:
        """Make the store's directories, each open to whom the store itself is open.

        :raises ShareFault: that cannot be.
        """
        try:
            if not os.path.isdir(self.path):
                os.makedirs(self.path, exist_ok=True)
            for folder in _FOLDERS:
                self._make(os.path.join(self.path, folder), self._mode)
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

        :raises ShareFault: there is an index, but it cannot be read.
        """
        path = self.index_path(reference, namespace)
        if not os.path.lexists(path):
            return None
        try:
            return _only_digest(json.loads(files.read(path, 1 << 20)))
        except (ValueError, RecursionError, Fault) as error:
            raise ShareFault("layout: index is damaged", "publish the image again", path=path, error=str(error)) from error

    def index_path(self, reference: Reference, namespace: str) -> str:
        """Return the file whose presence makes *reference* an image of *namespace*."""
        return os.path.join(self._folder(reference, namespace), "index.json")

    def read(self, manifest_digest: str) -> Stored:
        """Return the image with this manifest; its layers' presence is another matter (`missing`).

        :raises ShareFault: a document is missing, damaged, or of a form that no store of ours has.
        """
        return read_image(manifest_digest, self.blobs.read)

    def missing(self, stored: Stored) -> List[Layer]:
        """Return the layers whose blob is not there in full length, readable; no byte is read for that."""
        return [each for each in stored.layers if self.blobs.size_of(each.digest) != each.size_bytes]

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
        manifest_digest, size_bytes = self.blobs.put_bytes(manifest_of(config, layers))
        stored = self.read(manifest_digest)
        for absent in self.missing(stored):
            raise ShareFault("layout: a blob is missing", "publish the image again", digest=absent.digest)
        self._point(reference, namespace, manifest_digest, size_bytes)
        return stored

    def remove(self, reference: Reference, namespace: str) -> bool:
        """Forget *reference*; say whether it was there. Blobs stay until they are pruned."""
        try:
            os.unlink(self.index_path(reference, namespace))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self.unwritable(error) from error
        return True

    def touch(self, reference: Reference, namespace: str) -> None:
        """Note that the image is in use, for the pruner; only its publisher can, and if not, nothing is lost."""
        with contextlib.suppress(OSError):
            os.utime(self.index_path(reference, namespace))

    def images(self) -> Iterator[Tuple[str, Reference, str]]:
        """Give (namespace, reference, manifest digest) of every image that can be read; damaged ones are passed over."""
        for namespace in _listing(os.path.join(self.path, "images")):
            names = _listing(os.path.join(self.path, "images", namespace)) if _NAMESPACE.fullmatch(namespace) else []
            for name in names:
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
            return ShareFault("layout: no space left", "free space on the store, or prune it", path=self.path)
        reason = error.strerror or str(error)
        return ShareFault(
            "layout: cannot write the store", "check the store's path and permissions", path=error.filename or self.path, error=reason
        )

    def _point(self, reference: Reference, namespace: str, manifest_digest: str, size_bytes: int) -> None:
        folder = self._folder(reference, namespace)
        try:
            # A namespace belongs to its publisher alone, however open the store is.
            self._make(os.path.dirname(folder), self._mode & 0o7755)
            self._make(folder, self._mode & 0o7755)
            if not os.path.lexists(os.path.join(folder, "oci-layout")):
                files.write(os.path.join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}', self.file_mode)
            if not os.path.lexists(os.path.join(folder, "blobs")):
                os.symlink("../../../blobs", os.path.join(folder, "blobs"))
            index = index_of(reference, manifest_digest, size_bytes)
            files.write(os.path.join(folder, "index.json"), json.dumps(index, indent=1), self.file_mode)
        except FileExistsError:
            return self._point(reference, namespace, manifest_digest, size_bytes)  # another publisher made it meanwhile
        except OSError as error:
            raise self.unwritable(error) from error

    def _folder(self, reference: Reference, namespace: str) -> str:
        name = _encoded(reference)
        if len(name) > _LONGEST_FILE_NAME:
            raise JobFault("layout: the image's name is too long for the store", "give it a shorter name", image=str(reference))
        if not _NAMESPACE.fullmatch(namespace):
            raise JobFault("layout: not a namespace", "use letters, digits, - and _", namespace=namespace)
        return os.path.join(self.path, "images", namespace, name)

    def _make(self, path: str, mode: int) -> None:
        try:
            os.mkdir(path)
        except FileExistsError:
            return
        os.chmod(path, mode)


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


def _mode_of(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return 0o755


def _listing(path: str) -> List[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _document(data: bytes, digest: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShareFault("layout: not JSON", "publish the image again", digest=digest, error=str(error)) from error
    if not isinstance(document, Mapping):
        raise ShareFault("layout: not a JSON object", "publish the image again", digest=digest)
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
    raise ShareFault("layout: not a descriptor", "publish the image again", value=str(value)[:200])


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _layers(diff_ids: Sequence[str], values: Any) -> Tuple[Layer, ...]:
    if not isinstance(values, list) or len(values) != len(diff_ids):
        raise ShareFault("layout: image manifest and config disagree", "publish the image again", diff_ids=len(diff_ids))
    layers = tuple(Layer(diff_id, *_descriptor(value)) for diff_id, value in zip(diff_ids, values))
    for each in layers:
        if compression.kind_of(each.media_type) is None:
            raise ShareFault("layout: unknown kind of layer", "publish the image again", media_type=each.media_type[:100])
    return layers
