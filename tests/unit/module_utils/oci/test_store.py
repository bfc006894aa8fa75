# SPDX-License-Identifier: GPL-3.0-or-later
"""A store gives back exactly what was put in, or says what is wrong with it; it believes nothing that lies in it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import blobs, folder
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.folder import Folder
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image_manifest import Layer, Stored
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAME = Reference.parse("registry.example.org:5000/a/b_c:1.0")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(str(tmp_path / "store"))
    made.ensure()
    return made


def put(store: ImageStore, image: images.Image, name: Reference = NAME, namespace: str = "site") -> Stored:
    layers = [Layer(*(store.blobs.put([data])[0],) * 2, len(data)) for data in image.layers]
    return store.commit(name, namespace, image.config, layers)


def everything(store: ImageStore) -> dict:
    return {str(path): path.read_bytes() for path in Path(store.path).rglob("*") if path.is_file()}


def test_a_stored_image_is_found_as_it_was(store: ImageStore) -> None:
    image = images.make(b"one", b"two", Env=["A=b"])
    stored = put(store, image)
    found = store.find(NAME, ["site"])
    assert found == stored
    assert found.identity == image.identity
    assert [b"".join(store.chunks(each)) for each in found.layers] == list(image.layers)
    assert store.missing(found) == []
    assert found.size_bytes == sum(map(len, image.layers))
    assert list(store.images()) == [("site", NAME, stored.manifest_digest)]


def test_each_image_directory_is_an_oci_layout_by_itself(store: ImageStore) -> None:
    image = images.make(b"one")
    put(store, image)
    folder = Path(store.path, "images", "site", "registry.example.org%3A5000%2Fa%2Fb_c%3A1.0")
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((folder / "index.json").read_text())
    [descriptor] = index["manifests"]
    data = (folder / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    assert (images.digest(data), len(data)) == (descriptor["digest"], descriptor["size"])
    manifest = json.loads(data)
    assert (folder / "blobs" / manifest["config"]["digest"].replace(":", "/")).read_bytes() == image.config
    assert [each["digest"] for each in manifest["layers"]] == image.diff_ids
    assert os.readlink(folder / "blobs") == "../../../blobs"


def test_names_that_look_alike_never_collide(store: ImageStore) -> None:
    texts = ["a/b:c", "a_b:c", "a/b_c:1", "a/b/c:1", "a.b:c", "h:1/a:2", "h/1/a:2"]
    for number, text in enumerate(texts):
        put(store, images.make(b"%d" % number), Reference.parse(text))
    assert sorted(str(name) for _namespace, name, _digest in store.images()) == sorted(texts)
    for number, text in enumerate(texts):
        assert store.find(Reference.parse(text), ["site"]).identity == images.make(b"%d" % number).identity


def test_the_first_namespace_that_has_the_image_wins_and_others_are_not_asked(store: ImageStore) -> None:
    mine, sites, others = images.make(b"mine"), images.make(b"site"), images.make(b"other")
    put(store, others, namespace="1002")
    assert store.find(NAME, ["1001", "site"]) is None
    put(store, sites)
    assert store.find(NAME, ["1001", "site"]).identity == sites.identity
    put(store, mine, namespace="1001")
    assert store.find(NAME, ["1001", "site"]).identity == mine.identity


def test_a_name_moves_to_a_new_image_at_once_and_layers_are_shared(store: ImageStore) -> None:
    put(store, images.make(b"base", b"old"))
    before = set(store.blobs.names())
    put(store, images.make(b"base", b"new"))
    assert len(set(store.blobs.names()) - before) == 3  # a layer, a config, an image manifest
    assert store.find(NAME, ["site"]).identity == images.make(b"base", b"new").identity


def test_writing_twice_is_writing_once(store: ImageStore) -> None:
    image = images.make(b"one", b"two")
    put(store, image)
    before = everything(store)
    put(store, image)
    assert everything(store) == before


def test_a_removed_image_is_not_found_and_its_blobs_stay(store: ImageStore) -> None:
    put(store, images.make(b"one"))
    blobs_before = store.blobs.names()
    assert store.remove(NAME, "site")
    assert not store.remove(NAME, "site")
    assert store.find(NAME, ["site"]) is None
    assert store.blobs.names() == blobs_before


def test_an_image_without_all_its_blobs_gets_no_name(store: ImageStore) -> None:
    image = images.make(b"one")
    with pytest.raises(ShareFault, match="a blob is missing"):
        store.commit(NAME, "site", image.config, [Layer(image.diff_ids[0], image.diff_ids[0], len(image.layers[0]))])
    assert store.find(NAME, ["site"]) is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "removed", "longer", "link", "fifo", "unreadable directory"])
def test_a_damaged_layer_is_named_and_never_read_to_its_end(store: ImageStore, damage: str) -> None:
    stored = put(store, images.make(b"one", b"x" * 5000))
    victim = stored.layers[1]
    path = Path(store.blobs.path_of(victim.digest))
    data = path.read_bytes()
    path.unlink()
    {
        "truncated": lambda: path.write_bytes(data[:-1]),
        "flipped": lambda: path.write_bytes(data[:100] + b"!" + data[101:]),
        "removed": lambda: None,
        "longer": lambda: path.write_bytes(data + b"!"),
        "link": lambda: path.symlink_to(_written(path.with_name("elsewhere"), data)),
        "fifo": lambda: os.mkfifo(path),
        "unreadable directory": path.mkdir,
    }[damage]()
    if damage != "flipped":  # as long as it should be: only reading tells
        assert store.missing(stored) == [victim]
    with pytest.raises(ShareFault) as caught:
        list(store.chunks(victim))
    assert victim.digest in (caught.value.seen.get("digest"), caught.value.seen.get("wanted"))
    assert store.missing(stored) == [victim]  # set aside, so that the next publisher writes it anew
    store.blobs.put([data], victim.digest)
    assert b"".join(store.chunks(victim)) == data


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"{", b'{"manifests":[]}', b'{"manifests":[{"digest":"../../x","size":1,"mediaType":"y"}]}', b"[" * 100000]
)
def test_an_index_that_cannot_be_believed_is_named(store: ImageStore, damage: bytes) -> None:
    put(store, images.make(b"one"))
    index = next(Path(store.path).glob("images/site/*/index.json"))
    index.write_bytes(damage)
    with pytest.raises(ShareFault) as caught:
        store.find(NAME, ["site"])
    assert caught.value.seen["path"] == str(index) or damage.startswith(b'{"manifests":[{')
    assert list(store.images()) == []
    put(store, images.make(b"one"))
    assert store.find(NAME, ["site"]) is not None


def test_an_index_of_many_platforms_is_named(store: ImageStore) -> None:
    put(store, images.make(b"one"))
    index = next(Path(store.path).glob("images/site/*/index.json"))
    document = json.loads(index.read_text())
    document["manifests"][0]["mediaType"] = "application/vnd.oci.image.index.v1+json"
    index.write_text(json.dumps(document))
    with pytest.raises(ShareFault, match="index is damaged"):
        store.find(NAME, ["site"])


@pytest.mark.parametrize(
    "change",
    [
        {"layers": []},
        {"layers": None},
        {"config": None},
        {"config": {"digest": "x"}},
        {"layers": [{"digest": "sha256:" + "0" * 64, "size": -1, "mediaType": "x"}]},
    ],
)
def test_an_image_manifest_that_cannot_be_believed_is_named(store: ImageStore, change: dict) -> None:
    stored = put(store, images.make(b"one"))
    digest, _size = store.blobs.put_bytes(json.dumps({**json.loads(stored.manifest_bytes), **change}).encode())
    with pytest.raises(ShareFault):
        store.read(digest)


def test_an_unknown_kind_of_layer_is_named(store: ImageStore) -> None:
    stored = put(store, images.make(b"one"))
    manifest = json.loads(stored.manifest_bytes)
    manifest["layers"][0]["mediaType"] = "application/x"
    with pytest.raises(ShareFault, match="unknown kind of layer"):
        store.read(store.blobs.put_bytes(json.dumps(manifest).encode())[0])


@pytest.mark.parametrize("config", [b"not json", b"[]", b'{"rootfs":{"diff_ids":["x"]}}'])
def test_an_image_config_that_cannot_be_believed_is_the_shares_fault(store: ImageStore, config: bytes) -> None:
    manifest = json.loads(put(store, images.make(b"one")).manifest_bytes)
    digest, size = store.blobs.put_bytes(config)
    manifest["config"].update(digest=digest, size=size)
    with pytest.raises(ShareFault):
        store.read(store.blobs.put_bytes(json.dumps(manifest).encode())[0])


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32])
def test_no_path_is_made_of_what_is_no_digest(store: ImageStore, digest: str) -> None:
    with pytest.raises(ShareFault, match="not a sha256 digest"):
        store.blobs.path_of(digest)


@pytest.mark.parametrize("namespace", ["", "..", "a/b", "x" * 65, "a b"])
def test_no_path_is_made_of_what_is_no_namespace(store: ImageStore, namespace: str) -> None:
    with pytest.raises(JobFault, match="not a namespace"):
        store.pointer(NAME, namespace)


def test_a_name_too_long_for_a_file_is_refused(store: ImageStore) -> None:
    with pytest.raises(JobFault, match="too long"):
        store.pointer(Reference.parse("/".join(["a"] * 120) + ":x"), "site")


def test_a_relative_store_is_refused() -> None:
    with pytest.raises(JobFault, match="absolute path"):
        ImageStore("store")


@given(st.lists(st.binary(max_size=300), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_blob_is_what_its_name_says(store: ImageStore, parts: list) -> None:
    data = b"".join(parts)
    assert store.blobs.put(parts) == (images.digest(data), len(data))
    assert store.blobs.read(images.digest(data)) == b"".join(store.blobs.stream(images.digest(data))) == data
    assert os.listdir(store.temporary) == []


def test_other_bytes_than_promised_get_no_name(store: ImageStore) -> None:
    with pytest.raises(ShareFault, match="digest differs"):
        store.blobs.put([b"x"], images.digest(b"y"))
    assert (store.blobs.names(), os.listdir(store.temporary)) == ([], [])


def test_a_source_that_breaks_off_leaves_nothing(store: ImageStore) -> None:
    def source():
        yield b"x"
        raise ShareFault("a: b", "c")

    with pytest.raises(ShareFault, match="a: b"):
        store.blobs.put(source())
    assert (store.blobs.names(), os.listdir(store.temporary)) == ([], [])


def test_a_full_store_is_named(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs.os, "write", full)
    with pytest.raises(ShareFault, match="no space left"):
        store.blobs.put([b"x"])
    assert (store.blobs.names(), os.listdir(store.temporary)) == ([], [])


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, store: ImageStore) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShareFault, match="store: cannot write"):
        ImageStore(str(tmp_path / "file" / "store")).ensure()
    os.rmdir(store.temporary)
    with pytest.raises(ShareFault, match="cannot write"):
        store.blobs.put([b"x"])


def test_space_is_asked_for_before_writing(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.require_space(1)
    with pytest.raises(ShareFault, match="too little space"):
        store.require_space(1 << 60)


def test_a_small_blob_that_was_damaged_is_written_anew(store: ImageStore) -> None:
    digest, _size = store.blobs.put_bytes(b"abc")
    Path(store.blobs.path_of(digest)).write_bytes(b"abd")
    with pytest.raises(ShareFault, match="digest differs"):
        store.blobs.read(digest)
    assert store.blobs.put_bytes(b"abc")[0] == digest
    assert store.blobs.read(digest) == b"abc"


def test_a_document_larger_than_any_is_not_read(store: ImageStore) -> None:
    digest, _size = store.blobs.put([b"x" * 100])
    with pytest.raises(ShareFault, match="cannot read a blob"):
        store.blobs.read(digest, at_most_bytes=99)


@pytest.mark.parametrize(
    ("mode", "file_mode", "folder_mode"), [(0o755, 0o644, 0o755), (0o750, 0o640, 0o750), (0o700, 0o600, 0o700), (0o1777, 0o644, 0o1777)]
)
def test_what_is_written_is_as_readable_as_the_store(tmp_path: Path, mode: int, file_mode: int, folder_mode: int) -> None:
    path = tmp_path / "s"
    path.mkdir()
    path.chmod(mode)
    old = os.umask(0o077)
    try:
        store = ImageStore(str(path))
        store.ensure()
        put(store, images.make(b"one"))
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(each.stat().st_mode) for each in path.rglob("*") if each.is_file() and not each.is_symlink()}
    assert modes == {file_mode}
    assert stat.S_IMODE((path / "blobs" / "sha256").stat().st_mode) == folder_mode
    assert stat.S_IMODE((path / "images" / "site").stat().st_mode) == folder_mode & 0o7755  # a namespace is its publisher's


def test_strangers_in_the_store_are_passed_over(store: ImageStore) -> None:
    put(store, images.make(b"one"))
    Path(store.path, "images", "README").write_text("hello")
    Path(store.path, "images", "..x").mkdir()
    Path(store.path, "images", "site", "UPPER%20").mkdir()
    Path(store.blobs.path, "notes.txt").write_text("")
    assert len(list(store.images())) == 1
    assert len(store.blobs.names()) == 3
    assert list(ImageStore("/nonexistent").images()) == []


def test_a_directory_that_another_publisher_makes_at_the_same_time_is_no_fault(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    image, mkdir = images.make(b"one"), os.mkdir

    def late(name: str, *args: Any, **named: Any) -> None:
        mkdir(name, *args, **named)
        raise FileExistsError(17, "File exists", name)

    monkeypatch.setattr(folder.os, "mkdir", late)
    assert put(store, image).identity == image.identity


def test_a_write_that_fails_leaves_the_name_as_it_was(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = put(store, images.make(b"one"))

    def full(*_args: Any, **_named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write", full)
    with pytest.raises(ShareFault, match="no space left"):
        put(store, images.make(b"two"))
    assert store.find(NAME, ["site"]) == old
