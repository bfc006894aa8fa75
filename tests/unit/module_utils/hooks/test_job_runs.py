# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside one allocation have a result each, also where each has some of the nodes alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_runs
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import collect, selection
from helpers import csvs

FIRST, SECOND, THIRD = "20261006120000_a1b2c3", "20261006120500_0f0f0f", "20261006121000_ffffff"
FACTS: Dict[str, Any] = {"job_id": "4711", "attempt": 0, "nodes": ["n1", "n2", "n3"], "failed": False, "exit_code": "0:0"}


class Job:
    """An allocation of three nodes, each with a /tmp of its own, and their share."""

    def __init__(self, base: Path) -> None:
        self.base, self.home, self.out = base, base / "share/madengine-4711", base / "share/out/llama/4711"
        self.out.parent.mkdir(parents=True)

    def ran(self, run: str, values: Dict[int, float]) -> None:
        """Leave what *run* leaves on its nodes; in its own step they count from 0."""
        for step_rank, (rank, value) in enumerate(sorted(values.items())):
            csvs.write(self.base / f"tmp{rank}/madengine_job_4711_{run}_node_{step_rank}/{csvs.NAME}", csvs.table(value))

    def ends_on(self, rank: int) -> None:
        """Do what a node's epilog does."""
        folders = [str(self.base / f"tmp{rank}")]
        (self.base / f"tmp{rank}").mkdir(exist_ok=True)
        seen = list(job_runs.workspaces(4711, rank, folders))
        facts = {"rank": rank, "node": f"n{rank + 1}", "job_id": 4711, "attempt": 0, "csv": csvs.NAME}
        collect.gather([], str(self.home), {**facts, "runs": seen}, 0)
        job_runs.gather(folders, str(self.out), facts, 0, "/nowhere")
        selection.settle(str(self.home), csvs.NAME, "richest", FACTS)
        job_runs.settle(str(self.out), csvs.NAME, "richest", FACTS, [], str(self.home), "/nowhere")

    def choice(self, run: str) -> Dict[str, Any]:
        document = json.loads(Path(f"{self.out}_{run}", "selection.json").read_text())
        assert isinstance(document, dict)
        return document

    def lacking(self, run: str) -> Sequence[str]:
        return [each["node"] for each in self.choice(run)["lacking"]]


def test_two_runs_on_two_parts_of_an_allocation_are_two_results_and_no_node_lacks_what_it_had_no_part_in(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.ran(FIRST, {0: 100.0, 1: 101.0})
    job.ran(SECOND, {1: 555.0, 2: 556.0})
    for rank in (2, 0, 1):
        job.ends_on(rank)
    for run, nodes, best in ((FIRST, ["node_0", "node_1"], 100.0), (SECOND, ["node_1", "node_2"], 555.0)):
        chosen = job.choice(run)
        assert (chosen["verdict"], chosen["lacking"], chosen["best"]["value"]) == ("ok", [], best)
        assert sorted(path.name for path in Path(f"{job.out}_{run}").glob("node_*")) == nodes
    assert job.choice(FIRST)["facts"]["outside"] == [2]
    assert "Nodes outside this run: n3" in Path(f"{job.out}_{FIRST}", "report.txt").read_text()
    assert "Nodes outside this run: n1" in Path(f"{job.out}_{SECOND}", "report.txt").read_text()


def test_a_node_that_has_not_come_yet_or_brought_nothing_of_its_part_is_lacking(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.ran(FIRST, {0: 100.0, 1: 101.0})
    job.ends_on(0)
    assert job.lacking(FIRST) == ["n2", "n3"]  # nobody knows yet whether they had a part
    (tmp_path / f"tmp1/madengine_job_4711_{FIRST}_node_1/{csvs.NAME}").unlink()
    job.ends_on(1)
    job.ends_on(2)
    assert job.lacking(FIRST) == ["n2"]
    assert job.choice(FIRST)["verdict"] == "partial"


def test_what_a_node_of_another_attempt_or_release_says_of_runs_is_nothing(tmp_path: Path) -> None:
    for rank, facts in enumerate(
        ({"attempt": 1, "runs": []}, {"attempt": 0}, {"attempt": 0, "runs": "none"}, {"attempt": 0, "runs": [SECOND]})
    ):
        csvs.node(tmp_path, rank, job_id="4711", **facts)
    known = {**FACTS, "nodes": [*FACTS["nodes"], "n4"]}
    assert job_runs.outside(FIRST, "/nowhere", str(tmp_path), known) == [3]


def test_runs_one_after_another_on_all_nodes_leave_none_outside(tmp_path: Path) -> None:
    job = Job(tmp_path)
    runs: List[str] = [FIRST, SECOND, THIRD]
    for number, run in enumerate(runs):
        job.ran(run, {rank: 100.0 * (number + 1) + rank for rank in range(3)})
    for rank in range(3):
        job.ends_on(rank)
    assert [job.choice(run)["best"]["value"] for run in runs] == [100.0, 200.0, 300.0]
    assert all(job.choice(run)["facts"]["outside"] == [] for run in runs)
