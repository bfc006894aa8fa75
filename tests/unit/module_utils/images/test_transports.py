# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what is missing moves, the right image arrives or none, and who has nothing says where it was looked for."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import locks
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import archive, build
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Info, Refused
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, transport_shared, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import blobs, compression, lease
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference, chain_ids
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import sbcast as broadcast
from helpers import images

BASE = images.make(b"base" * 1000, b"middle", Env=["A=b"])
NEXT = images.make(b"base" * 1000, b"middle", b"top", Env=["A=c"])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture(params=[images.saved_20, images.saved_25], ids=["20.10", "25"])
def leader(request: Any) -> images.Daemon:
    daemon = images.Daemon(save=request.param)
    daemon.images["a:1"] = BASE
    return daemon


@pytest.fixture(params=[False, True], ids=["classic", "containerd"])
def member(request: Any) -> images.Daemon:
    return images.Daemon(is_containerd_store=request.param)


def within() -> Deadline:
    return Deadline(60)


def publish(daemon: Any, path: str, name: Any = "a:1", namespace: str = "1001", **named: Any) -> Any:
    return json.loads(json.dumps(distribute.publish(daemon, path, name, namespace, within(), transports.TransportOptions(**named))))


def figures(report: Any) -> Any:
    return report["method"], report["layers_moved"], report["layers_total"], report["bytes_moved"], report["bytes_total"]


def sizes(*layers: bytes) -> int:
    return sum(map(len, layers))


def test_an_image_goes_from_the_leader_to_a_member_that_has_nothing(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    offer = publish(leader, path)
    assert figures(offer) == ("save", 2, 2, sizes(*BASE.layers), sizes(*BASE.layers))
    done = distribute.obtain(member, offer, within())
    assert figures(done) == ("pull", 2, 2, sizes(*BASE.layers), sizes(*BASE.layers))
    assert member.loads == []
    assert member.images == {"a:1": BASE}
    assert done["identity"] == offer["identity"] == BASE.identity.digest


def packed(path: str, offer: Any) -> Any:
    """Return media type → the layers' bytes of what was published, for packed layers."""
    store = ImageStore(path)
    layers = store.read(offer["manifest"]).layers
    return [(each.media_type.partition("+")[2], gzip.decompress(Path(store.blobs.path_of(each.digest)).read_bytes())) for each in layers]


def test_layers_are_packed_in_the_store_where_the_site_wants_it(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    offer = publish(leader, path, compression="gzip")
    assert packed(path, offer) == [("gzip", data) for data in BASE.layers]
    assert offer["bytes_moved"] < sizes(*BASE.layers) / 2
    done = distribute.obtain(member, offer, within())
    assert (done["method"], done["bytes_moved"]) == ("pull", offer["bytes_moved"])
    assert member.images == {"a:1": BASE}


def test_a_layer_that_the_store_has_packed_is_not_packed_again(path: str) -> None:
    leader = images.Daemon(save=images.saved_25)
    leader.images.update({"a:1": BASE, "b:1": NEXT})
    publish(leader, path, compression="gzip")
    before = distribute.compare(leader, path, "b:1", ["1001"])
    offer = publish(leader, path, "b:1", compression="gzip")
    assert (offer["layers_moved"], before["layers_lacking_in_store"]) == (1, 1)
    assert publish(leader, path, "b:1", compression="gzip")["method"] == "none"
    elsewhere = publish(leader, path, "b:1", namespace="1002", compression="gzip")
    assert elsewhere["layers_moved"] == 3  # another user's word for what a packed layer is inside counts for nothing


def test_a_packed_layer_that_was_damaged_is_written_anew(path: str) -> None:
    leader = images.Daemon(save=images.saved_25)
    leader.images["a:1"] = BASE
    store, offer = ImageStore(path), publish(leader, path, compression="gzip")
    victim = store.read(offer["manifest"]).layers[0]
    os.truncate(store.blobs.path_of(victim.digest), 5)
    assert publish(leader, path, compression="gzip")["layers_moved"] == 1
    assert packed(path, offer) == [("gzip", data) for data in BASE.layers]


def test_layers_stay_plain_where_the_daemon_would_not_take_them_packed(
    leader: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "info", lambda: Info("20.10.24+dfsg1", "overlay2", "/nowhere", False))
    offer = publish(leader, path, compression="zstd")
    assert ImageStore(path).read(offer["manifest"]).layers[0].digest == BASE.diff_ids[0]
    monkeypatch.setattr(compression, "can", lambda kind: kind == "none")
    leader.images["a:1"] = NEXT
    assert ImageStore(path).read(publish(leader, path, compression="gzip")["manifest"]).layers[2].digest == NEXT.diff_ids[2]


def test_only_the_new_layer_moves(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    distribute.obtain(member, publish(leader, path), within())
    leader.images["a:1"] = NEXT
    offer = publish(leader, path)
    assert figures(offer)[:2] == ("save", 1)
    assert offer["bytes_moved"] == len(NEXT.layers[2])
    done = distribute.obtain(member, offer, within())
    assert figures(done) == ("pull", 1, 3, len(NEXT.layers[2]), sizes(*NEXT.layers))
    assert member.images["a:1"] == NEXT


def test_nothing_moves_twice(leader: images.Daemon, member: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    distribute.obtain(member, publish(leader, path), within())

    def forbidden(*_args: Any) -> None:
        raise AssertionError("a layer was read")

    monkeypatch.setattr(blobs.BlobStore, "stream", forbidden)
    monkeypatch.setattr(leader, "save", forbidden)
    monkeypatch.setattr(ImageStore, "read", ImageStore.read)
    offer = publish(leader, path)
    assert figures(offer)[:2] == ("none", 0)
    monkeypatch.setattr(ImageStore, "read", forbidden)
    assert figures(distribute.obtain(member, offer, within())) == ("none", 0, 0, 0, 0)


def test_the_same_name_with_other_content_is_replaced(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    member.images["a:1"] = images.make(b"stale")
    distribute.obtain(member, publish(leader, path), within())
    assert member.images["a:1"] == BASE


def test_the_same_layers_with_another_configuration_are_another_image(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    member.images["a:1"] = images.make(b"base" * 1000, b"middle", Env=["A=other"])
    done = distribute.obtain(member, publish(leader, path), within())
    assert figures(done)[:2] == ("pull" if member.is_containerd_store else "load", 0)
    assert member.images["a:1"] == BASE


def test_a_daemon_that_lacks_more_than_it_seems_gets_the_whole_image(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    member.images["b:1"] = BASE
    member.forgotten, member.may_pull = set(BASE.diff_ids), False
    done = distribute.obtain(member, publish(leader, path), within())
    assert figures(done)[:2] == ("load", 2)
    assert len(member.loads) == 2
    assert member.images["a:1"] == BASE


def test_the_store_is_asked_in_the_users_namespace_and_then_in_the_sites(leader: images.Daemon, path: str) -> None:
    publish(leader, path, namespace="site")
    leader.images["a:1"] = NEXT
    publish(leader, path, namespace="1002")
    empty = images.Daemon()
    offer = publish(empty, path)
    assert (offer["source"], offer["method"]) == ("store", "none")
    assert empty.images["a:1"] == BASE


def test_of_two_images_with_one_name_the_newest_runs_and_it_is_said(leader: images.Daemon, path: str) -> None:
    publish(leader, path, namespace="site")
    leader.images["a:1"] = NEXT
    offer = publish(leader, path)
    assert (offer["source"], offer["identity"]) == ("local", NEXT.identity.digest)
    assert "several images are called a:1: docker of this node has" in offer["decision"]
    assert offer["decision"].endswith("that of docker of this node runs, it is the newest")
    leader.images["a:1"] = BASE  # an old one that lies about: the user's newer publication is not replaced by it
    offer = publish(leader, path)
    assert (offer["source"], offer["identity"], leader.images["a:1"]) == ("store", NEXT.identity.digest, NEXT)
    assert offer["decision"].endswith(f"that of the store {path} runs, it is the newest")
    assert "decision" not in publish(leader, path)


@pytest.mark.parametrize(("held", "offered", "is_told"), [(NEXT, BASE, True), (BASE, NEXT, False), (BASE, BASE, False)])
def test_a_member_whose_newer_image_loses_its_name_says_so(path: str, held: Any, offered: Any, is_told: bool) -> None:
    leader, member = images.Daemon(), images.Daemon()
    leader.images["a:1"], member.images["a:1"] = offered, held
    done = distribute.obtain(member, publish(leader, path), within())
    assert member.images["a:1"] == offered
    assert ("decision" in done) is is_told
    if is_told:
        assert done["decision"].startswith(f"a newer image was called a:1 here: this node has {held.identity.digest[:19]}")
        assert done["decision"].endswith("and that one runs")


def test_an_older_image_that_got_its_name_after_the_newer_ones_publication_is_no_clear_case(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"] = NEXT
    publish(leader, path)
    leader.images["a:1"] = BASE
    leader.tagged = "2999-01-01T00:00:00.5Z"  # a build from the cache, say: its date is that of the first time
    with pytest.raises(JobFault, match=r"an older image got this name after the newer one .*OnConflict"):
        publish(leader, path)
    leader.tagged = "2020-01-01T00:00:00Z"
    assert publish(leader, path)["identity"] == NEXT.identity.digest


def test_an_image_that_was_decided_for_is_not_replaced_by_the_other_where_it_cannot_be_loaded(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"] = NEXT
    publish(leader, path)
    leader.images = {"a:1": images.make(b"base" * 1000, b"middle", Env=["A=b"])}
    document = json.loads(leader.images["a:1"].config)
    leader.images["a:1"] = images.Image(json.dumps({**document, "created": "1999-01-01T00:00:00Z"}).encode(), leader.images["a:1"].layers)
    victim = Path(path, "blobs", "sha256", NEXT.diff_ids[2][7:])
    victim.write_bytes(b"!" + victim.read_bytes()[1:])
    with pytest.raises(ShareFault, match="differs"):
        publish(leader, path)


def test_the_site_may_let_the_leader_decide_or_nobody(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"] = NEXT
    publish(leader, path)
    leader.images["a:1"] = BASE
    with pytest.raises(JobFault, match=r"several images have this name .*OnConflict=newest or leader"):
        publish(leader, path, on_conflict="fail")
    offer = publish(leader, path, on_conflict="leader")
    assert offer["identity"] == BASE.identity.digest
    assert offer["decision"].endswith("runs, by OnConflict=leader")


def test_images_that_do_not_say_when_they_were_made_are_in_no_order(leader: images.Daemon, path: str) -> None:
    publish(leader, path)
    document = json.loads(NEXT.config)
    leader.images["a:1"] = images.Image(json.dumps({**document, "created": "1970-01-01T00:00:00Z"}).encode(), NEXT.layers)
    with pytest.raises(JobFault, match="several images have this name"):
        publish(leader, path)


def test_a_registry_is_asked_when_the_name_names_one(path: str) -> None:
    daemon = images.Daemon()
    daemon.registry = {"r.io/a:1": BASE, "a:1": BASE}
    assert publish(daemon, path, "r.io/a:1")["source"] == "registry"
    with pytest.raises(JobFault, match="nobody has it"):
        publish(daemon, path, "a:1", sources=("local", "registry"))
    assert publish(daemon, path, "a:1")["source"] == "hub"


def test_what_the_manifest_can_build_is_never_asked_of_the_default_registry(path: str, tmp_path: Path) -> None:
    daemon = images.Daemon()
    daemon.registry = {"ci-a:latest": BASE}
    with pytest.raises(JobFault, match="no such Dockerfile"):
        publish(daemon, path, {"reference": "ci-a", "dockerfile": "none.Dockerfile", "work_dir": str(tmp_path)})


@pytest.mark.parametrize(("name", "file"), [("r.io/a/b:1", "r.io_a_b_1.tar"), ("a", "a.tar"), ("a/b", "docker.io_a_b_latest.tar")])
def test_a_plain_archive_in_the_stores_directory_is_a_source(leader: images.Daemon, path: str, name: str, file: str) -> None:
    os.mkdir(path)
    Path(path, file).write_bytes(leader._save(BASE, [str(Reference.parse(name))]))
    empty = images.Daemon()
    offer = publish(empty, path, name)
    assert (offer["source"], offer["method"], offer["identity"]) == ("archive", "none", BASE.identity.digest)
    assert empty.images == {str(Reference.parse(name)): BASE}


@pytest.mark.parametrize(
    ("suffix", "program"),
    [(".tar.gz", "gzip"), (".tgz", "gzip"), (".tar.zst", "zstd"), (".tar", "gzip")],
)
def test_an_archive_that_was_packed_on_its_way_is_a_source(path: str, suffix: str, program: str) -> None:
    os.mkdir(path)
    data = subprocess.run([program, "-c"], input=images.saved_20(BASE, ["a/b:1"]), stdout=subprocess.PIPE, check=True).stdout
    Path(path, f"a_b_1{suffix}").write_bytes(data)
    assert publish(images.Daemon(), path, "a/b:1")["source"] == "archive"


@pytest.mark.parametrize(("suffix", "module"), [(".tar.xz", lzma), (".tar.bz2", bz2)])
def test_an_archive_is_a_source_in_each_form_that_docker_loads(path: str, suffix: str, module: Any) -> None:
    os.mkdir(path)
    Path(path, f"a_b_1{suffix}").write_bytes(module.compress(images.saved_20(BASE, ["a/b:1"])))
    assert publish(images.Daemon(), path, "a/b:1")["source"] == "archive"


@pytest.mark.parametrize("damage", ["archive", "link", "store"])
def test_a_fault_in_one_place_does_not_end_the_search(leader: images.Daemon, path: str, damage: str) -> None:
    os.mkdir(path)
    if damage == "archive":
        Path(path, "r.io_a_1.tar").write_bytes(b"x" * 2000)
    elif damage == "link":
        Path(path, "r.io_a_1.tar").symlink_to("/dev/zero")
    else:
        leader.images["r.io/a:1"] = NEXT
        publish(leader, path, "r.io/a:1")
        Path(ImageStore(path).index_path(Reference.parse("r.io/a:1"), "1001")).write_text("{")
    daemon = images.Daemon()
    daemon.registry = {"r.io/a:1": BASE}
    offer = publish(daemon, path, "r.io/a:1")
    assert (offer["source"], offer["identity"]) == ("registry", BASE.identity.digest)


def test_where_nobody_has_the_image_all_reasons_are_told(leader: images.Daemon, path: str) -> None:
    leader.images["r.io/a:1"] = NEXT
    publish(leader, path, "r.io/a:1")
    Path(ImageStore(path).index_path(Reference.parse("r.io/a:1"), "1001")).write_text("{")
    Path(path, "r.io_a_1.tar").write_bytes(b"x" * 2000)
    with pytest.raises(JobFault, match="nobody has it") as caught:
        publish(images.Daemon(), path, "r.io/a:1")
    assert "index is damaged" in str(caught.value.seen["store"])
    assert "cut off or damaged" in str(caught.value.seen["archive"])
    assert "registry r.io/a" in str(caught.value.seen["looked_in"])


def test_an_archive_of_another_image_is_refused_though_its_file_name_fits(leader: images.Daemon, path: str) -> None:
    os.mkdir(path)
    Path(path, "a_b_1.tar").write_bytes(leader._save(BASE, ["a_b:1"]))
    with pytest.raises(JobFault, match="no image of this name"):
        publish(images.Daemon(), path, "a/b:1")


def test_two_jobs_on_one_node_load_an_image_once(leader: images.Daemon, member: images.Daemon, path: str, tmp_path: Path) -> None:
    offer = publish(leader, path)
    pull, begun, go_on = member.pull, threading.Event(), threading.Event()

    def slowly(*args: Any, **named: Any) -> None:
        begun.set()
        go_on.wait(10)
        pull(*args, **named)

    member.pull = slowly  # type: ignore[method-assign]
    done = []

    def obtain() -> None:
        with locks.open_flocks(str(tmp_path / "locks"), 1000) as flocks:
            done.append(distribute.obtain(member, offer, within(), flocks))

    jobs = [threading.Thread(target=obtain) for _ in range(2)]
    jobs[0].start()
    begun.wait(10)
    jobs[1].start()
    go_on.set()
    for job in jobs:
        job.join()
    assert sorted(each["method"] for each in done) == ["none", "pull"]
    assert len(member.fetched) == 4


def test_an_image_that_nobody_has_is_named_with_every_place(path: str) -> None:
    with pytest.raises(JobFault) as caught:
        publish(images.Daemon(), path, "r.io/x:1")
    line = caught.value.line()
    assert "\n" not in line
    for part in (
        "image='r.io/x:1'",
        "docker of this node (/nowhere/docker.sock)",
        f"store {path} (1001, site); {path}/r.io_x_1.tar;",
        "registry r.io/x: manifest unknown",
    ):
        assert part in line
    assert not os.path.exists(path)


def test_without_a_store_the_members_must_have_the_image(leader: images.Daemon) -> None:
    offer = publish(leader, "")
    assert offer["transport"] == "none"
    other = images.Daemon()
    with pytest.raises(JobFault, match="no store is shared"):
        distribute.obtain(other, offer, within())
    other.images["a:1"] = BASE
    assert distribute.obtain(other, offer, within())["method"] == "none"


def test_a_store_that_is_not_shared_is_noticed(leader: images.Daemon, member: images.Daemon, path: str, tmp_path: Path) -> None:
    offer = publish(leader, path)
    other = str(tmp_path / "node-local")
    publish(leader, other)
    with pytest.raises(ShareFault, match="not the store of the publishing node"):
        distribute.obtain(member, {**offer, "where": other}, within())
    assert member.images == {}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_layer_is_named_never_loaded_and_published_anew(
    leader: images.Daemon, member: images.Daemon, path: str, damage: str
) -> None:
    offer = publish(leader, path)
    victim = Path(path, "blobs", "sha256", BASE.diff_ids[0][7:])
    data = victim.read_bytes()
    victim.unlink()
    if damage != "gone":
        victim.write_bytes(data[:-1] if damage == "truncated" else b"!" + data[1:])
    with pytest.raises(ShareFault) as caught:
        distribute.obtain(member, offer, within())
    assert BASE.diff_ids[0] in str(caught.value)
    assert member.images == {}
    offer = publish(leader, path)
    assert offer["layers_moved"] == 1
    distribute.obtain(member, offer, within())
    assert member.images["a:1"] == BASE


@pytest.mark.parametrize("name", ["index.json", "config", "manifest"])
def test_a_damaged_document_is_published_anew(leader: images.Daemon, member: images.Daemon, path: str, name: str) -> None:
    offer = publish(leader, path)
    [index] = Path(path).glob("images/1001/*/index.json")
    victim = {
        "index.json": index,
        "config": Path(path, "blobs", "sha256", images.digest(BASE.config)[7:]),
        "manifest": Path(path, "blobs", "sha256", offer["manifest"][7:]),
    }[name]
    victim.write_bytes(b"{}")
    distribute.obtain(member, publish(leader, path), within())
    assert member.images["a:1"] == BASE


def test_another_image_under_the_offers_manifest_is_refused(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    one = publish(leader, path)
    leader.images["a:1"] = NEXT
    two = publish(leader, path)
    with pytest.raises(ShareFault, match="another image"):
        distribute.obtain(member, {**one, "manifest": two["manifest"]}, within())
    assert member.images == {}


def test_a_daemon_that_has_another_image_after_loading_is_noticed(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    offer = publish(leader, path)
    member.may_pull = False
    member.load = lambda chunks, timeout_seconds: list(chunks) and None  # type: ignore[method-assign]
    with pytest.raises(JobFault, match="another image after loading"):
        distribute.obtain(member, offer, within())
    member.may_pull = True
    member._pulled = lambda reference: NEXT  # type: ignore[method-assign]
    with pytest.raises(JobFault, match="another image after loading"):
        distribute.obtain(member, offer, within())
    assert member.images == {}


@pytest.mark.parametrize("is_hung_up", [False, True])
def test_an_image_that_got_its_name_and_was_refused_is_not_taken_for_loaded(leader: images.Daemon, path: str, is_hung_up: bool) -> None:
    # The containerd store names an image before it unpacks it (measured, 26.1), and a daemon may hang up when it has all it wanted.
    offer, member = publish(leader, path), images.Daemon(is_containerd_store=True)
    member.may_pull = False

    def load(chunks: Any, timeout_seconds: float) -> None:
        images.Daemon.load(member, chunks, timeout_seconds)
        raise Refused("engine: docker load was cut short", "x") if is_hung_up else images.refused("failed to unpack loaded image")

    member.load = load  # type: ignore[method-assign]
    if is_hung_up:
        assert distribute.obtain(member, offer, within())["method"] == "load"
        return
    with pytest.raises(Refused, match="failed to unpack"):
        distribute.obtain(member, offer, within())
    assert member.images == {}


def test_an_image_that_the_daemon_refuses_is_the_jobs_fault(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    offer = publish(leader, path)

    def refuse(*_args: Any, **_named: Any) -> None:
        raise Refused("engine: docker load was refused", "x")

    member.load = member.pull = refuse  # type: ignore[method-assign]
    with pytest.raises(Refused):
        distribute.obtain(member, offer, within())


def test_an_image_that_changes_while_it_is_saved_is_not_published(
    leader: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = leader.save

    def changed(name: str, timeout_seconds: float) -> Any:
        leader.images["a:1"] = NEXT
        return save(name, timeout_seconds)

    monkeypatch.setattr(leader, "save", changed)
    with pytest.raises(JobFault, match="changed while it was saved"):
        publish(leader, path)
    assert not os.listdir(Path(path, "leases"))


def test_a_layer_of_equal_size_makes_the_archive_be_read_again(leader: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LARGE", 100)
    publish(leader, path)
    leader.images["b:1"] = images.make(b"base" * 1000, b"MIDDLE")
    offer = publish(leader, path, "b:1")
    assert offer["layers_moved"] == 1
    assert ImageStore(path).read(offer["manifest"]).identity == leader.images["b:1"].identity


@pytest.mark.parametrize("change", [{"identity": "x"}, {"transport": "pigeon"}, {"identity": None}])
def test_what_is_no_offer_is_refused(leader: images.Daemon, member: images.Daemon, path: str, change: dict) -> None:
    with pytest.raises(ShareFault, match="not an offer"):
        distribute.obtain(member, {**publish(leader, path), **change}, within())
    with pytest.raises(JobFault, match="not an image name"):
        distribute.obtain(member, {**publish(leader, path), "reference": "../x"}, within())


def test_five_images_two_of_them_the_same_are_four(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    names = ["a:1", "docker.io/library/a:1", "b:1", "c:1", "c:2"]
    leader.images.update({"b:1": NEXT, "c:1": images.make(b"c"), "c:2": BASE})
    offers = distribute.publish_all(leader, path, names, "1001", within())
    assert [offer["reference"] for offer in offers] == ["a:1", "b:1", "c:1", "c:2"]
    done = distribute.obtain_all(member, offers, within())
    assert [each["identity"] for each in done] == [offer["identity"] for offer in offers]
    assert member.images == leader.images


def test_a_lease_spares_the_blobs_until_it_is_released(leader: images.Daemon, path: str) -> None:
    offer = publish(leader, path)
    assert set(BASE.diff_ids) <= lease.leased(ImageStore(path), time.time())
    distribute.release([offer, {"where": "relative"}, {}])
    assert lease.leased(ImageStore(path), time.time()) == set()


@pytest.mark.parametrize("who", ["a job", "a job, from an archive", "a job of a site's account", "a playbook"])
def test_what_is_loaded_from_the_store_is_leased_meanwhile_whoever_loads_it(leader: images.Daemon, path: str, who: str) -> None:
    daemon, store = images.Daemon(), ImageStore(path)
    if who == "a job, from an archive":
        os.mkdir(path)
        Path(path, "a_1.tar").write_bytes(leader._save(BASE, ["a:1"]))
    else:
        distribute.release([publish(leader, path, namespace="site")])
    leased, pull = [], daemon.pull
    daemon.pull = lambda *args, **named: leased.append(lease.leased(store, time.time())) or pull(*args, **named)  # type: ignore[method-assign]
    if who == "a playbook":
        distribute.load(daemon, path, "a:1", ["site"], within())  # type: ignore[arg-type]
    else:
        options = transports.TransportOptions(is_site_s=who == "a job of a site's account")
        distribute.ensure_all(daemon, path, ["a:1"], "1001", within(), options)  # type: ignore[arg-type]
    stored = store.find(Reference.parse("a:1"), ["1001", "site"])
    assert stored is not None
    assert leased == [set(stored.digests)]
    assert os.listdir(store.leases) == []
    assert daemon.images["a:1"] == BASE


def test_loading_by_name_takes_what_the_store_has(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    publish(leader, path, namespace="site")
    assert distribute.load(member, path, "a:1", ["site"], within())["method"] == "pull"
    assert distribute.load(member, path, "a:1", ["site"], within())["method"] == "none"
    with pytest.raises(JobFault, match="nobody has it"):
        distribute.load(member, path, "b:1", ["site"], within())


def test_comparing_changes_nothing_and_counts_both_ways(leader: images.Daemon, member: images.Daemon, path: str) -> None:
    lacking = distribute.compare(leader, path, "a:1", ["site"])
    assert lacking == {
        "reference": "a:1", "local": BASE.identity.digest, "stored": None, "created_local": BASE.created, "created_stored": "",
        "layers_local": 2, "layers_stored": 0, "layers_lacking_in_store": 2, "layers_lacking_in_daemon": 0,
    }  # fmt: skip
    assert not os.path.exists(path)
    publish(leader, path, namespace="site")
    there = distribute.compare(member, path, "a:1", ["site"])
    assert (there["local"], there["stored"], there["layers_lacking_in_daemon"]) == (None, BASE.identity.digest, 2)
    assert distribute.compare(member, path, "x:1", ["site"])["layers_stored"] == 0


def test_a_daemon_whose_disk_is_too_small_is_not_loaded_into(
    leader: images.Daemon, member: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer, margin = publish(leader, path), 64 << 20
    asked: list = []

    def statvfs(place: str) -> Any:
        asked.append(place)
        return types.SimpleNamespace(f_frsize=1, f_bavail=margin + (2 if member.is_containerd_store else 1) * offer["bytes_total"] - 1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(NodeFault, match="too little space") as caught:
        distribute.obtain(member, offer, within())
    assert (caught.value.part, member.images) == ("disk", {})
    assert set(asked) == {member.info().data_dir}


def test_a_node_is_asked_what_layers_it_has_only_where_that_matters(
    leader: images.Daemon, member: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer, asked = publish(leader, path), []  # type: ignore[var-annotated]
    known = member.layers_held
    monkeypatch.setattr(member, "layers_held", lambda *question: asked.append(question) or known(*question))
    assert distribute.obtain(member, offer, within())["method"] == "pull"  # type: ignore[arg-type]
    assert len(asked) == (0 if member.is_containerd_store else 1)
    room = {"f_frsize": 1, "f_bavail": (64 << 20) + 2 * offer["bytes_total"] - 1}
    monkeypatch.setattr(os, "statvfs", lambda _path: types.SimpleNamespace(**room))
    member.images = {"base:1": BASE}
    assert distribute.obtain(member, offer, within())["identity"] == offer["identity"]  # type: ignore[arg-type]
    assert len(asked) == (1 if member.is_containerd_store else 2)  # not for all of it, but what it has need not come


def test_loading_into_the_leader_heals_nothing_from_an_incomplete_store(leader: images.Daemon, path: str) -> None:
    publish(leader, path)
    Path(path, "blobs", "sha256", BASE.diff_ids[0][7:]).unlink()
    with pytest.raises(JobFault, match="nobody has it"):
        publish(images.Daemon(), path)


@pytest.mark.parametrize("name", ["r.io/a@sha256:" + "d" * 64, "r.io/a:1@sha256:" + "d" * 64])
def test_an_image_by_digest_comes_from_its_registry_though_there_is_a_store(path: str, name: str) -> None:
    leader, member = Registry(), Registry()
    leader.images[name] = BASE
    offer = publish(leader, path, name)
    assert offer["transport"] == "registry"
    member.registry["r.io/a"] = BASE
    member.images["r.io/a@sha256:" + "d" * 64] = member.images[name] = BASE
    assert distribute.obtain(member, offer, within())["method"] == "none"


class Registry(images.Daemon):
    """A daemon that knows digests of a registry."""

    def inspect(self, name: str) -> Any:
        document = super().inspect(name)
        digest = "sha256:" + "d" * 64
        return document and {**document, "RepoDigests": [f"x.io/other@{digest}", f"{Reference.parse(name).name}@{digest}"]}

    answer = ""

    def registry_has(self, reference: Reference, timeout_seconds: float) -> str:
        return self.answer

    def pull(self, reference: Reference, timeout_seconds: float, has_login: bool = True) -> None:
        if reference.domain.startswith("127.0.0.1:"):
            super().pull(reference, timeout_seconds, has_login)
        else:
            self.images[str(reference)] = self.registry[reference.name]


def test_without_a_store_an_image_of_a_registry_is_pulled_by_digest(path: str) -> None:
    leader, member = Registry(), Registry()
    leader.images["r.io/a:1"] = BASE
    member.registry["r.io/a"] = BASE
    offer = publish(leader, "", "r.io/a:1")
    assert (offer["transport"], offer["pull"]) == ("registry", "r.io/a@sha256:" + "d" * 64)
    assert distribute.obtain(member, offer, within())["method"] == "pull"
    assert member.images["r.io/a:1"] == BASE
    wrong = Registry()
    wrong.registry["r.io/a"] = NEXT
    with pytest.raises(JobFault, match="another image after loading"):
        distribute.obtain(wrong, offer, within())
    assert publish(leader, path, "r.io/a:1")["transport"] == "shared"


def test_an_image_of_docker_s_default_registry_is_not_taken_for_one_of_a_registry() -> None:
    leader = Registry()
    leader.images["a:1"] = BASE
    assert publish(leader, "", "a:1", sources=("local",))["transport"] == "none"
    assert publish(leader, "", "a:1")["transport"] == "registry"
    leader.answer = "denied"  # a daemon gives every image of the containerd store a digest
    with pytest.raises(ShareFault, match=r"the registry does not have the image .*answer='denied'.*transport=shared"):
        publish(leader, "", "a:1", transport="registry")


def test_the_next_way_is_taken_where_one_fails_and_the_offer_says_why(path: str) -> None:
    leader = Registry()
    leader.images["r.io/a:1"] = BASE
    Path(path).write_text("no directory")
    offer = publish(leader, path, "r.io/a:1")
    assert offer["transport"] == "registry"
    assert "cannot write the store" in offer["instead_of"]
    leader.answer = "denied"
    with pytest.raises(ShareFault, match="cannot write the store"):
        publish(leader, path, "r.io/a:1")


@pytest.mark.parametrize("lacking", ["layer", "config", "all", "refused"])
def test_an_image_of_which_the_daemon_has_not_all_is_named_and_goes_another_way(path: str, lacking: str) -> None:
    # The containerd store keeps an image whose blobs are gone, and runs it from its snapshots (measured, 26.1).
    leader = Registry(save=images.saved_25)
    leader.images["r.io/a:1"] = BASE

    def saved(name: str, timeout_seconds: float) -> Any:
        if lacking == "refused":
            raise Refused("engine: docker save was refused", "read the daemon's answer", answer="content digest sha256:1: not found")
        members = images.members_of(images.saved_25(BASE, [name]))
        gone = {"layer": BASE.layers[1:], "config": (BASE.config,), "all": (*BASE.layers, BASE.config)}[lacking]
        names = {"blobs/sha256/" + images.digest(data)[7:] for data in gone}
        return images.pieces(images.tar({name: data for name, data in members.items() if name not in names}))

    leader.save = saved  # type: ignore[method-assign]
    with pytest.raises(ShareFault, match=r"docker does not give the whole image \(image='r.io/a:1', reason=.*pull or load the image again"):
        publish(leader, path, "r.io/a:1", transport="shared")
    offer = publish(leader, path, "r.io/a:1")
    assert (offer["transport"], "docker does not give the whole image" in offer["instead_of"]) == ("registry", True)


class Apart(Registry):
    """A daemon that has no way to its registry."""

    def pull(self, reference: Reference, timeout_seconds: float, has_login: bool = True) -> None:
        if not reference.domain.startswith("127.0.0.1:"):
            raise images.refused("dial tcp: no route to host")
        super().pull(reference, timeout_seconds, has_login)


def test_a_member_that_cannot_pull_declines_where_there_is_another_way_and_takes_that(sbcast: Path) -> None:
    leader, member = Registry(), Apart()
    leader.images["r.io/a:1"] = BASE
    spool = {"job_id": "7", "spool": str(sbcast)}
    offer = publish(leader, "", "r.io/a:1", **spool)
    assert (offer["transport"], offer["otherwise"]) == ("registry", True)
    with pytest.raises(ShareFault, match=r"cannot take the image this way .*no route to host") as caught:
        distribute.obtain(member, offer, within())
    assert (caught.value.what, member.images) == (transports.DECLINED, {})
    answers = {node: 'Get "http://r.io/v2/a/manifests/sha256:' + "d" * 64 + f'": the reason of {node}' for node in ("n2", "n-3", "n4")}
    again = publish(leader, "", "r.io/a:1", declined={"registry": answers}, **spool)
    assert again["transport"] == "sbcast"
    assert "a node cannot take it this way (way='registry', n2='Get " in again["instead_of"]
    assert [f"the reason of {node}" in again["instead_of"] for node in answers] == [True] * 3
    arrive(again)
    assert distribute.obtain(member, again, within())["method"] == "pull"
    assert member.images["r.io/a:1"] == BASE


def test_where_there_is_no_other_way_the_pull_s_own_reason_is_the_fault(sbcast: Path) -> None:
    leader = Registry()
    leader.images["r.io/a:1"] = leader.images["r.io/a@sha256:" + "d" * 64] = BASE
    for offer in (
        publish(leader, "", "r.io/a:1"),
        publish(leader, "", "r.io/a:1", transport="registry", job_id="7", spool=str(sbcast)),
        publish(leader, "", "r.io/a@sha256:" + "d" * 64, job_id="7", spool=str(sbcast)),
    ):
        assert "otherwise" not in offer
        with pytest.raises(Refused, match="no route to host"):
            distribute.obtain(Apart(), offer, within())


def test_the_manifests_registry_image_is_pulled_and_gets_the_jobs_name(path: str) -> None:
    daemon = Registry()
    daemon.registry["r.io/ci"] = BASE
    offer = publish(daemon, path, {"reference": "ci-model", "registry_image": "r.io/ci:7"})
    assert (offer["source"], daemon.images["ci-model:latest"]) == ("registry", BASE)


@pytest.mark.parametrize("way", ["shared", "registry", "sbcast"])
def test_a_transport_that_cannot_be_used_is_named(way: str) -> None:
    daemon = images.Daemon()
    daemon.images["a:1"] = BASE
    with pytest.raises(JobFault, match=f"cannot be used here .transport='{way}'"):
        publish(daemon, "", "a:1", transport=way)


@pytest.fixture
def sbcast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command called sbcast that brings the file to the one other node there is: the directory itself."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbcast").write_text('#!/bin/sh\n[ "$1 $2" = "--force --jobid=7" ] || exit 9\ncp "$3" "$4" && ln "$4" "$4.member"\n')
    (folder / "sbcast").chmod(0o755)
    monkeypatch.setattr(broadcast.send, "__defaults__", (0, f"{folder}:/usr/bin:/bin"))
    monkeypatch.setattr(broadcast.plan, "__defaults__", (f"{folder}:/usr/bin:/bin",))
    return tmp_path


def arrive(offer: dict) -> None:
    """Put what sbcast has brought where the other node has it."""
    for piece in broadcast.targets(offer["path"], offer["pieces"]):
        os.rename(piece + ".member", piece)


def test_without_a_store_slurm_brings_the_layers_that_not_every_member_has(
    leader: images.Daemon, member: images.Daemon, sbcast: Path
) -> None:
    leader.images["a:1"] = NEXT
    spool = sbcast / "spool"
    spool.mkdir()
    offer = publish(leader, "", job_id="7", spool=str(spool), held=chain_ids(BASE.diff_ids))
    assert (offer["transport"], offer["layers_moved"], offer["pieces"]) == ("sbcast", 1, 1)
    assert os.listdir(spool) == [os.path.basename(offer["path"]) + ".0.member"]
    arrive(offer)
    member.images["b:1"] = BASE
    done = distribute.obtain(member, offer, within())
    assert (done["layers_moved"], done["bytes_moved"]) == (1, len(NEXT.layers[2]))
    assert member.images["a:1"] == NEXT
    assert os.listdir(spool) == []
    with pytest.raises(ShareFault, match="did not arrive"):
        distribute.obtain(images.Daemon(), offer, within())


def test_an_image_in_pieces_is_loaded_whole_and_none_of_them_stays(leader: images.Daemon, member: images.Daemon, sbcast: Path) -> None:
    script = sbcast / "bin" / "sbcast"
    script.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo slurm-wlm 24.11.5; exit; }\n'
        '[ "$1 $2 $3 $4" = "--force --jobid=7 --treewidth=1 --size=131072" ] || exit 9\ncp "$5" "$6" && ln "$6" "$6.member"\n'
    )
    large = images.make(os.urandom(5 * broadcast.STRIPE), Env=["A=d"])
    leader.images["a:1"] = large
    spool = sbcast / "spool"
    spool.mkdir()
    offer = publish(leader, "", job_id="7", spool=str(spool), nodes=17)
    assert offer["pieces"] == 6
    assert len(os.listdir(spool)) == 6
    arrive(offer)
    distribute.obtain(member, offer, within())
    assert member.images["a:1"] == large
    assert os.listdir(spool) == []


def test_a_broadcast_that_was_damaged_on_its_way_is_never_loaded(leader: images.Daemon, member: images.Daemon, sbcast: Path) -> None:
    offer = publish(leader, "", job_id="7", spool=str(sbcast))
    data = Path(offer["path"] + ".0.member").read_bytes()
    for damage in (data[:-1], b"!" + data[1:], data[:-1] + b"!"):
        Path(offer["path"] + ".0").write_bytes(damage)
        for member.may_pull in (True, False):
            with pytest.raises(ShareFault, match=r"differs|did not arrive"):
                distribute.obtain(member, offer, within())
            Path(offer["path"] + ".0").write_bytes(damage)
    assert member.images == {}


@pytest.mark.parametrize("pieces", [None, 0, -1, 10**9, "2", 1.5])
def test_a_broadcast_in_an_impossible_number_of_pieces_is_refused(leader: images.Daemon, sbcast: Path, pieces: Any) -> None:
    offer = publish(leader, "", job_id="7", spool=str(sbcast))
    with pytest.raises(ShareFault, match="not an offer"):
        distribute.obtain(images.Daemon(), {**offer, "pieces": pieces}, within())


def test_a_broadcast_that_fails_is_the_shares_fault_and_leaves_nothing(leader: images.Daemon, sbcast: Path) -> None:
    spool = sbcast / "spool"
    spool.mkdir()
    with pytest.raises(ShareFault, match="sbcast failed"):
        publish(leader, "", job_id="8", spool=str(spool))
    os.unlink(sbcast / "bin" / "sbcast")
    with pytest.raises(ShareFault, match="no sbcast on this node"):
        publish(leader, "", job_id="7", spool=str(spool))
    assert os.listdir(spool) == []


def test_nobody_can_guess_where_a_broadcast_will_lie(leader: images.Daemon, sbcast: Path) -> None:
    first, second = (publish(leader, "", job_id="7", spool=str(sbcast))["path"] for _ in range(2))
    assert first != second


def test_a_broadcast_for_which_this_nodes_disk_is_too_small_is_not_begun(
    leader: images.Daemon, sbcast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, margin = sbcast / "spool", 64 << 20
    spool.mkdir()
    leader.images["a:1"] = images.make(bytes(8 << 20), Env=["A=e"])
    has_room_for_the_layers_alone = types.SimpleNamespace(f_frsize=1, f_bavail=margin + (12 << 20))
    monkeypatch.setattr(os, "statvfs", lambda _path: has_room_for_the_layers_alone)
    (sbcast / "bin" / "sbcast").write_text("#!/bin/sh\necho it was begun; exit 1\n")
    with pytest.raises(NodeFault, match=r"too little space.*free space on this node"):
        publish(leader, "", job_id="7", spool=str(spool))
    assert os.listdir(spool) == []


def test_an_image_that_nobody_has_is_built_where_that_is_allowed(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = images.Daemon()
    built = []

    def run(recipe: build.Recipe, name: str, socket: str, deadline: Deadline) -> None:
        built.append((recipe.dockerfile, name, socket))
        daemon.images[name] = BASE

    monkeypatch.setattr(build, "run", run)
    wanted = {"reference": "ci-a", "dockerfile": "docker/a.Dockerfile", "work_dir": str(tmp_path)}
    offer = publish(daemon, path, wanted)
    assert (offer["source"], built) == ("build", [("docker/a.Dockerfile", "ci-a:latest", daemon.socket)])
    daemon.images.clear()
    assert publish(daemon, path, wanted)["source"] == "store"
    with pytest.raises(JobFault, match="nobody has it"):
        publish(daemon, path, {**wanted, "reference": "ci-b"}, sources=("local", "store"))


def test_a_thousand_members_do_not_arrive_at_once(leader: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list = []
    monkeypatch.setattr(transport_shared.time, "sleep", slept.append)
    assert publish(leader, path, nodes=16)["spread_seconds"] == 0
    offer = publish(leader, path, nodes=1000)
    for said in (offer["spread_seconds"], 1e9, -1, "x", None):
        distribute.obtain(images.Daemon(), {**offer, "spread_seconds": said}, within())
    assert len(slept) == 2
    assert all(0 <= seconds <= 5 for seconds in slept)


def test_what_a_job_has_left_on_its_images_way_goes_and_nobody_elses(tmp_path: Path, path: str) -> None:
    store = ImageStore(path)
    store.ensure()
    mine, others = lease.take(store, [], "7"), lease.take(store, [], "71")
    for name in ("madengine-7-abc.tar.0", "madengine-7-xyz/store/blob", "madengine-71-abc.tar.0", "madengine-7"):
        (tmp_path / "spool" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "spool" / name).write_text("x")
    distribute.forget(path, "7", str(tmp_path / "spool"))
    assert sorted(os.listdir(tmp_path / "spool")) == ["madengine-7", "madengine-71-abc.tar.0"]
    assert os.listdir(store.leases) == [others.name] != [mine.name]
    distribute.forget("", "7", str(tmp_path / "nowhere"))
