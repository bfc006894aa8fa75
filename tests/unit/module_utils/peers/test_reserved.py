# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a port of root's, no user is heard: the kernel drops what comes from a port that anybody can bind."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
from typing import Any, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import addresses, reserved
from helpers import peers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="ports of root's are bound by root")


@pytest.fixture(params=["127", "::1"])
def at(request: pytest.FixtureRequest) -> str:
    return "::1" if request.param == "::1" else peers.address()


@contextlib.contextmanager
def listening(at: str) -> Iterator[socket.socket]:
    """Listen as a leader does, on one of the default ports."""
    listeners, _port = addresses.listen(peers.allocation(at=at, job_id=os.getpid()), addresses.PORTS)
    try:
        yield listeners[0]
    finally:
        listeners[0].close()


def coming_from(source: int, place: Any, wait: float = 5.0) -> str:
    """Dial *place* from the port *source* (0: any), and say what became of it."""
    with socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET) as sock:
        sock.settimeout(wait)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", source))
        try:
            sock.connect(tuple(place[:2]))
        except OSError as error:
            return "TimeoutError" if isinstance(error, socket.timeout) else type(error).__name__  # two names until 3.10
    return "connected"


def has_accepted(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("source", [1024, 1025, 40000, 65535, 0])
def test_a_port_that_anybody_can_bind_gets_no_answer(at: str, source: int) -> None:
    with listening(at) as listener:
        assert coming_from(source, listener.getsockname(), wait=0.3) == "TimeoutError"
        assert not has_accepted(listener)


@pytest.mark.parametrize("source", [600, 1022, 1023])
def test_a_port_of_root_s_is_heard_also_when_the_words_come(at: str, source: int) -> None:
    with listening(at) as listener, socket.socket(listener.family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", source))
        sock.settimeout(5)
        sock.connect(listener.getsockname()[:2])
        there = listener.accept()[0]
        with there:
            there.settimeout(5)
            sock.sendall(b"hello")
            assert there.recv(5) == b"hello"
            there.sendall(b"there")
            assert sock.recv(5) == b"there"


def test_a_user_gets_neither_the_port_nor_through_to_it(at: str) -> None:
    def squat() -> str:
        with contextlib.suppress(PermissionError):
            socket.create_server((at, addresses.PORTS[0]), family=family)
            return "squatted"
        return "refused"

    nobody = pwd.getpwnam("nobody")
    user = process.of(nobody.pw_uid, nobody.pw_gid)
    family = socket.AF_INET6 if at == "::1" else socket.AF_INET
    with listening(at) as listener:
        assert process.run(user, squat, deadline=Deadline(20)) == "refused"
        assert process.run(user, coming_from, 0, listener.getsockname(), 0.3, deadline=Deadline(20)) in ("TimeoutError", "OSError")
        assert not has_accepted(listener)


def test_a_port_above_is_anybody_s(at: str) -> None:
    ports = (peers.PORTS[0], peers.PORTS[1])
    listeners, _port = addresses.listen(peers.allocation(at=at, job_id=os.getpid()), ports)
    with listeners[0]:
        assert coming_from(0, listeners[0].getsockname()) == "connected"


@pytest.mark.parametrize("nodes", [2, 40])
def test_the_nodes_of_a_job_find_each_other_on_ports_of_root_s(nodes: int) -> None:
    names: List[str] = [f"n{rank}" for rank in range(nodes)]
    out = peers.run({"*": peers.both}, tuple(names), peers.address(), ports=addresses.PORTS)
    assert [end.get("fault") for end in out.values()] == [None] * nodes


def test_a_source_that_is_taken_costs_a_member_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as busy:  # somebody who shares it with nobody
        busy.bind(("", 0))
        monkeypatch.setattr(reserved, "sources", lambda port: [busy.getsockname()[1], 1019, 1020, 1021])
        out = peers.run({"*": peers.both}, ("n0", "n1"), peers.address(), ports=addresses.PORTS)
    assert [end.get("fault") for end in out.values()] == [None] * 2
