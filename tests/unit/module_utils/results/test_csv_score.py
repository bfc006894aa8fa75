# SPDX-License-Identifier: GPL-3.0-or-later
"""A CSV that a job has written is scored for what a reader of numbers can use, and no bytes make the reader fail."""

from __future__ import annotations

import io
import math
from typing import Any, Dict, List, Optional, Union

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import csv_score
from helpers import csvs, memory
from hypothesis import given
from hypothesis import strategies as st


def scored(content: Union[str, bytes]) -> csv_score.Score:
    return csv_score.score(io.BytesIO(content.encode() if isinstance(content, str) else content))


STATUS = "model,performance,metric,status\n"
# (content, rows, rows that count, a part of the reason)
TABLE: Dict[str, Any] = {
    "one good row": (csvs.table(12.5), 1, 1, "1 of 1 rows holds"),
    "blanks around names and values": (" model , performance ,metric \n a , 1.5 , x \n", 1, 1, "1 of 1"),
    "byte order mark": ("\ufeff" + csvs.table(1), 1, 1, "1 of 1"),
    "byte order mark and quotes": ('\ufeff"model","performance","metric"\n"a","1","x"\n', 1, 1, "1 of 1"),
    "columns in another order, others carried": ("test_duration,metric,performance,model\n9,x,1,a\n", 1, 1, "1 of 1"),
    "Windows line ends": (csvs.table(1, 2).replace("\n", "\r\n"), 2, 2, "2 of 2"),
    "old Mac line ends": (csvs.table(1, 2).replace("\n", "\r"), 2, 2, "2 of 2"),
    "no line end at the end": (csvs.table(1, 2).rstrip("\n"), 2, 2, "2 of 2"),
    "empty lines before and between": ("\n\n" + csvs.table(1) + "\n\nllama,2,x\n\n", 2, 2, "2 of 2"),
    "a comma in quotes": (csvs.HEADER + '"a,b",1,x\n', 1, 1, "1 of 1"),
    "a line end in quotes": (csvs.HEADER + '"a\nb",1,x\nc,2,x\n', 2, 2, "2 of 2"),
    "blank performance": (csvs.table(""), 1, 0, "0 of 1 rows hold"),
    "N/A": (csvs.table("N/A"), 1, 0, "0 of 1"),
    "nan": (csvs.table("nan", "NaN"), 2, 0, "0 of 2"),
    "infinite": (csvs.table("inf", "-inf", "1e999", "Infinity"), 4, 0, "0 of 4"),
    "FAILED among numbers": (csvs.table("FAILED", 3), 2, 1, "1 of 2"),
    "a number for Python alone": (csvs.table("1_000"), 1, 0, "0 of 1"),
    "a unit behind the number": (csvs.table("12 tokens/s"), 1, 0, "0 of 1"),
    "a comma between thousands": (csvs.HEADER + 'a,"1,444",x\nb,"-1,234,567.5",y\n', 2, 2, "2 of 2"),
    "commas elsewhere": (csvs.HEADER + 'a,"14,44",x\nb,"0,500",y\nc,"1,5",z\n', 3, 0, "(3 without a number)"),
    "a percentage": (csvs.table("50%", " 50 %"), 2, 2, "2 of 2"),
    "a percentage of nothing": (csvs.table("%", "n%"), 2, 0, "(2 without a number)"),
    "digits of another script": (csvs.table("\u0661\u0662", "\uff11"), 2, 0, "(2 without a number)"),
    "names in another case": ("Model,PERFORMANCE,Metric\na,1,x\n", 1, 1, "1 of 1"),
    "a name twice in two cases": ("model,Performance,performance,metric\na,9,1,x\n", 1, 1, "1 of 1"),
    "semicolons": ("model;performance;metric\na;1;x\n", 0, 0, "told apart by ';', and not by commas"),
    "tabs": ("model\tperformance\tmetric\na\t1\tx\n", 0, 0, "and not by commas"),
    "UTF-16": (csvs.table(1).encode("utf-16"), 0, 0, "binary data"),
    "why each row does not count": (
        STATUS + "a,,x,\na,n/a,x,\na,1\n,1,x,\na,1,x,FAIL\na,1,x,,,\na,1,x,ok\n",
        7,
        1,
        "(1 blank, 1 without a number, 1 too short, 1 without model or metric, 1 failed, 1 with too many cells)",
    ),
    "zero and negative are numbers": (csvs.table(0, -1, "1e-3"), 3, 3, "3 of 3"),
    "no model": (csvs.HEADER + " ,1,x\n", 1, 0, "0 of 1"),
    "no metric": (csvs.HEADER + "a,1,\n", 1, 0, "0 of 1"),
    "too short a row": (csvs.HEADER + "a,1\nb\nc,1,x\n", 3, 1, "1 of 3"),
    "too long a row": (csvs.HEADER + "a,1,x,y,z\nb,2,x\n", 2, 1, "1 of 2 rows holds a finite performance (1 with too many cells)"),
    "thousands without quotes": (csvs.HEADER + "a,1,444,tok/s\n", 1, 0, "0 of 1"),
    "thousands in place of a status": (STATUS + "a,1,444,tok/s\n", 1, 0, "0 of 1"),
    "failed rows": (STATUS + "a,0,x,FAILURE\na,1,x,Failed\na,2,x,error\na,3,x, FAIL \na,4,x,TIMEOUT\n", 5, 0, "(5 failed)"),
    "rows that succeeded, or do not say": (STATUS + "a,1,x,SUCCESS\na,2,x,\na,3,x\na,4,x,no error\n", 4, 4, "4 of 4"),
    "a status by another case": ("model,performance,metric,Status\na,1,x,FAILURE\n", 1, 0, "(1 failed)"),
    "marks of what was not measured": (csvs.table(-1, 0), 2, 2, "(no throughput is above 0)"),
    "zeros": (csvs.table(0, "0.00"), 2, 2, "(no throughput is above 0)"),
    "only commas": (csvs.HEADER + ",,\n , ,\n", 0, 0, "a header and no rows"),
    "the header again": (csvs.table(1) + csvs.table(2), 2, 2, "2 of 2 rows hold a finite performance (1 repeated headers)"),
    "a header alone": (csvs.HEADER, 0, 0, "a header and no rows"),
    "nothing": ("", 0, 0, "the file is empty"),
    "only line ends": ("\n\n\n", 0, 0, "no column model, performance, metric"),
    "another table": ("model,throughput\na,1\n", 0, 0, "no column performance, metric"),
    "binary": (bytes(range(256)) * 8, 0, 0, "binary data"),
    "NUL in a number is no number": (csvs.HEADER + "a,1\x002,x\n", 1, 0, "0 of 1"),
    "NUL bytes after a crash": (csvs.table(1) + "\0" * 4096, 1, 1, "1 of 1"),
    "no UTF-8": (csvs.HEADER.encode() + b"\xff\xfe\xe4,1,x\n", 1, 1, "1 of 1"),
    "a quote that never closes": (csvs.table(1) + '"b,2,x\nc,3,x\n', 2, 1, "1 of 2"),
    "a quote inside a word": (csvs.HEADER + 'disk 5",1,x\nb,2,x\n', 2, 2, "2 of 2"),
}


@pytest.mark.parametrize("case", TABLE)
def test_each_kind_of_csv_counts_as_what_it_is(case: str) -> None:
    content, rows, counted, reason = TABLE[case]
    score = scored(content)
    assert (score.rows, score.scored) == (rows, counted), score
    assert reason in score.reason


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(content: bytes) -> None:
    for prefix in (b"", csvs.HEADER.encode()):
        score = scored(prefix + content)
        assert 0 <= score.scored <= score.rows
        assert score.reason == csv_score.plain(score.reason)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True)))
def test_exactly_the_finite_numbers_count(numbers: list[float]) -> None:
    assert scored(csvs.table(*numbers)).scored == sum(map(math.isfinite, numbers))


@given(st.lists(st.sampled_from(["1", "nan", "", "FAILED", "2.5"]), max_size=12), st.integers(1, 64))
def test_the_score_does_not_depend_on_where_a_read_ends(performances: list[str], size: int) -> None:
    class Slow(io.BytesIO):
        def read(self, _wanted: Optional[int] = -1, /) -> bytes:
            return super().read(size)

    content = csvs.table(*performances, model='"a\n""b"')
    assert csv_score.score(Slow(content.encode())) == scored(content)


def test_the_shown_values_are_plain_short_and_few() -> None:
    hostile = "\x1b[31mred\u202egnp.exe" + "x" * 500
    score = scored(csvs.table(*range(80), model=hostile))
    assert len(score.values) == csv_score.MOST_VALUES
    assert score.values[1]["performance"] == "1"
    assert score.values[1]["value"] == 1.0
    assert score.values[1]["model"].isprintable()
    assert len(score.values[1]["model"]) <= 200


class Endless:
    """*unit* again and again, *size* bytes of it."""

    def __init__(self, unit: bytes, size: int, before: bytes = b"") -> None:
        self._unit, self._left, self._before = unit, size, before

    def read(self, wanted: int) -> bytes:
        if self._before:
            before, self._before = self._before, b""
            return before
        taken = min(wanted, self._left)
        self._left -= taken
        return (self._unit * (taken // len(self._unit) + 1))[:taken]


@pytest.mark.parametrize("unit", [b"x", b'"', b",", b'","\n', b'a,"', b"\0", b'"a\n'])
def test_an_endless_row_does_not_fill_the_memory(unit: bytes) -> None:
    scores: List[csv_score.Score] = []
    table = Endless(unit, 24 << 20, csvs.table(1).encode())
    assert memory.peak_kib(lambda: scores.append(csv_score.score(table))) < 16 << 10  # type: ignore[arg-type]
    assert scores[0].scored >= 1


def test_records_carry_the_other_columns_and_say_what_does_not_count() -> None:
    text = "\ufeffmodel, performance ,metric,args\na,1,x,--big\na,nan,x,--small\nb,2,y\n"
    assert list(csv_score.records(io.BytesIO(text.encode()))) == [
        ({"model": "a", "performance": "1", "metric": "x", "args": "--big"}, 1.0, ""),
        ({"model": "a", "performance": "nan", "metric": "x", "args": "--small"}, None, "without a number"),
        ({"model": "b", "performance": "2", "metric": "y", "args": ""}, 2.0, ""),
    ]
    assert list(csv_score.records(io.BytesIO(b"a,b\n1,2\n"))) == []


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        (["failed_requests,0", "total_input_tokens,9", "mean_ttft_ms,3", "tok/s,5"], "tok/s"),
        (["num_prompts,9", "output_throughput,5", "request_throughput,6"], "output_throughput"),
        (["tok/s/gpu,5", "peak_memory_gb,9", "tok/s,40"], "tok/s"),
        (["tok/s/gpu,5", "latency,1"], "tok/s/gpu"),
        (["prefill_throughput,0", "decode_throughput,7"], "decode_throughput"),
        (["prefill_throughput,0"], "prefill_throughput"),
        ([*["latency,1"] * 60, "tok/s,5"], "tok/s"),
        (["warmup tok/s,1", "expected_throughput,2", "min tok/s,3", "tok/s,4"], "tok/s"),
        (["baseline tok/s,1"], None),
        (["min tok/s,3"], "min tok/s"),
        (["failed_requests,0", "latency,2", "mfu,40", "memory_gb,5"], None),
        ([], None),
    ],
)
def test_the_headline_is_a_rate_whatever_row_comes_first(rows: List[str], headline: Optional[str]) -> None:
    score = scored("model,metric,performance\n" + "".join(f"m,{row}\n" for row in rows))
    assert (score.headline or {}).get("metric") == headline


@pytest.mark.parametrize(
    ("content", "is_history"),
    [
        (csvs.table(1, 2), True),
        (csvs.HEADER + "a,1,x\na,2,y\nb,1,x\n", False),
        ("model,performance,metric,con\na,1,x,8\na,2,x,16\n", False),
        (STATUS + "a,9000,x,SUCCESS\nb,,x,FAILURE\n", True),
        (STATUS + "a,1,x,SUCCESS\nb,2,x,SUCCESS\n", False),
        (STATUS + "a,1,x,SUCCESS\nb,0,x,FAILURE\n", True),
        (STATUS + "a,1,x,SUCCESS\na,,,FAILURE\n", True),
        (STATUS + "a,1,x,SUCCESS\na,0,x,FAILURE\n", True),
        (STATUS + "a,1,x,SUCCESS\na,,y,FAILURE\n", False),
        (STATUS + "a,1,x,SUCCESS\nb,0,y,FAILURE\n", False),
        ("model,performance,metric,con,status\na,1,x,8,SUCCESS\na,,x,16,FAILURE\n", False),
        ("model,performance,metric,docker_sha,git_commit,test_duration\na,1,x,,,\n", True),
    ],
)
def test_a_history_of_runs_is_known_by_its_rows(content: str, is_history: bool) -> None:
    assert scored(content).is_history is is_history


def test_a_value_is_shown_as_the_number_that_it_is() -> None:
    score = scored(csvs.HEADER + 'a,"1,444",tok/s\nb,50%,busy\n')
    assert [(each["performance"], each["value"]) for each in score.values] == [("1444", 1444.0), ("50%", 50.0)]


def test_the_shape_of_a_result_is_told_by_its_columns() -> None:
    for content, has_shape in ((csvs.table(1), True), (csvs.HEADER, True), ("a,b\n1,2\n", False), ("", False), (b"\0" * 99, False)):
        raw = content if isinstance(content, bytes) else content.encode()
        assert csv_score.has_shape(io.BytesIO(raw)) is has_shape
