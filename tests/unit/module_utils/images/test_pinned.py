# SPDX-License-Identifier: GPL-3.0-or-later
"""An image by digest goes through a store as its registry has it, byte for byte, or not at all; `tests/integration` does it for real."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import layerdb
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, load, site_images, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import prune
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import sbcast as broadcast
from helpers import docker_root, images
from helpers.pinned import Containerd, Pinned, by_registry

IMAGE = images.make(b"base" * 1000, b"middle", Env=["A=b"])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture(params=[False, True], ids=["manifest", "index"])
def pinned(request: Any) -> Pinned:
    return by_registry(IMAGE, request.param)


@pytest.fixture(params=["", ":1"], ids=["untagged", "tagged"])
def name(request: Any, pinned: Pinned) -> Reference:
    return Reference.parse(f"r.io/a{request.param}@{pinned.digest}")


@pytest.fixture
def leader(pinned: Pinned, name: Reference) -> Containerd:
    """A node that has pulled the image from a registry that is out of reach by now."""
    daemon = Containerd()
    daemon.keep(name, pinned)
    daemon.registry_has = lambda *_words: "no route to host"  # type: ignore[method-assign]
    return daemon


def within() -> Deadline:
    return Deadline(60)


def publish(daemon: Any, path: str, name: Reference, namespace: str = "1001", **named: Any) -> Any:
    done = distribute.publish(daemon, path, str(name), namespace, within(), transports.TransportOptions(**named))
    return json.loads(json.dumps(done))


def of_store(path: str) -> dict:
    store = ImageStore(path)
    return {digest: Path(store.blobs.path_of(digest)).read_bytes() for digest in store.blobs.names()}


def files(tmp_path: Path, pinned: Pinned) -> layerdb.ContentStore:
    """Return the reader of a containerd that has the image."""
    docker_root.content(tmp_path / "containerd", pinned.blobs)
    return layerdb.ContentStore((str(tmp_path / "containerd"),))


@pytest.mark.parametrize("way", ["graph", "save"])
def test_the_store_gets_the_very_bytes(leader: Containerd, tmp_path: Path, path: str, name: Reference, pinned: Pinned, way: str) -> None:
    offer = publish(leader, path, name, reader=files(tmp_path, pinned) if way == "graph" else None)
    assert (offer["transport"], offer["method"], offer["layers_moved"]) == ("shared", way, 2)
    assert of_store(path) == pinned.blobs
    found = ImageStore(path).find(name, ["1001"])
    assert found is not None
    assert (found.root_digest, found.manifest_digest, found.identity) == (pinned.digest, pinned.manifest_digest, IMAGE.identity)
    assert publish(leader, path, name)["method"] == "none"


def test_a_member_has_it_under_that_name_and_no_other(leader: Containerd, path: str, name: Reference, pinned: Pinned) -> None:
    offer, member = publish(leader, path, name), Containerd()
    done = distribute.obtain(member, offer, within())  # type: ignore[arg-type]
    assert (done["method"], done["layers_moved"], done["identity"]) == ("pull", 2, IMAGE.identity.digest)
    assert member.images == {f"r.io/a@{pinned.digest}": IMAGE}
    assert {digest: member.blobs[digest] for digest in pinned.blobs} == pinned.blobs
    assert distribute.obtain(member, offer, within())["method"] == "none"  # type: ignore[arg-type]


def test_a_member_that_does_not_pull_gets_all_of_it_in_an_archive(leader: Containerd, path: str, name: Reference, pinned: Pinned) -> None:
    offer, member = publish(leader, path, name), Containerd()
    member.may_pull = False
    member.images["other:1"] = IMAGE  # its layers are here, but not as the registry has them
    assert distribute.obtain(member, offer, within())["method"] == "load"  # type: ignore[arg-type]
    assert {digest: member.blobs[digest] for digest in pinned.blobs} == pinned.blobs
    assert sorted(member.images) == ["other:1", f"r.io/a@{pinned.digest}"]


def test_slurm_brings_it_too(leader: Containerd, tmp_path: Path, name: Reference, pinned: Pinned, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "sbcast"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1 $2" = "--force --jobid=7" ] || exit 9\ncp "$3" "$4" && ln "$4" "$4.member"\n')
    program.chmod(0o755)
    monkeypatch.setattr(broadcast.send, "__defaults__", (0, f"{program.parent}:/usr/bin:/bin"))
    monkeypatch.setattr(broadcast.plan, "__defaults__", (f"{program.parent}:/usr/bin:/bin",))
    chains = images.chain_ids(IMAGE.diff_ids)
    offer = publish(leader, "", name, job_id="7", spool=str(tmp_path), held=chains)  # that members have the layers says nothing
    assert (offer["transport"], offer["layers_moved"]) == ("sbcast", 2)
    for piece in broadcast.targets(offer["path"], offer["pieces"]):
        os.rename(piece + ".member", piece)
    member = Containerd()
    distribute.obtain(member, offer, within())  # type: ignore[arg-type]
    assert member.images == {f"r.io/a@{pinned.digest}": IMAGE}
    assert {digest: member.blobs[digest] for digest in pinned.blobs} == pinned.blobs


def test_the_first_node_may_have_it_from_the_store(leader: Containerd, path: str, name: Reference, pinned: Pinned) -> None:
    publish(leader, path, name)
    publish(leader, path, name, namespace="site")
    one, two, three = Containerd(), Containerd(), Containerd()
    assert publish(one, path, name, transport="shared")["source"] == "store"
    assert distribute.load(two, path, str(name), ["1001"], within())["method"] == "pull"  # type: ignore[arg-type]
    assert site_images.ensure(three, ImageStore(path), name, within())[0] == "store"  # type: ignore[arg-type]
    assert [each.images for each in (one, two, three)] == [{f"r.io/a@{pinned.digest}": IMAGE}] * 3


def test_what_its_name_needs_is_leased_and_never_pruned(leader: Containerd, path: str, name: Reference, pinned: Pinned) -> None:
    offer, store = publish(leader, path, name), ImageStore(path)
    store.remove(name, "1001")
    assert prune.carry_out(store, prune.plan(store, grace_seconds=-1)).blobs == {}  # the lease alone
    distribute.release([offer, publish(leader, path, name)])
    assert prune.carry_out(store, prune.plan(store, grace_seconds=-1)).blobs == {}  # the name alone
    assert set(store.blobs.names()) == set(pinned.blobs)
    store.remove(name, "1001")
    assert set(prune.carry_out(store, prune.plan(store, grace_seconds=-1)).blobs) == set(pinned.blobs)


@pytest.mark.parametrize("lacking", ["layer", "config", "manifest", "another"])
def test_a_daemon_that_has_not_all_of_it_is_named_and_nothing_gets_the_name(
    leader: Containerd, path: str, name: Reference, pinned: Pinned, lacking: str
) -> None:
    digests = {"layer": list(pinned.blobs)[-1], "config": images.digest(IMAGE.config), "manifest": pinned.manifest_digest}
    if lacking == "another":
        leader.images[f"r.io/a@{pinned.digest}"] = images.make(b"other")
    blobs, gone = dict(leader.blobs), digests.get(lacking, "")
    saved = images.tar({f"blobs/sha256/{digest[7:]}": data for digest, data in sorted(blobs.items()) if digest != gone})
    leader.save = lambda *_words: images.pieces(saved)  # type: ignore[method-assign]
    with pytest.raises(ShareFault, match=r"docker does not give the whole image .*pull the image again"):
        publish(leader, path, name, transport="shared")
    assert ImageStore(path).pointer(name, "1001") is None


def test_who_may_not_use_docker_hears_just_that(leader: Containerd, path: str, name: Reference) -> None:
    def save(*_words: Any) -> Any:
        raise JobFault("engine: no Docker access", "ask the admin to let this account use Docker")

    leader.save = save  # type: ignore[method-assign]
    with pytest.raises(JobFault, match="no Docker access"):
        publish(leader, path, name, transport="shared")


def test_a_publication_of_an_older_release_is_replaced(leader: Containerd, path: str, name: Reference, pinned: Pinned) -> None:
    store = ImageStore(path)
    store.ensure()
    store.commit(name, "1001", IMAGE.config, [store.put_layer([data]) for data in IMAGE.layers])  # with a manifest of its own
    with pytest.raises(ShareFault, match="cannot read a blob"):
        store.find(name, ["1001"])
    assert publish(leader, path, name)["method"] == "save"
    assert store.find(name, ["1001"]).root_digest == pinned.digest  # type: ignore[union-attr]


def test_an_index_that_does_not_name_the_manifest_is_not_believed(leader: Containerd, path: str) -> None:
    one, two = by_registry(IMAGE, True), by_registry(images.make(b"other"), True)
    store = ImageStore(path)
    store.ensure()
    for data in (*one.blobs.values(), *two.blobs.values()):
        store.blobs.put([data])
    with pytest.raises(ShareFault, match="not the one of this digest"):
        store.read(one.manifest_digest, two.digest)
    with pytest.raises(ShareFault, match="not the one of this digest"):
        store.read(one.manifest_digest, two.manifest_digest)


def test_another_image_is_never_loaded_under_a_name_by_digest(path: str, name: Reference) -> None:
    store, member = ImageStore(path), Containerd()
    store.ensure()
    ours = store.keep(IMAGE.config, [store.put_layer([data]) for data in IMAGE.layers])  # the same image, under a manifest of our own
    with pytest.raises(JobFault, match="not the one of this digest"):
        load.load(member, load.FromStore(store, ours), name, within())  # type: ignore[arg-type]
    assert (member.images, member.loads) == ({}, [])


def test_the_classic_store_is_told_what_to_do_and_gets_nothing(leader: Containerd, path: str, name: Reference) -> None:
    offer, member = publish(leader, path, name), images.Daemon()
    with pytest.raises(JobFault, match=r"takes an image by digest from its registry alone .*containerd image store.*name the image by tag"):
        distribute.obtain(member, offer, within())  # type: ignore[arg-type]
    with pytest.raises(JobFault, match="takes an image by digest from its registry alone"):
        publish(member, path, name)  # as the first node
    assert (member.images, member.loads, member.fetched) == ({}, [], [])


def test_a_leader_with_the_classic_store_gives_nothing_and_says_why(path: str, name: Reference) -> None:
    leader, member = images.Daemon(), Containerd()
    leader.images[str(name)] = IMAGE
    for transport in ("auto", "shared"):
        offer = publish(leader, path, name, transport=transport)
        assert offer["transport"] == "none"
        assert distribute.obtain(leader, offer, within())["method"] == "none"  # type: ignore[arg-type]
        with pytest.raises(JobFault, match=r"this node lacks the image by digest .*classic image store keeps no registry's manifest"):
            distribute.obtain(member, offer, within())  # type: ignore[arg-type]
    with pytest.raises(JobFault, match=r"cannot be used here .transport='registry'"):
        publish(leader, path, name, transport="registry")
    assert not Path(path).exists()
    with pytest.raises(ShareFault, match=r"classic image store keeps no registry's manifest .*use transport=registry"):
        publish(leader, path, name, transport="shared", must_publish=True)
    assert list(ImageStore(path).blobs.names()) == []


def test_a_member_without_a_route_to_the_registry_gets_it_another_way(
    leader: Containerd, path: str, name: Reference, pinned: Pinned
) -> None:
    leader.registry_has = lambda *_words: ""  # type: ignore[method-assign]
    offer, member = publish(leader, path, name), Containerd()
    assert (offer["transport"], offer["otherwise"]) == ("registry", True)
    with pytest.raises(ShareFault, match="cannot take the image this way") as caught:
        distribute.obtain(member, offer, within())  # type: ignore[arg-type]
    again = publish(leader, path, name, declined={"registry": {"n2": str(caught.value)}})
    assert again["transport"] == "shared"
    distribute.obtain(member, again, within())  # type: ignore[arg-type]
    assert member.images == {f"r.io/a@{pinned.digest}": IMAGE}


def test_where_every_way_fails_who_has_it_runs_and_who_lacks_it_hears_all_reasons(leader: Containerd, path: str, name: Reference) -> None:
    Path(path).write_text("no directory")
    offer = publish(leader, path, name)
    assert offer["transport"] == "none"
    assert distribute.obtain(leader, offer, within())["method"] == "none"  # type: ignore[arg-type]
    with pytest.raises(JobFault, match=r"lacks the image by digest .*no route to host.*cannot write the store"):
        distribute.obtain(Containerd(), offer, within())  # type: ignore[arg-type]
    with pytest.raises(ShareFault, match="a node cannot take it this way"):
        publish(leader, path, name, declined={"registry": {"n2": "no route"}})
