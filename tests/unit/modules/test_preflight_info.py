# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight_info: one node looked at, in three steps, as root or not, in check mode or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.modules import preflight_info
from helpers.dockerinfo import daemon
from helpers.hooks import REPOSITORY

Run = Callable[..., Tuple[Any, Any]]
INFO = {"ServerVersion": "26.1.5", "Driver": "overlay2", "DriverStatus": [], "DockerRootDir": "/"}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dict[str, Any]]:
    """Give the options for a node that has Docker, a key, a store and a controller, but no hooks."""
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "key").chmod(0o400)
    (tmp_path / "store/tmp").mkdir(parents=True)
    conf = tmp_path / "hooks.conf"
    conf.write_text(f"KeyFile={tmp_path}/key\nImageStore={tmp_path}/store\nDockerSocket={tmp_path}/sock\nDeadline=240\n")
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    ready = REPOSITORY / "tests/helpers/slurm/24.11-ready.txt"
    scontrol.write_text(f'#!/bin/sh\n[ "$1" = show ] && cat {ready} || echo "NodeName=n1 Arch=x"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with daemon(tmp_path / "sock", INFO):
        yield {"path": str(conf), "root": str(tmp_path / "hooks"), "node": "n1", "store_probe_mb": 1, "least_free_gib": 0, "session": "s1"}


def statuses(result: Dict[str, Any]) -> Dict[str, str]:
    return {check["name"]: check["status"] for check in result["checks"]}


@pytest.mark.parametrize("is_check", [False, True])
def test_a_look_says_all_of_a_node_and_leaves_its_note_alone(run_module: Run, node: Dict[str, Any], tmp_path: Path, is_check: bool) -> None:
    code, result = run_module(preflight_info, **node, _ansible_check_mode=is_check)
    assert (code, result["changed"]) == (0, False)
    found = statuses(result)
    assert {name: found[name] for name in ("docker", "key", "settings", "slurm", "release")} == {
        **dict.fromkeys(("docker", "key", "settings", "slurm"), "ok"),
        "release": "fail",
    }
    assert set(result["facts"]) == {
        *("node", "addresses", "nonce", "key", "settings", "release", "slurm_nodes", "docker_version", "docker_store"),
    }
    assert result["peer"] == {name: result["facts"][name] for name in ("node", "addresses", "nonce")}
    assert os.listdir(tmp_path / "store/tmp") == [".preflight.s1.n1"]
    assert result["time"]["ended"] >= result["time"]["began"]


def test_the_three_steps_find_a_peer_that_is_missing_and_tidy_up(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    _code, looked = run_module(preflight_info, **node)
    stranger = {"node": "no-such-node.invalid", "addresses": ["10.0.0.9"], "nonce": "x"}
    code, met = run_module(preflight_info, **node, step="peers", peers=[looked["peer"], stranger])
    assert (code, met["checks"]) == (0, [])
    assert met["met"] == {"unknown": ["no-such-node.invalid"], "wrong": {}, "missing": ["no-such-node.invalid"]}
    assert run_module(preflight_info, **node, step="cleanup")[0] == 0
    assert os.listdir(tmp_path / "store/tmp") == []


def test_a_peer_that_slurm_reaches_by_its_address_alone_is_no_stranger(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("NodeName=good.invalid NodeAddr=127.0.0.1\nNodeName=bad.invalid NodeAddr=127.0.0.9\n")
    peers = [{"node": name, "addresses": ["127.0.0.1"], "nonce": ""} for name in ("good.invalid", "bad.invalid")]
    skip = ["store", "ports"]
    code, met = run_module(preflight_info, **node, step="peers", peers=peers, skip=skip, slurm_conf=str(tmp_path / "slurm.conf"))
    assert (code, met["met"]) == (0, {"unknown": [], "wrong": {"bad.invalid": ["127.0.0.9"]}})


def test_a_task_prolog_that_this_node_lacks_is_a_failed_check(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text(f"TaskProlog={tmp_path}/task_prolog\n")
    _code, result = run_module(preflight_info, **node, slurm_conf=str(tmp_path / "slurm.conf"), task_prolog=f"{tmp_path}/task_prolog")
    found = [check for check in result["checks"] if check["name"] == "programs"]
    assert [(check["status"], check["remedy"]) for check in found] == [("fail", "apply rocm.madengine.site to this node")]
    assert f"TaskProlog {tmp_path}/task_prolog " in found[0]["seen"]


def test_without_a_session_nothing_stays_in_the_store(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    _code, result = run_module(preflight_info, **{**node, "session": ""})
    assert statuses(result)["store"] != "fail"
    assert os.listdir(tmp_path / "store/tmp") == []


def test_a_store_that_went_away_is_a_failed_check_in_every_step_and_no_failed_task(
    run_module: Run, node: Dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "store").rename(tmp_path / "gone")
    code, looked = run_module(preflight_info, **node)
    assert (code, statuses(looked)["store"], looked["peer"]["nonce"]) == (0, "fail", "")
    code, met = run_module(preflight_info, **node, step="peers")
    assert (code, statuses(met), "missing" in met["met"]) == (0, {"store": "fail"}, False)
    assert run_module(preflight_info, **node, step="cleanup")[0] == 0


def test_what_is_skipped_is_not_even_looked_at(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bin/scontrol").unlink()
    skip = ["docker", "store", "slurm", "release"]
    _code, result = run_module(preflight_info, **node, skip=skip)
    assert not {"docker", "docker_store", "store", "slurm", "release"} & set(statuses(result))
    assert os.listdir(tmp_path / "store/tmp") == []
    _code, result = run_module(preflight_info, **node, skip=["store_speed"], ask_slurm=False)
    assert not {"store_speed", "slurm"} & set(statuses(result))
    assert run_module(preflight_info, **node, step="peers", skip=["names", "store"])[1]["met"] == {}


def test_a_node_without_a_store_needs_none(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "hooks.conf").write_text(f"KeyFile={tmp_path}/key\n")
    _code, result = run_module(preflight_info, **node, ask_slurm=False)
    assert statuses(result)["store"] == "ok"
    assert "missing" not in run_module(preflight_info, **node, step="peers")[1]["met"]
    assert run_module(preflight_info, **node, step="cleanup")[0] == 0


def test_where_the_service_account_uses_docker_no_user_must(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    options = {**node, "skip": ["store"], "ask_slurm": False, "users": ["no-such-user"]}
    seen = {}
    for access in ("user", "service"):
        (tmp_path / "hooks.conf").write_text(f"DockerAccess={access}\nDockerSocket={tmp_path}/sock\n")
        checks = run_module(preflight_info, **options)[1]["checks"]
        seen[access] = next(check["seen"] for check in checks if check["name"] == "users")
    assert seen == {"user": "this node does not know no-such-user", "service": "this node does not know madengine"}


def test_a_mistake_in_hooks_conf_fails_and_names_the_line(run_module: Run, node: Dict[str, Any], tmp_path: Path) -> None:
    with (tmp_path / "hooks.conf").open("a") as stream:
        stream.write("Dedline=3\n")
    _code, result = run_module(preflight_info, **node, ask_slurm=False)
    check = next(check for check in result["checks"] if check["name"] == "settings")
    assert check["status"] == "fail"
    assert "hooks.conf:5" in check["seen"]
