# SPDX-License-Identifier: GPL-3.0-or-later
"""Another user's right blob is read once, and again when it was changed; what is remembered of that stays small."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import digests, proofs
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


def read_bytes(path: str, image: images.Image, namespace: str) -> Dict[str, int]:
    """Publish, and count what was read of other users' blobs."""
    count: Dict[str, int] = {"bytes": 0}
    real: Callable[..., Any] = digests.chunks_of

    def counting(stream: Any) -> Any:
        for chunk in real(stream):
            count["bytes"] += len(chunk)
            yield chunk

    proofs.digests.chunks_of = counting  # type: ignore[assignment]
    distribute.release([stores.publish(path, image, namespace)])
    return count


def test_another_users_right_blob_is_read_once_and_not_written_again(path: str) -> None:
    users.run(MALLORY, stores.use, path, OTHER, str(MALLORY.uid))
    assert users.run(BOB, stores.use, path, BASE, str(BOB.uid))[:2] == ["save", "1"]
    store = ImageStore(path)
    assert os.lstat(store.blobs.path_of(PUBLIC)).st_uid == MALLORY.uid
    assert users.run(BOB, read_bytes, path, BASE, str(BOB.uid)) == {"bytes": 0}
    assert not Path(path, "images", str(BOB.uid), "blobs").exists()


def rewrite(path: str, digest: str) -> None:
    """Change the content of one's own blob, and put all dates back that a user can put back."""
    blob = ImageStore(path).blobs.path_of(digest)
    before = os.stat(blob)
    Path(blob).write_bytes(bytes(before.st_size))
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_blob_that_was_changed_after_it_was_proved_counts_no_more(path: str) -> None:
    users.run(MALLORY, stores.use, path, OTHER, str(MALLORY.uid))
    users.run(BOB, stores.use, path, BASE, str(BOB.uid))
    users.run(MALLORY, rewrite, path, PUBLIC)
    assert users.run(BOB, stores.use, path, BASE, str(BOB.uid))[2] == BASE.identity.digest
    assert Path(path, "images", str(BOB.uid), "blobs", "sha256", PUBLIC[7:]).read_bytes() == BASE.layers[0]


def test_what_is_remembered_of_proofs_stays_small_and_is_believed_of_nobody_else(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "_MOST", 3)
    for number in range(5):
        image = images.make(b"%d" % number)
        users.run(MALLORY, stores.use, path, image, str(MALLORY.uid))
        users.run(BOB, stores.use, path, image, str(BOB.uid))
    file = Path(path, "images", str(BOB.uid), proofs.FILE)
    assert (file.stat().st_uid, file.read_text().count("sha256:")) == (BOB.uid, 3)
    file.write_text("[" * 100000)
    assert users.run(BOB, stores.use, path, images.make(b"4"), str(BOB.uid))[2] == images.make(b"4").identity.digest
