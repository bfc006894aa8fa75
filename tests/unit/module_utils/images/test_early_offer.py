# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An offer goes out before its image is whole where that can be known, and who takes it gets that very image, or none."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import layerdb
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_images
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import endpoint
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import sbcast
from helpers import docker_root, images, stores, users

IMAGE = images.make(b"base" * 1000, b"middle", b"top", Env=["A=b"])
NAME = Reference.parse("a:1")


def within() -> Deadline:
    return Deadline(60)


class Reader(layerdb.GraphDriverLayers):
    """Reads as root does, and lets a test look on before each layer."""

    before: Callable[[int], None] = staticmethod(lambda index: None)

    def layer(self, image_id: str, index: int) -> Iterator[bytes]:
        self.before(index)
        yield from super().layer(image_id, index)


@pytest.fixture
def leader() -> images.Daemon:
    daemon = images.Daemon(save=images.saved_25)
    daemon.images["a:1"] = IMAGE
    return daemon


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    docker_root.classic(tmp_path / "docker", IMAGE)
    return Reader(str(tmp_path / "docker"))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(str(tmp_path / "store"))
    made.ensure()
    return made


@pytest.fixture(params=[False, True], ids=["classic", "containerd"])
def member(request: Any) -> images.Daemon:
    return images.Daemon(is_containerd_store=request.param)


def publish(leader: Any, store: ImageStore, reader: Any, early: Any, **named: Any) -> Dict[str, Any]:
    options = transports.TransportOptions(reader=reader, **named)
    return json.loads(json.dumps(distribute.publish(leader, store.path, "a:1", "1001", within(), options, early)))  # type: ignore[no-any-return]


def blobs(store: ImageStore) -> List[str]:
    return [each for each in IMAGE.diff_ids if store.blobs.size_of(each) is not None]


def test_the_offer_goes_out_ahead_of_the_layers_which_come_from_the_bottom_up(
    leader: images.Daemon, store: ImageStore, reader: Reader
) -> None:
    seen: List[Any] = []
    reader.before = lambda index: seen.append((index, blobs(store), store.pointer(NAME, "1001")))
    early: List[Any] = []
    offer = publish(leader, store, reader, lambda told: early.append((told, blobs(store), list(seen))))
    ((told, had, had_read),) = early
    assert (had, had_read) == ([], [])
    assert seen == [(index, IMAGE.diff_ids[:index], None) for index in range(3)]  # and no name before all is there
    assert distribute.are_kept([told], [offer])
    assert (told["is_coming"], "is_coming" in offer, told["source"], offer["method"]) == (True, False, "local", "graph")
    assert store.read(told["manifest"]).identity == IMAGE.identity


def test_a_member_loads_what_comes_while_it_comes(leader: images.Daemon, member: images.Daemon, store: ImageStore, reader: Reader) -> None:
    done: List[Any] = []
    asked = threading.Event()
    serve, member_fetches = member._fetched, images.digest(IMAGE.layers[0])

    def fetched(reference: Reference, kind: str, wanted: str) -> bytes:
        if wanted == member_fetches:
            asked.set()
        return serve(reference, kind, wanted)

    member._fetched = fetched  # type: ignore[method-assign]
    taking: List[threading.Thread] = []

    def tell(told: Any) -> None:
        taking.append(threading.Thread(target=lambda: done.append(distribute.obtain(member, told, within()))))
        taking[0].start()

    reader.before = lambda _index: asked.wait(30) and None
    publish(leader, store, reader, tell)
    taking[0].join()
    assert [(each["method"], each["layers_moved"]) for each in done] == [("pull", 3)]
    assert member.images == {"a:1": IMAGE}


@pytest.mark.parametrize("may_pull", [True, False])
def test_a_layer_that_the_daemon_has_already_needs_no_waiting_and_the_archive_waits_for_the_others(
    leader: images.Daemon, store: ImageStore, reader: Reader, may_pull: bool
) -> None:
    member = images.Daemon()
    member.may_pull = may_pull
    member.images["b:1"] = images.Image(images.make(b"base" * 1000).config, IMAGE.layers[:1])
    done: List[Any] = []
    taking: List[threading.Thread] = []

    def tell(told: Any) -> None:
        taking.append(threading.Thread(target=lambda: done.append(distribute.obtain(member, told, within()))))
        taking[0].start()

    publish(leader, store, reader, tell)
    taking[0].join()
    assert [(each["method"], each["layers_moved"]) for each in done] == [("load", 2)]
    assert member.images["a:1"] == IMAGE


def test_a_layer_that_never_comes_is_named_when_the_time_is_up(
    leader: images.Daemon, member: images.Daemon, store: ImageStore, reader: Reader
) -> None:
    class Stopped(Exception):
        pass

    early: List[Any] = []

    def stop(index: int) -> None:
        if index == 1:
            raise Stopped

    reader.before = stop
    with pytest.raises(Stopped):
        publish(leader, store, reader, early.append, job_id="7")
    # Who was told is not sent away for want of a lease: another offer may be on its way.
    with pytest.raises(ShareFault, match=IMAGE.diff_ids[1]):
        distribute.obtain(member, early[0], Deadline(0.5))
    assert member.images == {}
    assert os.listdir(store.leases) == [early[0]["lease"]]
    distribute.forget(store.path, "7")
    assert os.listdir(store.leases) == []


def test_a_publication_that_fails_before_anybody_was_told_leaves_no_lease(leader: images.Daemon, store: ImageStore, reader: Reader) -> None:
    reader.before = lambda index: 1 / 0 and None
    with pytest.raises(ZeroDivisionError):
        publish(leader, store, reader, None, job_id="7")
    assert os.listdir(store.leases) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_another_users_wrong_blob_is_not_taken_for_the_one_that_comes(
    leader: images.Daemon, member: images.Daemon, store: ImageStore, reader: Reader
) -> None:
    def lies_there(content: bytes) -> None:
        path = Path(store.path, "blobs", "sha256", IMAGE.diff_ids[1][7:])
        path.write_bytes(content)
        os.chown(path, 12345, 12345)

    early: List[Any] = []
    lies_there(b"!" * len(IMAGE.layers[1]))
    publish(leader, store, reader, early.append)
    assert early == []
    for path in Path(store.path).glob("*/sha256/*"):
        path.unlink()
    reader.before = lambda index: lies_there(b"?" * len(IMAGE.layers[1])) if index == 1 else None
    publish(leader, store, reader, early.append)
    distribute.obtain(member, early[0], within())
    assert member.images == {"a:1": IMAGE}


@pytest.mark.parametrize("why", ["no reader", "packed", "damaged", "whole", "another config"])
def test_what_cannot_be_known_or_is_there_is_offered_when_it_is_whole(
    leader: images.Daemon, store: ImageStore, reader: Reader, tmp_path: Path, why: str
) -> None:
    used: Optional[Reader] = None if why == "no reader" else reader
    if why == "damaged":
        for path in tmp_path.glob("docker/image/overlay2/layerdb/sha256/*/tar-split.json.gz"):
            path.write_bytes(b"no gzip")
    elif why == "whole":
        publish(leader, store, reader, None)
    elif why == "another config":
        reader.config = lambda image_id: images.make(b"x").config  # type: ignore[method-assign]
    early: List[Any] = []
    offer = publish(leader, store, used, early.append, **({"compression": "gzip"} if why == "packed" else {}))
    assert early == []
    assert store.read(offer["manifest"]).identity == IMAGE.identity


def test_an_image_that_docker_save_had_to_give_in_the_end_is_the_one_that_was_told_of(
    leader: images.Daemon, member: images.Daemon, store: ImageStore, reader: Reader, tmp_path: Path
) -> None:
    early: List[Any] = []

    def break_it(index: int) -> None:
        (tmp_path / "docker" / "overlay2" / f"{index:064x}" / "diff" / "file").write_bytes(b"other")

    reader.before = break_it
    offer = publish(leader, store, reader, early.append)
    assert offer["method"] == "save"
    assert distribute.are_kept(early, [offer])
    distribute.obtain(member, early[0], within())
    assert member.images == {"a:1": IMAGE}


def test_an_image_that_turns_out_otherwise_is_offered_anew(leader: images.Daemon, store: ImageStore, reader: Reader) -> None:
    right, early = reader.length, []  # type: ignore[var-annotated]
    reader.length = lambda image_id, index: right(image_id, index) + (index == 2)  # type: ignore[method-assign]
    offer = publish(leader, store, reader, early.append)
    assert not distribute.are_kept(early, [offer])
    heard: List[Any] = []
    offering = job_images.Offering(lambda offers: heard.append(list(offers)))
    offering.begin(early)
    offering.begin([{**early[0], "manifest": "a user's child may talk without end"}])
    offering.complete([offer])
    assert heard == [early, [offer]] == [early, offering.offers]


def test_what_was_told_is_not_told_again_and_what_was_not_is_told_in_any_case() -> None:
    heard: List[Any] = []
    offer = {
        "reference": "a:1",
        "identity": IMAGE.identity.digest,
        "transport": "shared",
        "manifest": "m",
        "method": "graph",
        "seconds": 1.5,
    }
    offering = job_images.Offering(lambda offers: heard.append(list(offers)))
    offering.begin([{**offer, "is_coming": True, "method": "none"}])
    offering.complete([offer])
    assert (len(heard), offering.offers) == (1, [offer])
    nothing = job_images.Offering(lambda offers: heard.append(list(offers)))
    nothing.complete([])
    assert heard[1:] == [[]]


def test_the_lease_of_an_offer_that_another_way_replaced_is_given_back_too() -> None:
    told = {"reference": "a:1", "identity": IMAGE.identity.digest, "transport": "shared", "where": "/s", "lease": "job-1.n1.7.0"}
    offering = job_images.Offering(lambda offers: None)
    offering.begin([{**told, "is_coming": True}])
    offering.complete([{"reference": "a:1", "identity": IMAGE.identity.digest, "transport": "sbcast"}])
    assert [each["lease"] for each in offering.leased] == ["job-1.n1.7.0"]
    offering.complete([told])
    offering.complete([{**told, "lease": "job-1.n1.8.0"}])
    assert [each["lease"] for each in offering.leased] == ["job-1.n1.7.0", "job-1.n1.8.0"]


def test_of_several_images_the_last_one_may_be_on_its_way(leader: images.Daemon, store: ImageStore, reader: Reader, tmp_path: Path) -> None:
    other = images.make(b"other")
    leader.images["b:1"] = other
    docker_root.classic(tmp_path / "docker", other)
    early: List[Any] = []
    options = transports.TransportOptions(reader=reader)
    docker_root.classic(tmp_path / "docker", IMAGE)
    offers = distribute.publish_all(leader, store.path, ["b:1", "a:1"], "1001", within(), options, early.append)  # type: ignore[arg-type]
    ((first, last),) = early
    assert ("is_coming" in first, last["is_coming"]) == (False, True)
    assert distribute.are_kept([first, last], offers)
    assert not distribute.are_kept([first], offers)


@pytest.mark.parametrize("case", ["pull", "load", "has it"])
def test_what_sbcast_brings_is_loaded_while_it_comes(
    leader: images.Daemon, member: images.Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    script = tmp_path / "sbcast"
    script.write_text('#!/bin/sh\ncp "$3" "$4.member"\n')
    script.chmod(0o755)
    monkeypatch.setattr(sbcast.send, "__defaults__", (0, f"{tmp_path}:/usr/bin:/bin"))
    monkeypatch.setattr(sbcast.plan, "__defaults__", (f"{tmp_path}:/usr/bin:/bin",))
    early: List[Any] = []
    options = transports.TransportOptions(job_id="7", spool=str(tmp_path))
    offer = distribute.publish(leader, "", "a:1", "1001", within(), options, early.append)  # type: ignore[arg-type]
    assert (offer["transport"], distribute.are_kept(early, [offer]), early[0]["is_coming"]) == ("sbcast", True, True)
    path = early[0]["path"] + ".0"
    data = Path(path + ".member").read_bytes()
    has_looked, member.may_pull = threading.Event(), case == "pull"
    if case == "has it":
        member.images["a:1"] = IMAGE
    monkeypatch.setattr(endpoint, "rested", lambda seconds: has_looked.set() or time.sleep(seconds))
    taking = threading.Thread(target=lambda: distribute.obtain(member, early[0], within()))  # type: ignore[arg-type]
    taking.start()
    assert has_looked.wait(30)
    with open(path, "wb", buffering=0) as stream:
        for start in range(0, len(data), 1000):
            stream.write(data[start : start + 1000])
    taking.join()
    assert member.images == {"a:1": IMAGE}
    assert not os.path.exists(path)


folder = pytest.fixture(users.shared_directory)


@users.needs_root
def test_where_users_layers_are_their_own_the_same_users_member_finds_what_comes(folder: str) -> None:
    path = stores.make(f"{folder}/store", blobs_mode=0o755)
    docker_root.classic(Path(folder, "docker"), IMAGE)
    assert users.run(users.BOB, _publish_and_take, folder) == ["pull", 3]
    assert os.listdir(f"{path}/blobs/sha256") == []


def _publish_and_take(folder: str) -> List[Any]:
    leader, member, done = images.Daemon(save=images.saved_25), images.Daemon(), []  # type: ignore[var-annotated]
    leader.images["a:1"] = IMAGE
    taking: List[threading.Thread] = []

    def tell(told: Any) -> None:
        taking.append(threading.Thread(target=lambda: done.append(distribute.obtain(member, told, within()))))  # type: ignore[arg-type]
        taking[0].start()

    options = transports.TransportOptions(reader=Reader(f"{folder}/docker"))
    distribute.publish(leader, f"{folder}/store", "a:1", str(users.BOB.uid), within(), options, tell)  # type: ignore[arg-type]
    taking[0].join()
    return [done[0]["method"], done[0]["layers_moved"]]
