# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child's word never drains: a node leaves service for what root finds by itself."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from pathlib import Path
from typing import Iterator, Type

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault, Part, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import daemon
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import exit_status, job_state, node_probe, workspace
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.node_probe import NodeProbe

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
KEY = b"k" * 64


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a node whose Docker answers, whose disks have room, and whose key can be used."""
    monkeypatch.setattr(job_state, "BASE", str(tmp_path))
    monkeypatch.setattr(workspace, "BASE", str(tmp_path))
    monkeypatch.setattr(node_probe, "LEAST_DOCKER_BYTES", 1)
    monkeypatch.setattr(node_probe, "LEAST_BYTES", 1)
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(KEY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        thread = threading.Thread(target=_answer_all, args=(listener, str(tmp_path)), daemon=True)
        thread.start()
        yield Site(docker_socket=str(tmp_path / "docker.sock"), key_file=str(key))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _answer_all(listener: socket.socket, root: str) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            peer.recv(1000)
            peer.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"DockerRootDir": "%s"}' % root.encode())


def claim(part: Part) -> Fault:
    """Return the fault that a child has raised."""
    with pytest.raises(Fault) as raised:
        process.run(process.named("nobody") if os.geteuid() == 0 else process.of(os.getuid(), os.getgid()), _raise, part)
    return raised.value


def _raise(part: Part) -> None:
    raise NodeFault(f"engine: {part} is broken", "repair it", part=part, size=5)


def outcome(site: Site, fault: Fault) -> int:
    def story() -> None:
        raise fault

    return exit_status.run(story, lambda fault: None, lambda text: None, tuple(Part), NodeProbe(site).judged)


@pytest.mark.parametrize("part", list(Part))
def test_what_a_child_says_of_a_part_that_root_finds_well_is_the_jobs_own_fault(site: Site, part: Part) -> None:
    fault = claim(part)
    assert outcome(site, fault) == exit_status.DONE
    judged = NodeProbe(site).judged(fault)
    assert type(judged) is JobFault
    assert (judged.what, judged.seen) == (f"engine: {part} is broken", {"size": "5"})
    assert judged.remedy.endswith(f"root finds this node's {part} well")


def test_docker_is_broken_where_root_gets_no_answer_either(site: Site, tmp_path: Path) -> None:
    os.unlink(site.docker_socket)
    assert outcome(site, claim(Part.DOCKER)) == exit_status.DRAIN
    assert outcome(site, claim(Part.DISK)) == exit_status.DONE


@as_root
def test_a_user_s_own_docker_is_no_part_of_the_node_and_root_asks_it_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(daemon, "ask", lambda path, *_rest: asked.append(path) or b"{}")
    own = dataclasses.replace(site, docker_socket=f"{os.path.dirname(site.docker_socket)}/%U.sock")
    assert [outcome(own, claim(part)) for part in (Part.DOCKER, Part.DISK)] == [exit_status.DONE] * 2
    assert asked == []
    assert "your own Docker" in NodeProbe(own).judged(claim(Part.DOCKER)).remedy


@as_root
def test_the_service_account_s_docker_is_one_that_root_asks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SERVICE", "nobody")
    path = f"{site.docker_socket}.nobody"
    os.rename(site.docker_socket, path)
    of_service = dataclasses.replace(site, docker_socket=f"{site.docker_socket}.%u", docker_access="service")
    assert outcome(of_service, claim(Part.DOCKER)) == exit_status.DONE
    os.unlink(path)
    assert outcome(of_service, claim(Part.DOCKER)) == exit_status.DRAIN


def test_a_disk_is_broken_where_root_finds_no_room_or_cannot_write(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(node_probe, "LEAST_DOCKER_BYTES", 1 << 60)
    assert outcome(site, claim(Part.DISK)) == exit_status.DRAIN
    monkeypatch.setattr(node_probe, "LEAST_DOCKER_BYTES", 1)
    monkeypatch.setattr(workspace, "BASE", "/proc")
    assert outcome(site, claim(Part.DISK)) == exit_status.DRAIN


def test_a_key_is_broken_where_root_cannot_use_it(site: Site) -> None:
    os.chmod(site.key_file, 0o644)
    assert outcome(site, claim(Part.KEY)) == exit_status.DRAIN


def test_a_fault_that_is_none_of_a_part_stays_what_it_is(site: Site) -> None:
    for fault in (JobFault("a: b", "c"), ShareFault("a: b", "c"), NodeFault("a: b", "c")):
        assert NodeProbe(site).judged(fault) is fault


def test_a_part_is_looked_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(daemon, "ask", lambda path: asked.append(path))
    probe = NodeProbe(site)
    assert [probe.finds(Part.DOCKER), probe.finds(Part.DOCKER)] == ["", ""]
    assert len(asked) == 1


def test_a_look_that_fails_confirms_nothing() -> None:
    def judge(fault: Fault) -> Fault:
        raise ValueError("boom")

    said = []

    def story() -> None:
        raise NodeFault("a: b", "c", part=Part.DOCKER)

    assert exit_status.run(story, lambda fault: None, said.append, tuple(Part), judge) == exit_status.DONE
    assert said[0].startswith("madengine: defect: this node could not be looked at")


def test_a_daemon_that_dribbles_is_waited_for_no_longer_than_was_said(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()  # nobody accepts
        with pytest.raises(NodeFault, match="docker: no answer"):
            daemon.ask(str(tmp_path / "s"), seconds=0.05)


@pytest.mark.parametrize(("docker_socket", "part", "kind"), [
    ("/run/user/%U/docker.sock", Part.DOCKER, JobFault),
    ("/run/user/%U/docker.sock", Part.DISK, NodeFault),
    ("/run/docker.sock", Part.DOCKER, NodeFault),
])  # fmt: skip
def test_the_other_nodes_hear_that_a_daemon_of_a_users_own_is_the_users(docker_socket: str, part: Part, kind: Type[Fault]) -> None:
    with pytest.raises(Fault) as raised, node_probe.own_docker(Site(docker_socket=docker_socket)):
        _raise(part)
    assert type(raised.value) is kind
    assert (raised.value.what, raised.value.seen) == (f"engine: {part} is broken", {"size": 5})
    assert ("start your own Docker" in raised.value.remedy) == (kind is JobFault)
