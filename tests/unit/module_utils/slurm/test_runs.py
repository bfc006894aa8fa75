# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside a job: each has its own workspaces and its own directory of results, and none has another's."""

from __future__ import annotations

from typing import Any, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import runs

FIRST, SECOND = "20261006120000_a1b2c3", "20261006120001_000000"


@pytest.mark.parametrize(("name", "expected"), [
    ("madengine_job_7_node_1", ""),
    ("madengine_job_7", ""),
    ("madengine_node_1", ""),
    (f"madengine_job_7_{FIRST}_node_1", FIRST),
    (f"madengine_node_1_{FIRST}", FIRST),
    ("madengine_job_77_node_1", None),
    ("madengine_job_7_node_11", None),
    (f"madengine_job_8_{FIRST}_node_1", None),
    (f"madengine_job_7_{FIRST}_node_2", None),
    (f"madengine_node_2_{FIRST}", None),
    (f"madengine_job_7_{FIRST.upper()}_node_1", None),
    ("madengine_job_7_2026_a1b2c3_node_1", None),
    ("madengine_job_7_node_1.old", None),
    ("madengine_job_\u0667_node_1", None),
    ("", None),
])  # fmt: skip
def test_a_workspace_is_one_run_s_of_this_job_on_this_node(name: str, expected: Any) -> None:
    names = [name, f"madengine_job_7_{FIRST}_node_1"]
    assert [run for run, listed in runs.by_run(names, 7, 1).items() if name in listed] == ([] if expected is None else [expected])


def test_workspaces_are_told_apart_by_run_in_the_order_in_which_the_runs_began() -> None:
    names = [
        f"madengine_job_7_{SECOND}_node_0",
        f"madengine_node_0_{FIRST}",
        "madengine_job_7_node_0",
        "other",
        f"madengine_job_7_{FIRST}_node_0",
    ]
    assert runs.by_run(names, 7, 0) == {
        "": ["madengine_job_7_node_0"],
        FIRST: [f"madengine_job_7_{FIRST}_node_0", f"madengine_node_0_{FIRST}"],
        SECOND: [f"madengine_job_7_{SECOND}_node_0"],
    }
    assert list(runs.by_run(names, 7, 0)) == ["", FIRST, SECOND]


@pytest.mark.parametrize(
    ("names", "rank", "found"),
    [
        ([f"madengine_job_7_{FIRST}_node_0"], 2, 1),  # the run's first node is the job's third
        ([f"madengine_node_1_{FIRST}"], 2, 1),
        ([f"madengine_job_7_{FIRST}_node_0", f"madengine_node_0_{FIRST}"], 2, 2),
        ([f"madengine_job_7_{FIRST}_node_0", f"madengine_job_7_{FIRST}_node_1"], 2, 0),  # nodes that share a directory
        ([f"madengine_job_7_{FIRST}_node_0", f"madengine_job_7_{FIRST}_node_2"], 2, 1),
        (["madengine_job_7_node_0"], 2, 0),  # a job of its own has all of its nodes
        ([f"madengine_job_8_{FIRST}_node_0"], 2, 0),
    ],
)
def test_a_run_on_some_of_the_job_s_nodes_counts_them_from_0(names: List[str], rank: int, found: int) -> None:
    assert sum(map(len, runs.by_run(names, 7, rank).values())) == found


def test_a_run_s_directory_of_results_is_where_madengine_s_own_collector_looks() -> None:
    for run in ("", FIRST, SECOND):
        path = runs.collection_dir("/out/llama/7", run)
        assert runs.of_tag(path.rpartition("/")[2], 7) == run
    assert runs.of_tag(f"71_{FIRST}", 7) is None
