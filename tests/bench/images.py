# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moving images costs, beside the usual ways: build/bench/images.json and a table, of both image stores.

Three nodes are containers with a dockerd of their own; what they share is a directory of this machine. At ``--scale 1`` the
image has 1.6 GB in seven layers: large binaries, 21000 small files, a small top layer that the second image replaces. The goals
are meant for that. The default is a third of it, files and all, so that five rounds with both stores end within a quarter of an
hour; what does not depend on the bytes weighs the more in its short rows, for the peers' times shrink with the image.

Ours and the peers take turns within each round, and a ratio is that of two times of one round; before each step everything is
synced, and all files are in the page cache for all of them alike. Ours is what the hook does: a process that has imported
everything waits for the word, and forks when it comes; the time is from the word to the child's answer. The rows called fresh are
those of a whole process, imports included. A peer is a command, as it is typed. From end to end it is from the leader's word to the
last member's end, while the members load what the leader still publishes.

Peers: ``docker save`` to the shared directory and ``docker load`` from it, which is what madengine's own tar cache does, and
pulls from Debian's docker-registry on the first node, whose layers are packed. The floor is the daemon's unpacking alone: ``ctr
snapshots unpack`` of blobs that the containerd store has; of the classic store that part of a load which begins when dockerd has the
whole archive (staged_load.py).
With ``--peers``, in a run of its own since they are slow: push to the registry; skopeo copy; ``docker save`` piped into ``docker load``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "madengine-bench-node:1"
PACKAGES = "docker.io docker-cli docker-registry skopeo zstd iproute2 iptables python3 python3-docker procps ca-certificates"
NODES = ["mad-bench-1", "mad-bench-2", "mad-bench-3"]
OLD, NEW = "bench/model:1", "bench/model:2"
STORES = ("classic", "containerd")
WORKER = "python3 -I -X pycache_prefix=/tmp/pyc /repo/tests/bench/images.py"
LIMITS: Dict[str, Dict[str, float]] = {
    "publish cold": {"docker save": 0.35},
    "publish delta": {"docker save": 0.02},
    "load cold": {"docker load": 0.80},
    "load delta": {"docker load": 0.07, "registry pull": 1.0},
    "end to end cold": {"save + load": 0.55},
    "end to end delta": {"save + load": 0.03},
}
WARM_SECONDS = 0.5  # at most, for the whole prolog of three nodes where nothing is missing
RUN = ["docker", "run", "--detach", "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--tmpfs", "/run", "-v", "/var/lib/docker"]
RUN += [word for option in ("seccomp", "apparmor", "systempaths") for word in ("--security-opt", f"{option}=unconfined")]
RUN += ["-v", "/var/lib/containerd", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns=host", "-v", f"{ROOT}:/repo:ro"]


def worker(action: str, reference: str, is_fresh: bool) -> None:
    """Be the hook on a node for one step of ours; print its figures as JSON.

    As the hook, it has imported everything when the word comes, and forks then. A fresh process does not wait: its clock starts
    before its imports.
    """
    began = time.monotonic()
    sys.path.insert(0, "/repo/collections")
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import descendants, process
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_images
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute

    site, me = Site(compression=os.environ["PACK"]), process.Account("root", 0, 0, (0,), "/root")
    node = job_images.JobImages(site, "/shared/store", me, Deadline(3600), nodes=len(NODES))
    node.prepare()
    descendants.adopt()  # so that the reader beside the child is waited for, too
    if not is_fresh:
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
    path = Path(f"/shared/{reference.replace('/', '_')}.offer")
    if action == "publish":
        reports = _published(node.stage([reference], alone=False), path, distribute.are_kept)
    else:
        while action == "await" and not path.exists():
            time.sleep(0.001)
        reports = node.load(json.loads(path.read_text())).result()
    ended = time.monotonic()
    with contextlib.suppress(ChildProcessError):
        while os.wait():
            pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # the largest child, and what all took
    figures = {key: reports[0][key] for key in distribute.FIGURES if key in reports[0] and key != "seconds"}
    costs = {"rss_mib": used.ru_maxrss / 1024, "cpu_s": used.ru_utime + used.ru_stime}
    print(json.dumps({"began": began, "ended": ended, "seconds": ended - began, **costs, **figures}))


def _published(child: Any, path: Path, are_kept: Callable[..., bool]) -> List[Dict[str, Any]]:
    """Tell what the child tells, as soon as it does, and what it says in the end if that is something else."""
    told: List[List[Dict[str, Any]]] = []
    is_over = False
    while not is_over:
        select.select([child], [], [])
        is_over = child.receive()
        for offers in child.news():
            told.append(offers)
            _tell(path, offers)
    found: List[Dict[str, Any]] = child.result()
    if not told or not are_kept(told[-1], found):
        _tell(path, found)
    return found


def _tell(path: Path, offers: List[Dict[str, Any]]) -> None:
    path.with_suffix(".new").write_text(json.dumps(offers))
    path.with_suffix(".new").rename(path)


class Machine:
    """A machine with a Docker daemon of its own."""

    def __init__(self, name: str, shared: Path, is_containerd_store: bool, compression: str) -> None:
        self.name, self.compression = name, compression
        features = '{"features":{"containerd-snapshotter":true},' if is_containerd_store else "{"
        config = features + '"insecure-registries":["0.0.0.0/0"],"bridge":"none","iptables":false}'
        script = f"mkdir -p /etc/docker; echo '{config}' > /etc/docker/daemon.json; exec dockerd -l error"
        subprocess.run([*RUN, "--name", name, "-v", f"{shared}:/shared", IMAGE, "sh", "-c", script], check=True, capture_output=True)
        self.wait()

    def wait(self) -> None:
        until = time.monotonic() + 60
        while subprocess.run(["docker", "exec", self.name, "docker", "info"], check=False, capture_output=True).returncode:
            if time.monotonic() > until:
                raise SystemExit(f"{self.name}: dockerd does not come up")
            time.sleep(0.2)

    def sh(self, script: str) -> str:
        done = subprocess.run(["docker", "exec", self.name, "sh", "-ec", script], check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.name}: {script}: {done.stderr}")
        return done.stdout

    def timed(self, script: str) -> float:
        """Return the seconds that a shell script takes, measured inside."""
        return float(self.sh(f's=$(date +%s.%N); {{ {script}; }} >/dev/null; e=$(date +%s.%N); awk "BEGIN{{print $e-$s}}"'))

    def fresh(self, action: str, reference: str) -> Dict[str, Any]:
        """Do one step of ours in a process that begins with it."""
        found: Dict[str, Any] = json.loads(self.sh(f"PACK={self.compression} {WORKER} {action} {reference} fresh"))
        return found

    def waiting(self, action: str, reference: str) -> Callable[[], Dict[str, Any]]:
        """Start the hook's process, which waits for the word; what is returned gives it, and returns the step's figures."""
        words = ["docker", "exec", "-i", "--env", f"PACK={self.compression}", self.name, *WORKER.split(), action, reference]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise SystemExit(f"{self.name}: {action} {reference}: it did not get as far as to wait")

        def go() -> Dict[str, Any]:
            out, _err = process.communicate("go\n")
            if process.returncode:
                raise SystemExit(f"{self.name}: {action} {reference} failed")
            found: Dict[str, Any] = json.loads(out)
            return found

        return go

    def daemon_cpu(self) -> float:
        """Return the seconds of a core that dockerd, its containerd and what they have started have taken."""
        script = "for each in $(pgrep -x 'dockerd|containerd'); do cat /proc/$each/stat; done | awk '{s += $14+$15+$16+$17} END {print s}'"
        return float(self.sh(script)) / os.sysconf("SC_CLK_TCK")

    def forget(self, *references: str) -> None:
        self.sh(f"docker rmi -f {' '.join(references)} >/dev/null 2>&1 || true; docker image prune -f >/dev/null")

    @property
    def address(self) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return subprocess.run(["docker", "inspect", "-f", form, self.name], check=True, capture_output=True, text=True).stdout.strip()


def layer(path: Path, files: Iterator[Tuple[str, int]], seed: int) -> str:
    """Write a layer whose files are half random, half text; return its diff id."""
    noise, text = random.Random(seed), b"the same words again and again, as in any library. " * 40
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, size in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = size, 0o644
            archive.addfile(info, _Content(noise, text, size))
    out = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True).stdout
    return "sha256:" + out.split()[0]


class _Content:
    def __init__(self, noise: random.Random, text: bytes, size: int) -> None:
        self._noise, self._text, self._left = noise, text, size

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._left)
        self._left -= size
        data = self._noise.randbytes(size // 2)
        return data + (self._text * (size // len(self._text) + 1))[: size - len(data)]


def make_images(folder: Path, scale: float) -> None:
    """Write the two images as archives for docker load: old.tar and new.tar."""
    mib = int(scale * (1 << 20))
    parts: List[Iterator[Tuple[str, int]]] = [
        ((f"opt/base/lib{n}.so", 20 * mib) for n in range(10)),
        ((f"opt/rocm/lib{n}.so", 64 * mib) for n in range(9)),
        ((f"usr/lib/python3/p{n % 211}/m{n}.py", 1000 + n % 8000) for n in range(int(scale * 21000))),
        ((f"opt/torch/lib{n}.so", 100 * mib) for n in range(4)),
        ((f"opt/model/shard{n}", 80 * mib) for n in range(3)),
        ((f"workspace/a{n}", 8 * mib) for n in range(10)),
    ]
    ids = [layer(folder / f"layer{number}", files, number) for number, files in enumerate(parts)]
    for name, reference in (("old", OLD), ("new", NEW)):
        top = layer(folder / f"top-{name}", ((f"workspace/{name}{n}", 4 * mib) for n in range(5)), hash(name) % 97)
        diff_ids = [*ids, top]
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "config": {"Env": [f"V={name}"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        )
        entry = [{"Config": "config.json", "RepoTags": [reference], "Layers": [f"{each[7:]}/layer.tar" for each in diff_ids]}]
        (folder / "config.json").write_text(config)
        (folder / "manifest.json").write_text(json.dumps(entry))
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            sources = [*(folder / f"layer{number}" for number in range(len(ids))), folder / f"top-{name}"]
            for source, each in zip(sources, diff_ids):
                archive.add(source, f"{each[7:]}/layer.tar")
            archive.add(folder / "config.json", "config.json")
            archive.add(folder / "manifest.json", "manifest.json")
    for source in [*folder.glob("layer*"), *folder.glob("top-*")]:
        source.unlink()


class Bench:
    """All the nodes with one kind of image store, and one round of all the rows."""

    def __init__(self, shared: Path, store: str, has_peers: bool, compression: str) -> None:
        self.shared, self.store, self.has_peers = shared, store, has_peers
        self.leader, *self.members = [Machine(name, shared, store == "containerd", compression) for name in NODES]
        self.times: Dict[str, List[Dict[str, float]]] = {}  # row → who took how long, a round each
        self.facts: Dict[str, Dict[str, Any]] = {}
        self.cpu: Dict[str, Dict[str, List[float]]] = {}  # row → of whom → seconds of a core, a round each
        self._jobs, self._floors = 0, 0
        self.registry = f"{self.leader.address}:5000"
        self.leader.sh("docker load -qi /shared/old.tar; docker load -qi /shared/new.tar")
        for node in (self.leader, *self.members):  # as installed: compiled
            node.sh(f"PACK=none {WORKER} obtain none fresh 2>/dev/null || true")
        config = '{"version": 0.1, "storage": {"filesystem": {"rootdirectory": "/var/lib/docker/registry"}}, "http": {"addr": ":5000"}}'
        self.leader.sh(f"echo '{config}' > /run/registry.yml; docker-registry serve /run/registry.yml >/run/registry.log 2>&1 &")
        self.leader.sh("until grep -q 'listening on' /run/registry.log; do sleep 0.1; done")
        for reference in (OLD, NEW):
            self.leader.sh(f"docker tag {reference} {self.registry}/{reference}; docker push -q {self.registry}/{reference}")

    def note(self, row: str, who: str, work: Callable[[], Any], node: Optional[Machine] = None) -> None:
        """Do *work*; note how long that took, and what its processes and the daemon of *node* took of the cores."""
        subprocess.run(["sync"], check=True)
        before = node.daemon_cpu() if node else 0.0
        result = work()
        spent = self.cpu.setdefault(row, {})
        if node:
            spent.setdefault(f"dockerd, {who}", []).append(node.daemon_cpu() - before)
        if isinstance(result, dict) and "cpu_s" in result:
            spent.setdefault(who, []).append(result["cpu_s"])
        seconds = result["seconds"] if isinstance(result, dict) else result
        if isinstance(result, dict):
            worst = max(result["rss_mib"], self.facts.get(row, {}).get("peak_rss_mib", 0))
            self.facts[row] = {"bytes_moved": result["bytes_moved"], "method": result["method"], "peak_rss_mib": round(worst, 1)}
            if result.get("reason"):
                self.facts[row]["reason"] = result["reason"]
        rounds = self.times.setdefault(row, [{}])
        if who in rounds[-1]:
            rounds.append({})
        rounds[-1][who] = seconds
        print(f"  {self.store:10} {row:20} {who:16} {seconds:8.3f} s", flush=True)

    def round(self) -> None:
        self.publishing()
        self.loading()
        self.end_to_end()

    def publishing(self) -> None:
        one = self.leader
        self.empty_store()
        self.note("publish cold", "ours", one.waiting("publish", OLD), one)
        self.note("publish delta", "ours", one.waiting("publish", NEW), one)
        self.forget_stored()
        self.note("publish delta, fresh", "ours", partial(one.fresh, "publish", NEW))
        for row, reference, file in (("publish cold", OLD, "save-old"), ("publish delta", NEW, "save-new")):
            self.note(row, "docker save", partial(one.timed, f"docker save -o /shared/{file}.tar {reference}"), one)
        if not self.has_peers:
            return
        one.sh("rm -rf /var/lib/docker/registry/docker /shared/skopeo")
        for row, reference in (("publish cold", OLD), ("publish delta", NEW)):
            self.note(row, "registry push", partial(one.timed, f"docker push -q {self.registry}/{reference}"))
            copy = f"skopeo copy -q docker-daemon:{reference} oci:/shared/skopeo:{reference.split(':')[1]}"
            self.note(row, "skopeo copy", partial(one.timed, copy))

    def loading(self) -> None:
        """Load both images one after the other, each way from nothing: the second one's delta is that way's own."""
        two = self.members[0]
        peers: Dict[str, Callable[[str], str]] = {
            "docker load": lambda reference: f"docker load -qi /shared/save-{_short(reference)}.tar",
            "registry pull": lambda reference: f"docker pull -q {self.registry}/{reference}",
        }
        if self.has_peers:
            peers["skopeo copy"] = lambda reference: (
                f"skopeo copy -q oci:/shared/skopeo:{reference.split(':')[1]} docker-daemon:{reference}"
            )
        rows = (("load cold", OLD), ("load delta", NEW))
        self.forget(two)
        for row, reference in rows:
            self.note(row, "ours", two.waiting("obtain", reference), two)
        self.note("load warm", "ours", two.waiting("obtain", NEW), two)
        two.forget(NEW)
        self.note("load delta, fresh", "ours", partial(two.fresh, "obtain", NEW))
        for who, script in peers.items():
            self.forget(two)
            for row, reference in rows:
                self.note(row, who, partial(two.timed, script(reference)), two)
        self.forget(two)
        self.floor(two)

    def floor(self, node: Machine) -> None:
        """Only unpack the first image, and leave nothing of that."""
        if self.store == "classic":
            self.note("load cold", "floor", lambda: float(node.sh("python3 -I /repo/tests/bench/staged_load.py /shared/save-old.tar")))
            self.forget(node)
            return
        self._floors += 1
        ctr = f"ctr -a /run/docker/containerd/containerd.sock -n floor{self._floors}"
        node.sh(f"{ctr} images import --no-unpack /shared/old.tar")
        digest = node.sh(f"{ctr} images ls").split("sha256:")[1].split()[0]
        self.note("load cold", "floor", partial(node.timed, f"{ctr} snapshots unpack sha256:{digest}"))
        node.sh(f"{ctr} images rm --sync $({ctr} images ls -q)")  # or the next pull would find these blobs

    def end_to_end(self) -> None:
        """Bring both images to all members, one after the other: what the first has brought is there for the second."""
        rows = (("end to end cold", OLD), ("end to end delta", NEW))
        self.empty_store()
        self.forget(*self.members)
        for row, reference in rows:
            self.note(row, "ours", self._overlapping(reference))
        if not self.has_peers:
            self.warm()
        self.forget(*self.members)
        for row, reference in rows:
            self.note(row, "save + load", partial(self._one_after_the_other, reference))
        if self.has_peers:
            self.forget(*self.members)
            for row, reference in rows:
                self.note(row, "save | load", partial(self._piped, reference))

    def warm(self) -> None:
        """Time the whole prolog of a job whose image every node has."""
        import prologs  # not at the top: a worker inside a node runs isolated, and finds nothing beside this file

        nodes = (self.leader, *self.members)
        if not self._jobs:
            prologs.install(nodes)
        self.empty_store()
        (self.shared / "store").mkdir()
        (self.shared / "store").chmod(0o1777)  # as the role makes it: everybody publishes there
        self._jobs += 2
        prologs.run(nodes, self._jobs, NEW)  # publishes what is in no store yet
        self.note("warm prolog", "ours", lambda: prologs.run(nodes, self._jobs + 1, NEW))

    def _overlapping(self, reference: str) -> Callable[[], Dict[str, Any]]:
        """Have all nodes' hooks wait; what is returned says how long it takes from the leader's start to the last end, and the sums."""
        self.leader.sh(f"rm -f '/shared/{reference.replace('/', '_')}.offer'")
        members, lead = [one.waiting("await", reference) for one in self.members], self.leader.waiting("publish", reference)

        def go() -> Dict[str, Any]:
            with ThreadPoolExecutor() as pool:
                loads = [pool.submit(member) for member in members]
                every = [lead(), *(each.result() for each in loads)]
            seconds = max(each["ended"] for each in every) - every[0]["began"]
            sums = {key: sum(each[key] for each in every) for key in ("bytes_moved", "cpu_s")}
            return {**every[0], **sums, "seconds": seconds, "rss_mib": max(each["rss_mib"] for each in every)}

        return go

    def _one_after_the_other(self, reference: str) -> float:
        """Return the time of the leader's save and the slowest member's load."""
        save = self.leader.timed(f"docker save -o /shared/e2e.tar {reference}")
        with ThreadPoolExecutor() as pool:
            loads = pool.map(lambda one: one.timed("docker load -qi /shared/e2e.tar"), self.members)
            return float(save + max(loads))

    def _piped(self, reference: str) -> float:
        began = time.monotonic()
        pairs = []
        for member in self.members:
            save = subprocess.Popen(["docker", "exec", self.leader.name, "docker", "save", reference], stdout=subprocess.PIPE)
            load = subprocess.Popen(
                ["docker", "exec", "-i", member.name, "docker", "load", "-q"], stdin=save.stdout, stdout=subprocess.DEVNULL
            )
            pairs += [save, load]
        for process in pairs:
            if process.wait():
                raise SystemExit("save | load failed")
        return time.monotonic() - began

    def forget(self, *nodes: Machine) -> None:
        """Leave no image on *nodes*."""
        for node in nodes:
            node.forget(*node.sh("docker images --format '{{.Repository}}:{{.Tag}}'").split())

    def forget_stored(self) -> None:
        """Take the second image, and what it alone has, out of the store."""
        blobs = self.shared / "store" / "blobs" / "sha256"
        manifest = json.loads((self.shared / f"{NEW.replace('/', '_')}.offer").read_text())[0]["manifest"][7:]
        document = json.loads((blobs / manifest).read_text())
        for digest in (manifest, document["config"]["digest"][7:], document["layers"][-1]["digest"][7:]):
            (blobs / digest).unlink()
        for each in (self.shared / "store" / "images").glob(f"*/*{NEW.rpartition(':')[0].rpartition('/')[2]}%3A2"):
            shutil.rmtree(each)

    def empty_store(self) -> None:
        shutil.rmtree(self.shared / "store", ignore_errors=True)


def _short(reference: str) -> str:
    return "old" if reference == OLD else "new"


def table(bench: Bench) -> List[Dict[str, Any]]:
    """Return a row each: medians, and for each limit the median of the rounds' own ratios."""
    rows = []
    for row, rounds in bench.times.items():
        medians = {who: round(statistics.median(each[who] for each in rounds), 3) for who in rounds[0]}
        ratios = [
            {"peer": who, "ratio": round(statistics.median(each["ours"] / each[who] for each in rounds), 3), "at_most": at_most}
            for who, at_most in {**LIMITS.get(row, {}), **({"floor": 0.0} if "floor" in medians else {})}.items()
            if who in medians
        ]
        cpu = {who: round(statistics.median(seconds), 2) for who, seconds in bench.cpu.get(row, {}).items()}
        found = {"store": bench.store, "row": row, "ours_s": medians.pop("ours"), "peers_s": medians, "ratios": ratios, "cpu_s": cpu}
        rows.append({**found, **({"at_most_s": WARM_SECONDS} if row == "warm prolog" else {}), **bench.facts.get(row, {})})
    return rows


def show(rows: List[Dict[str, Any]]) -> None:
    for row in rows:
        peers = ", ".join(f"{who} {seconds:.2f}" for who, seconds in row["peers_s"].items())
        limits = [f"at most {row['at_most_s']} s"] if "at_most_s" in row else []
        limits += [
            f"{each['ratio']:.3f} of {each['peer']}" + (f" (≤ {each['at_most']})" if each["at_most"] else "") for each in row["ratios"]
        ]
        facts = f"{row.get('bytes_moved')} bytes, {row.get('method', '')}, peak {row.get('peak_rss_mib')} MiB"
        facts += "; CPU " + ", ".join(f"{who} {seconds} s" for who, seconds in row["cpu_s"].items()) if row["cpu_s"] else ""
        print(f"{row['store']:10} {row['row']:20} {row['ours_s']:8.3f} s  {'; '.join(limits):60} {peers}; {facts}")


def measured(asked: argparse.Namespace) -> List[Dict[str, Any]]:
    """Return the rows of each kind of store, one after the other."""
    rows: List[Dict[str, Any]] = []
    for store in asked.stores.split(","):
        try:
            bench = Bench(asked.shared, store, asked.peers, asked.compression)
            for number in range(asked.rounds):
                print(f"round {number + 1}", flush=True)
                bench.round()
            rows += table(bench)
        finally:
            subprocess.run(["docker", "rm", "-fv", *NODES], check=False, capture_output=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=0.33, help="1.0 is 1.6 GB")
    parser.add_argument("--stores", default=",".join(STORES), help="the nodes' image stores")
    parser.add_argument("--peers", action="store_true", help="beside the slow peers: registry push, skopeo, save | load")
    parser.add_argument("--compression", default="none", choices=["none", "gzip", "zstd"], help="how ours packs layers in the store")
    parser.add_argument("--shared", type=Path, default=ROOT / "build" / "bench" / "images")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the nodes go, too
    asked.shared.mkdir(parents=True, exist_ok=True)
    dockerfile = (
        f"FROM debian:trixie\nRUN apt-get update && apt-get install -y --no-install-recommends {PACKAGES} && rm -rf /var/lib/apt/lists/*\n"
    )
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(["docker", "build", "-q", "-t", IMAGE, "-"], input=dockerfile.encode(), env=environment, check=True, capture_output=True)
    began = time.monotonic()
    try:
        print("making the images", flush=True)
        make_images(asked.shared, asked.scale)
        rows = measured(asked)
    finally:
        shutil.rmtree(asked.shared, ignore_errors=True)
    show(rows)
    parts = ["images", *(["peers"] if asked.peers else []), *([asked.compression] if asked.compression != "none" else [])]
    facts = {"rounds": asked.rounds, "scale": asked.scale, "minutes": round((time.monotonic() - began) / 60, 1), "load": os.getloadavg()}
    out = ROOT / "build" / "bench" / f"{'-'.join(parts)}.json"
    out.write_text(json.dumps({"rows": rows, **facts}, indent=1) + "\n")
    print(f"{out}: {facts}{'' if asked.scale >= 1 else '; the goals are meant for --scale 1'}")


if __name__ == "__main__":
    if len(sys.argv) in (3, 4) and sys.argv[1] in ("publish", "obtain", "await"):
        worker(sys.argv[1], sys.argv[2], sys.argv[3:] == ["fresh"])
    else:
        main()
