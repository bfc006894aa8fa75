# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares that nodes have measured become one table, and the order of the nodes is not in it."""

from __future__ import annotations

import io
import sys
from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import csv_score, merge
from helpers import csvs
from hypothesis import given
from hypothesis import strategies as st


def merged(*tables: str) -> Tuple[str, List[Dict[str, Any]]]:
    text, notes = merge.merge(io.BytesIO(table.encode()) for table in tables)
    return text.decode(), notes


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("tokens_per_second", "throughput"),
        ("tokens/s", "throughput"),
        ("Output token throughput (tok/s)", "throughput"),
        ("samples_per_sec", "throughput"),
        ("TFLOPS", "throughput"),
        ("qps", "throughput"),
        ("memory_bandwidth_GB/s", "throughput"),
        ("images", "throughput"),
        ("Mean TTFT (ms)", "latency"),
        ("p99_tpot", "latency"),
        ("time_per_token", "latency"),
        ("latency", "latency"),
        ("step_time", "latency"),
        ("duration", "latency"),
        ("s/it", "other"),
        ("peak_memory_GB", "memory"),
        ("max vram", "memory"),
        ("GiB", "memory"),
        ("accuracy", "other"),
        ("loss", "other"),
    ],
)
def test_a_metric_is_like_what_its_name_says(metric: str, kind: str) -> None:
    assert merge.kind(metric) == kind


def test_throughput_is_summed_latency_averaged_memory_the_maximum() -> None:
    shares = [csvs.HEADER + f"m,{100 * n},tok/s\nm,{n},latency_ms\nm,{n},memory_gb\nm,0.{n},accuracy\n" for n in (1, 3)]
    text, notes = merged(*shares)
    assert text == csvs.HEADER + "m,400,tok/s\nm,2,latency_ms\nm,3,memory_gb\nm,0.2,accuracy\n"
    assert [(note["how"], note["kind"], note["nodes"]) for note in notes] == [
        ("sum", "throughput", 2),
        ("mean", "latency", 2),
        ("max", "memory", 2),
        ("mean", "other", 2),
    ]


def test_a_sweep_keeps_its_rows_apart() -> None:
    text, _ = merged(csvs.table(1, 10), csvs.table(2, 20), csvs.table(3))
    assert text == csvs.table(6, 30)


def test_the_lowest_rank_gives_order_and_columns() -> None:
    text, _ = merged(
        "model,performance,metric,args\na,1,x,--one\n", "metric,model,performance,args,gpu\nx,a,3,--two,mi300\nx,b,1,--two,mi300\n"
    )
    assert text == "model,performance,metric,args,gpu\na,2,x,--one,\nb,1,x,--two,mi300\n"


def test_rows_that_do_not_count_are_left_out() -> None:
    assert merged(csvs.table("nan", 4), csvs.table("", "FAILED"))[0] == csvs.table(4)
    assert merged() == (csvs.HEADER, [])


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4), min_size=1, max_size=5), st.randoms())
def test_the_numbers_do_not_depend_on_the_order_of_the_nodes(shares: List[List[float]], random: Any) -> None:
    tables = [csvs.table(*share) for share in shares]
    shuffled = random.sample(tables, len(tables))
    assert sorted(note["value"] for note in merged(*tables)[1]) == sorted(note["value"] for note in merged(*shuffled)[1])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4), st.sampled_from(["tok/s", "latency", "x"]))
def test_what_was_merged_can_be_scored_and_merged_again(values: List[float], metric: str) -> None:
    text, notes = merged(*(csvs.table(value, metric=metric) for value in values))
    assert csv_score.score(io.BytesIO(text.encode())).scored == len(notes) == 1
    assert merged(text)[0] == text


@pytest.mark.parametrize(("metric", "sign"), [("tok/s", 1), ("latency", 1), ("tok/s", -1), ("latency", -1)])
def test_numbers_at_the_end_of_the_scale_stay_numbers(metric: str, sign: int) -> None:
    largest = sign * sys.float_info.max
    assert merged(*[csvs.table(largest, metric=metric)] * 3)[1][0]["value"] == largest


def test_more_rows_than_anybody_means_are_refused() -> None:
    with pytest.raises(JobFault, match="too many rows to merge"):
        merged(csvs.table(*range(10_001)))
