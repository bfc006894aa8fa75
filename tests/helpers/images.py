# SPDX-License-Identifier: GPL-3.0-or-later
"""Small real images, the archives that Docker writes of them, and a daemon that knows only what the tests ask."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import http.client
import io
import itertools
import json
import tarfile
import urllib.request
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Identity, Reference, chain_ids

_YEARS = itertools.count(2000)
PLAIN = "application/vnd.oci.image.layer.v1.tar"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(members: Dict[str, bytes], links: Optional[Dict[str, str]] = None) -> bytes:
    """Return a tar of files, and of symbolic links before them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@dataclass(frozen=True)
class Image:
    """An image: its config blob and its layers as plain tars."""

    config: bytes
    layers: Tuple[bytes, ...]

    @property
    def diff_ids(self) -> List[str]:
        return [digest(each) for each in self.layers]

    @property
    def created(self) -> str:
        return str(json.loads(self.config)["created"])

    @property
    def identity(self) -> Identity:
        return Identity.of_config(json.loads(self.config))


def make(*contents: bytes, **config: Any) -> Image:
    """Return an image with a layer for each of *contents*, newer than all that were made before."""
    layers = tuple(tar({"file": content}) for content in contents)
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": f"{next(_YEARS)}-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(x) for x in layers]},
    }
    return Image(json.dumps(document).encode(), layers)


def dated(image: Image, created: str) -> Image:
    """Return the image as if it had been made at *created*."""
    return Image(json.dumps({**json.loads(image.config), "created": created}).encode(), image.layers)


def saved_20(image: Image, tags: Sequence[str] = ()) -> bytes:
    """Return what ``docker save`` of 20.10 writes: a directory a layer, named by another id, a link where one occurs twice."""
    members: Dict[str, bytes] = {}
    links: Dict[str, str] = {}
    names: List[str] = []
    for number, data in enumerate(image.layers):
        # The ids' order is not the layers' order: the directories come sorted by a hash.
        folder = hashlib.sha256(b"v1 %d" % number).hexdigest()
        first = image.layers.index(data)
        if first < number:
            links[f"{folder}/layer.tar"] = f"../{names[first].split('/')[0]}/layer.tar"
        else:
            members.update({f"{folder}/VERSION": b"1.0", f"{folder}/json": b"{}", f"{folder}/layer.tar": data})
        names.append(f"{folder}/layer.tar")
    config = digest(image.config)[7:] + ".json"
    entry = [{"Config": config, "RepoTags": list(tags) or None, "Layers": names}]
    members = dict(sorted({**members, config: image.config}.items()))
    return tar({**members, "manifest.json": json.dumps(entry).encode(), "repositories": b"{}"}, links)


def saved_25(image: Image, tags: Sequence[str] = (), is_gzip: bool = False) -> bytes:
    """Return what ``docker save`` of 25 and later writes: an OCI layout beside Docker's manifest.json."""
    blobs = [gzip.compress(each) if is_gzip else each for each in image.layers]
    entry = [{"Config": _path(image.config), "RepoTags": list(tags) or None, "Layers": [_path(each) for each in blobs]}]
    manifest = json.dumps({"schemaVersion": 2, "config": {"digest": digest(image.config)}}).encode()
    members = {_path(data): data for data in sorted([*blobs, image.config, manifest], key=digest)}
    index = json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest(manifest)}]}).encode()
    return tar({**members, "index.json": index, "manifest.json": json.dumps(entry).encode(), "oci-layout": b"{}"})


def by_skopeo(image: Image, tags: Sequence[str] = ()) -> bytes:
    """Return what skopeo and podman write as docker-archive: layers by their diff ids, and Docker's old names as links to them."""
    names = [f"{each[7:]}.tar" for each in image.diff_ids]
    links = {f"{hashlib.sha256(name.encode()).hexdigest()}/layer.tar": f"../{name}" for name in names}
    entry = [{"Config": digest(image.config)[7:] + ".json", "RepoTags": list(tags) or None, "Layers": names}]
    members = {**dict(zip(names, image.layers)), entry[0]["Config"]: image.config, "manifest.json": json.dumps(entry).encode()}
    return tar({str(name): data for name, data in members.items()}, links)


def by_jib(image: Image, tags: Sequence[str] = ()) -> bytes:
    """Return what jib writes: packed layers by their digests, and a config called config.json."""
    blobs = [gzip.compress(each, mtime=0) for each in image.layers]
    names = [digest(each)[7:] + ".tar.gz" for each in blobs]
    entry = [{"Config": "config.json", "RepoTags": list(tags) or None, "Layers": names}]
    return tar({**dict(zip(names, blobs)), "config.json": image.config, "manifest.json": json.dumps(entry).encode()})


def by_kaniko(image: Image, tags: Sequence[str] = ()) -> bytes:
    """Return what kaniko, ko and crane write: a config called by its digest, packed layers, the list of them last."""
    blobs = [gzip.compress(each, mtime=0) for each in image.layers]
    names = [digest(each)[7:] + ".tar.gz" for each in blobs]
    entry = [{"Config": digest(image.config), "RepoTags": list(tags) or None, "Layers": names}]
    return tar({digest(image.config): image.config, **dict(zip(names, blobs)), "manifest.json": json.dumps(entry).encode()})


def by_bazel(image: Image, tags: Sequence[str] = ()) -> bytes:
    """Return what bazel's rules write: names below ``./``, a directory a layer, two links from a name to its file."""
    names = [f"./{number:03d}/layer.tar" for number in range(len(image.layers))]
    links = {f"./links/{number}": f"../{name[2:]}" for number, name in enumerate(names)}
    links.update({f"./more/{number}.tar": f"../links/{number}" for number in range(len(names))})
    layers = [f"./more/{number}.tar" for number in range(len(names))]
    entry = [{"Config": "./image.json", "RepoTags": list(tags) or None, "Layers": layers}]
    members = {"./image.json": image.config, **dict(zip(names, image.layers)), "./manifest.json": json.dumps(entry).encode()}
    return tar(members, links)


def by_buildah(image: Image, tags: Sequence[str] = (), foreign: bool = True) -> bytes:
    """Return an OCI layout in a tar, as buildah, podman, skopeo and buildx write it: no manifest.json.

    :param foreign: whether the image is one of two platforms, beside an attestation.
    """
    blobs = [gzip.compress(each, mtime=0) for each in image.layers]
    kept = {_path(data): data for data in [*blobs, image.config]}

    def described(data: bytes, **more: Any) -> Dict[str, Any]:
        kept[_path(data)] = data
        return {"digest": digest(data), "size": len(data), "mediaType": "application/vnd.oci.image.manifest.v1+json", **more}

    layers = [{"digest": digest(each), "size": len(each), "mediaType": f"{PLAIN}+gzip"} for each in blobs]
    entry = described(json.dumps({"schemaVersion": 2, "config": {"digest": digest(image.config)}, "layers": layers}).encode())
    if foreign:
        config = json.dumps({**json.loads(image.config), "architecture": "s390x"}).encode()
        kept[_path(config)] = config
        other = described(json.dumps({"schemaVersion": 2, "config": {"digest": digest(config)}, "layers": layers}).encode())
        note = {"vnd.docker.reference.type": "attestation-manifest"}
        proof = described(json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode(), annotations=note)
        absent = {**entry, "digest": digest(b"another platform, whose blobs are not here")}
        entry = described(json.dumps({"schemaVersion": 2, "manifests": [other, proof, absent, entry]}).encode())
    entries = [{**entry, "annotations": {"org.opencontainers.image.ref.name": tag}} for tag in tags] or [entry]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return tar({**dict(sorted(kept.items())), "index.json": index, "oci-layout": b"{}"})


def pieces(data: bytes, size: int = 4096) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


class Daemon:
    """Stands in for an `engine.Engine`: keeps images, and takes archives as Docker's two kinds of store do."""

    def __init__(self, is_containerd_store: bool = False, save: Any = saved_20) -> None:
        self.socket = "/nowhere/docker.sock"
        self.images: Dict[str, Image] = {}
        self.registry: Dict[str, Image] = {}
        self.is_containerd_store, self._save = is_containerd_store, save
        self.loads: List[List[str]] = []
        self.forgotten: Set[str] = set()
        self.may_pull = True
        self.tagged = "0001-01-01T00:00:00Z"  # when the names were given
        self.repo_digests: Dict[str, List[str]] = {}  # name → under which names a registry has it
        self.by_digest: Set[str] = set()  # diff ids of layers that the classic store has pulled
        self.fetched: List[str] = []

    def inspect(self, name: str) -> Optional[Dict[str, Any]]:
        image = self.images.get(name)
        if image is None:
            return None
        config = json.loads(image.config)
        layers = {"Type": "layers", "Layers": image.diff_ids}
        about = {"Id": digest(image.config), "Created": config.get("created", ""), "Metadata": {"LastTagTime": self.tagged}, "Size": 1}
        about["RepoDigests"] = self.repo_digests.get(name, [])
        return {**about, "Config": config["config"], "Os": "linux", "Architecture": "amd64", "RootFS": layers}

    def identity(self, reference: Reference) -> Optional[Identity]:
        document = self.inspect(str(reference))
        return Identity.of_inspect(document) if document else None

    def info(self) -> engine.Info:
        return engine.Info("26.1", "overlayfs" if self.is_containerd_store else "overlay2", "/nowhere", self.is_containerd_store)

    def layers_held(self, diff_ids: Sequence[str], is_containerd_store: bool) -> Set[str]:
        return {each for each in diff_ids if each in {held for image in self.images.values() for held in image.diff_ids}}

    def save(self, name: str, timeout_seconds: float) -> Iterator[bytes]:
        return pieces(self._save(self.images[name], [name]))

    def load(self, chunks: Iterable[bytes], timeout_seconds: float) -> None:
        """Take an archive, after it has come in whole; a layer that is neither in it nor here refuses it."""
        members = members_of(b"".join(chunks))
        entry = json.loads(members["manifest.json"])[0]
        self.loads.append(sorted(set(entry["Layers"]) & set(members)))
        held = {digest(data): data for image in self.images.values() for data in image.layers if digest(data) not in self.forgotten}
        layers = []
        for path in entry["Layers"]:
            data = members.get(path)
            data = held.get("sha256:" + path.split("/")[-1]) if data is None else data
            if data is None:
                raise engine.Refused("engine: docker load was refused", "read the daemon's answer", answer=f"layer {path} not found")
            layers.append(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
        image = Image(members[entry["Config"]], tuple(layers))
        if list(image.identity.diff_ids) != image.diff_ids:
            raise engine.Refused("engine: docker load was refused", "read the daemon's answer", answer="invalid diffID for layer")
        for tag in entry["RepoTags"] or []:
            self.images[tag] = image

    def pull(self, reference: Reference, timeout_seconds: float, has_login: bool = True) -> None:
        """Take what `registry` has, or what a registry on the loopback gives: over HTTP, layers that are held not asked for."""
        if reference.domain.startswith("127.0.0.1:"):
            self.images[str(reference)] = self._pulled(reference)
        elif str(reference) in self.registry:
            self.images[str(reference)] = self.registry[str(reference)]
            self.repo_digests[str(reference)] = [str(reference)] if reference.digest else []
        else:
            raise refused("manifest unknown")

    def _pulled(self, reference: Reference) -> Image:
        if not self.may_pull:
            raise refused("authorization denied")
        held = {digest(data): data for image in self.images.values() for data in image.layers}
        manifest = json.loads(self._fetched(reference, "manifests", str(reference.digest)))
        config = self._fetched(reference, "blobs", manifest["config"]["digest"])
        layers: List[bytes] = []
        for diff_id, each in zip(json.loads(config)["rootfs"]["diff_ids"], manifest["layers"]):
            known = self.is_containerd_store or diff_id in self.by_digest
            data = held[diff_id] if known and diff_id in held else self._fetched(reference, "blobs", each["digest"])
            layers.append(_plain(data))
        image = Image(config, tuple(layers))
        if list(image.identity.diff_ids) != image.diff_ids:
            raise refused("layers from manifest don't match image configuration")
        self.by_digest.update(image.diff_ids)
        return image

    def _fetched(self, reference: Reference, kind: str, wanted: str) -> bytes:
        try:
            with urllib.request.urlopen(f"http://{reference.domain}/v2/{reference.path}/{kind}/{wanted}", timeout=30) as answer:
                data: bytes = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise refused(str(error)) from error
        if digest(data) != wanted:
            raise refused("filesystem layer verification failed")
        self.fetched.append(wanted)
        return data

    def tag(self, name: str, reference: Reference) -> None:
        self.images[str(reference)] = self.images[name]
        self.repo_digests[str(reference)] = self.repo_digests.get(name, [])

    def untag(self, name: str) -> bool:
        return self.images.pop(name, None) is not None

    def names(self, pattern: str) -> List[str]:
        return [name for name in self.images if fnmatch.fnmatchcase(name.partition("@")[0], pattern)]

    def registry_has(self, reference: Reference, timeout_seconds: float) -> str:
        return ""


def refused(answer: str) -> engine.Refused:
    return engine.Refused("engine: docker pull was refused", "read the daemon's answer", answer=answer)


def _plain(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def members_of(data: bytes) -> Dict[str, bytes]:
    """Return name → content of a tar's files."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive if info.isreg()}  # type: ignore[union-attr]


def _path(data: bytes) -> str:
    return "blobs/sha256/" + digest(data)[7:]


__all__ = ["Daemon", "Image", "chain_ids", "digest", "make", "members_of", "pieces", "saved_20", "saved_25", "tar"]
