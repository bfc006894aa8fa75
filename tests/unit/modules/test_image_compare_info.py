# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""image_compare_info: what this node and the store have under a name, and nothing is a fact, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.modules import image_compare_info
from helpers import images

IMAGE, OTHER = images.make(b"base", b"top"), images.make(b"base", b"new", b"newer")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> images.Daemon:
    made = images.Daemon()
    monkeypatch.setattr(image_compare_info, "Engine", lambda socket: made)
    return made


def test_an_image_that_nobody_has_is_no_failure(daemon: images.Daemon, run_module: Any, tmp_path: Path) -> None:
    code, seen = run_module(image_compare_info, image="a:1", store=str(tmp_path / "none"))
    assert (code, seen["changed"], seen["image"], seen["local"], seen["stored"]) == (0, False, "a:1", "", "")
    assert not (tmp_path / "none").exists()


def test_both_sides_are_seen_and_what_each_lacks_of_the_other(daemon: images.Daemon, run_module: Any, tmp_path: Path) -> None:
    daemon.images["a:1"] = IMAGE
    distribute.publish(daemon, str(tmp_path), "a:1", "site", Deadline(60))  # type: ignore[arg-type]
    daemon.images["a:1"] = OTHER
    code, seen = run_module(image_compare_info, image="a:1", store=str(tmp_path), _ansible_check_mode=True)
    assert (code, seen["local"], seen["stored"]) == (0, OTHER.identity.digest, IMAGE.identity.digest)
    assert (seen["layers_local"], seen["layers_stored"]) == (3, 2)
    assert (seen["layers_lacking_in_store"], seen["layers_lacking_in_daemon"]) == (2, 1)


def test_a_name_that_is_none_fails_in_one_line(daemon: images.Daemon, run_module: Any, tmp_path: Path) -> None:
    code, failed = run_module(image_compare_info, image="a b", store=str(tmp_path))
    assert code == 1
    assert failed["fault"]["kind"] == "job"
    assert "\n" not in failed["msg"]
