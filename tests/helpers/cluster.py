# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's real SLURM cluster, seen from outside: what a user submits and what an admin looks at."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional

import testinfra

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY payload /payload
ENV FLAVOUR=lab
CMD ["cat", "/payload"]
"""
NODES = ("n1", "n2", "n3")
SCRIPT = "#!/bin/sh\nsrun --ntasks-per-node=1 docker run --rm $MAD_IMAGE true && echo ran\n"
_OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL", "DEADLINE"}
_STATE = "/run/madengine/jobs"
_KEPT = "/root/kept"
_FOLDERS = "/etc/slurm /etc/madengine /opt/madengine-hooks"
# A folder is never missing for longer than two renames take. It says so where slurm.conf is another one.
_RESTORE = f"""
cmp -s /etc/slurm/slurm.conf {_KEPT}/etc/slurm/slurm.conf || [ ! -e {_KEPT}/etc/slurm/slurm.conf ] || echo reconfigure
for folder in {_FOLDERS}; do
    rm -rf $folder.gone $folder.kept
    [ ! -e {_KEPT}$folder ] || cp -a {_KEPT}$folder $folder.kept
    [ ! -e $folder ] || mv $folder $folder.gone
    [ ! -e $folder.kept ] || mv $folder.kept $folder
    rm -rf $folder.gone
done
"""

# Source: fanotify(7): a permission event holds up who reads, until it is answered or nobody listens any more.
_HOLD_READS = """
import ctypes, os, struct, sys
library, path, passes = ctypes.CDLL(None, use_errno=True), os.fsencode(sys.argv[1]), int(sys.argv[2])
FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_ACCESS_PERM, FAN_ALLOW, AT_FDCWD = 0x4, 0x1, 0x20000, 0x1, -100
events = library.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY)
if library.fanotify_mark(events, FAN_MARK_ADD, ctypes.c_uint64(FAN_ACCESS_PERM), AT_FDCWD, path):
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready", flush=True)
while passes >= 0:
    for _length, _version, _reserved, _metadata, _mask, handle, _pid in struct.iter_unpack("=IBBHQii", os.read(events, 24)):
        if passes > 0:
            os.write(events, struct.pack("=iI", handle, FAN_ALLOW))
        os.close(handle)
        passes -= 1
print("held", flush=True)
sys.stdin.read()
"""


def container(name: str) -> str:
    """Return the name of the container that is node *name* of this lab."""
    lab = os.environ.get("MADLAB_NAME", "madlab")
    return f"{lab}-{name}" if lab else name


@dataclass(frozen=True)
class Ended:
    """A job that is over, as ``scontrol show job`` and its output tell."""

    job_id: int
    state: str
    seconds: float
    output: str
    facts: Dict[str, str]

    def __str__(self) -> str:
        return f"job {self.job_id} {self.state} after {self.seconds:.1f} s\n{self.output}"


class Cluster:
    """The controller and the compute nodes of one lab."""

    def __init__(self) -> None:
        self.hosts = {name: testinfra.get_host(f"docker://{container(name)}") for name in ("c0", *NODES)}
        self.controller = self.hosts["c0"]

    def run(self, node: str, command: str) -> str:
        """Return what *command* prints on *node* as root; it must succeed."""
        result = self.hosts[node].run(command)
        assert result.rc == 0, f"{node}: {command}\n{result.stdout}{result.stderr}"
        return str(result.stdout)

    def write(self, path: str, text: str, user: str = "alice", mode: str = "0644", node: str = "n1") -> str:
        """Put a file on the share, as *user*."""
        folder = shlex.quote(os.path.dirname(path))
        command = ["docker", "exec", "-i", "-u", user, container(node), "sh", "-c"]
        script = f"mkdir -p {folder} && cat > {shlex.quote(path)} && chmod {mode} {shlex.quote(path)}"
        subprocess.run([*command, script], input=text.encode(), check=True)
        return path

    def submit(self, script: str, *options: str, user: str = "alice", folder: Optional[str] = None) -> int:
        """Return the id of the batch job that *user* submits from *folder*."""
        folder = folder or f"/shared/home/{user}"
        command = ["docker", "exec", "-i", "-u", user, "-w", folder, container("c0"), "sbatch", "--parsable", *options]
        done = subprocess.run(command, input=script.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return int(done.stdout.decode().split(";")[0])

    def facts(self, job_id: int) -> Dict[str, str]:
        """Return what ``scontrol show job`` says."""
        # A heterogeneous job has a line for each component; the first one's output is the job's.
        line = self.run("c0", f"scontrol --oneliner show job {job_id}").splitlines()[0]
        return dict(word.split("=", 1) for word in line.split() if "=" in word)

    def wait(self, job_id: int, within: float = 120) -> Ended:
        """Return the job when its last epilog has ended."""
        start = time.monotonic()
        while True:
            facts = self.facts(job_id)
            if facts["JobState"] in _OVER:
                break
            assert time.monotonic() - start < within, f"job {job_id} is still {facts['JobState']}\n{self.evidence()}"
            time.sleep(0.1)  # SLURM offers no event to wait for
        output = self.hosts["c0"].run(f"cat {shlex.quote(facts['StdOut'])}").stdout
        return Ended(job_id, facts["JobState"], _seconds(facts), output, facts)

    def job(self, script: str, *options: str, within: float = 120, **named: Any) -> Ended:
        """Submit and wait."""
        return self.wait(self.submit(script, *options, **named), within)

    def until(self, node: str, condition: str, within: int = 60) -> None:
        """Return when the shell *condition* holds on *node*."""
        result = self.hosts[node].run(f"timeout {within} sh -c {shlex.quote(f'until {condition}; do sleep 0.05; done')}")
        assert result.rc == 0, f"{node}: {condition} never held\n{self.evidence()}"

    def hold_docker(self, node: str) -> None:
        """Make the node's Docker daemon deaf, so that whoever asks it waits."""
        self.run(node, "kill -STOP $(pidof dockerd)")

    def free_docker(self, node: str) -> None:
        self.hosts[node].run("kill -CONT $(pidof dockerd)")

    @contextlib.contextmanager
    def holding_reads(self, node: str, path: str, after: int) -> Iterator[Callable[[], None]]:
        """Hold up who reads the file *path* on *node*, once it has been read from *after* times; what is given waits for that."""
        command = ["docker", "exec", "-i", container(node), "timeout", "120", "python3", "-c", _HOLD_READS, path, str(after)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            said = iter(holder.stdout.readline, "")

            def wait() -> None:
                assert next(said, "") == "held\n", self.evidence()

            try:
                assert next(said, "") == "ready\n"
                yield wait
            finally:
                holder.stdin.close()

    @contextlib.contextmanager
    def setting(self, line: str, *nodes: str) -> Iterator[None]:
        """Add *line* to hooks.conf of *nodes*, or of all, for a while."""
        for node in nodes or NODES:
            self.run(node, f"cp -p /etc/madengine/hooks.conf /run/hooks.conf && echo {line} >> /etc/madengine/hooks.conf")
        try:
            yield
        finally:
            for node in nodes or NODES:
                self.run(node, "cp -p /run/hooks.conf /etc/madengine/hooks.conf")

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Give SLURM's files and ours back, at the end, as they are now: what a playbook does in half a minute, in a second."""
        for host in self.hosts:
            self.run(host, f"rm -rf {_KEPT} && mkdir {_KEPT} && cp -a --parents $(ls -d {_FOLDERS} 2>/dev/null) {_KEPT}")
        try:
            yield
        finally:
            self.wait_idle()  # what runs has its files
            restored = [self.run(host, _RESTORE) for host in self.hosts]
            if any(restored):
                self.run("c0", "scontrol reconfigure")

    def until_phase(self, node: str, job_id: int, phase: str) -> None:
        """Return when the job's prolog on *node* has that phase behind it."""
        self.until(node, f"grep -q '\"{phase}\"' {_STATE}/{job_id}/timeline.jsonl 2>/dev/null")

    def states(self) -> List[str]:
        """Return the distinct states of the nodes, with the marks that ``sinfo`` puts behind them."""
        return sorted(set(self.run("c0", "sinfo --noheader --Node --format=%T").split()))

    def reasons(self) -> str:
        return self.run("c0", "sinfo --noheader -R --format='%n %E'").strip()

    def wait_idle(self, within: float = 60) -> None:
        """Return when every node is idle; show the evidence if one never is."""
        start = time.monotonic()
        while self.states() != ["idle"]:
            assert time.monotonic() - start < within, self.evidence()
            time.sleep(0.1)

    def resume(self) -> None:
        """Put every node back into service."""
        for node in NODES:  # one at a time: SLURM refuses a list in which one needs no resuming
            self.hosts["c0"].run(f"scontrol update nodename={node} state=resume")

    def json(self, path: str, node: str = "n1") -> Any:
        return json.loads(self.run(node, f"cat {shlex.quote(path)}"))

    def leftovers(self, job_id: int) -> Dict[str, str]:
        """Return what each node still has of a job: its state, its containers, its hooks' processes."""
        found = {}
        for node in NODES:
            text = self.hosts[node].run(
                f"ls -d {_STATE}/{job_id} /var/lib/madengine/jobs/{job_id} 2>/dev/null;"
                f" docker ps -aq --filter label=madengine.job={job_id}; pgrep -af '[p]rolog[.]py|[e]pilog[.]py'"
            )
            if text.stdout.strip():
                found[node] = text.stdout
        return found

    def images(self, node: str) -> List[str]:
        return self.run(node, "docker images --format '{{.Repository}}:{{.Tag}}'").split()

    def evidence(self) -> str:
        """Return what a person would look at first."""
        parts = [self.run("c0", "sinfo -N -l; squeue -l; sinfo -R")]
        for node in NODES:
            parts.append(
                f"--- {node}\n"
                + self.hosts[node].run("journalctl -q -n 15 -t madengine --no-pager; tail -n 5 /var/log/slurm/slurmd.log").stdout
            )
        return "\n".join(parts)


def _seconds(facts: Dict[str, str]) -> float:
    text = facts.get("RunTime", "0")
    days, _, clock = text.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return float(int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds)


def the_line(output: str) -> str:
    """Return the one line of ours that a user reads."""
    lines = [line for line in output.splitlines() if line.startswith("madengine: ")]
    assert len(lines) == 1, output
    return lines[0]


def build_image(cluster: Cluster, node: str, reference: str, payload: str) -> None:
    folder = cluster.run(node, "mktemp -d").strip()
    cluster.write(f"{folder}/Dockerfile", DOCKERFILE, user="root", node=node)
    cluster.write(f"{folder}/payload", payload + "\n", user="root", node=node)
    cluster.run(node, f"cp /bin/busybox {folder} && docker build -q -t {reference} {folder} && rm -r {folder}")


def manifest(reference: str, **model: object) -> str:
    """Return a build manifest as madengine writes it for one image (shape A)."""
    facts = {"name": "tiny", "n_gpus": "0", "scripts": "run.sh", "args": "", "multiple_results": "perf_tiny.csv", **model}
    return json.dumps(
        {
            "built_images": {reference: {"docker_image": reference, "dockerfile": "docker/tiny.Dockerfile"}},
            "built_models": {reference: facts},
            "context": {"docker_env_vars": {"NCCL_DEBUG": "INFO", "MAD_GUEST_OS": "UBUNTU"}, "docker_mounts": {}},
        },
        indent=1,
    )
