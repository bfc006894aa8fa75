# SPDX-License-Identifier: GPL-3.0-or-later
"""image_info lists the store and compares it with the node, and changes neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.modules import image_info
from helpers import images

ONE, TWO = images.make(b"base", b"one"), images.make(b"base", b"two")


@pytest.fixture
def store(tmp_path: Path) -> str:
    daemon = images.Daemon()
    daemon.images = {"a:1": ONE, "b:1": TWO}
    for name, namespace in (("a:1", "site"), ("b:1", "1001")):
        distribute.publish(daemon, str(tmp_path / "store"), name, namespace, Deadline(60))  # type: ignore[arg-type]
    return str(tmp_path / "store")


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("local", "said"), [({}, "none"), ({"a:1": ONE}, "same"), ({"a:1": TWO}, "other")])
def test_an_image_is_the_same_another_or_not_there(
    run_module: Any, store: str, monkeypatch: pytest.MonkeyPatch, local: Any, said: str, check: bool
) -> None:
    daemon = images.Daemon()
    daemon.images = local
    monkeypatch.setattr(image_info, "Engine", lambda socket: daemon)
    code, listed = run_module(image_info, store=store, namespaces=["site"], _ansible_check_mode=check)
    [image] = listed["images"]
    assert (code, listed["changed"]) == (0, False)
    assert image["bytes_total"] == listed["bytes_total"] > sum(map(len, ONE.layers))
    wanted = {"image": "a:1", "namespace": "site", "identity": ONE.identity.digest, "layers_total": 2, "damaged": False, "node": said}
    assert {name: image[name] for name in wanted} == wanted


def test_no_daemon_is_needed_to_list_the_store(run_module: Any, store: str) -> None:
    _code, listed = run_module(image_info, store=store, node=False, docker_socket="/nowhere")
    assert sorted((image["namespace"], image["image"], image["node"]) for image in listed["images"]) == [
        ("1001", "b:1", "unknown"),
        ("site", "a:1", "unknown"),
    ]
    assert listed["bytes_total"] < sum(image["bytes_total"] for image in listed["images"])  # the base counts once
    code, failed = run_module(image_info, store=store, docker_socket="/nowhere")
    assert (code, failed["fault"]["part"]) == (1, "docker")


def test_a_damaged_image_is_listed_as_such(run_module: Any, store: str) -> None:
    Path(store, "blobs", "sha256", ONE.diff_ids[1][7:]).unlink()
    _code, listed = run_module(image_info, store=store, node=False)
    assert {image["image"]: image["damaged"] for image in listed["images"]} == {"a:1": True, "b:1": False}
