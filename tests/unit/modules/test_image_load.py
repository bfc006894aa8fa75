# SPDX-License-Identifier: GPL-3.0-or-later
"""image_load brings what the daemon lacks, once, says so beforehand in check mode, and fails in one line."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, site_images
from ansible_collections.rocm.madengine.plugins.modules import image_load
from helpers import images
from helpers.users import needs_root

IMAGE = images.make(b"base", b"top")


@pytest.fixture
def store(tmp_path: Path) -> str:
    leader = images.Daemon()
    leader.images["a:1"] = IMAGE
    distribute.publish(leader, str(tmp_path / "store"), "a:1", "site", Deadline(60))  # type: ignore[arg-type]
    return str(tmp_path / "store")


@pytest.fixture(autouse=True)
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(site_images, "RECORD", str(tmp_path / "node" / "site_images.json"))
    return tmp_path / "node" / "site_images.json"


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> images.Daemon:
    made = images.Daemon()
    monkeypatch.setattr(image_load, "Engine", lambda socket: made)
    return made


def test_twice_is_once_and_check_mode_says_so_beforehand(daemon: images.Daemon, run_module: Any, store: str) -> None:
    asked = {"image": "a:1", "store": store}
    code, told = run_module(image_load, _ansible_check_mode=True, _ansible_diff=True, **asked)
    assert (code, told["changed"], told["method"], told["layers_moved"]) == (0, True, "pull", 2)
    assert told["diff"] == {"before": "None\n", "after": IMAGE.identity.digest + "\n"}
    assert daemon.images == {}
    code, done = run_module(image_load, **asked)
    assert (code, done["changed"], done["method"], done["layers_moved"], done["identity"]) == (0, True, "pull", 2, IMAGE.identity.digest)
    assert done["bytes_moved"] == done["bytes_total"] == sum(map(len, IMAGE.layers))
    for mode in (False, True):
        code, again = run_module(image_load, _ansible_check_mode=mode, **asked)
        assert (code, again["changed"], again["method"], again["layers_moved"]) == (0, False, "none", 0)


def test_only_what_the_daemon_lacks_is_announced_and_moved(daemon: images.Daemon, run_module: Any, store: str) -> None:
    daemon.images["a:1"] = images.make(b"base")
    daemon.by_digest.update(daemon.images["a:1"].diff_ids)
    _code, told = run_module(image_load, _ansible_check_mode=True, image="a:1", store=store)
    _code, done = run_module(image_load, image="a:1", store=store)
    assert (told["method"], told["layers_moved"]) == (done["method"], done["layers_moved"]) == ("pull", 1)
    assert told["changed"] is done["changed"] is True


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("asked", [{"image": "x:1"}, {"image": "a:1", "namespace": "1001"}])
def test_an_image_that_the_store_lacks_fails_in_one_line_in_check_mode_too(
    daemon: images.Daemon, run_module: Any, store: str, check: bool, asked: Any
) -> None:
    code, failed = run_module(image_load, store=store, _ansible_check_mode=check, **asked)
    assert code == 1
    assert failed["msg"].startswith("madengine: job: image: nobody has it")
    assert daemon.images == {}


def test_a_damaged_layer_fails_the_module_and_is_never_loaded(daemon: images.Daemon, run_module: Any, store: str) -> None:
    Path(store, "blobs", "sha256", IMAGE.diff_ids[0][7:]).write_bytes(bytes(len(IMAGE.layers[0])))
    code, failed = run_module(image_load, image="a:1", store=store)
    assert (code, failed["fault"]["what"]) == (1, "layer: digest differs")
    assert daemon.images == {}


@needs_root
def test_root_writes_down_which_image_of_the_site_s_it_was_and_check_mode_nothing(
    daemon: images.Daemon, run_module: Any, store: str, record: Path
) -> None:
    run_module(image_load, _ansible_check_mode=True, image="a:1", store=store)
    assert not record.exists()
    for _ in range(2):
        run_module(image_load, image="docker.io/library/a:1", store=store)
        assert json.loads(record.read_text()) == {"a:1": IMAGE.identity.digest}
    assert stat.S_IMODE(record.stat().st_mode) == 0o644


@needs_root
def test_a_user_s_image_is_none_of_the_site_s(daemon: images.Daemon, run_module: Any, store: str, record: Path) -> None:
    daemon.images["b:1"] = IMAGE
    distribute.publish(daemon, store, "b:1", "0", Deadline(60))  # type: ignore[arg-type]
    code, _done = run_module(image_load, image="b:1", store=store, namespace="0")
    assert (code, record.exists()) == (0, False)
