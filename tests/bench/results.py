# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What choosing a result costs: build/bench/results.json and a table.

Each case runs in a process of its own, forked from one that has nothing but the library; its memory is the most that it held
(``ru_maxrss``), the interpreter included. The plain loop reads the same files with ``csv.DictReader`` and counts finite
performances: it neither bounds memory, nor survives hostile files, nor publishes anything. Cases take turns over the rounds,
the files are in the page cache, and the best round counts, since what else the machine does only adds.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests")]

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import render
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import collect, csv_score, selection, selection_json
from helpers import csvs

ROUNDS, CANDIDATES, ROWS = 3, 1000, 1000
GIGABYTE = 1 << 30
TARGETS = {"choose_seconds": 1.5, "choose_mib": 64.0, "gigabyte_mib": 64.0, "one_row_of_a_gigabyte_mib": 64.0, "epilog_seconds": 0.5}
HEADER = "model,performance,metric,test_duration\n"


def make(root: Path, candidates: int, rows: int) -> None:
    """Write the candidates: every third value is missing, as on nodes that know nothing."""
    for rank in range(candidates):
        lines = (f"llama-{row},{'' if (row + rank) % 3 == 0 else row * 1.5 + rank},tokens_per_second,12.5\n" for row in range(rows))
        csvs.collection(root / "many", {rank: HEADER + "".join(lines)})
    for rank in range(3):
        csvs.write(root / f"node{rank}/run_directory" / csvs.NAME, csvs.table("" if rank < 2 else 18432.7))
        for number in range(20):
            csvs.write(root / f"node{rank}/run_directory/perf_{number}.csv", csvs.table(*range(20)))
        csvs.write(root / f"node{rank}/run_directory/llama.live.log", "step 1 loss 2.31\n" * 60_000)


class Gigabyte:
    """*unit* again and again, as a file of 1 GiB that needs no disk."""

    def __init__(self, before: bytes, unit: bytes) -> None:
        self._unit, self._left, self._before = unit * (1 + (1 << 20) // len(unit)), GIGABYTE, before

    def read(self, wanted: int) -> bytes:
        before, self._before = self._before, b""
        taken = min(wanted, self._left)
        self._left -= taken
        return before + self._unit[:taken]


def choose(root: Path) -> Any:
    chosen = selection.select(str(root / "many"), csvs.NAME, "richest", {}).selection
    assert chosen.selected is not None
    return [chosen.selected["path"], chosen.selected["scored"], len(chosen.candidates)]


def again(root: Path) -> Any:
    """One more node has come: what the epilogs before have scored is not read again."""
    known = selection_json.from_dict(selection.settle(str(root / "many"), csvs.NAME, "richest", {}))
    start = time.perf_counter()
    selection.select(str(root / "many"), csvs.NAME, "richest", {}, known)
    return time.perf_counter() - start


def plain_loop(root: Path) -> Any:
    counts = {}
    for path in (root / "many").glob("node_*/" + csvs.NAME):
        with open(path, newline="") as stream:
            counts[str(path)] = sum(1 for row in csv.DictReader(stream) if _is_finite(row["performance"]))
    return [max(counts.values()), len(counts)]


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def gigabyte(_root: Path) -> Any:
    row = b"llama-3.1-8b,18432.7,tokens_per_second,12.5\n"
    return csv_score.score(Gigabyte(HEADER.encode(), row)).scored  # type: ignore[arg-type]


def one_row_of_a_gigabyte(_root: Path) -> Any:
    return csv_score.score(Gigabyte(HEADER.encode(), b"x,")).rows  # type: ignore[arg-type]


def epilog(root: Path) -> Any:
    """What the epilog of an ordinary job adds on its slowest node: gather, choose, report."""
    shutil.rmtree(root / "job", ignore_errors=True)
    spent = []
    for rank in range(3):
        start = time.perf_counter()
        facts = {"rank": rank, "node": f"n{rank + 1}", "job_id": "4711", "attempt": 0, "csv": csvs.NAME}
        collect.gather([str(root / f"node{rank}/run_directory")], str(root / "job"), facts, 1.0)
        selection.settle(str(root / "job"), csvs.NAME, "richest", {"job_id": "4711", "attempt": 0, "nodes": ["n1", "n2", "n3"]})
        csvs.write(root / f"job/node_{rank}/timeline.jsonl", '{"time": 1790000000, "phase": "gather", "seconds": 0.1, "result": "ok"}\n')
        render.write_if_last(str(root / "job"))
        spent.append(time.perf_counter() - start)
    return max(spent)


# Whose seconds are those that it returns itself.
CASES: Dict[str, Callable[[Path], Any]] = {
    "choose": choose,
    "again": again,
    "plain_loop": plain_loop,
    "epilog": epilog,
    "gigabyte": gigabyte,
    "one_row_of_a_gigabyte": one_row_of_a_gigabyte,
}
ONCE = ("gigabyte", "one_row_of_a_gigabyte")
TELLS_ITS_TIME = ("again", "epilog")


def in_a_process(case: Callable[[Path], Any], root: Path) -> Dict[str, Any]:
    """Return the seconds, those of the processor, the most memory in MiB and the answer of *case*, run in a fresh process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        start, begin = time.perf_counter(), time.process_time()
        answer = case(root)
        seconds, busy = time.perf_counter() - start, time.process_time() - begin
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(writer, json.dumps({"seconds": seconds, "cpu": busy, "mib": held, "answer": answer}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    found: Dict[str, Any] = json.loads(text)
    return found


def measure(root: Path, rounds: int) -> Dict[str, Any]:
    found: Dict[str, List[Dict[str, Any]]] = {name: [] for name in CASES}
    for turn in range(rounds):
        for name, case in CASES.items():
            if turn == 0 or name not in ONCE:
                one = in_a_process(case, root)
                found[name].append({**one, "seconds": one["answer"] if name in TELLS_ITS_TIME else one["seconds"]})
    summary: Dict[str, Any] = {}
    for name, rounds_of in found.items():
        best = min(rounds_of, key=lambda one: float(one["seconds"]))
        summary.update({f"{name}_seconds": round(best["seconds"], 3), f"{name}_mib": round(max(one["mib"] for one in rounds_of), 1)})
        summary.update({f"{name}_cpu_seconds": round(min(one["cpu"] for one in rounds_of), 3), f"{name}_answer": best["answer"]})
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "results.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pid = os.fork()  # what makes the files must not leave its memory to the cases
        if pid == 0:
            make(Path(folder), CANDIDATES, ROWS)
            os._exit(0)
        os.waitpid(pid, 0)
        found = measure(Path(folder), options.rounds)
    print(f"{'case':<24} {'seconds':>9} {'of CPU':>9} {'MiB':>8}   ({CANDIDATES} candidates of {ROWS} rows, best of {options.rounds})")
    for name in CASES:
        print(f"{name:<24} {found[f'{name}_seconds']:>9.3f} {found[f'{name}_cpu_seconds']:>9.3f} {found[f'{name}_mib']:>8.1f}")
    reached = {name: found[name] <= target for name, target in TARGETS.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {**found, "candidates": CANDIDATES, "rows": ROWS, "rounds": options.rounds, "targets": TARGETS, "reached": reached}
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{options.out}: " + ", ".join(f"{name} {'reached' if good else 'MISSED'}" for name, good in reached.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
