# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an image takes to 2, 4, 8 and 16 nodes at once: build/bench/scale.json and a table.

One container is a cluster of real slurmds, each in a network namespace of its own whose link is limited both ways, all alike.
The first node has the file and the others need it. The limit is the bytes over the link: nobody can have it sooner.

single source     each node reads the whole file from the first: a share at its best, if its server has a link like all others
sbcast            SLURM's broadcast with its defaults
sbcast in pieces  what the collection does with it where no store is shared (`broadcast.plan`)
endpoint, sbcast  the same, and each node's endpoint gives it as soon as it is there to who stands for its Docker daemon
endpoint, store   each node's endpoint gives it from one store that all see: a directory of this machine, so that no link is the
                  limit, but this machine: compare it with 2 of its own

Written are medians. The links are slow so that they are the limit, not this machine's cores; where these were busy all the
time (``busy``, of all cores) the times are too long. What is true of the ratios here is true of faster links and larger files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import sbcast

RECEIVERS = (2, 4, 8, 16)
RECOMMENDED, ENDPOINTS = "sbcast in pieces", "endpoint, sbcast"
MOST_RATIO = 2.0  # 16 receivers may take so many times as long as 2, by these two
BASE, IMAGE, CONTAINER = "debian:trixie", "madlab-node:trixie", "mad-scale"
RUN = [
    "docker",
    "run",
    "--detach",
    "--name",
    CONTAINER,
    "--hostname",
    "ctl",
    "--cap-add",
    "ALL",
    "--cap-drop",
    "SYS_RESOURCE",
    "--tmpfs",
    "/run",
]
RUN += [word for option in ("seccomp", "apparmor", "systempaths") for word in ("--security-opt", f"{option}=unconfined")]
CONTROLLER, SPOOL, SOURCE, PORT = "10.77.0.254", "/spool", Path("/source"), 8000
SLURM_CONF = f"""\
ClusterName=scale
SlurmctldHost=ctl({CONTROLLER})
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd.%n
SlurmdPidFile=/run/slurmd.%n.pid
SlurmctldPidFile=/run/slurmctld.pid
SlurmdLogFile=/var/log/slurmd.%n.log
SlurmctldLogFile=/var/log/slurmctld.log
ReturnToService=2
MpiDefault=none
MessageTimeout=60
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PartitionName=main Nodes=ALL Default=YES State=UP
"""


def sh(script: str) -> str:
    done = subprocess.run(["sh", "-ec", script], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Cluster:
    """A controller, and nodes behind limited links; this process is the first of them."""

    def __init__(self, nodes: int, rate_mbit: float) -> None:
        sh("head -c 64 /dev/urandom >/etc/munge/munge.key && chown munge: /etc/munge/munge.key && chmod 400 /etc/munge/munge.key")
        sh("install -d -o munge -g munge /run/munge && setpriv --reuid munge --regid munge --clear-groups munged")
        sh(f"ip link add br0 type bridge && ip addr add {CONTROLLER}/24 dev br0 && ip link set br0 up")
        places = [f"NodeName=n{number} NodeAddr={address(number)} CPUs={len(RECEIVERS)}\n" for number in range(nodes)]
        Path("/etc/slurm/slurm.conf").write_text(SLURM_CONF + "".join(places))
        Path("/etc/slurm/cgroup.conf").write_text("CgroupPlugin=disabled\n")
        sh(f"install -d /var/spool/slurmctld {SPOOL} {SOURCE} && slurmctld")
        self.daemons = [self._node(number, rate_mbit) for number in range(nodes)]
        self._await(nodes)
        os.setns(namespace(0), os.CLONE_NEWNET)  # type: ignore[attr-defined]
        self.jobs = {receivers: self._job(receivers + 1) for receivers in RECEIVERS}

    def _node(self, number: int, rate_mbit: float) -> subprocess.Popen[bytes]:
        """Start a slurmd that has a link and a spool directory of its own."""
        name, limit = f"n{number}", f"root tbf rate {rate_mbit}mbit burst 16kb latency 100ms"
        sh(f"ip netns add {name} && ip link add to-{name} type veth peer name eth0 netns {name} && ip link set to-{name} master br0 up")
        sh(f"ip -n {name} addr add {address(number)}/24 dev eth0 && ip -n {name} link set eth0 up && ip -n {name} link set lo up")
        sh(f"tc qdisc add dev to-{name} {limit} && tc -n {name} qdisc add dev eth0 {limit}")
        start = f"mount -t tmpfs none {SPOOL} && exec slurmd -D -N {name}"
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "sh", "-c", start], stdout=quiet, stderr=quiet
        )

    def _await(self, nodes: int) -> None:
        until = time.monotonic() + 60
        while sh("sinfo --noheader --format='%D %T'").split() != [str(nodes), "idle"]:
            if time.monotonic() > until:
                raise SystemExit(f"the nodes do not come up: {sh('sinfo --long; tail -n 3 /var/log/slurm*.log')}")
            time.sleep(0.2)

    def _job(self, nodes: int) -> str:
        """Return the id of an allocation of the first *nodes* nodes; one CPU of each."""
        return sh(f"salloc --no-shell --nodes={nodes} --nodelist='n[0-{nodes - 1}]'").split("Granted job allocation ")[1].split()[0]

    def digests(self, receivers: int) -> List[str]:
        """Return the digest of what each receiver's spool directory holds, and empty it."""
        look = f"cat {SPOOL}/* | sha256sum; rm {SPOOL}/*"
        return [sh(f"nsenter --mount=/proc/{each.pid}/ns/mnt sh -ec '{look}'").split()[0] for each in self.daemons[: receivers + 1]][1:]


def address(number: int) -> str:
    return f"10.77.0.{number + 1}"


def namespace(number: int) -> int:
    return os.open(f"/run/netns/n{number}", os.O_RDONLY | os.O_CLOEXEC)


def by_sbcast(cluster: Cluster, receivers: int, plan: sbcast.Plan) -> float:
    """Return the seconds of a broadcast as planned; what has arrived is compared afterwards."""
    with open(SOURCE / "file", "rb") as stream:
        pieces = sbcast.cut(iter(lambda: stream.read(1 << 20), b""), str(SOURCE), plan.pieces)
    sent = hashlib.sha256(b"".join(Path(piece).read_bytes() for piece in sorted(pieces))).hexdigest()
    began = time.monotonic()
    sbcast.send(pieces, f"{SPOOL}/file", cluster.jobs[receivers], Deadline(600), plan.width)
    seconds = time.monotonic() - began
    for piece in pieces:
        os.unlink(piece)
    if cluster.digests(receivers) != [sent] * receivers:
        raise SystemExit(f"{receivers} receivers: other bytes arrived than were sent")
    return seconds


def by_endpoints(cluster: Cluster, receivers: int) -> float:
    """Return the seconds from the broadcast's beginning until every node's reader has all of it from its endpoint."""
    data = (SOURCE / "file").read_bytes()
    plan = sbcast.plan(receivers + 1, Deadline(10))
    pieces = sbcast.cut(iter([data]), str(SOURCE), plan.pieces)
    with readers(cluster, receivers, data, sbcast.targets(f"{SPOOL}/file", len(pieces))) as begin:
        began = begin()
        sbcast.send(pieces, f"{SPOOL}/file", cluster.jobs[receivers], Deadline(600), plan.width)
    seconds = time.monotonic() - began
    for piece in pieces:
        os.unlink(piece)
    cluster.digests(receivers)
    return seconds


def from_store(cluster: Cluster, receivers: int) -> float:
    """Return the seconds until every node's reader has the file from its endpoint, which reads the one store."""
    with readers(cluster, receivers, (SOURCE / "file").read_bytes(), [str(SOURCE / "file")]) as begin:
        began = begin()
    return time.monotonic() - began


@contextlib.contextmanager
def readers(cluster: Cluster, receivers: int, data: bytes, names: Sequence[str]) -> Iterator[Callable[[], float]]:
    """Have an endpoint and a reader ready on each node; the block's end is theirs, and what it gets begins it and says when."""
    words = [sys.executable, "-X", "pycache_prefix=/tmp/pyc", str(Path(__file__).with_name("node_endpoint.py"))]
    words += [f"sha256:{hashlib.sha256(data).hexdigest()}", str(len(data)), *names]
    pipe, nodes = subprocess.PIPE, cluster.daemons[1 : receivers + 1]
    running = [subprocess.Popen(["nsenter", f"--target={each.pid}", "--mount", "--net", *words], stdin=pipe, stdout=pipe) for each in nodes]

    def begin() -> float:
        began = time.monotonic()
        for each in running:
            each.stdin.close()  # type: ignore[union-attr]
        return began

    for each in running:
        each.stdout.readline()  # type: ignore[union-attr]
    yield begin
    if [each.wait() for each in running] != [0] * receivers:
        raise SystemExit("an endpoint did not give what it has")


def from_single_source(receivers: int) -> float:
    """Return the seconds until each receiver has read the file from the first node."""
    with socket.create_server((address(0), PORT), backlog=receivers) as listener:
        readers = [threading.Thread(target=read, args=(number + 1,)) for number in range(receivers)]
        writers = [threading.Thread(target=serve, args=(listener,)) for _ in readers]
        began = time.monotonic()
        for thread in [*writers, *readers]:
            thread.start()
        for thread in [*writers, *readers]:
            thread.join()
        return time.monotonic() - began


def serve(listener: socket.socket) -> None:
    with listener.accept()[0] as connection, open(SOURCE / "file", "rb") as stream:
        connection.sendfile(stream)


def read(number: int) -> None:
    """Read the file as a node; a thread is in the network namespace that it chose last."""
    os.setns(namespace(number), os.CLONE_NEWNET)  # type: ignore[attr-defined]
    buffer, left = bytearray(1 << 18), (SOURCE / "file").stat().st_size
    with socket.create_connection((address(0), PORT)) as connection:
        while taken := connection.recv_into(buffer):
            left -= taken
    if left:
        os._exit(3)  # a curve over anything but the whole file would be a lie


@contextlib.contextmanager
def watched(busy: List[float]) -> Iterator[None]:
    """Add how busy the machine's cores were in the meantime, all together, from 0 to 1."""
    before = _cores()
    yield
    spent = [after - first for after, first in zip(_cores(), before)]
    busy.append(1 - (spent[3] + spent[4]) / max(1, sum(spent)))


def _cores() -> List[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def measure(cluster: Cluster, rounds: int, limit_seconds: float) -> List[Dict[str, Any]]:
    """Take turns, so that the machine's moods hit all alike; return a row for each transport and number of receivers."""
    transports: Dict[str, Callable[[int], float]] = {
        "single source": from_single_source,
        "sbcast": lambda receivers: by_sbcast(cluster, receivers, sbcast.Plan()),
        RECOMMENDED: lambda receivers: by_sbcast(cluster, receivers, sbcast.plan(receivers + 1, Deadline(10))),
        ENDPOINTS: lambda receivers: by_endpoints(cluster, receivers),
        "endpoint, store": lambda receivers: from_store(cluster, receivers),
    }
    times: Dict[Any, List[float]] = {}
    busy: Dict[Any, List[float]] = {}
    for number in range(rounds):
        for transport, work in transports.items():
            for receivers in RECEIVERS:
                key = transport, receivers
                with watched(busy.setdefault(key, [])):
                    times.setdefault(key, []).append(work(receivers))
                print(
                    f"round {number + 1}: {transport:17} {receivers:3} {times[key][-1]:7.2f} s, cores {busy[key][-1]:4.0%}", file=sys.stderr
                )
    medians = {key: statistics.median(seconds) for key, seconds in times.items()}
    return [
        {
            "transport": transport, "receivers": receivers, "seconds": round(seconds, 3), "limit_s": round(limit_seconds, 3),
            "ratio_to_limit": round(seconds / limit_seconds, 2), "ratio_to_2": round(seconds / medians[transport, 2], 2),
            "busy": round(statistics.median(busy[transport, receivers]), 2), "rounds": rounds,
        }
        for (transport, receivers), seconds in medians.items()
    ]  # fmt: skip


def inside(asked: argparse.Namespace) -> None:
    """Be the cluster; print the rows as JSON."""
    cluster = Cluster(max(RECEIVERS) + 1, asked.rate_mbit)
    (SOURCE / "file").write_bytes(os.urandom(asked.mib << 20))
    print(json.dumps(measure(cluster, asked.rounds, (asked.mib << 20) * 8 / (asked.rate_mbit * 1e6))))


def report(asked: argparse.Namespace) -> int:
    """Run the cluster in a container; write and show what it found."""
    subprocess.run([str(ROOT / "molecule/shared/base-image"), BASE], check=True)
    build = ["docker", "build", "--quiet", "--build-arg", f"BASE={BASE}", "--tag", IMAGE, str(ROOT / "molecule/shared/image")]
    subprocess.run(build, env={**os.environ, "DOCKER_BUILDKIT": "0"}, check=True, capture_output=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the container goes, too
    options = [f"--rounds={asked.rounds}", f"--rate-mbit={asked.rate_mbit}", f"--mib={asked.mib}"]
    try:
        subprocess.run([*RUN, "--volume", f"{ROOT}:/repo:ro", IMAGE, "sleep", "infinity"], check=True, stdout=subprocess.DEVNULL)
        command = [
            "docker",
            "exec",
            CONTAINER,
            "python3",
            "-X",
            "pycache_prefix=/tmp/pyc",
            "/repo/tests/bench/scale.py",
            "--inside",
            *options,
        ]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        if done.returncode:
            return done.returncode
        rows = json.loads(done.stdout)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", CONTAINER], check=False, capture_output=True)
    show(rows)
    found = {row["transport"]: row["ratio_to_2"] for row in rows if row["receivers"] == max(RECEIVERS)}
    ratios = {transport: found[transport] for transport in (RECOMMENDED, ENDPOINTS)}
    is_reached = max(ratios.values()) <= MOST_RATIO
    facts = {"rate_mbit": asked.rate_mbit, "mib": asked.mib, "cores": os.cpu_count(), "load": os.getloadavg()}
    verdict = {"recommended": RECOMMENDED, "ratios_to_2": ratios, "at_most_ratio_to_2": MOST_RATIO, "reached": is_reached}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"rows": rows, **verdict, **facts}, indent=1) + "\n")
    print(f"{asked.out}: of the time of 2: {ratios} ({'reached' if is_reached else 'MISSED'}: {MOST_RATIO})")
    return 0


def show(rows: List[Dict[str, Any]]) -> None:
    columns = ("receivers", "seconds", "limit_s", "ratio_to_limit", "ratio_to_2", "busy")
    print(f"{'transport':17}" + "".join(f"{column:>16}" for column in columns))
    for row in rows:
        print(f"{row['transport']:17}" + "".join(f"{row[column]:>16}" for column in columns))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate-mbit", type=float, default=40.0, help="each link, each way")
    parser.add_argument("--mib", type=int, default=8, help="the file's size")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "scale.json")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        inside(asked)
        return 0
    return report(asked)


if __name__ == "__main__":
    sys.exit(main())
