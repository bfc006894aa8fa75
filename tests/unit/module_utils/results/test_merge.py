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
    text, notes, _left_out = merge.merge((f"n{number}", io.BytesIO(table.encode())) for number, table in enumerate(tables, 1))
    return text.decode(), notes


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


def sweep(*rows: str, columns: str = "max_concurrency") -> str:
    return f"model,performance,metric,{columns}\n" + "".join(f"M,{row}\n" for row in rows)


def by_identity(*tables: str) -> Dict[Any, float]:
    return {tuple(note["identity"].values()): note["value"] for note in merged(*tables)[1]}


def test_a_blank_in_a_sweep_leaves_a_hole_and_not_a_shift() -> None:
    first = sweep("100,throughput_tot,8", "180,throughput_tot,16", "300,throughput_tot,32")
    second = sweep(",throughput_tot,8", "181,throughput_tot,16", "299,throughput_tot,32")
    text, notes = merged(first, second)
    assert text == sweep("100,throughput_tot,8", "361,throughput_tot,16", "599,throughput_tot,32")
    assert [(note["identity"], note["nodes"], note["lacking"]) for note in notes] == [
        ({"max_concurrency": "8"}, 1, ["n2"]),
        ({"max_concurrency": "16"}, 2, []),
        ({"max_concurrency": "32"}, 2, []),
    ]


@pytest.mark.parametrize("lost", ["", "nan", "FAILED", "1,444"])
def test_rows_in_any_order_and_with_any_hole_find_their_pair(lost: str) -> None:
    first = sweep("300,tok/s,32", "100,tok/s,8", "180,tok/s,16")
    second = sweep("299,tok/s,32.0", f"{lost},tok/s,8", "181,tok/s, 16 ")
    assert by_identity(first, second) == {("32",): 599.0, ("8",): 100.0, ("16",): 361.0}
    assert by_identity(second, first) == {("32.0",): 599.0, ("8",): 100.0, ("16",): 361.0}


@pytest.mark.parametrize("columns", ["isl,osl,precision", "tp,quant,batch_size", "args,dataset,request_rate"])
def test_every_column_that_is_no_measurement_tells_rows_apart(columns: str) -> None:
    rows = ["10,tok/s,1,1,x", "20,tok/s,1,2,x", "30,tok/s,1,2,Y"]
    second = ["3,tok/s,1,2,y", "1,tok/s,1,1,x", "2,tok/s,1,2,x"]
    assert list(by_identity(sweep(*rows, columns=columns), sweep(*second, columns=columns)).values()) == [11.0, 22.0, 33.0]


def test_what_was_measured_and_where_does_not_keep_a_pair_apart() -> None:
    columns = "hostname,mean_ttft_ms,test_duration,con"
    text, _ = merged(sweep("1,tok/s,n1,7,60,8", columns=columns), sweep("2,tok/s,n2,9,60,8", columns=columns))
    assert text == sweep("3,tok/s,,,60,8", columns=columns)


@pytest.mark.parametrize("column", ["power_w", "speedup", "cost", "my_own_figure"])
def test_fractions_that_each_node_has_of_its_own_were_measured_whatever_they_are_called(column: str) -> None:
    first = sweep("100,tok/s,8,512.3", "180,tok/s,16,530.25", columns=f"con,{column}")
    second = sweep("50,tok/s,8,498.7", "60,tok/s,16,501", columns=f"con,{column}")
    assert by_identity(first, second) == {("8",): 150.0, ("16",): 240.0}
    assert "512.3" not in merged(first, second)[0]


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [("x", ("8", "16"), ("32", "64")), ("x", ("0.5", "0.7"), ("0.7", "0.5")), ("request_rate", ("0.5", "inf"), ("0.25", "1.5"))],
)
def test_a_parameter_stays_one_where_each_node_has_other_values_of_it(column: str, one: Tuple[str, str], other: Tuple[str, str]) -> None:
    shares = [sweep(*(f"5,tok/s,{value}" for value in values), columns=column) for values in (one, other)]
    assert len(merged(*shares)[1]) == len({*one, *other})


def test_of_one_node_alone_every_parameter_is_one() -> None:
    assert len(merged(sweep("5,tok/s,0.5", "6,tok/s,0.7", columns="x"))[1]) == 2


@pytest.mark.parametrize(
    "other",
    [
        "Max_Concurrency,metric,performance,model\n16,tok/s,2,M\n8,tok/s,1,M\n",
        "Model,Performance,Metric,max concurrency\nm,2,Tok/s,16\nm,1, tok/s ,8\n",
        "\ufeffmodel,performance,metric,max_concurrency,tp\r\n'M',9,x,1,4\r\nM,1,tok_s,8.0,4\r\n\"M\",2,tok/s,1.6e1,4\r\n",
    ],
)
def test_names_orders_and_a_column_more_on_one_node_keep_no_pair_apart(other: str) -> None:
    found = {note["identity"]["max_concurrency"]: note["value"] for note in merged(sweep("10,tok/s,8", "20,tok/s,16"), other)[1]}
    assert (found["8"], found["16"]) == (11.0, 22.0)


def test_what_a_node_writes_that_measured_nothing_is_a_hole() -> None:
    dead = sweep("0,tok/s,8", "0,ttft_ms,8", "0,mfu,8", "50,tok/s,16", "0,queue_ms,16", "-1,req/s,16")
    alive = sweep("10,tok/s,8", "20,ttft_ms,8", "30,mfu,8", "50,tok/s,16", "4,queue_ms,16", "3,req/s,16")
    notes = merged(dead, alive)[1]
    assert [note["value"] for note in notes] == [10.0, 20.0, 30.0, 100.0, 2.0, 3.0]
    assert [note["lacking"] for note in notes] == [["n1"], ["n1"], ["n1"], [], [], ["n1"]]


def test_where_no_node_measured_anything_the_zeros_stay() -> None:
    assert [note["value"] for note in merged(*[sweep("0,tok/s,8", "-1,ttft_ms,8")] * 2)[1]] == [0.0, -1.0]


def test_a_sum_and_a_mean_are_what_one_would_write() -> None:
    tables = [csvs.HEADER + f"m,{rate},tok/s\nm,{wait},ttft\n" for rate, wait in ((100.1, 0.9), (200.2, 0.8))]
    assert [note["performance"] for note in merged(*tables)[1]] == ["300.3", "0.85"]
    assert merged(csvs.table(0.1234567890123456))[1][0]["performance"] == "0.1234567890123456"


def test_what_is_per_gpu_per_user_or_a_percentage_is_averaged_and_each_row_says_its_rule() -> None:
    metrics = [
        "tokens_per_second",
        "tokens_per_second_per_gpu",
        "tok/s/user",
        "gpu utilization",
        "mfu",
        "cache hit rate",
        "completed requests",
    ]
    shares = [csvs.HEADER + "".join(f"m,{value},{metric}\n" for metric in metrics) for value in (10, 30)]
    assert [(note["value"], note["how"]) for note in merged(*shares)[1]] == [(40.0, "sum"), *[(20.0, "mean")] * 5, (40.0, "sum")]


def test_a_node_that_measured_the_same_twice_counts_with_the_mean() -> None:
    assert merged(csvs.table(10, 20), csvs.table(1))[0] == csvs.table(16)


def test_a_comma_between_thousands_and_a_percent_sign_are_read_as_what_they_are() -> None:
    text, notes = merged(sweep('"1,444",tok/s,8', "50%,busy,8"), sweep("556,tok/s,8.0", "60 %,busy,8"))
    assert text == sweep("2000,tok/s,8", "55,busy,8")
    assert [note["kind"] for note in notes] == ["throughput", "share"]


def test_a_row_without_a_number_on_any_node_is_named_and_one_with_a_number_on_some_is_not() -> None:
    shares = [sweep("1,tok/s,8", ",tok/s,16", "FAILED,tok/s,32"), sweep(",tok/s,8", "n/a,tok/s,16", "7,tok/s,32")]
    _text, notes, left_out = merge.merge((name, io.BytesIO(table.encode())) for name, table in zip(("n1", "n2"), shares))
    assert [note["identity"] for note in notes] == [{"max_concurrency": "8"}, {"max_concurrency": "32"}]
    assert left_out == [{"model": "M", "metric": "tok/s", "identity": {"max_concurrency": "16"}, "reason": "blank"}]


def test_two_nodes_of_one_name_are_two_nodes() -> None:
    _, notes, _left_out = merge.merge([("n1", io.BytesIO(csvs.table(1).encode())), ("n1", io.BytesIO(csvs.table(2).encode()))])
    assert (notes[0]["nodes"], notes[0]["value"]) == (2, 3.0)


def test_the_lowest_rank_gives_order_and_columns() -> None:
    text, _ = merged(
        "model,performance,metric,args\na,1,x,--one\n", "metric,model,performance,args,gpu\nx,a,3,--one,mi300\nx,b,1,--two,mi300\n"
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
