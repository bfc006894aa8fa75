# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's own files give the very bytes of a layer, or are `Unexpected`; no name in them leads out of the layer."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import layerdb
from helpers import docker_root, images
from helpers.pinned import by_registry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ["a", "./b", "dir/c", "dir/sub/d", "dir/sub/e", "other/f", "dir/g", ".wh.h", "x\udcffy", "ünï", "l" * 150]
FILES = st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=3000), max_size=len(NAMES))


def image_of(*layers: bytes) -> images.Image:
    document = {"os": "linux", "config": {}, "rootfs": {"diff_ids": [images.digest(each) for each in layers]}}
    return images.Image(json.dumps(document).encode(), layers)


def layer_of(files: Any, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        folder = tarfile.TarInfo("dir")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@given(FILES, FILES, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_the_classic_stores_files_give_the_very_bytes(tmp_path_factory: pytest.TempPathFactory, one: Any, two: Any, form: int) -> None:
    root = tmp_path_factory.mktemp("docker")
    image = image_of(layer_of(one, form), layer_of(two, form))
    image_id = docker_root.classic(root, image)
    source = layerdb.GraphDriverLayers(str(root))
    assert source.config(image_id) == image.config
    assert [b"".join(source.layer(image_id, index)) for index in range(2)] == list(image.layers)
    assert source.sizes(image_id) == [len(each) for each in image.layers]
    shutil.rmtree(root / "overlay2")
    assert [source.length(image_id, index) for index in range(2)] == [len(each) for each in image.layers]


def test_many_small_files_come_in_few_pieces_and_large_ones_in_bounded_ones(tmp_path: Path) -> None:
    image = image_of(layer_of({f"f{number}": b"x" for number in range(500)}), layer_of({"large": bytes(5 << 20)}))
    source = layerdb.GraphDriverLayers(str(tmp_path))
    image_id = docker_root.classic(tmp_path, image)
    assert len(list(source.layer(image_id, 0))) == 1
    assert max(map(len, source.layer(image_id, 1))) < 3 << 20


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize("has_index", [False, True])
def test_the_containerd_stores_blobs_give_the_very_bytes(tmp_path: Path, is_gzip: bool, has_index: bool) -> None:
    image = images.make(b"base" * 1000, b"top")
    image_id = docker_root.containerd(tmp_path / "b", image, is_gzip, has_index)
    source = layerdb.ContentStore((str(tmp_path / "none"), str(tmp_path / "b")))
    assert source.config(image_id) == image.config
    assert [b"".join(source.layer(image_id, index)) for index in range(2)] == list(image.layers)
    assert len(source.sizes(image_id)) == 2
    if not is_gzip:
        assert [source.length(image_id, index) for index in range(2)] == [len(each) for each in image.layers]


@pytest.mark.parametrize("has_index", [False, True])
def test_what_a_registry_has_sent_is_given_as_it_came(tmp_path: Path, has_index: bool) -> None:
    has = by_registry(images.make(b"base" * 1000, b"top"), has_index)
    docker_root.content(tmp_path, has.blobs)
    source = layerdb.ContentStore((str(tmp_path),))
    root = [has.blobs[has.digest]] if has_index else []
    assert source.documents(has.digest) == [has.blobs[has.manifest_digest], has.image.config, *root]
    assert [b"".join(source.packed(has.digest, index)) for index in range(2)] == list(has.blobs.values())[-2:]
    with pytest.raises(layerdb.Unexpected):
        list(source.packed(has.digest, 2))
    (tmp_path / "io.containerd.content.v1.content/blobs/sha256" / images.digest(has.image.config)[7:]).unlink()
    with pytest.raises(layerdb.Unexpected, match="no such blob"):
        source.documents(has.digest)


def test_the_classic_store_has_nothing_as_it_came(tmp_path: Path) -> None:
    image = images.make(b"x")
    source, image_id = layerdb.GraphDriverLayers(str(tmp_path)), docker_root.classic(tmp_path, image)
    for ask in (lambda: source.documents(image_id), lambda: list(source.packed(image_id, 0))):
        with pytest.raises(layerdb.Unexpected, match="not kept"):
            ask()


def test_how_long_a_packed_layer_is_unpacked_is_not_known_beforehand(tmp_path: Path) -> None:
    source, image = layerdb.ContentStore((str(tmp_path),)), images.make(b"base" * 1000)
    image_id = docker_root.containerd(tmp_path, image, is_gzip=True)
    with pytest.raises(layerdb.Unexpected, match="not a plain blob"):
        source.length(image_id, 0)
    plain = docker_root.containerd(tmp_path, image)
    os.unlink(tmp_path / "io.containerd.content.v1.content/blobs/sha256" / image.diff_ids[0][7:])
    with pytest.raises(layerdb.Unexpected, match="not a plain blob"):
        source.length(plain, 0)


def place_of(root: Path, layer: bytes) -> Path:
    return root / "image/overlay2/layerdb/sha256" / images.digest(layer)[7:]


def entries_of(*entries: Any) -> bytes:
    return gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in entries))


BAD_ENTRIES = {
    "out of the layer": {"type": 1, "name": "../../../secret", "size": 6},
    "an absolute name": {"type": 1, "name": "/../secret", "size": 6},
    "through a link": {"type": 1, "name": "link/secret", "size": 6},
    "a link itself": {"type": 1, "name": "linked", "size": 6},
    "a directory": {"type": 1, "name": "folder", "size": 6},
    "a fifo": {"type": 1, "name": "fifo", "size": 6},
    "a file that is too short": {"type": 1, "name": "file", "size": 100},
    "no file": {"type": 1, "name": "none", "size": 6},
    "no name": {"type": 1, "name": ".", "size": 6},
    "an unknown type": {"type": 3},
    "no type": {},
    "no object": [1],
    "a size that is none": {"type": 1, "name": "file", "size": "x"},
    "a payload that is none": {"type": 2, "payload": "§"},
    "a name that is none": {"type": 1, "name_raw": "§", "size": 6},
}


@pytest.mark.parametrize("entry", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_what_no_daemon_would_write_is_unexpected_and_reads_nothing_else(tmp_path: Path, entry: Any) -> None:
    image = image_of(layer_of({"file": b"inside"}))
    image_id = docker_root.classic(tmp_path, image)
    diff = tmp_path / "overlay2" / f"{0:064x}" / "diff"
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "overlay2" / "secret").write_bytes(b"secret")
    (diff / "link").symlink_to(tmp_path)
    (diff / "linked").symlink_to(tmp_path / "secret")
    (diff / "folder").mkdir()
    os.mkfifo(diff / "fifo")
    (place_of(tmp_path, image.layers[0]) / "tar-split.json.gz").write_bytes(entries_of(entry))
    seen = []
    with pytest.raises(layerdb.Unexpected):
        seen.extend(layerdb.GraphDriverLayers(str(tmp_path)).layer(image_id, 0))
    assert b"secret" not in b"".join(seen)
    assert not [link for link in os.listdir("/proc/self/fd") if str(diff) in _target(link)]


def _target(link: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{link}")
    except OSError:
        return ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda place, image: (place / "cache-id").unlink(),
        lambda place, image: (place / "cache-id").write_text("../../.."),
        lambda place, image: (place / "tar-split.json.gz").write_bytes(b"no gzip"),
        lambda place, image: (place / "tar-split.json.gz").write_bytes((place / "tar-split.json.gz").read_bytes()[:-9]),
        lambda place, image: (place / "tar-split.json.gz").write_bytes(gzip.compress(b"no json\n")),
        lambda place, image: (place.parents[2] / "imagedb/content/sha256" / images.digest(image.config)[7:]).write_bytes(b"{}"),
        lambda place, image: (place.parents[2] / "imagedb/content/sha256" / images.digest(image.config)[7:]).write_bytes(b"["),
    ],
)
def test_damaged_files_are_unexpected(tmp_path: Path, damage: Any) -> None:
    image = image_of(layer_of({"file": b"inside"}))
    image_id = docker_root.classic(tmp_path, image)
    damage(place_of(tmp_path, image.layers[0]), image)
    with pytest.raises(layerdb.Unexpected):
        list(layerdb.GraphDriverLayers(str(tmp_path)).layer(image_id, 0))


@pytest.mark.parametrize("image_id", ["", "../x", "sha256:" + "0" * 64, "latest"])
def test_an_unknown_image_is_unexpected(tmp_path: Path, image_id: str) -> None:
    for source in (layerdb.GraphDriverLayers(str(tmp_path)), layerdb.ContentStore((str(tmp_path),))):
        with pytest.raises(layerdb.Unexpected):
            source.config(image_id)
        with pytest.raises(layerdb.Unexpected):
            source.sizes(image_id)
        with pytest.raises(layerdb.Unexpected):
            list(source.layer(image_id, 0))
        with pytest.raises(layerdb.Unexpected):
            source.length(image_id, 0)
        with pytest.raises(layerdb.Unexpected):
            source.documents(image_id)
        with pytest.raises(layerdb.Unexpected):
            list(source.packed(image_id, 0))


@pytest.mark.parametrize("entry", [[1], {"type": 3}, {}, {"type": 1, "size": "x"}, {"type": 2, "payload": "§"}])
def test_a_length_that_cannot_be_told_is_unexpected(tmp_path: Path, entry: Any) -> None:
    image = image_of(layer_of({"file": b"inside"}))
    image_id = docker_root.classic(tmp_path, image)
    (place_of(tmp_path, image.layers[0]) / "tar-split.json.gz").write_bytes(entries_of(entry))
    with pytest.raises(layerdb.Unexpected):
        layerdb.GraphDriverLayers(str(tmp_path)).length(image_id, 0)


def test_a_layer_that_the_image_does_not_have_is_unexpected(tmp_path: Path) -> None:
    image = images.make(b"x")
    with pytest.raises(layerdb.Unexpected):
        list(layerdb.GraphDriverLayers(str(tmp_path)).layer(docker_root.classic(tmp_path, image), 5))
    with pytest.raises(layerdb.Unexpected):
        list(layerdb.ContentStore((str(tmp_path),)).layer(docker_root.containerd(tmp_path, image), 5))


def test_a_layer_that_is_there_under_another_compression_is_found_by_its_diff_id(tmp_path: Path) -> None:
    first, second = images.make(b"base" * 1000, b"one"), images.make(b"base" * 1000, b"two")
    docker_root.containerd(tmp_path, first)
    image_id = docker_root.containerd(tmp_path, second, is_gzip=True)
    packed = tmp_path / "io.containerd.content.v1.content/blobs/sha256" / images.digest(gzip.compress(second.layers[0]))[7:]
    packed.unlink(missing_ok=True)  # containerd had unpacked the layer for the first image, and never fetched it again
    manifest = json.loads((packed.parent / image_id[7:]).read_bytes())
    (packed.parent / manifest["layers"][0]["digest"][7:]).unlink(missing_ok=True)
    source = layerdb.ContentStore((str(tmp_path),))
    assert [b"".join(source.layer(image_id, index)) for index in range(2)] == list(second.layers)
    (packed.parent / images.digest(first.layers[0])[7:]).unlink()
    with pytest.raises(layerdb.Unexpected, match="no blob of the layer"):
        list(source.layer(image_id, 0))


def test_an_image_of_several_platforms_or_an_unknown_compression_is_unexpected(tmp_path: Path) -> None:
    blobs = tmp_path / "io.containerd.content.v1.content/blobs/sha256"
    one, two = (docker_root.containerd(tmp_path, images.make(data)) for data in (b"1", b"2"))
    zstd = json.dumps({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": one}]}).encode()
    for data in (json.dumps({"manifests": [{"digest": one}, {"digest": two}]}).encode(), zstd):
        (blobs / images.digest(data)[7:]).write_bytes(data)
        with pytest.raises(layerdb.Unexpected):
            list(layerdb.ContentStore((str(tmp_path),)).layer(images.digest(data), 0))


def test_raw_names_are_bytes(tmp_path: Path) -> None:
    assert layerdb._name({"name_raw": base64.b64encode(b"\xff").decode()}) == "\udcff"
