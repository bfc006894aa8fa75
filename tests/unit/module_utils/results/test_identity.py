# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of several nodes that measured the same find each other, whatever a node calls its columns."""

from __future__ import annotations

from typing import Dict, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import identity

Cells = Dict[str, str]


def rows(column: str, *nodes: List[str], con: bool = False) -> List[Tuple[int, Cells]]:
    """Return rows as nodes have them, one for each value of *column*; *con*: their concurrency tells them apart, too."""
    return [
        (rank, {"model": "M", "metric": "tok/s", column: value, **({"con": str(number)} if con else {})})
        for rank, values in enumerate(nodes)
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("column", "nodes"),
    [
        ("output_tokens", [["12811", "25603"], ["12799", "25600"]]),
        ("requests", [["99"], ["97"]]),
        ("run_name", [["bench-n0"], ["bench-n1"]]),
        ("name", [["a"], ["b"]]),
        ("nodes", [["n0"], ["n1"]]),
        ("cmd", [["serve --host n0"], ["serve --host n1"]]),
        ("slurm_nodeid", [["0"], ["1"]]),
        ("world_rank", [["0"], ["8"]]),
        ("base_url", [["http://n0"], ["http://n1"]]),
        ("instance_id", [["i0"], ["i1"]]),
        ("result_filename", [["a.json"], ["b.json"]]),
        ("index", [["0", "1"], ["1", "0"]]),
        ("created_at", [["1"], ["2"]]),
        ("gpu_power_w", [["700"], ["710"]]),
        ("warnings", [["0"], ["1"]]),
    ],
)
def test_what_each_node_has_of_its_own_keeps_no_pair_apart(column: str, nodes: List[List[str]]) -> None:
    assert column not in identity.telling(rows(column, *nodes, con=True))


@pytest.mark.parametrize(
    ("column", "nodes"),
    [
        ("dtype", [["fp8"], ["bf16"]]),
        ("tp", [["4"], ["8"]]),
        ("output_tokens", [["128", "256"], ["512", "1024"]]),
        ("output_tokens", [["77", "78"], ["78", "77"]]),
        ("tokens", [["11", "12"], ["13", "14"]]),
        ("run_name", [["c8", "c16"], ["c16", "c8"]]),
        ("gpus", [["1", "2"], ["1", "2"]]),
        ("step", [["1", "2"], ["1", "2"]]),
        ("qps", [["1", "2"], ["2", "1"]]),
        ("kv_cache_gb", [["0", "20"], ["0", "20"]]),
        ("prefill_ratio", [["0.25", "0.5"], ["0.5", "0.25"]]),
        ("samples_per_gpu", [["1", "2"], ["1", "2"]]),
        ("target_rps", [["1"], ["3"]]),
        ("batch_per_gpu", [["1"], ["3"]]),
        ("msg_size_kb", [["1"], ["3"]]),
    ],
)
def test_what_somebody_has_set_tells_rows_apart(column: str, nodes: List[List[str]]) -> None:
    assert column in identity.telling(rows(column, *nodes))


@pytest.mark.parametrize("column", ["mean_ttft_ms", "hostname", "gpu_id"])
def test_a_measurement_or_a_place_is_no_sweep_by_chance(column: str) -> None:
    assert column not in identity.telling(rows(column, ["10", "11"], ["10", "12"]))


def test_columns_are_one_whatever_their_case_and_separators_and_two_of_one_table_stay_two() -> None:
    spelling = identity.Spelling()
    assert spelling.unified({"Max Concurrency": "8", "ttft (ms)": "1"}) == {"Max Concurrency": "8", "ttft (ms)": "1"}
    assert spelling.unified({"ttft_ms": "2", "max-concurrency": "16"}) == {"ttft (ms)": "2", "Max Concurrency": "16"}
    assert spelling.unified({"TTFT_MS": "3", "ttft_ms": "4"}) == {"TTFT_MS": "3", "ttft_ms": "4"}


def of(**cells: str) -> identity.Identity:
    return tuple(sorted({"model": "m", "metric": "tok/s", **cells}.items()))


def test_rows_that_say_less_belong_to_the_only_ones_that_say_more() -> None:
    groups = {of(con="8", tp="4"): {0: 1}, of(con="8"): {1: 1}, of(con="16"): {1: 1}}
    assert identity.paired(groups) == {of(con="8"): of(con="8", tp="4")}


@pytest.mark.parametrize(
    "groups",
    [
        {of(con="8"): {0: 1}, of(con="16"): {0: 1}, of(): {1: 1}},
        {of(con="8"): {0: 1}, of(): {0: 1, 1: 1}},
        {of(con="8"): {0: 1}, of(con="16"): {1: 1}},
    ],
)
def test_rows_that_may_belong_to_several_or_are_that_nodes_own_stay_alone(groups: Dict[identity.Identity, Dict[int, int]]) -> None:
    assert identity.paired(groups) == {}
