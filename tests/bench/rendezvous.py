# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a rendezvous of many nodes takes, in peace and among strangers: build/bench/rendezvous.json and a table.

The leader is the real one, in a process of its own. The members are the real state machines on real sockets, all in one
other process; on a machine of two cores that one is as busy as the leader, so the times are upper bounds. The clock runs
from the last JOIN to the last GO. All images are published after the last member has come, which is the slowest order:
IMAGE, LOADED and GO of every member lie within that time. Everything stays on the loopback, in bounded number and time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import addresses, barrier, framing
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.barrier_protocol import MemberEnd
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.connection import Connection, dial
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.credential import Key
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.handshake import State
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation

MEMBERS = (2, 64, 512, 2048)
REPEATS = {2: 41, 64: 25, 512: 9, 2048: 5}
TARGETS = {"release_ms": 1000.0, "hostile_change": 0.20, "flood_change": 0.20, "leader_rss_mib": 64.0}
KEY = Key(b"the cluster's own secret, 32 byte")
AT, PORTS = "127.77.1.1", (27800, 27999)  # thousands of members of one address need more ports to come from than root has
FLOODED_MEMBERS, FLOOD_PER_SECOND, FLOOD_REPEATS = 64, 10_000, 15
IDLE, RESETS_PER_SECOND, RUDE_PER_SECOND, SLOW = 500, 200, 20, 50
LONGEST_SECONDS = 60.0
OFFER = {"identity": "sha256:" + "5" * 64, "transport": "shared", "where": "/shared/images/" + "x" * 64}
LAYERS = [f"sha256:{number:064x}" for number in range(60)]


def allocation(rank: int, nodes: Tuple[str, ...]) -> Allocation:
    return Allocation("bench", 4711, 0, nodes, nodes[rank], AT)


def nodes_of(members: int) -> Tuple[str, ...]:
    return tuple(f"node{number:04}" for number in range(members + 1))


def lead(members: int, ports: Tuple[int, int]) -> None:
    """Be the leader; say when it listens, and at the end how much memory it took."""
    with barrier.Barrier(allocation(0, nodes_of(members)), lambda: KEY, Deadline(LONGEST_SECONDS), ports=ports) as place:
        session = place.join()
        assert isinstance(session, barrier.Leader)
        print(session.port, flush=True)
        session.common()
        session.publish([OFFER])
        session.finish([OFFER["identity"]])
    # Not getrusage: ru_maxrss begins with the size of the process that started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024, flush=True)


class Members:
    """All members of a job, in this process."""

    def __init__(self, members: int, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._joined: Dict[MemberEnd, float] = {}
        self._released: Dict[MemberEnd, float] = {}
        self._told: set[MemberEnd] = set()
        self._connections: List[Connection[MemberEnd]] = []
        self._left = members
        nodes = nodes_of(members)
        allocations = [allocation(rank, nodes) for rank in range(1, members + 1)]
        for one in allocations:
            end = MemberEnd(one, KEY, port)
            connection = dial(self._selector, socket.AF_INET, AT, port, end, self._moved)
            assert connection is not None
            self._connections.append(connection)
            self._turn(0)

    def _turn(self, seconds: float) -> None:
        for key, mask in self._selector.select(seconds):
            key.data(mask)

    def _moved(self, connection: Connection[MemberEnd]) -> None:
        end, now = connection.end, time.perf_counter()
        if end not in self._joined and end._state is State.JOINING:
            self._joined[end] = now
        if end.is_welcome:
            end.choose(LAYERS)
            connection.flush()
        if end.offers is not None and end not in self._told:
            self._told.add(end)
            end.loaded([offer["identity"] for offer in end.offers])
            connection.flush()
        if end.is_released and end not in self._released:
            self._released[end] = now
            connection.close()
        assert end.fault is None, end.fault.line()

    def run(self) -> Dict[str, float]:
        limit = time.monotonic() + LONGEST_SECONDS
        while len(self._released) < self._left:
            assert time.monotonic() < limit, f"{self._left - len(self._released)} members were never released"
            self._turn(1.0)
        self._selector.close()
        last_join, gos = max(self._joined.values()), self._released.values()
        return {"release_ms": (max(gos) - last_join) * 1000, "skew_ms": (max(gos) - min(gos)) * 1000}


def meet(members: int, stranger: str = "", ports: Tuple[int, int] = PORTS) -> Dict[str, float]:
    """Let *members* meet once; return the times and the leader's memory.

    :param stranger: who is there meanwhile: ``annoy``, ``flood`` or nobody.
    """
    command = [sys.executable, __file__, "--lead", str(members), "--ports", *map(str, ports)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with strangers(stranger, port) if stranger else contextlib.nullcontext():
            row = Members(members, port).run()
            return {**row, "leader_rss_mib": float(process.stdout.readline())}


@contextlib.contextmanager
def strangers(kind: str, port: int) -> Iterator[None]:
    """Have somebody annoy the leader for as long as the block lasts."""
    with subprocess.Popen([sys.executable, __file__, f"--{kind}", str(port)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it is at it
            yield
        finally:
            process.kill()


def annoy(port: int) -> None:
    """Hold idle connections and slow writers, connect and reset, and say all that an uninvited guest can say."""
    stale = MemberEnd(allocation(1, nodes_of(2)), KEY, port)
    stale.receive(framing.plain("CHALLENGE", v=framing.VERSION, nonce=framing.nonce()))
    replayed, forged = bytes(stale.outgoing), b'{"line":"JOIN","rank":1,"nonce":"x","n":0,"mac":"' + b"0" * 64 + b'"}\n'
    rude = [b"\x00\xff garbage\n", b"A" * 9000, b"[" * 8000 + b"\n", replayed, forged, b'{"line":"LOADED","index":0,"of":1,"n":0}\n']
    idle = [socket.create_connection((AT, port)) for _ in range(IDLE)]
    slow = [socket.create_connection((AT, port)) for _ in range(SLOW)]
    slow[-1].recv(1)  # the leader has let in all who came before: it is quiet again
    print("ready", flush=True)
    begun = time.monotonic()
    for step in range(int(LONGEST_SECONDS * RESETS_PER_SECOND)):
        with contextlib.suppress(OSError):
            _reset(socket.create_connection((AT, port), timeout=5))
            if step % (RESETS_PER_SECOND // RUDE_PER_SECOND) == 0:
                with socket.create_connection((AT, port), timeout=5) as sock:
                    sock.sendall(rude[step // 10 % len(rude)])
                slow[step % SLOW].send(b"{")
        # Who was sent away after the handshake's five seconds comes back.
        idle[step % IDLE] = _again(idle[step % IDLE], port)
        time.sleep(max(0.0, begun + (step + 1) / RESETS_PER_SECOND - time.monotonic()))


def flood(port: int) -> None:
    """Be a user's process of low priority that connects ten thousand times a second."""
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 65534)
    os.nice(19)
    print("ready", flush=True)
    begun, done = time.monotonic(), 0
    while True:
        for _ in range(FLOOD_PER_SECOND // 100):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.connect_ex((AT, port))
        done += FLOOD_PER_SECOND // 100
        time.sleep(max(0.0, begun + done / FLOOD_PER_SECOND - time.monotonic()))


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _again(sock: socket.socket, port: int) -> socket.socket:
    sock.setblocking(False)
    try:
        if sock.recv(4096):
            return sock
    except BlockingIOError:
        return sock
    except OSError:
        pass
    sock.close()
    with contextlib.suppress(OSError):
        return socket.create_connection((AT, port), timeout=5)
    return sock


def measure(members: int) -> Dict[str, Any]:
    """Return the row of *members*: medians, peace and hostility in turn so that the machine's moods hit both."""
    peace, hostile = [], []
    for _ in range(REPEATS[members]):
        peace.append(meet(members))
        hostile.append(meet(members, "annoy"))
    return {
        "members": members,
        "release_ms": _median(peace, "release_ms"),
        "skew_ms": _median(peace, "skew_ms"),
        "hostile_release_ms": _median(hostile, "release_ms"),
        "hostile_skew_ms": _median(hostile, "skew_ms"),
        "leader_rss_mib": round(max(run["leader_rss_mib"] for run in peace + hostile), 1),
        "runs": len(peace),
    }


def measure_flood() -> Dict[str, Any]:
    """Return what a flood of connections does to the release, on ports of root's and on those that anybody can bind."""
    runs: Dict[str, List[Dict[str, float]]] = {"release_ms": [], "flooded_release_ms": [], "flooded_release_ms_above_1023": []}
    for _ in range(FLOOD_REPEATS):
        runs["release_ms"].append(meet(FLOODED_MEMBERS, ports=addresses.PORTS))
        runs["flooded_release_ms"].append(meet(FLOODED_MEMBERS, "flood", addresses.PORTS))
        runs["flooded_release_ms_above_1023"].append(meet(FLOODED_MEMBERS, "flood"))
    row = {name: _median(every, "release_ms") for name, every in runs.items()}
    return {"members": FLOODED_MEMBERS, "connections_per_second": FLOOD_PER_SECOND, **row, "runs": FLOOD_REPEATS}


def _median(runs: List[Dict[str, float]], name: str) -> float:
    return round(statistics.median(run[name] for run in runs), 2)


def verdict(rows: List[Dict[str, Any]], flooded: Dict[str, Any]) -> Dict[str, bool]:
    """Say of each target whether it is reached; the change by hostility is judged where it is larger than a millisecond."""
    largest = rows[-1]
    changes = [(row["hostile_release_ms"] - row["release_ms"], row["release_ms"]) for row in rows]
    return {
        "release": largest["release_ms"] <= TARGETS["release_ms"],
        "hostility": all(change < max(1.0, TARGETS["hostile_change"] * base) for change, base in changes),
        "flood": flooded["flooded_release_ms"] - flooded["release_ms"] < max(1.0, TARGETS["flood_change"] * flooded["release_ms"]),
        "memory": largest["leader_rss_mib"] < TARGETS["leader_rss_mib"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, nargs="*", default=list(MEMBERS))
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "rendezvous.json")
    parser.add_argument("--lead", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=int, nargs=2, default=PORTS, help=argparse.SUPPRESS)
    parser.add_argument("--annoy", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if options.lead is None else 1024, hard))
    if options.lead is not None:
        lead(options.lead, (options.ports[0], options.ports[1]))
    elif options.annoy is not None:
        annoy(options.annoy)
    elif options.flood is not None:
        flood(options.flood)
    else:
        return report(options.members, options.out)
    return 0


def report(members: List[int], out: Path) -> int:
    columns = ("members", "release_ms", "skew_ms", "hostile_release_ms", "hostile_skew_ms", "leader_rss_mib", "runs")
    print(" ".join(f"{column:>18}" for column in columns))
    rows = []
    for count in members:
        rows.append(measure(count))
        print(" ".join(f"{rows[-1][column]:>18}" for column in columns), flush=True)
    flooded = measure_flood()
    print(", ".join(f"{name} {value}" for name, value in flooded.items()), flush=True)
    reached = verdict(rows, flooded)
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}  # three busy processes want three cores
    out.write_text(
        json.dumps({"rows": rows, "flood": flooded, "targets": TARGETS, "reached": reached, "machine": machine}, indent=2) + "\n"
    )
    print(f"{out}: " + ", ".join(f"{name} {'reached' if good else 'MISSED'}" for name, good in reached.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
