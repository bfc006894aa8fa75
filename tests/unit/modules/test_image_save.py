# SPDX-License-Identifier: GPL-3.0-or-later
"""image_save writes what the store lacks, once, says so beforehand in check mode, and fails in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.modules import image_save
from helpers import images

IMAGE = images.make(b"base", b"top")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> images.Daemon:
    made = images.Daemon()
    made.images["a:1"] = IMAGE
    monkeypatch.setattr(image_save, "Engine", lambda socket: made)
    return made


def test_twice_is_once_and_check_mode_says_so_beforehand(daemon: images.Daemon, run_module: Any, tmp_path: Path) -> None:
    asked = {"image": "docker.io/library/a:1", "store": str(tmp_path / "store")}
    code, told = run_module(image_save, _ansible_check_mode=True, _ansible_diff=True, **asked)
    assert (code, told["changed"], told["layers_moved"], told["layers_total"]) == (0, True, 2, 2)
    assert told["diff"] == {"before": "None\n", "after": IMAGE.identity.digest + "\n"}
    assert not os.path.exists(asked["store"])
    code, done = run_module(image_save, **asked)
    assert {name: done[name] for name in ("changed", "image", "identity", "layers_moved", "layers_total")} == {
        "changed": True, "image": "a:1", "identity": IMAGE.identity.digest, "layers_moved": 2, "layers_total": 2,
    }  # fmt: skip
    assert done["bytes_moved"] == done["bytes_total"] == sum(map(len, IMAGE.layers))
    for mode in (False, True):
        code, again = run_module(image_save, _ansible_check_mode=mode, **asked)
        assert (code, again["changed"], again["method"], again["layers_moved"]) == (0, False, "none", 0)
    assert os.listdir(tmp_path / "store" / "leases") == []


def test_another_image_under_the_same_name_is_a_change(daemon: images.Daemon, run_module: Any, tmp_path: Path) -> None:
    asked = {"image": "a:1", "store": str(tmp_path / "store")}
    run_module(image_save, **asked)
    daemon.images["a:1"] = images.make(b"base", b"newer")
    _code, told = run_module(image_save, _ansible_check_mode=True, **asked)
    _code, done = run_module(image_save, **asked)
    assert (told["changed"], told["layers_moved"]) == (done["changed"], done["layers_moved"]) == (True, 1)


@pytest.mark.parametrize("check", [True, False])
def test_an_image_that_is_not_there_fails_in_one_line_in_check_mode_too(
    daemon: images.Daemon, run_module: Any, tmp_path: Path, check: bool
) -> None:
    code, failed = run_module(image_save, image="x:1", store=str(tmp_path / "store"), _ansible_check_mode=check)
    assert code == 1
    assert failed["msg"].startswith("madengine: job: image: nobody has it (image='x:1'")
    assert failed["fault"]["kind"] == "job"
    assert not (tmp_path / "store").exists()


def test_an_image_is_pulled_when_that_is_asked_for(daemon: images.Daemon, run_module: Any, tmp_path: Path) -> None:
    daemon.registry["b:1"] = IMAGE
    asked = {"image": "b:1", "store": str(tmp_path / "store"), "pull": True}
    _code, told = run_module(image_save, _ansible_check_mode=True, **asked)
    assert told["changed"]
    assert "b:1" not in daemon.images
    _code, done = run_module(image_save, **asked)
    assert (done["changed"], done["identity"]) == (True, IMAGE.identity.digest)


def test_layers_are_packed_if_that_is_asked_for(daemon: images.Daemon, tmp_path: Path, run_module: Any) -> None:
    asked = {"image": "a:1", "store": str(tmp_path / "store")}
    _code, done = run_module(image_save, compression="gzip", **asked)
    assert done["bytes_moved"] < sum(map(len, IMAGE.layers))
    _code, again = run_module(image_save, **asked)
    assert (again["changed"], again["method"]) == (False, "none")
