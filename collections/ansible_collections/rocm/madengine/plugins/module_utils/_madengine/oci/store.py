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

Source: OCI image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from typing import Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote, unquote

from ..core import files
from ..core.errors import Fault, JobFault, ShareFault
from . import compression, digests
from .blobs import OWN, BlobStore
from .folder import Folder, Foreign
from .image import Reference
from .image_manifest import Layer, Stored, index_of, manifest_of, only_digest, read_image
from .root import Root, is_namespace

_LONGEST_FILE_NAME = 255
_LARGEST_INDEX = 1 << 20
_BLOBS, _WITH_OWN = "../../../blobs", f"../{OWN}"  # where an image's layout finds its blobs


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
                return self.read(digest, reference.digest)
        return None

    def pointer(self, reference: Reference, namespace: str) -> Optional[str]:
        """Return the digest of the image manifest that *reference* names in *namespace*, or None.

        :raises ShareFault: there is an index, but it cannot be read, or it is not that of the namespace's user.
        """
        path = self.index_path(reference, namespace)
        try:
            with self._image(reference, namespace) as folder:
                return only_digest(json.loads(folder.read("index.json", _LARGEST_INDEX, folder.uid)))
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

    def read(self, manifest_digest: str, root_digest: Optional[str] = None) -> Stored:
        """Return the image with this manifest; its layers' presence is another matter (`missing`).

        :param root_digest: as in `read_image`.
        :raises ShareFault: a document is missing, damaged, or of a form that no store of ours has.
        """
        return read_image(manifest_digest, self.blobs.read, root_digest)

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

    def put_documents(self, config: bytes, layers: Sequence[Layer]) -> Stored:
        """Store the documents of an image of *config* and *layers*, which may be there or still on their way; nothing names it.

        :raises ShareFault: the store cannot be written.
        """
        self.blobs.put_bytes(config)
        manifest_digest, _size_bytes = self.blobs.put_bytes(manifest_of(config, layers))
        return self.read(manifest_digest)

    def commit(self, reference: Reference, namespace: str, config: bytes, layers: Sequence[Layer]) -> Stored:
        """Make *reference* name the image of *config* and *layers*, whose blobs are all there.

        :raises ShareFault: a blob is missing, or the store cannot be written; the name is as it was then.
        """
        stored = self.keep(config, layers)
        self.point(reference, namespace, stored)
        return stored

    def keep(self, config: bytes, layers: Sequence[Layer]) -> Stored:
        """Add what makes an image of *layers*, whose blobs are all there; no name leads to it yet. Faults as `commit`."""
        return self._whole(self.put_documents(config, layers))

    def keep_as_it_is(self, stored: Stored) -> Stored:
        """Add the documents of *stored*, byte for byte as a registry has them, whose layers are all there. Faults as `commit`."""
        for data, _media_type in stored.documents.values():
            self.blobs.put_bytes(data)
        return self._whole(self.read(stored.manifest_digest, stored.root_digest))

    def _whole(self, stored: Stored) -> Stored:
        for absent in self.doubtful(stored):
            raise ShareFault("store: a blob is missing", "publish the image again", digest=absent.digest)
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

    def note(self, reference: Reference, namespace: str, file: str) -> bytes:
        """Return what was noted of *reference* in the file *file*.

        :raises OSError: nothing was.
        :raises ShareFault: it is not that of the namespace's user.
        """
        with self._image(reference, namespace) as folder:
            return folder.read(file, _LARGEST_INDEX, folder.uid)

    def set_note(self, reference: Reference, namespace: str, file: str, data: bytes) -> None:
        """Note *data* beside the index of *reference*, which need not be there; if that cannot be, nothing is lost."""
        with contextlib.suppress(OSError, ShareFault), self._made(reference, namespace) as folder:
            folder.write(file, data, self._file_mode)

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

    def point(self, reference: Reference, namespace: str, stored: Stored) -> None:
        """Make *reference* name *stored*, all of whose blobs are there; faults as `commit`."""
        index = index_of(reference, stored)
        try:
            with self._made(reference, namespace) as folder:
                folder.write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', self._file_mode)
                folder.link(self._blobs_for(stored, namespace), "blobs")
                folder.write("index.json", json.dumps(index, indent=1).encode(), self._file_mode)
        except OSError as error:
            raise self.unwritable(error) from error

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

    @contextlib.contextmanager
    def _made(self, reference: Reference, namespace: str) -> Iterator[Folder]:
        """Open the directory of an image, and make it where it is not there."""
        name = _file_name(reference)
        with self.root.namespace(namespace, makes=True) as above:
            above.make(name, self.root.namespace_mode, above.uid)
            with above.child(name, above.uid) as folder:
                yield folder

    @property
    def _file_mode(self) -> int:
        return self.root.file_mode & (0o600 if self.root.namespace_mode == 0o700 else 0o666)

    def _blobs_for(self, stored: Stored, namespace: str) -> str:
        """Return where the image's layout finds its blobs; beside the user's own copies it needs links to the others."""
        own = set(self.blobs.own_names()) if namespace == str(self.root.user) else set()
        needed = {*stored.documents, *(each.digest for each in stored.layers)}
        if not own & needed:
            return _BLOBS
        with self.blobs.own() as folder:
            for digest in needed - own:
                folder.link(f"../{_BLOBS}/sha256/{digest[7:]}", digest[7:])
        return _WITH_OWN


def _encoded(reference: Reference) -> str:
    return quote(str(reference), safe="")


def _file_name(reference: Reference) -> str:
    name = _encoded(reference)
    if len(name) > _LONGEST_FILE_NAME:
        raise JobFault("store: the image's name is too long", "give it a shorter name", image=str(reference))
    return name


def _damaged(path: str, error: str) -> ShareFault:
    return ShareFault("store: index is damaged", "publish the image again", path=path, error=error)
