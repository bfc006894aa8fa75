# SPDX-License-Identifier: GPL-3.0-or-later
"""Another user's blob counts once it was read and found to be right; a wrong one is by-passed, and keeps nobody from an image."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import prune
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images, stores, users
from helpers.users import BOB, MALLORY

pytestmark = users.needs_root

BASE, OTHER = images.make(b"base" * 2000, b"top"), images.make(b"base" * 2000, b"other")
PUBLIC = BASE.diff_ids[0]
shared = pytest.fixture(users.shared_directory)


@pytest.fixture
def path(shared: str) -> str:
    return stores.make(os.path.join(shared, "store"))


def squat(path: str, digest: str, size_bytes: int, kind: str) -> None:
    """Take the name of a blob that everybody needs before anybody has published it."""
    blob = Path(ImageStore(path).blobs.path_of(digest))
    if kind == "directory":
        (blob / "in it").mkdir(parents=True)
    elif kind == "fifo":
        os.mkfifo(blob)
    elif kind == "link":
        blob.symlink_to("/dev/zero")
    elif kind == "unreadable":
        blob.write_bytes(bytes(size_bytes))
        blob.chmod(0o600)
    elif kind == "holes":
        os.truncate(os.open(blob, os.O_WRONLY | os.O_CREAT, 0o644), 8 << 40)
    else:
        blob.write_bytes(bytes(size_bytes))


KINDS = ["right size", "directory", "fifo", "link", "unreadable", "holes"]


@pytest.mark.parametrize("victim", [PUBLIC, images.digest(BASE.config)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_blob_under_a_public_name_blocks_nobodys_image(path: str, kind: str, victim: str) -> None:
    size = len(BASE.layers[0] if victim == PUBLIC else BASE.config)
    users.run(MALLORY, squat, path, victim, size, kind)
    for _time in range(2):
        assert users.run(BOB, stores.use, path, BASE, str(BOB.uid))[2] == BASE.identity.digest
    assert users.run(BOB, stores.use, path, BASE, str(BOB.uid)) == ["none", "0", BASE.identity.digest]


@pytest.mark.parametrize("kind", KINDS)
def test_the_stores_owner_replaces_what_a_user_has_put_in_the_way(path: str, kind: str) -> None:
    users.run(MALLORY, squat, path, PUBLIC, len(BASE.layers[0]), kind)
    assert stores.use(path, BASE, "site")[2] == BASE.identity.digest
    assert os.lstat(ImageStore(path).blobs.path_of(PUBLIC)).st_uid == 0
    assert users.run(BOB, stores.use, path, BASE, str(BOB.uid)) == ["none", "0", BASE.identity.digest]


def test_the_site_builds_on_no_blob_that_a_user_can_take_away(path: str) -> None:
    users.run(MALLORY, stores.use, path, BASE, str(MALLORY.uid))
    assert stores.use(path, BASE, "site")[:2] == ["save", "2"]
    assert {os.lstat(ImageStore(path).blobs.path_of(each)).st_uid for each in BASE.diff_ids} == {0}


def declare(path: str, size_bytes: int) -> None:
    """Publish an image whose manifest speaks of a layer of any size, dated into the future."""
    store, namespace, config = ImageStore(path), str(os.geteuid()), BASE.config
    distribute.release([stores.publish(path, BASE, namespace, "big:1")])
    document = store.read(str(store.pointer(stores.NAME_BIG, namespace))).manifest_bytes
    size = b'"size":%d' % len(BASE.layers[0])
    manifest = store.blobs.put_bytes(document.replace(size, b'"size":%d' % size_bytes))[0]
    index = Path(store.index_path(stores.NAME_BIG, namespace))
    index.write_text(index.read_text().replace(str(store.pointer(stores.NAME_BIG, namespace)), manifest))
    os.utime(index, (2**32, 2**32))
    assert config


def test_a_manifest_that_speaks_of_terabytes_removes_nobodys_images(path: str) -> None:
    users.run(BOB, stores.use, path, OTHER, str(BOB.uid))
    users.run(MALLORY, declare, path, 10 << 40)
    store = ImageStore(path)
    assert {entry.namespace: entry.size_bytes < 1 << 20 for entry in prune.survey(store)} == {"61001": True, "61002": True}
    assert prune.plan(store, budget_bytes=1 << 30).images == ()


def test_a_date_in_the_future_keeps_no_image(path: str) -> None:
    users.run(MALLORY, declare, path, 1)
    [entry] = prune.survey(ImageStore(path))
    assert 0 <= entry.age_seconds < 3600
    assert time.time() < os.stat(ImageStore(path).index_path(stores.NAME_BIG, str(MALLORY.uid))).st_mtime


def test_who_has_published_most_loses_his_own_images_first(path: str) -> None:
    users.run(BOB, stores.use, path, images.make(b"bob", Labels={"a": "b"}), str(BOB.uid))
    os.utime(ImageStore(path).index_path(stores.NAME, str(BOB.uid)), (0, 0))  # by far the oldest
    for number in range(4):
        image = images.make(os.urandom(100_000), Labels={"number": str(number)})
        users.run(MALLORY, publish_named, path, image, f"many:{number}")
    store = ImageStore(path)
    total = sum({digest: size for entry in prune.survey(store) for digest, size in entry.digests.items()}.values())
    going = prune.plan(store, budget_bytes=total // 2).images
    assert {entry.namespace for entry in going} == {str(MALLORY.uid)}
    assert len(going) in (2, 3)


def publish_named(path: str, image: images.Image, name: str) -> None:
    distribute.release([stores.publish(path, image, str(os.geteuid()), name)])
