# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the shell hooks cost: build/bench/gate.json and a table.

Every program is started as slurmd starts it, by its path and with SLURM's environment alone, and waited for. The
programs take turns, so that whatever else the machine does meets all of them alike. The hooks are copies that know a node
below a temporary directory; besides their paths they are the real ones. A job that is ours is not among them: its gate
starts Python. Of the TaskProlog, the same script is timed for a usual environment and for one of two thousand variables,
and each once for nothing to do: the difference is what we cost, the rest is the start of a shell.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests")]

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.workspace import Workspace
from helpers.hooks import GateNode

ROUNDS, WARM = 400, 20
TARGETS = {"gate_over_empty_ms": 5.0, "task_prolog_ms_p50": 10.0}
SLURM = {
    "SLURM_CLUSTER_NAME": "lab",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_UID": "2000",
    "SLURM_JOB_GID": "2000",
    "SLURM_JOB_USER": "alice",
    "SLURM_JOB_WORK_DIR": "/home/alice",
    "SLURM_JOB_NODELIST": "n[1-64]",
    "SLURM_JOB_NUM_NODES": "64",
    "SLURM_JOB_COMMENT": "a job of somebody else's",
    "SLURM_JOB_STDOUT": "/home/alice/slurm-%j.out",
    "SLURMD_NODENAME": "n1",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
}
USUAL = {**SLURM, "PATH": "/usr/bin:/bin", "HOME": "/home/alice", **{f"SLURM_VARIABLE_{number}": "x" * 30 for number in range(60)}}
LARGE = {**USUAL, **{f"VARIABLE_{number}": "x" * 40 for number in range(2000 - len(USUAL))}}
EXPORTS = [
    "MASTER_ADDR",
    "MASTER_PORT",
    "NNODES",
    "NODE_RANK",
    "MAD_IMAGE",
    "MAD_IMAGE_ID",
    "MAD_MANIFEST",
    "MAD_RESULTS_DIR",
    "MAD_SETUP_MODEL_DIR",
    "NCCL_DEBUG",
    "NCCL_SOCKET_IFNAME",
    "HF_HOME",
]
GLOBS = ["NCCL_*", "RCCL_*", "UCX_*", "HSA_*", "FI_*", "TORCHTITAN_*", "SGLANG_*", "MAD_SECRETS*"]

Program = Tuple[str, Dict[str, str]]


def programs(root: Path) -> Dict[str, Program]:
    """Return what takes turns: a name for the table, and a path with its environment."""
    node = GateNode(root, [])
    empty = root / "empty"
    empty.write_text("#!/bin/sh\nexit 0\n")
    empty.chmod(0o755)
    state = JobState(4711, str(root / "run/madengine"))
    state.begin(os.getuid(), os.getgid(), str(node.current))
    Workspace(4711, str(root / "var/lib/madengine")).make(os.getuid(), os.getgid())
    files = {
        "exports": [f"{name}=a value of usual length" for name in EXPORTS],
        "names": [f"NAME_{number}" for number in range(70)],
        "globs": GLOBS,
        "without": [],
        "when_set": ["HIP_VISIBLE_DEVICES RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES"],
        "sources": ["HF_TOKEN MAD_SECRETS_HFTOKEN"],
        "fixed": ["PATH=/opt/rocm/bin:/usr/bin", "MODEL=x"],
    }
    for name, lines in files.items():
        state.keep(name, "".join(line + "\n" for line in lines), os.getuid(), os.getgid())
    state.ready()
    stranger = {"SLURM_JOB_ID": "4712"}
    return {
        "empty_sh": (str(empty), SLURM),
        "gate": (str(node.installed("prolog/50-madengine")), SLURM),
        "epilog_gate": (str(node.installed("epilog/50-madengine")), {**SLURM, **stranger}),
        "task_prolog": (str(node.installed("prolog/task_prolog")), USUAL),
        "task_prolog_not_ours": (str(node.installed("prolog/task_prolog")), {**USUAL, **stranger}),
        "task_prolog_2000": (str(node.installed("prolog/task_prolog")), LARGE),
        "empty_sh_2000": (str(empty), LARGE),
    }


def once(program: Program, nowhere: int) -> float:
    """Return the milliseconds from the start of *program* to its end, which must be a good one."""
    path, env = program
    start = time.perf_counter()
    pid = os.posix_spawn(path, [path], env, file_actions=[(os.POSIX_SPAWN_DUP2, nowhere, number) for number in (0, 1, 2)])
    status = os.waitpid(pid, 0)[1]
    spent = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{path} ended with {status}")
    return spent * 1000


def is_for_programs(folder: str) -> bool:
    """Say whether programs can be put into *folder* and started there; a container's /dev/shm forbids it."""
    return os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & os.ST_NOEXEC


def measure(rounds: int) -> Dict[str, List[float]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if is_for_programs("/dev/shm") else None) as folder:
        taking_turns = programs(Path(folder) / "node")
        nowhere = os.open(os.devnull, os.O_RDWR)
        times: Dict[str, List[float]] = {name: [] for name in taking_turns}
        for turn in range(rounds + WARM):
            for name, program in taking_turns.items():
                spent = once(program, nowhere)
                if turn >= WARM:
                    times[name].append(spent)
    return times


def summary(times: Dict[str, List[float]]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name, values in times.items():
        ordered = sorted(values)
        found[f"{name}_ms_p50"] = round(statistics.median(ordered), 3)
        found[f"{name}_ms_p99"] = round(ordered[int(len(ordered) * 0.99) - 1], 3)
    found["gate_over_empty_ms"] = round(found["gate_ms_p50"] - found["empty_sh_ms_p50"], 3)
    found["ratio"] = round(found["gate_ms_p50"] / found["empty_sh_ms_p50"], 3)
    found["shell"] = os.path.realpath("/bin/sh")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "gate.json")
    options = parser.parse_args()
    times = measure(options.rounds)
    found = summary(times)
    print(f"{'program':<22} {'p50 ms':>8} {'p99 ms':>8} {'over empty':>11}   ({options.rounds} rounds, /bin/sh is {found['shell']})")
    for name in times:
        over = found[f"{name}_ms_p50"] - found["empty_sh_ms_p50"]
        print(f"{name:<22} {found[f'{name}_ms_p50']:>8.2f} {found[f'{name}_ms_p99']:>8.2f} {over:>11.2f}")
    reached = {name: found[name] <= target for name, target in TARGETS.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {**found, "rounds": options.rounds, "targets": TARGETS, "reached": reached}
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{options.out}: " + ", ".join(f"{name} {'reached' if good else 'MISSED'}" for name, good in reached.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
