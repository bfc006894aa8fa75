# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moving images costs, beside the usual ways: build/bench/images.json and a table.

Three nodes are containers with a dockerd of their own; what they share is a directory of this machine. The image has 1.6 GB in
seven layers: large binaries, 21000 small files, a small top layer that the second image replaces. Ours and the peers take
turns within each round; before each step everything is synced, and all files are in the page cache for all of them alike.
A time is that of a whole process, imports included, but not of ``docker exec``.

Peers: ``docker save`` to the shared directory and ``docker load`` from it, which is what madengine's own tar cache does. The
floor is ``tar -x`` of the same layers onto the daemon's disk. With ``--peers``, in a run of its own since they are slow: push to
and pull from Debian's docker-registry on the first node; skopeo copy; ``docker save`` piped into ``docker load``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "ansible_collections.rocm.madengine.plugins.module_utils._madengine"
IMAGE = "madengine-bench-node:1"
PACKAGES = "docker.io docker-cli docker-registry skopeo zstd iproute2 iptables python3 python3-docker procps ca-certificates"
NODES = ["mad-bench-1", "mad-bench-2", "mad-bench-3"]
OLD, NEW = "bench/model:1", "bench/model:2"
LIMITS: Dict[str, Tuple[str, float]] = {
    "publish cold": ("docker save", 0.35),
    "publish delta": ("docker save", 0.02),
    "load cold": ("docker load", 0.80),
    "load delta": ("docker load", 0.07),
    "end to end cold": ("save + load", 0.55),
    "end to end delta": ("save + load", 0.03),
}
WARM_SECONDS = 0.5  # at most, for the whole prolog of three nodes where nothing is missing
RUN = ["docker", "run", "--detach", "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--tmpfs", "/run", "-v", "/var/lib/docker"]
RUN += [word for option in ("seccomp", "apparmor", "systempaths") for word in ("--security-opt", f"{option}=unconfined")]
RUN += ["-v", "/var/lib/containerd", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns=host", "-v", f"{ROOT}:/repo:ro"]


def worker(action: str, reference: str) -> None:
    """Do one step of ours inside a node; print its figures as JSON. The clock starts before the imports."""
    began = time.monotonic()
    sys.path.insert(0, "/repo/collections")
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import engine, layer_server
    from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, transports

    handle = layer_server.start("/var/run/docker.sock") if action == "publish" else -1
    docker, within = engine.Engine(), Deadline(3600)
    if action == "publish":
        options = transports.TransportOptions(sources=("local",), reader=layer_server.LayerClient(handle), compression=os.environ["PACK"])
        report = distribute.publish(docker, "/shared/store", reference, "site", within, options)
        Path(f"/shared/{reference.replace('/', '_')}.offer").write_text(json.dumps(report))
    else:
        report = distribute.obtain(docker, json.loads(Path(f"/shared/{reference.replace('/', '_')}.offer").read_text()), within)
    seconds = time.monotonic() - began
    print(
        json.dumps(
            {
                "seconds": seconds,
                "rss_mib": _peak_rss_mib(),
                **{key: report[key] for key in distribute.FIGURES if key in report and key != "seconds"},
            }
        )
    )


def _peak_rss_mib() -> float:
    """Return the largest of this process and the reader beside it, which has the same command line."""
    peaks, mine = [], Path("/proc/self/cmdline").read_bytes()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes() == mine:
                lines = (process / "status").read_text().splitlines()
                peaks += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
        except OSError:
            continue
    return max(peaks)


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

    def ours(self, action: str, reference: str) -> Dict[str, Any]:
        found: Dict[str, Any] = json.loads(
            self.sh(f"PACK={self.compression} python3 -I -X pycache_prefix=/tmp/pyc /repo/tests/bench/images.py {action} {reference}")
        )
        return found

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
        ((f"usr/lib/python3/p{n % 211}/m{n}.py", int(scale * (1000 + n % 8000))) for n in range(21000)),
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
    """All the nodes, and one round of all the rows."""

    def __init__(self, shared: Path, is_containerd_store: bool, has_peers: bool, compression: str) -> None:
        self.shared, self.has_peers = shared, has_peers
        self.leader, *self.members = [Machine(name, shared, is_containerd_store, compression) for name in NODES]
        self.times: Dict[str, Dict[str, List[float]]] = {}
        self.facts: Dict[str, Dict[str, Any]] = {}
        self._jobs = 0
        self.layers: List[str] = []
        self.leader.sh("docker load -qi /shared/old.tar; docker load -qi /shared/new.tar")
        for node in (self.leader, *self.members):  # as installed: compiled
            node.sh("python3 -I -X pycache_prefix=/tmp/pyc /repo/tests/bench/images.py obtain none 2>/dev/null || true")
        if has_peers:
            config = '{"version": 0.1, "storage": {"filesystem": {"rootdirectory": "/var/lib/docker/registry"}}, "http": {"addr": ":5000"}}'
            self.leader.sh(f"echo '{config}' > /run/registry.yml; docker-registry serve /run/registry.yml >/run/registry.log 2>&1 &")
            self.leader.sh("until grep -q 'listening on' /run/registry.log; do sleep 0.1; done")

    def note(self, row: str, who: str, work: Callable[[], Any]) -> None:
        subprocess.run(["sync"], check=True)
        result = work()
        seconds = result["seconds"] if isinstance(result, dict) else result
        if isinstance(result, dict):
            worst = max(result["rss_mib"], self.facts.get(row, {}).get("peak_rss_mib", 0))
            self.facts[row] = {"bytes_moved": result["bytes_moved"], "method": result["method"], "peak_rss_mib": round(worst, 1)}
            if result.get("reason"):
                self.facts[row]["reason"] = result["reason"]
        self.times.setdefault(row, {}).setdefault(who, []).append(seconds)
        print(f"  {row:18} {who:22} {seconds:8.3f} s", flush=True)

    def round(self) -> None:
        self.publishing()
        self.loading()
        self.end_to_end("cold")
        self.end_to_end("delta")
        self.warm()

    def publishing(self) -> None:
        one = self.leader
        registry = f"{one.address}:5000"
        self.empty_store()
        self.note("publish cold", "ours", lambda: one.ours("publish", OLD))
        manifest = json.loads(one.sh("cat /shared/bench_model:1.offer"))["manifest"]
        layers = json.loads((self.shared / "store" / "blobs" / "sha256" / manifest[7:]).read_text())["layers"]
        self.layers = [each["digest"][7:] for each in layers]
        self.note("publish delta", "ours", lambda: one.ours("publish", NEW))
        for row, reference, file in (("publish cold", OLD, "save-old"), ("publish delta", NEW, "save-new")):
            self.note(row, "docker save", partial(one.timed, f"docker save -o /shared/{file}.tar {reference}"))
        if not self.has_peers:
            return
        one.sh("rm -rf /var/lib/docker/registry/docker /shared/skopeo")
        for row, reference in (("publish cold", OLD), ("publish delta", NEW)):
            name = f"{registry}/{reference}"
            one.sh(f"docker tag {reference} {name}")
            self.note(row, "registry push", lambda name=name: one.timed(f"docker push -q {name}"))  # type: ignore[misc]
            copy = f"skopeo copy -q docker-daemon:{reference} oci:/shared/skopeo:{reference.split(':')[1]}"
            self.note(row, "skopeo copy", lambda copy=copy: one.timed(copy))  # type: ignore[misc]

    def loading(self) -> None:
        two, registry = self.members[0], f"{self.leader.address}:5000"
        peers: Dict[str, Callable[[str], str]] = {"docker load": lambda reference: f"docker load -qi /shared/save-{_short(reference)}.tar"}
        if self.has_peers:
            peers["registry pull"] = lambda reference: f"docker pull -q {registry}/{reference}"
            peers["skopeo copy"] = lambda reference: (
                f"skopeo copy -q oci:/shared/skopeo:{reference.split(':')[1]} docker-daemon:{reference}"
            )
        for row, reference, before in (("load cold", OLD, None), ("load delta", NEW, OLD)):
            self.reset(two, None)
            if before is not None:
                two.ours("obtain", before)
            self.note(row, "ours", lambda reference=reference: two.ours("obtain", reference))  # type: ignore[misc]
            for who, script in peers.items():
                # The peers' own delta: what they brought before is there.
                self.reset(two, None)
                if before is not None:
                    two.sh(script(before) + " >/dev/null")
                self.note(row, who, lambda reference=reference, script=script: two.timed(script(reference)))  # type: ignore[misc]
        self.reset(two, None)
        unpack = f"cd /shared/store/blobs/sha256; for each in {' '.join(self.layers)}; do tar -xf $each -C /var/lib/docker/floor; done"
        two.sh("mkdir -p /var/lib/docker/floor")
        self.note("load cold", "floor (tar -x)", lambda: two.timed(unpack))
        two.sh("rm -rf /var/lib/docker/floor")
        self.reset(two, NEW)
        self.note("load warm", "ours", lambda: two.ours("obtain", NEW))

    def end_to_end(self, kind: str) -> None:
        reference, before = (OLD, None) if kind == "cold" else (NEW, OLD)
        row = f"end to end {kind}"
        for member in self.members:
            self.reset(member, None)
        self.empty_store()
        if before is not None:
            self.leader.ours("publish", before)
            for member in self.members:  # what an earlier job has brought
                member.ours("obtain", before)
        self.note(
            row, "ours", lambda: self._together(lambda: self.leader.ours("publish", reference), lambda one: one.ours("obtain", reference))
        )
        for member in self.members:
            self.reset(member, before)
        save, load = f"docker save -o /shared/e2e.tar {reference}", "docker load -qi /shared/e2e.tar"
        self.note(row, "save + load", lambda: self._together(lambda: self.leader.timed(save), lambda one: one.timed(load)))
        for member in self.members:
            self.reset(member, before)
        if self.has_peers:
            self.note(row, "save | load", lambda: self._piped(reference))

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
        prologs.run(nodes, self._jobs, NEW)  # publishes what is in no store yet, and loads
        self.note("warm prolog", "ours", lambda: prologs.run(nodes, self._jobs + 1, NEW))

    def _together(self, first: Callable[[], Any], then: Callable[[Machine], Any]) -> Any:
        """Return the time of the leader's step and the slowest member's; the figures of ours add up."""
        lead = first()
        box: List[Any] = []
        threads = [threading.Thread(target=lambda one=one: box.append(then(one))) for one in self.members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not isinstance(lead, dict):
            return lead + max(box)
        seconds = lead["seconds"] + max(each["seconds"] for each in box)
        peak = max(each["rss_mib"] for each in [lead, *box])
        return {**lead, "seconds": seconds, "rss_mib": peak, "bytes_moved": sum(each["bytes_moved"] for each in [lead, *box])}

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

    def reset(self, node: Machine, before: Optional[str]) -> None:
        """Leave *node* with just the image *before*, or none."""
        names = node.sh("docker images --format '{{.Repository}}:{{.Tag}}'").split()
        node.forget(*names)
        if before is not None:
            node.sh(f"docker load -qi /shared/{_short(before)}.tar")

    def empty_store(self) -> None:
        shutil.rmtree(self.shared / "store", ignore_errors=True)


def _short(reference: str) -> str:
    return "old" if reference == OLD else "new"


def table(bench: Bench) -> List[Dict[str, Any]]:
    rows = []
    for row, times in bench.times.items():
        medians = {who: round(statistics.median(seconds), 3) for who, seconds in times.items()}
        ours = medians.pop("ours")
        peer, limit = LIMITS.get(row, ("", WARM_SECONDS if row == "warm prolog" else None))
        ratio = round(ours / medians[peer], 3) if peer in medians else None
        rows.append(
            {"row": row, "ours_s": ours, "peers": medians, "against": peer, "ratio": ratio, "at_most": limit, **bench.facts.get(row, {})}
        )
    return rows


def show(rows: List[Dict[str, Any]]) -> None:
    for row in rows:
        peers = ", ".join(f"{who} {seconds:.2f}" for who, seconds in row["peers"].items())
        verdict = f"{row['ratio']:.3f} of {row['against']} (at most {row['at_most']})" if row["ratio"] is not None else ""
        verdict = f"{row['bytes_moved']} bytes (at most {row['at_most']} s)" if row["row"] == "warm prolog" else verdict
        print(f"{row['row']:18} {row['ours_s']:8.3f} s  {verdict:44} peers: {peers}; peak {row.get('peak_rss_mib')} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is 1.6 GB")
    parser.add_argument("--containerd", action="store_true", help="the nodes use the containerd image store")
    parser.add_argument("--peers", action="store_true", help="also the slow ones: registry, skopeo, save | load")
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
    try:
        print("making the images", flush=True)
        make_images(asked.shared, asked.scale)
        bench = Bench(asked.shared, asked.containerd, asked.peers, asked.compression)
        for number in range(asked.rounds):
            print(f"round {number + 1}", flush=True)
            bench.round()
        rows = table(bench)
        show(rows)
        parts = ["images", *(["containerd"] if asked.containerd else []), *(["peers"] if asked.peers else [])]
        parts += [asked.compression] if asked.compression != "none" else []
        out = ROOT / "build" / "bench" / f"{'-'.join(parts)}.json"
        out.write_text(json.dumps({"rows": rows, "rounds": asked.rounds, "scale": asked.scale, "load": os.getloadavg()}, indent=1) + "\n")
    finally:
        subprocess.run(["docker", "rm", "-fv", *NODES], check=False, capture_output=True)
        shutil.rmtree(asked.shared, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ("publish", "obtain"):
        worker(sys.argv[1], sys.argv[2])
    else:
        main()
