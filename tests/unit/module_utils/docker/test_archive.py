# SPDX-License-Identifier: GPL-3.0-or-later
"""What docker save wrote comes back as it was; what docker load gets is whole, or as thin as it was asked to be."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import archive
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import blobs
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image_manifest import Layer, Stored
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images
from helpers.pinned import by_registry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAME = Reference.parse("a/b:1")
IMAGE = images.make(b"base" * 1000, b"middle", b"", b"middle", b"top" * 3000, Env=["A=b"])


def gzipped(image: images.Image, tags: Any = ()) -> bytes:
    return images.saved_25(image, tags, is_gzip=True)


def packed(program: str, image: images.Image, tags: Any = ()) -> bytes:
    return subprocess.run([program, "-c"], input=images.saved_20(image, tags), stdout=subprocess.PIPE, check=True).stdout


def by_python(module: Any, image: images.Image, tags: Any = ()) -> bytes:
    data = images.saved_25(image, tags)
    return bytes(module.compress(data[:5000]) + module.compress(data[5000:]))  # as pbzip2 and pixz do: a stream behind the other


def by_pzstd(image: images.Image, tags: Any = ()) -> bytes:
    return b"\x50\x2a\x4d\x18\x04\0\0\0" + b"size" + packed("zstd", image, tags)


def with_xz_layers(image: images.Image, tags: Any = ()) -> bytes:
    return images.saved_25(images.Image(image.config, tuple(map(lzma.compress, image.layers))), tags)


def by_star(image: images.Image, tags: Any = ()) -> bytes:
    """Return an archive with pax headers, long names, ``./`` before them, directories, and a hard link for each name that is used."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 3000}) as made:

        def add(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname, info.pax_headers = len(data), kind, target, {"SCHILY.xattr.user.a": "ä" * 200}
            made.addfile(info, io.BytesIO(data))

        deep = "./" + "very-long-name/" * 20
        add(deep, kind=tarfile.DIRTYPE)
        for number, layer in enumerate(image.layers):
            add(f"{deep}{number}", layer)
            add(f"./{number}/layer.tar", kind=tarfile.LNKTYPE, target=f"{deep}{number}")
        add("./config", image.config)
        entry = {
            "Config": "config",
            "RepoTags": list(tags) or None,
            "Layers": [f"{number}/layer.tar" for number in range(len(image.layers))],
        }
        add("./manifest.json", json.dumps([entry]).encode())
    return out.getvalue()


FORMS = pytest.mark.parametrize(
    "saved",
    [
        images.saved_20,
        images.saved_25,
        gzipped,
        images.by_skopeo,
        images.by_jib,
        images.by_kaniko,
        images.by_bazel,
        images.by_buildah,
        functools.partial(images.by_buildah, foreign=False),
        functools.partial(packed, "gzip"),
        functools.partial(packed, "zstd"),
        functools.partial(by_python, lzma),
        functools.partial(by_python, bz2),
        by_pzstd,
        with_xz_layers,
        by_star,
    ],
    ids=[
        "20.10",
        "25",
        "25 with gzip",
        "skopeo",
        "jib",
        "kaniko",
        "bazel",
        "buildah",
        "buildah, one platform",
        "save | gzip",
        "save | zstd",
        "save | xz",
        "save | bzip2",
        "save | pzstd",
        "layers in xz",
        "pax and hard links",
    ],
)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(str(tmp_path / "store"))
    made.ensure()
    return made


def unpack(store: ImageStore, data: bytes, present: Any = (), name: Any = NAME) -> archive.Unpacked:
    return archive.unpack(
        images.pieces(data, 1000), store, name, {digest: Layer(digest, digest, size) for digest, size in dict(present).items()}
    )


def stored(store: ImageStore, image: images.Image = IMAGE) -> Stored:
    return store.commit(NAME, "site", image.config, unpack(store, images.saved_25(image)).layers)


@FORMS
def test_what_docker_saved_comes_back_as_it_was(store: ImageStore, saved: Callable[..., bytes]) -> None:
    unpacked = unpack(store, saved(IMAGE, ["a/b:1"]))
    assert unpacked.config == IMAGE.config
    assert [each.diff_id for each in unpacked.layers] == IMAGE.diff_ids
    assert [store.blobs.read(each.digest) for each in unpacked.layers] == list(IMAGE.layers)
    assert len(store.blobs.names()) == 4  # one of the five occurs twice


@FORMS
def test_layers_that_the_store_has_are_not_written_again(store: ImageStore, saved: Callable[..., bytes]) -> None:
    unpack(store, saved(images.Image(IMAGE.config, IMAGE.layers)))
    before = {path: path.stat().st_mtime_ns for path in Path(store.blobs.path).rglob("*")}
    present = {digest: store.blobs.size_of(digest) for digest in IMAGE.diff_ids}
    again = unpack(store, saved(IMAGE), present)
    assert [each.diff_id for each in again.layers] == IMAGE.diff_ids
    assert {path: path.stat().st_mtime_ns for path in Path(store.blobs.path).rglob("*")} == before


@FORMS
def test_an_archive_of_any_tool_is_refused_for_another_name(store: ImageStore, saved: Callable[..., bytes]) -> None:
    with pytest.raises(JobFault, match="no image of this name") as caught:
        unpack(store, saved(IMAGE, ["c/d:2"]))
    assert caught.value.seen["holds"] == "c/d:2"


def test_a_bare_tag_in_an_oci_layout_is_no_other_name(store: ImageStore) -> None:
    assert unpack(store, images.by_buildah(IMAGE, ["1"])).config == IMAGE.config


def test_links_in_a_circle_lead_to_no_layer(store: ImageStore) -> None:
    entry = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": ["a.tar"]}]).encode()
    one = images.make(b"one")
    with pytest.raises(ShareFault, match="disagree"):
        unpack(store, images.tar({"c.json": one.config, "manifest.json": entry}, {"a.tar": "b.tar", "b.tar": "a.tar"}))


def test_a_layer_whose_first_file_looks_like_json_is_a_layer(store: ImageStore) -> None:
    layer = images.tar({"{a}": b"x"})
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [images.digest(layer)]}}).encode()
    assert [each.diff_id for each in unpack(store, images.by_skopeo(images.Image(config, (layer,)))).layers] == [images.digest(layer)]


def test_a_large_layer_of_the_size_of_a_present_one_is_read_but_not_written(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack(store, images.saved_20(IMAGE))
    monkeypatch.setattr(archive, "_LARGE", 100)
    monkeypatch.setattr(store.blobs, "put", None)
    again = unpack(store, images.saved_20(IMAGE), {digest: store.blobs.size_of(digest) for digest in IMAGE.diff_ids})
    assert [each.diff_id for each in again.layers] == IMAGE.diff_ids


def test_a_large_layer_of_the_size_of_a_present_one_is_never_mistaken_for_it(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LARGE", 100)
    one, two = images.make(b"aaaa"), images.make(b"bbbb")
    unpack(store, images.saved_20(one))
    with pytest.raises(archive.Stale):
        unpack(store, images.saved_20(two), {one.diff_ids[0]: len(one.layers[0])})
    present = {one.diff_ids[0]: Layer(one.diff_ids[0], one.diff_ids[0], len(one.layers[0]))}
    again = archive.unpack([images.saved_20(two)], store, NAME, present, trusts_size=False)
    assert again.layers[0].diff_id == two.diff_ids[0]


@given(cut=st.integers(0, len(images.saved_25(IMAGE)) - 1), form=st.sampled_from([images.saved_20, images.saved_25]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_every_truncation_is_whole_or_a_named_fault(store: ImageStore, cut: int, form: Callable[..., bytes]) -> None:
    data = form(IMAGE)
    try:
        seen = unpack(store, data[:cut]).config  # only the padding behind the last member is cut
    except Fault as fault:
        seen = fault.what.split(": ")[0].encode()
    assert seen in (IMAGE.config, b"archive", b"layer", b"image")
    assert not list(Path(store.temporary).iterdir())


@given(st.binary(max_size=2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_bytes_are_a_named_fault(store: ImageStore, data: bytes) -> None:
    with pytest.raises(Fault):
        unpack(store, data)


def test_a_flipped_bit_in_a_layer_is_noticed(store: ImageStore) -> None:
    data = bytearray(images.saved_25(IMAGE))
    data[data.index(b"top" * 100)] ^= 1
    with pytest.raises(ShareFault, match="disagree"):
        unpack(store, bytes(data))


def test_the_image_is_chosen_by_name_from_an_archive_of_two(store: ImageStore) -> None:
    one, two = images.make(b"1"), images.make(b"2")
    members = {**images.members_of(images.saved_25(one, ["x:1"])), **images.members_of(images.saved_25(two, ["a/b:1"]))}
    entries = [
        json.loads(images.members_of(images.saved_25(each, [tag]))["manifest.json"])[0] for each, tag in ((one, "x:1"), (two, "a/b:1"))
    ]
    data = images.tar({**members, "manifest.json": json.dumps(entries).encode()})
    assert unpack(store, data).config == two.config
    with pytest.raises(JobFault, match="no image of this name"):
        unpack(store, data, name=Reference.parse("c:1"))
    with pytest.raises(JobFault, match="no image of this name"):
        unpack(store, data, name=None)


def test_the_only_image_is_taken_if_it_has_this_name_or_none(store: ImageStore) -> None:
    for tags in (["docker.io/a/b:1"], ["x:1", "a/b:1"], []):
        assert unpack(store, images.saved_25(IMAGE, tags)).config == IMAGE.config
    with pytest.raises(JobFault, match="holds='a_b:1'"):
        unpack(store, images.saved_25(IMAGE, ["a_b:1"]))
    assert unpack(store, images.saved_25(IMAGE, ["a_b:1"]), name=None).config == IMAGE.config


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"[1]",
        b'[{"Config":"../../../etc/passwd","Layers":[]}]',
        b'[{"Config":"c.json","Layers":"x"}]',
        b"[" * 100000,
    ],
)
def test_a_docker_manifest_that_cannot_be_believed_is_named(store: ImageStore, manifest: bytes) -> None:
    with pytest.raises(Fault):
        unpack(store, images.tar({"c.json": IMAGE.config, "manifest.json": manifest}))


def test_an_archive_of_endless_members_or_documents_is_refused(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_MEMBERS", 10)
    with pytest.raises(JobFault, match="too many members"):
        unpack(store, images.tar({f"{number}.json": b"{}" for number in range(12)}))
    monkeypatch.setattr(archive, "LARGEST_DOCUMENT", 100)
    with pytest.raises(JobFault, match="too many documents"):
        unpack(store, images.tar({f"{number}.json": b"{" + b"x" * 89 for number in range(5)}))


def test_names_in_an_archive_lead_nowhere(store: ImageStore, tmp_path: Path) -> None:
    data = images.tar({"../../escape/layer.tar": b"x" * 600, "/abs/layer.tar": b"y", "manifest.json": b"[]"}, {"link": "/etc/passwd"})
    with pytest.raises(JobFault):
        unpack(store, data)
    assert not (tmp_path / "escape").exists()
    assert set(store.blobs.names()) == {images.digest(b"x" * 600), images.digest(b"y")}


def test_the_archive_for_docker_load_holds_both_kinds_of_manifest(store: ImageStore) -> None:
    image = stored(store)
    members = images.members_of(b"".join(archive.write(image, NAME, store.chunks)))
    [entry] = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == ["a/b:1"]
    assert members[entry["Config"]] == IMAGE.config
    assert [members[path] for path in entry["Layers"]] == list(IMAGE.layers)
    [descriptor] = json.loads(members["index.json"])["manifests"]
    assert descriptor["annotations"]["io.containerd.image.name"] == "docker.io/a/b:1"
    manifest = json.loads(members["blobs/" + descriptor["digest"].replace(":", "/")])
    assert [each["digest"] for each in manifest["layers"]] == IMAGE.diff_ids
    assert json.loads(members["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


@given(st.sets(st.sampled_from(IMAGE.diff_ids)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
def test_an_archive_holds_the_layers_asked_for_and_no_other(store: ImageStore, omit: set) -> None:
    image = stored(store)
    members = images.members_of(b"".join(archive.write(image, NAME, store.chunks, omit)))
    held = {digest for digest in IMAGE.diff_ids if "blobs/" + digest.replace(":", "/") in members}
    assert held == set(IMAGE.diff_ids) - omit


def test_what_was_written_can_be_unpacked_again(store: ImageStore, tmp_path: Path) -> None:
    data = b"".join(archive.write(stored(store), NAME, store.chunks))
    other = ImageStore(str(tmp_path / "other"))
    other.ensure()
    assert unpack(other, data).layers == unpack(store, data).layers


def test_an_archive_of_a_damaged_layer_has_no_end(store: ImageStore) -> None:
    image = stored(store)
    Path(store.blobs.path_of(IMAGE.diff_ids[4])).write_bytes(bytes(len(IMAGE.layers[4])))
    with pytest.raises(ShareFault, match="digest differs"):
        list(archive.write(image, NAME, store.chunks))


def test_an_image_named_by_digest_gets_no_tag(store: ImageStore) -> None:
    name = Reference.parse("a/b@sha256:" + "0" * 64)
    members = images.members_of(b"".join(archive.write(stored(store), name, store.chunks)))
    assert json.loads(members["manifest.json"])[0]["RepoTags"] is None


@pytest.mark.parametrize("has_index", [False, True])
@pytest.mark.parametrize("tag", ["", ":1"])
def test_an_image_by_digest_keeps_what_its_digest_is_of(store: ImageStore, tag: str, has_index: bool) -> None:
    has = by_registry(IMAGE, has_index)
    for data in has.blobs.values():
        store.blobs.put([data])
    kept, name = store.read(has.manifest_digest, has.digest), Reference.parse(f"a/b{tag}@{has.digest}")
    whole, bare = (images.members_of(b"".join(each)) for each in (archive.write(kept, name, store.chunks), archive.naming(kept, name)))
    assert {images.digest(data): data for path, data in whole.items() if path.startswith("blobs/")} == has.blobs
    [entry] = json.loads(whole["index.json"])["manifests"]
    assert (entry["digest"], entry["mediaType"]) == (has.digest, has.contents[has.digest].media_type)
    assert entry["annotations"]["io.containerd.image.name"] == f"docker.io/a/b@{has.digest}"
    layers = {each.digest for each in kept.layers}
    assert bare == {path: data for path, data in whole.items() if images.digest(data) not in layers}


def test_compressed_layers_of_other_tools_are_handed_on_as_they_are(store: ImageStore) -> None:
    packed = gzip.compress(IMAGE.layers[0])
    image = images.make(b"base" * 1000)
    digest, size = store.blobs.put([packed])
    kept = store.commit(NAME, "site", image.config, [Layer(image.diff_ids[0], digest, size, "application/vnd.oci.image.layer.v1.tar+gzip")])
    members = images.members_of(b"".join(archive.write(kept, NAME, store.chunks)))
    assert members["blobs/" + digest.replace(":", "/")] == packed


def test_large_layers_pass_in_small_pieces(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    image = images.make(bytes(5 << 20))
    largest = 0
    write_all = blobs._write_all

    def noted(handle: int, chunk: bytes) -> None:
        nonlocal largest
        largest = max(largest, len(chunk))
        write_all(handle, chunk)

    monkeypatch.setattr(blobs, "_write_all", noted)
    kept = store.commit(NAME, "site", image.config, unpack(store, images.saved_20(image)).layers)
    assert largest <= 1 << 20
    assert max(map(len, archive.write(kept, NAME, store.chunks))) <= 1 << 20
