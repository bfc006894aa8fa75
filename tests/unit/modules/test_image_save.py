# SPDX-License-Identifier: GPL-3.0-or-later
"""image_save writes what the store lacks, once, says so beforehand in check mode, and fails in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import site_images
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from ansible_collections.rocm.madengine.plugins.modules import image_load, image_save
from helpers import images
from helpers.pinned import Containerd, by_registry

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


def test_an_image_by_digest_is_published_as_its_registry_has_it_and_loaded_under_that_name(
    monkeypatch: pytest.MonkeyPatch, run_module: Any, tmp_path: Path
) -> None:
    has, one, two = by_registry(IMAGE), Containerd(), Containerd()
    name = Reference.parse(f"r.io/a:1@{has.digest}")
    one.keep(name, has)
    monkeypatch.setattr(image_save, "Engine", lambda socket: one)
    monkeypatch.setattr(image_load, "Engine", lambda socket: two)
    monkeypatch.setattr(site_images, "RECORD", str(tmp_path / "node" / "site_images.json"))
    asked = {"image": str(name), "store": str(tmp_path / "store")}
    for changed in (True, False):
        code, done = run_module(image_save, **asked)
        assert (code, done["changed"], done["identity"]) == (0, changed, IMAGE.identity.digest)
        code, done = run_module(image_load, **asked)
        assert (code, done["changed"], done["identity"]) == (0, changed, IMAGE.identity.digest)
    assert two.images == {f"r.io/a@{has.digest}": IMAGE}


def test_an_image_by_digest_of_the_classic_store_is_not_said_to_be_published(
    daemon: images.Daemon, run_module: Any, tmp_path: Path
) -> None:
    name = "r.io/a@" + images.digest(b"the registry's manifest")
    daemon.images[name] = IMAGE
    code, failed = run_module(image_save, image=name, store=str(tmp_path / "store"))
    assert code == 1
    assert failed["msg"].startswith("madengine: share: transport: the classic image store keeps no registry's manifest")
    assert list(ImageStore(str(tmp_path / "store")).images()) == []
