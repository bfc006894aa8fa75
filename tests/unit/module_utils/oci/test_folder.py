# SPDX-License-Identifier: GPL-3.0-or-later
"""In a directory that users write into, root does what its owner could do, by descriptor and through no link."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import folder
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.folder import Folder, Foreign
from helpers import users
from helpers.users import BOB, MALLORY

pytestmark = users.needs_root
shared = pytest.fixture(users.shared_directory)


@pytest.fixture
def bobs(shared: str) -> str:
    path = os.path.join(shared, "bobs")
    os.mkdir(path, 0o700)
    os.chown(path, BOB.uid, BOB.gid)
    return path


def test_what_root_makes_in_a_users_directory_is_the_users(bobs: str) -> None:
    with Folder.at(bobs, BOB.uid) as opened:
        opened.make("inside", 0o755)
        opened.write("file", b"x", 0o640)
        opened.link("file", "link")
        assert opened.read("file", 10, BOB.uid) == b"x"
    assert {os.lstat(os.path.join(bobs, name)).st_uid for name in os.listdir(bobs)} == {BOB.uid}
    assert os.geteuid() == 0


@pytest.mark.parametrize("uid", [0, BOB.uid])
def test_what_a_killed_root_or_one_at_the_same_moment_has_made_becomes_its_owners(bobs: str, uid: int) -> None:
    os.mkdir(f"{bobs}/images", 0o700)
    os.chown(f"{bobs}/images", uid, -1)
    with Folder.at(bobs, BOB.uid) as opened:
        opened.make("images", 0o755, MALLORY.uid)
        with opened.child("images", MALLORY.uid, MALLORY.uid):
            pass


def test_what_somebody_has_filled_is_given_to_nobody(bobs: str) -> None:
    os.makedirs(f"{bobs}/images/of root")
    with Folder.at(bobs, BOB.uid) as opened:
        opened.make("images", 0o755, MALLORY.uid)
    assert os.stat(f"{bobs}/images").st_uid == 0


def test_what_the_owner_cannot_read_is_not_read_for_him(bobs: str) -> None:
    secret = Path(bobs, "secret")
    secret.write_text("root's")
    secret.chmod(0o600)
    with Folder.at(bobs, BOB.uid) as opened, pytest.raises(PermissionError):
        opened.read("secret", 10)


@pytest.mark.parametrize("name", ["link to a directory", "file"])
def test_only_a_directory_itself_is_opened(bobs: str, name: str) -> None:
    os.mkdir(f"{bobs}/directory")
    os.symlink("directory", f"{bobs}/link to a directory")
    Path(bobs, "file").write_text("")
    with Folder.at(bobs, BOB.uid) as opened, pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        opened.child(name)


def test_another_users_part_is_refused_and_one_that_is_open_to_all(bobs: str) -> None:
    for name, uid, mode in (("mallorys", MALLORY.uid, 0o755), ("open", BOB.uid, 0o777)):
        os.mkdir(f"{bobs}/{name}")
        os.chmod(f"{bobs}/{name}", mode)
        os.chown(f"{bobs}/{name}", uid, uid)
    with Folder.at(bobs, BOB.uid) as opened:
        with pytest.raises(Foreign, match="another user"):
            opened.child("mallorys", BOB.uid)
        with pytest.raises(Foreign, match="others may write"):
            opened.child("open", BOB.uid)


def test_a_users_rights_are_those_of_one_thread_and_end_with_the_block(bobs: str) -> None:
    Path(bobs).chmod(0o000)
    seen = []

    def look() -> None:
        seen.append(os.listdir(bobs))

    with folder.rights_of(MALLORY.uid):
        with pytest.raises(PermissionError):
            os.listdir(bobs)
    started, ready = threading.Event(), threading.Event()

    def hold() -> None:
        with folder.rights_of(MALLORY.uid):
            started.set()
            ready.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    started.wait()
    look()
    ready.set()
    holder.join()
    assert seen == [[]]
