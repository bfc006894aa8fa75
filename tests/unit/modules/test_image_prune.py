# SPDX-License-Identifier: GPL-3.0-or-later
"""image_prune says in check mode what it would do, does just that, and then has nothing left to do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from ansible_collections.rocm.madengine.plugins.modules import image_prune
from helpers import images


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = str(tmp_path / "store")
    for name, age_days in (("old:1", 40), ("new:1", 1)):
        daemon = images.Daemon()
        daemon.images[name] = images.make(b"base", name.encode())
        distribute.release([distribute.publish(daemon, path, name, "site", Deadline(60))])  # type: ignore[arg-type]
        os.utime(ImageStore(path).index_path(Reference.parse(name), "site"), (time.time() - age_days * 86400,) * 2)
    return path


def everything(path: str) -> list:
    return sorted(str(each) for each in Path(path).rglob("*"))


def test_check_mode_removes_nothing_and_says_what_would_go(run_module: Any, store: str) -> None:
    before = everything(store)
    code, told = run_module(image_prune, store=store, older_than_days=30, _ansible_check_mode=True, _ansible_diff=True)
    assert (code, told["changed"], [each["image"] for each in told["images"]]) == (0, True, ["old:1"])
    assert everything(store) == before
    assert told["diff"] == {"before": "site old:1\n", "after": ""}
    _code, done = run_module(image_prune, store=store, older_than_days=30)
    assert {name: done[name] for name in ("changed", "blobs", "bytes_freed")} == {
        name: told[name] for name in ("changed", "blobs", "bytes_freed")
    }
    assert done["blobs"] == 3
    _code, again = run_module(image_prune, store=store, older_than_days=30)
    assert (again["changed"], again["images"], again["bytes_freed"]) == (False, [], 0)


def test_a_budget_is_a_size_with_a_unit(run_module: Any, store: str) -> None:
    _code, told = run_module(image_prune, store=store, budget="1G", _ansible_check_mode=True)
    assert told["images"] == []
    _code, told = run_module(image_prune, store=store, budget="1K", namespaces=["site"], _ansible_check_mode=True)
    assert [each["image"] for each in told["images"]] == ["old:1", "new:1"]
    code, failed = run_module(image_prune, store=store, budget="much")
    assert (code, failed["fault"]["what"]) == (1, "image_prune: not a size")


def test_another_namespaces_images_stay(run_module: Any, store: str) -> None:
    _code, done = run_module(image_prune, store=store, older_than_days=0, namespaces=["1001"])
    assert not done["changed"]


def test_no_store_fails_in_one_line(run_module: Any, tmp_path: Path) -> None:
    code, failed = run_module(image_prune, store=str(tmp_path / "none"))
    assert code == 1
    assert failed["msg"].startswith("madengine: share: prune: no image store")
