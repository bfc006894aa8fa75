# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole collection directories, as the epilogs of a job leave them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, List, Optional

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import selection

from . import csvs

IMAGE = {"image": "rocm/vllm:0.9.1", "image_id": "sha256:" + "4f" * 32}
PHASES = (("gate", 0.01), ("manifest", 0.05), ("rendezvous", 0.4), ("publish", 9.0), ("load", 4.0), ("state", 0.02))


def finished(
    base: Path, nodes: int = 3, run_seconds: float = 4000, failed: bool = False, name: str = "n{:03}", contents: Any = None
) -> Path:
    """Make the directory of a job on *nodes* nodes whose last node alone knows the throughput."""
    chance = random.Random(7)
    names = [name.format(rank + 1) for rank in range(nodes)]
    for rank, node in enumerate(names):
        text = csvs.table("") if rank + 1 < nodes else csvs.table(18432.7, 18511.2, 17990.4)
        text = contents[rank] if contents else text
        folder = csvs.node(
            base,
            rank,
            node=node,
            failed=failed,
            exit_code="1:0" if failed else "0:0",
            **IMAGE,
            files=[{"name": csvs.NAME, "size_bytes": len(text)}],
        )
        csvs.write(folder / csvs.NAME, text)
        csvs.write(folder / "timeline.jsonl", "".join(json.dumps(line) + "\n" for line in timeline(rank, node, run_seconds, chance)))
        if failed and rank == nodes - 1:
            diagnose(folder)
    facts = {"job_id": "4711", "attempt": 0, "nodes": names, "failed": failed, "exit_code": "1:0" if failed else "0:0"}
    selection.settle(str(base), csvs.NAME, "richest", facts)
    return base


def timeline(rank: int, node: str, run_seconds: float, chance: Optional[random.Random] = None) -> List[Any]:
    """Return one node's timeline: its start, a long run, its end."""
    chance = chance or random.Random(rank)
    now = 1_790_000_000.0 + chance.random() * 0.3
    lines = []
    for phase, typical in PHASES:
        if phase == "publish" and rank:
            now += 5 + chance.random()
            continue
        seconds = typical * (0.7 + 0.6 * chance.random())
        facts = {"bytes_moved": int(2e9 * seconds)} if phase in ("publish", "load") else {}
        lines.append(
            {"time": now, "job_id": 4711, "node": node, "node_rank": rank, "phase": phase, "seconds": seconds, "result": "ok", **facts}
        )
        now += seconds
    now = 1_790_000_020.0 + run_seconds + chance.random()
    for phase, seconds in (("gather", 0.3 + chance.random()), ("choose", 0.1), ("clean", 0.4)):
        lines.append({"time": now, "job_id": 4711, "node": node, "node_rank": rank, "phase": phase, "seconds": seconds, "result": "ok"})
        now += seconds
    return lines


def diagnose(
    folder: Path, said: str = 'step 41 loss 2.31\nTraceback (most recent call last):\n  File "train.py", line 9\nRuntimeError: HIP error\n'
) -> None:
    """Put a diagnosis into a node's directory."""
    summary = {"summary": "llama: exit code 137, out of memory: RuntimeError: HIP error", "containers": [], "files": [], "notes": []}
    csvs.write(folder / "diagnostics" / "summary.json", json.dumps(summary))
    csvs.write(folder / "diagnostics" / "llama" / "output.log", said)
    csvs.write(folder / "diagnostics" / "llama" / "processes.txt", "PID  CMD\n17  python3 train.py\n")
