# SPDX-License-Identifier: GPL-3.0-or-later
"""The role makes a store in which each part is whose it should be, or finds out what is missing in one that it may not change."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from helpers.hooks import REPOSITORY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")

DAEMON = pwd.getpwnam("daemon")


def play(tmp_path: Path, **variables: Any) -> Tuple[int, str]:
    book = tmp_path / "play.json"
    role = {"hosts": "localhost", "gather_facts": False, "connection": "local", "roles": ["rocm.madengine.image_store"]}
    book.write_text(json.dumps([role]))
    given = {"image_store_path": str(tmp_path / "store"), "ansible_python_interpreter": sys.executable, **variables}
    command = ["ansible-playbook", "-i", "localhost,", str(book), "-e", json.dumps(given)]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def modes(path: Path) -> Dict[str, str]:
    def shown(status: os.stat_result) -> str:
        return f"{stat.S_IMODE(status.st_mode):o} {pwd.getpwuid(status.st_uid).pw_name}"

    return {str(each.relative_to(path)): shown(each.stat()) for each in sorted(path.rglob("*"))}


@pytest.mark.parametrize(("private", "blobs", "namespace"), [(False, "1777 root", "755 daemon"), (True, "755 root", "700 daemon")])
def test_each_part_is_whose_it_should_be_and_a_second_run_changes_nothing(
    tmp_path: Path, private: bool, blobs: str, namespace: str
) -> None:
    wanted = {"image_store_private": private, "image_store_users": ["daemon"]}
    status, said = play(tmp_path, **wanted)
    assert status == 0, said
    assert modes(tmp_path / "store") == {
        "blobs": "755 root",
        "blobs/sha256": blobs,
        "images": "1777 root",
        "images/site": "755 root",
        f"images/{DAEMON.pw_uid}": namespace,
        "leases": "1777 root",
        "tmp": "1777 root",
    }
    status, said = play(tmp_path, **wanted)
    assert (status, "changed=0" in said) == (0, True), said


@pytest.mark.parametrize("lacking", [[], ["images/site", "tmp"]])
def test_a_store_that_root_may_not_change_is_looked_at_and_left_as_it_is(tmp_path: Path, lacking: List[str]) -> None:
    store = tmp_path / "store"
    for name in ("blobs/sha256", "images", "images/site", "tmp", "leases"):
        if name not in lacking:
            (store / name).mkdir(parents=True)
    for each in (store, *store.rglob("*")):
        os.chown(each, DAEMON.pw_uid, DAEMON.pw_gid)
    before = modes(store)
    status, said = play(tmp_path, image_store_create=False)
    assert (status != 0) == bool(lacking), said
    assert ("has no images/site, tmp." in said) == bool(lacking)
    assert modes(store) == before
