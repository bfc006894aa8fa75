# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes of a node's Docker, against a daemon's socket that answers well, badly, or not at all."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import docker_probe
from helpers.dockerinfo import daemon

INFO: Dict[str, Any] = {"ServerVersion": "26.1.5", "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("status", "is_containerd"), [([["driver-type", "io.containerd.snapshotter.v1"]], True), (INFO["DriverStatus"], False)]
)
def test_docker_is_asked_without_its_sdk(tmp_path: Path, status: Any, is_containerd: bool) -> None:
    with daemon(tmp_path / "sock", {**INFO, "DriverStatus": status, "DockerRootDir": str(tmp_path)}) as path:
        seen = docker_probe.docker(config.Site(docker_socket=path), [], 5)
    assert (seen["version"], seen["driver"], seen["is_containerd"]) == ("26.1.5", "overlay2", is_containerd)
    assert seen["free_gib"][str(tmp_path)] > 0


@pytest.mark.parametrize("document", ["not JSON", "silence", "[1]"])
def test_a_docker_that_does_not_answer_well_is_a_fault_within_the_time(tmp_path: Path, document: str) -> None:
    with daemon(tmp_path / "sock", document) as path, pytest.raises(NodeFault) as raised:
        docker_probe.docker(config.Site(docker_socket=path), [], 0.3)
    assert raised.value.what.startswith("docker: no ")
    assert "start docker" in raised.value.remedy


def test_a_docker_that_refuses_is_a_fault_with_its_status(tmp_path: Path) -> None:
    with daemon(tmp_path / "sock", {"message": "no"}, status=500) as path, pytest.raises(NodeFault, match="status='500'"):
        docker_probe.docker(config.Site(docker_socket=path), [], 5)


def test_a_docker_that_is_not_there_is_a_fault_with_the_systems_reason(tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match="No such file"):
        docker_probe.docker(config.Site(docker_socket=str(tmp_path / "sock")), [], 5)


def test_docker_unpacks_where_its_environment_says_or_in_its_root(tmp_path: Path) -> None:
    assert docker_probe.docker_temporary("/var/lib/docker", str(tmp_path / "none")) == "/var/lib/docker/tmp"
    (tmp_path / "pid").write_text("77\n")
    (tmp_path / "77").mkdir()
    (tmp_path / "77/environ").write_bytes(b"PATH=/bin\0DOCKER_TMPDIR=/scratch\0")
    assert docker_probe.docker_temporary("/var/lib/docker", str(tmp_path / "pid"), str(tmp_path)) == "/scratch"


def test_a_filesystem_is_counted_once_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert list(docker_probe.free_gib([str(tmp_path), str(tmp_path / "sub"), str(tmp_path / "gone"), "/proc"])) == [str(tmp_path), "/proc"]


def test_pigz_is_found_by_its_unpacker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert docker_probe.pigz() == {"path": ""}
    program = script(tmp_path / "unpigz", "exit 0")
    assert docker_probe.pigz() == {"path": program}


def test_users_are_told_apart_by_what_the_socket_lets_them_do(tmp_path: Path) -> None:
    path, me = tmp_path / "sock", getpass.getuser()
    path.touch()
    found = {}
    for mode in (0o600, 0o000, 0o660, 0o666):
        path.chmod(mode)
        seen = docker_probe.users([me, "nobody", "nobody-of-this-name"], config.Site(docker_socket=str(path)))
        assert seen["unknown"] == ["nobody-of-this-name"]
        found[mode] = (seen["may"], seen["barred"])
    assert found == {0o600: ([me], ["nobody"]), 0o000: ([], [me, "nobody"]), 0o660: ([me], ["nobody"]), 0o666: ([me, "nobody"], [])}


def test_a_group_may_use_the_socket_by_its_own_bits(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    path.touch()
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    group = docker_probe.process.named("nobody").gid
    os.chown(path, 0, group)
    for mode, may in ((0o660, ["nobody"]), (0o606, [])):
        path.chmod(mode)
        assert docker_probe.users(["nobody"], config.Site(docker_socket=str(path)))["may"] == may
    os.chown(path, 0, 54321)
    assert docker_probe.users(["nobody"], config.Site(docker_socket=str(path)))["group"] == "54321"


def test_without_a_socket_nobody_can_be_asked_about(tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match="no Docker socket"):
        docker_probe.users(["root"], config.Site(docker_socket=str(tmp_path / "gone")))
    assert docker_probe.users([], config.Site(docker_socket=str(tmp_path / "gone")))["may"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_users_with_a_docker_of_their_own_are_looked_at_each_at_theirs(tmp_path: Path) -> None:
    site, one = config.Site(docker_socket=f"{tmp_path}/%u-%U.sock"), docker_probe.process.named("nobody")
    path = tmp_path / f"nobody-{one.uid}.sock"
    assert docker_probe.users(["nobody", "daemon"], site) == {**NOBODY, "barred": ["nobody", "daemon"], "group": ""}
    with daemon(path, {"ServerVersion": "26.1.5", "DockerRootDir": "/"}):
        os.chown(path, one.uid, one.gid)
        path.chmod(0o600)
        assert docker_probe.users(["nobody", "daemon"], site) == {**NOBODY, "may": ["nobody"], "barred": ["daemon"], "group": ""}
        assert docker_probe.docker(site, ["no-such-user", "nobody"], 5)["version"] == "26.1.5"
    assert docker_probe.docker(site, ["no-such-user"], 5) == {}
    with pytest.raises(NodeFault):
        docker_probe.docker(site, ["nobody"], 5)


def test_who_asks_is_one_of_the_users_where_the_node_knows_the_name(tmp_path: Path) -> None:
    (tmp_path / "sock").touch()
    assert docker_probe.users([], config.Site(docker_socket=str(tmp_path / "sock")), "nobody-of-this-name") == {
        **NOBODY,
        "group": docker_probe._group(os.getgid()),
    }
    seen = docker_probe.users(["root"], config.Site(docker_socket=str(tmp_path / "sock")), "root")
    assert [*seen["may"], *seen["barred"]] == ["root"]


NOBODY: Dict[str, Any] = {"may": [], "barred": [], "unknown": []}
