# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show one real multi-node job on a real cluster, from an empty directory to the measured number: ``make demo``.

Runs with the machine's own python3, because making ``.venv`` is its first step. A line a step while it works; the log
of each is ``build/demo/<step>.log``. The last line is ``best: <path> rows=<n> performance=<value> metric=<name> node=<node>``.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, List, NoReturn, Optional, Sequence

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "molecule" / "demo"
SHARED = REPOSITORY / "molecule" / "shared"
LOGS = REPOSITORY / "build" / "demo"
NODES = ("n1", "n2", "n3")
BASE = os.environ.get("MADLAB_BASE") or "debian:trixie"
IMAGE = "ci-tiny-llama_tiny-llama.debian.amd"
FOLDER = "/shared/home/alice/tiny-llama"
LAB = ["ansible-playbook", "--inventory", str(SHARED / "inventory")]
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}
LONGEST_JOB_SECONDS = 900
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{REPOSITORY / '.venv' / 'bin'}:{os.environ.get('PATH', os.defpath)}",
    "MADLAB_NAME": "",  # plain container names: c0, n1, n2, n3
    "MADLAB_SHARED": "yes",
    "DOCKER_BUILDKIT": "0",
    "ANSIBLE_NOCOLOR": "1",
}


class StepFault(Exception):
    """A step that failed, with the lines that tell why."""

    def __init__(self, reason: str, tail: str = "") -> None:
        super().__init__(reason)
        self.tail = tail


def fail(step: str, fault: StepFault) -> NoReturn:
    print("FAILED")
    if fault.tail:
        print(fault.tail, flush=True)
    sys.exit(f"demo: step '{step}' failed: {fault}")


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Print *text*, and the seconds that the block took."""
    start = time.monotonic()
    print(f"{text:.<58} ", end="", flush=True)
    try:
        yield
    except StepFault as fault:
        fail(text, fault)
    print(f"{time.monotonic() - start:6.1f} s", flush=True)


def run(name: str, *commands: Sequence[str], docker: bool = True, **environment: str) -> None:
    """Run each of *commands*, with a Docker engine at hand; what they print goes to the step's log."""
    log = LOGS / f"{name}.log"
    for command in commands:
        line = [str(SHARED / "docker-engine"), *command] if docker else list(command)
        with log.open("a") as out:
            done = subprocess.run(
                line, cwd=REPOSITORY, env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
            )
        if done.returncode:
            tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:])
            raise StepFault(f"{command[0]} ended with {done.returncode} (log: {log.relative_to(REPOSITORY)})", tail)


def on(node: str, *command: str, user: str = "root", folder: str = "/", text: Optional[str] = None, check: bool = True) -> str:
    """Return what *command* prints on *node*."""
    options = ["-i", "--user", user, "--workdir", folder]
    line = [str(SHARED / "docker-engine"), "docker", "exec", *options, node, *command]
    done = subprocess.run(line, env=ENVIRONMENT, input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise StepFault(f"on {node}: {' '.join(command[:3])} ended with {done.returncode}", done.stderr.strip())
    return done.stdout


def submit() -> int:
    """Put the project where alice would have it, submit its job as she would, and return the job's id."""
    on("c0", "mkdir", "-p", FOLDER, user="alice")
    for path in sorted((DEMO / "project").iterdir()):
        on("c0", "sh", "-c", f"cat >{FOLDER}/{path.name}", user="alice", text=path.read_text())
    return int(on("c0", "sbatch", "--parsable", "job.sh", user="alice", folder=FOLDER).split(";")[0])


def facts(job_id: int) -> dict[str, str]:
    """Return what ``scontrol show job`` says."""
    return dict(re.findall(r"(\w+)=(\S*)", on("c0", "scontrol", "--oneliner", "show", "job", str(job_id))))


def wait(job_id: int, is_reached: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Return the job's facts once *is_reached* accepts them."""
    end = time.monotonic() + LONGEST_JOB_SECONDS
    while time.monotonic() < end:
        seen = facts(job_id)
        if is_reached(seen):
            return seen
        time.sleep(0.5)  # Slurm offers no event to wait for
    raise StepFault(f"job {job_id} takes longer than {LONGEST_JOB_SECONDS} s", on("c0", "squeue", "--long"))


def has_begun(seen: dict[str, str]) -> bool:
    """Say whether the job's script runs: its output file appears when the last prolog is over."""
    return seen["JobState"] in OVER or bool(on("c0", "ls", seen["StdOut"], check=False))


def is_over(seen: dict[str, str]) -> bool:
    return seen["JobState"] in OVER


def phases(collection: str) -> List[List[str]]:
    """Return the table of phases: a row a phase, a column a node, in the order in which the phases began."""
    cells: dict[str, dict[str, str]] = {}
    began: dict[str, float] = {}
    for rank, node in enumerate(NODES):
        for text in on("c0", "cat", f"{collection}/node_{rank}/timeline.jsonl", check=False).splitlines():
            line: dict[str, Any] = json.loads(text)
            began[line["phase"]] = min(line["time"], began.get(line["phase"], line["time"]))
            cells.setdefault(line["phase"], {})[node] = cell(line)
    order = sorted(cells, key=lambda phase: began[phase])
    return [["phase", *NODES], *([phase, *(cells[phase].get(node, "") for node in NODES)] for phase in order)]


def cell(line: dict[str, Any]) -> str:
    """Return one node's part in a phase: seconds, megabytes if any moved, and what went wrong if anything did."""
    moved = next((value for key, value in line.items() if "bytes" in key and isinstance(value, int) and value), 0)
    parts = [f"{line['seconds']:.2f} s", f"{moved / 1e6:.1f} MB" if moved else "", "" if line["result"] == "ok" else line["result"]]
    return "  ".join(part for part in parts if part)


def show(rows: List[List[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "   ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def report(job_id: int, ended: dict[str, str]) -> str:
    """Print what the job left behind; return the last line."""
    collection = f"{FOLDER}/madengine-{job_id}"
    selection = json.loads(on("c0", "cat", f"{collection}/selection.json", check=False) or "{}")
    print(f"\nWhere the time went, by node (job {job_id}, {ended['RunTime']} in all):")
    show(phases(collection))
    best = selection.get("best")
    if ended["JobState"] != "COMPLETED" or not best:
        print(on("c0", "tail", "-n", "20", ended["StdOut"], check=False), flush=True)
        sys.exit(f"demo: job {job_id} is {ended['JobState']} and has no result: {selection.get('reason', 'there is no selection.json')}")
    path = f"{collection}/{selection['selected']['published']}"
    print(f"\n{selection['reason']}\n\n{path}:")
    show([line.split(",") for line in on("c0", "cat", path).splitlines()])
    print(f"""
Where everything lies (on the cluster; here below build/lab/demo):
  the project and the job's output   {FOLDER}
  what the nodes delivered           {collection}
  what was chosen, and why           {collection}/selection.json
  the logs of this demo              build/demo
Look around:   docker exec -it c0 bash
Submit again:  docker exec -u alice -w {FOLDER} c0 sbatch job.sh
Stop:          make demo-down
""")
    here = REPOSITORY / "build" / "lab" / "demo" / path.lstrip("/")
    return f"best: {here} rows={best['rows']} performance={best['performance']} metric={best['metric']} node={best['node']}"


def main() -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    for log in LOGS.glob("*.log"):
        log.unlink()
    start = time.monotonic()
    with step("Python environment (.venv)"):
        run("venv", ["make", "--no-print-directory", "venv"], docker=False)
    with step("Docker engine"):
        run("engine", ["true"])
    with step(f"base image {BASE}"):
        run("base", [str(SHARED / "base-image"), BASE])
    with step("image of a node (systemd, Slurm, munge, Docker)"):
        tag = f"madlab-node:{BASE.rpartition(':')[2]}"
        run("node", ["docker", "build", "--tag", tag, "--build-arg", f"BASE={BASE}", str(SHARED / "image")])
    with step("image of the job (PyTorch)"):
        run("image", ["docker", "build", "--tag", IMAGE, "--build-arg", f"BASE={BASE}", str(DEMO)])
    with step("cluster: c0 and n1, n2, n3"):
        run("cluster", [*LAB, *(str(SHARED / f"{play}.yml") for play in ("destroy", "create", "prepare"))])
    with step("collection: built, installed from its tarball"):
        run("collection", ["make", "--no-print-directory", "installed"], docker=False)
    with step("rocm.madengine.site applied"):
        run("site", [*LAB, "rocm.madengine.site"], ANSIBLE_COLLECTIONS_PATH=str(REPOSITORY / "build" / "collections"))
    with step("the job's image put onto n1, and only there"):
        run("load", ["sh", "-ec", f"docker save {IMAGE} | docker exec -i n1 docker load"])
    with step("alice submits: sbatch job.sh"):
        job_id = submit()
    with step(f"job {job_id}: prologs, until all nodes have the image"):
        wait(job_id, has_begun)
    with step(f"job {job_id}: training, epilogs"):
        ended = wait(job_id, is_over)
    print(f"{'in all':.<58} {time.monotonic() - start:6.1f} s")
    print(report(job_id, ended))


if __name__ == "__main__":
    main()
