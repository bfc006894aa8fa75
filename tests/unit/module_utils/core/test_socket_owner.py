# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel says whose the other end of a connection is, and nobody else does."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process, socket_owner
from helpers.users import MALLORY, needs_root


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def connect_and_wait(port: int) -> None:
    with socket.socket() as peer:
        peer.settimeout(120)
        peer.connect(("127.0.0.1", port))
        peer.recv(1)


@needs_root
def test_the_other_end_is_its_maker_s(listener: socket.socket) -> None:
    child = process.start(MALLORY, connect_and_wait, listener.getsockname()[1])
    connection, _address = listener.accept()
    with connection:
        assert socket_owner.of_peer(connection) == MALLORY.uid
    child.result()


def test_one_s_own_end_is_one_s_own_and_a_closed_one_is_nobody_s(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as peer:
        connection, _address = listener.accept()
        with connection:
            assert socket_owner.of_peer(connection) == os.geteuid()
            peer.close()
            # The kernel says "root" of a socket without a process; that must not be taken for one.
            assert socket_owner.of_peer(connection) == socket_owner.NOBODY


def test_of_a_connection_that_is_over_nothing_is_known(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()):
        connection, _address = listener.accept()
    connection.close()
    assert socket_owner.of_peer(connection) is None


@needs_root
def test_a_daemon_is_root_or_the_owner_of_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    path.touch()
    os.chown(path, MALLORY.uid, -1)
    assert socket_owner.trusted(str(path)) == (0, MALLORY.uid)
    for other in (str(tmp_path / "none"), "tcp://10.0.0.1:2375", "a\0b"):
        assert socket_owner.trusted(other) == (os.geteuid(),)
