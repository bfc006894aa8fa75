# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who come to a rendezvous: honest nodes in processes of their own, and strangers of every sort."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import barrier
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.credential import Key
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.session import Session
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation

KEY = Key(b"the cluster's own secret, 32 byte")
OTHER_KEY = Key(b"the secret of some other cluster")
PORTS = (27800, 27807)


def me() -> process.Account:
    return process.of(os.getuid(), os.getgid())


def address() -> str:
    """Return a loopback address that no other test listens on."""
    return f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"


def allocation(node: str = "n0", nodes: int = 3, at: str = "", job_id: int = 4711, attempt: int = 0, cluster: str = "c") -> Allocation:
    return Allocation(cluster, job_id, attempt, tuple(f"n{rank}" for rank in range(nodes)), node, at or "127.0.0.1")


def first_ports(of: Allocation, ports: Tuple[int, int] = PORTS) -> Tuple[int, int]:
    """Return the two ports that a leader tries first, unless its name says otherwise."""
    first = ports[0] + of.job_id % (ports[1] - ports[0] + 1)
    return first, first + 1 if first < ports[1] else ports[0]


def first_port(of: Allocation) -> int:
    return first_ports(of)[0]


HALF = 7.5  # seconds, of the fifteen that a node has: who is told waits for no deadline, on however busy a machine


class PeerProcess:
    """A node of the job: a process that does *story* in its session; its end is read by `outcome`."""

    def __init__(self, who: Allocation, story: Callable[..., Any], key: Key, within: float, options: Dict[str, Any]) -> None:
        self.name, reader = who.node, -1
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            _live(who, story, key, within, options, writer)
        os.close(writer)
        self._reader = reader

    def outcome(self, within: float = 20.0) -> Dict[str, Any]:
        """Return ``value`` or ``fault`` (and its ``line``), ``seconds``, and ``at``, when it ended."""
        data = b""
        limit = time.monotonic() + within
        while select.select([self._reader], [], [], max(0.0, limit - time.monotonic()))[0]:
            chunk = os.read(self._reader, 65536)
            if not chunk:
                break
            data += chunk
        else:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {within} s")
        os.close(self._reader)
        os.waitpid(self.pid, 0)
        return dict(json.loads(data)) if data else {"value": None, "died": True, "at": time.monotonic()}

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@contextlib.contextmanager
def meet(
    who: Allocation, key: Key = KEY, within: float = 10.0, have: Sequence[str] = (), bare: Any = None, over: Any = None, **options: Any
) -> Iterator[Session]:
    """Join the others at once."""
    with barrier.Barrier(who, lambda: key, Deadline(within), **options) as place:
        yield place.join(have, bare=bare, over=over)


def _live(who: Allocation, story: Callable[..., Any], key: Key, within: float, options: Dict[str, Any], writer: int) -> None:
    started = time.monotonic()
    said: Dict[str, Any] = {}
    try:
        with meet(who, key, within, **options) as session:
            said["value"] = story(session)
    except Fault as fault:
        said = {"fault": fault.to_dict(), "line": fault.line(), "type": type(fault).__name__}
    except BaseException:
        said = {"defect": traceback.format_exc()}
    said["seconds"], said["at"] = time.monotonic() - started, time.monotonic()
    os.write(writer, json.dumps(said).encode())
    sys.stderr.flush()
    os._exit(0)


def start(who: Allocation, story: Callable[..., Any], key: Key = KEY, within: float = 15.0, **options: Any) -> PeerProcess:
    return PeerProcess(who, story, key, within, {"ports": PORTS, "grace_seconds": 5.0, **options})


def run(stories: Dict[str, Callable[..., Any]], nodes: Tuple[str, ...], at: str, **options: Any) -> Dict[str, Dict[str, Any]]:
    """Let all of *nodes* meet, each with its story (``*`` for the rest); return their outcomes by name."""
    jobs = Allocation("c", 4711, 0, nodes, nodes[0], at)
    started = [start(_as(jobs, node), stories.get(node, stories["*"]), **options) for node in nodes]
    return {node.name: node.outcome() for node in started}


def _as(of: Allocation, node: str) -> Allocation:
    return Allocation(of.cluster, of.job_id, of.attempt, of.nodes, node, of.address)


# Stories.


def lead(session: Any) -> Any:
    session.publish([{"identity": "sha256:1", "where": "/store"}])
    session.finish(["sha256:1"])
    return "go"


def follow(session: Any) -> Any:
    offers = session.images()
    session.loaded([offer["identity"] for offer in offers])
    return offers


def both(session: Any) -> Any:
    return lead(session) if session.is_leader else follow(session)


# Strangers.


class Listener:
    """Somebody who holds a port and treats all who come by *manners*, in processes of its own.

    What *manners* returns is for `said`.
    """

    def __init__(self, at: str, port: int, manners: Callable[[socket.socket], Optional[bytes]]) -> None:
        self._socket = socket.create_server((at, port), backlog=64)
        self.port = self._socket.getsockname()[1]
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.setpgid(0, 0)
            os.close(self._reader)
            self._live(manners, writer)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(self._pid, self._pid)  # whoever of the two comes first
        os.close(writer)

    def _live(self, manners: Callable[[socket.socket], Optional[bytes]], writer: int) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            guest = self._socket.accept()[0]
            if os.fork() == 0:
                with contextlib.suppress(OSError):
                    guest.settimeout(10)
                    os.write(writer, manners(guest) or b"")
                os._exit(0)
            guest.close()

    def said(self) -> bytes:
        """Return what *manners* have returned so far; wait for the first."""
        return os.read(self._reader, 1 << 20) if select.select([self._reader], [], [], 5.0)[0] else b""

    def close(self) -> None:
        self._socket.close()
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._reader)


@contextlib.contextmanager
def listening(at: str, port: int, manners: Callable[[socket.socket], Optional[bytes]]) -> Iterator[Listener]:
    listener = Listener(at, port, manners)
    try:
        yield listener
    finally:
        listener.close()


def silent(guest: socket.socket) -> None:
    """Take the connection and say nothing."""
    guest.recv(1)
    time.sleep(10)


def knock(at: str, port: int, within: float = 5.0) -> socket.socket:
    """Return a connection to *port*, which may not be there yet."""
    limit = time.monotonic() + within
    while True:
        try:
            return socket.create_connection((at, port), timeout=within)
        except ConnectionError:
            if time.monotonic() > limit:
                raise
            select.select([], [], [], 0.005)


def line(sock: socket.socket) -> Optional[bytes]:
    """Return the next line of *sock*, or None at its end."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while not data.endswith(b"\n"):
            byte = sock.recv(1)
            if not byte:
                return data or None
            data += byte
        return data
    return None


def has_hung_up(sock: socket.socket) -> bool:
    """Say whether the other end has hung up by now, whatever it said before; this end hangs up too then."""
    if sock.fileno() < 0:
        return True
    sock.setblocking(False)
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    sock.close()
    return True
