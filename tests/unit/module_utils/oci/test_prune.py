# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody needs stays, whatever else goes; the pruner may run beside publishers and loaders."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, List, Set

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import lease, prune
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.folder import Folder
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images
from hypothesis import given, settings
from hypothesis import strategies as st

DAY = 86400.0
CONTENTS = [b"base", b"middle", b"top", b"other"]


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(str(tmp_path / "store"))
    made.ensure()
    return made


def publish(store: ImageStore, name: str, *contents: bytes, namespace: str = "site", age_days: float = 0) -> images.Image:
    daemon, image = images.Daemon(), images.make(*contents, Labels={"name": name})
    daemon.images[str(Reference.parse(name))] = image
    offer = distribute.publish(daemon, store.path, name, namespace, Deadline(60))  # type: ignore[arg-type]
    distribute.release([offer])
    old = time.time() - age_days * DAY
    index = store.index_path(Reference.parse(name), namespace)
    for path in [index, *(store.blobs.path_of(digest) for digest in needed(store, name, namespace))]:
        os.utime(path, (old, old))
    return image


def needed(store: ImageStore, name: str, namespace: str = "site") -> Set[str]:
    return set(store.find(Reference.parse(name), [namespace]).digests)  # type: ignore[union-attr]


def names(decided: prune.Plan) -> List[str]:
    return [str(entry.reference) for entry in decided.images]


def run(store: ImageStore, **wanted: Any) -> prune.Plan:
    return prune.carry_out(store, prune.plan(store, **wanted))


def test_old_images_go_with_what_only_they_needed(store: ImageStore) -> None:
    publish(store, "old:1", b"base", b"old", age_days=40)
    new = publish(store, "new:1", b"base", b"new", age_days=5)
    kept = needed(store, "new:1")
    done = run(store, older_than_seconds=30 * DAY)
    assert names(done) == ["old:1"]
    assert set(store.blobs.names()) == kept
    assert store.find(Reference.parse("new:1"), ["site"]).identity == new.identity  # type: ignore[union-attr]
    assert run(store, older_than_seconds=30 * DAY) == prune.Plan((), {}, ())


def test_without_age_and_budget_only_the_nameless_goes(store: ImageStore) -> None:
    publish(store, "old:1", b"base", age_days=400)
    kept = needed(store, "old:1")
    nameless, _size = store.blobs.put([b"x" * 100])
    os.utime(store.blobs.path_of(nameless), (0, 0))
    young, _size = store.blobs.put([b"y" * 100])
    done = run(store)
    assert (done.images, done.blobs) == ((), {nameless: 4096})
    assert set(store.blobs.names()) == kept | {young}


def test_the_longest_unused_go_until_the_others_fit(store: ImageStore) -> None:
    for number in range(4):
        publish(store, f"a:{number}", b"base", b"%d" % number, age_days=10 - number)
    newest = {digest: size for entry in prune.survey(store)[2:] for digest, size in entry.digests.items()}
    assert names(prune.plan(store, budget_bytes=1 << 40)) == []
    assert names(prune.plan(store, budget_bytes=sum(newest.values()))) == ["a:0", "a:1"]
    assert names(prune.plan(store, budget_bytes=0)) == ["a:0", "a:1", "a:2", "a:3"]


def test_publishing_again_keeps_an_image_young(store: ImageStore) -> None:
    publish(store, "a:1", b"base", age_days=40)
    publish(store, "a:1", b"base")
    assert names(prune.plan(store, older_than_seconds=30 * DAY)) == []


def test_only_the_given_namespaces_lose_images(store: ImageStore) -> None:
    publish(store, "a:1", b"base", age_days=40)
    publish(store, "a:1", b"mine", namespace="1001", age_days=40)
    done = run(store, older_than_seconds=DAY, budget_bytes=0, namespaces={"1001"})
    assert [entry.namespace for entry in done.images] == ["1001"]
    assert store.find(Reference.parse("a:1"), ["site"]) is not None


def test_what_a_lease_names_stays_until_it_is_given_back(store: ImageStore) -> None:
    publish(store, "a:1", b"base", age_days=40)
    kept = needed(store, "a:1")
    taken = lease.take(store, kept)
    assert set(run(store, older_than_seconds=DAY).blobs) == set()
    assert set(store.blobs.names()) == kept
    lease.give_back(store, taken.name)
    assert set(run(store).blobs) == kept


def test_a_lease_taken_after_the_decision_is_respected(store: ImageStore) -> None:
    publish(store, "a:1", b"base", age_days=40)
    kept = needed(store, "a:1")
    decided = prune.plan(store, older_than_seconds=DAY)
    lease.take(store, kept)
    assert prune.carry_out(store, decided).blobs == {}
    assert set(store.blobs.names()) == kept


def test_an_image_published_after_the_decision_is_respected(store: ImageStore) -> None:
    publish(store, "a:1", b"base", b"old", age_days=40)
    decided = prune.plan(store, older_than_seconds=DAY)
    publish(store, "a:1", b"base", b"new")
    done = prune.carry_out(store, decided)
    assert done.images == ()
    assert needed(store, "a:1") <= set(store.blobs.names())
    assert store.missing(store.find(Reference.parse("a:1"), ["site"])) == []  # type: ignore[arg-type]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(store: ImageStore) -> None:
    for name, age in (("dead", 3 * DAY), (".new.dead.1", 3 * DAY), ("living", 60.0)):
        for folder in (store.temporary, store.leases):
            path = Path(folder, name)
            path.write_text("{}")
            os.utime(path, (time.time() - age,) * 2)
    run(store)
    assert (os.listdir(store.temporary), os.listdir(store.leases)) == (["living"], ["living"])


def test_a_damaged_image_is_told_and_its_age_counts(store: ImageStore) -> None:
    publish(store, "a:1", b"base", age_days=40)
    publish(store, "b:1", b"top", age_days=1)
    Path(store.blobs.path_of(store.pointer(Reference.parse("a:1"), "site"))).write_text("{}")  # type: ignore[arg-type]
    Path(store.blobs.path_of(images.make(b"top").diff_ids[0])).unlink()
    assert [(str(entry.reference), entry.is_damaged) for entry in prune.survey(store)] == [("a:1", True), ("b:1", True)]
    os.utime(store.index_path(Reference.parse("a:1"), "site"), (0, 0))
    assert names(run(store, older_than_seconds=30 * DAY)) == ["a:1"]


def test_an_index_that_is_damaged_after_the_decision_goes(store: ImageStore) -> None:
    publish(store, "a:1", b"base", age_days=40)
    decided = prune.plan(store, older_than_seconds=DAY)
    Path(store.index_path(Reference.parse("a:1"), "site")).write_text("{")
    assert names(prune.carry_out(store, decided)) == ["a:1"]


def test_no_store_is_a_fault_and_a_strangers_file_is_no_blob(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ShareFault, match="no image store"):
        prune.survey(ImageStore(str(tmp_path / "none")))
    Path(store.blobs.path, "README").write_text("x")
    os.mkdir(store.blobs.path_of("sha256:" + "0" * 64))
    assert run(store, grace_seconds=-1).blobs == {}
    assert sorted(os.listdir(store.blobs.path)) == ["0" * 64, "README"]


def test_who_may_only_look_is_shown_the_ages(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "a:1", b"base", age_days=3)

    def denied(*_args: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "new", denied)
    assert abs(prune._now(store) - time.time()) < 5


@given(
    published=st.lists(st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from(CONTENTS), max_size=3), st.integers(0, 50)), max_size=5),
    leased=st.sets(st.sampled_from("abcd"), max_size=2),
    older=st.none() | st.integers(0, 60),
    budget=st.none() | st.integers(0, 60000),
)
@settings(max_examples=20, deadline=None)
def test_nothing_that_an_image_or_a_lease_needs_ever_goes(
    tmp_path_factory: pytest.TempPathFactory, published: Any, leased: Any, older: Any, budget: Any
) -> None:
    store = ImageStore(str(tmp_path_factory.mktemp("prune") / "store"))
    store.ensure()
    for name, contents, age in published:
        publish(store, f"{name}:1", *contents, age_days=age)
    held = {digest for name, _contents, _age in published if name in leased for digest in needed(store, f"{name}:1")}
    lease.take(store, held)
    done = run(store, older_than_seconds=None if older is None else older * DAY, budget_bytes=budget, grace_seconds=0)
    left = set(store.blobs.names())
    assert held <= left
    staying = {name for name, _contents, _age in published} - {str(entry.reference)[0] for entry in done.images}
    for name in staying:
        assert needed(store, f"{name}:1") <= left
    if budget is not None:
        assert sum(size for entry in prune.survey(store) for size in entry.digests.values()) >= 0
        assert sum({d: s for entry in prune.survey(store) for d, s in entry.digests.items()}.values()) <= budget


def test_pruning_all_the_time_disturbs_no_publisher_and_no_loader(store: ImageStore) -> None:
    over = threading.Event()

    def pruning() -> None:
        while not over.is_set():
            run(store, older_than_seconds=0, grace_seconds=0)

    pruner = threading.Thread(target=pruning)
    pruner.start()
    try:
        for number in range(10):
            leader, member = images.Daemon(), images.Daemon()
            leader.images["a:1"] = images.make(b"base", b"%d" % (number % 3))
            offer = distribute.publish(leader, store.path, "a:1", "site", Deadline(60))  # type: ignore[arg-type]
            distribute.obtain(member, offer, Deadline(60))  # type: ignore[arg-type]
            distribute.release([offer])
            assert member.images == leader.images
    finally:
        over.set()
        pruner.join()
