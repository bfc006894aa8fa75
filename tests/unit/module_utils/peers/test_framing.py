# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines: what one end sealed, the other end opens, once and in order; nothing else is a line."""

from __future__ import annotations

import contextlib
import json
from typing import Any, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import framing
from hypothesis import given, settings
from hypothesis import strategies as st

LEADER, MEMBER = framing.session(b"s" * 32, "c", 1, 0)
TEXTS = st.text(max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS, st.lists, max_leaves=8
)
FIELDS = st.dictionaries(TEXTS.filter(lambda name: name not in ("n", "line", "mac", "self", "name")), VALUES, max_size=4)


def ends() -> Any:
    return framing.Channel(LEADER, MEMBER), framing.Channel(MEMBER, LEADER)


def cut(data: bytes, places: List[int]) -> List[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in zip(marks, marks[1:])]


@settings(deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=6), st.lists(st.integers(0, 1 << 20)))
def test_what_one_end_says_the_other_hears_however_the_network_cuts_it(said: List[Any], places: List[int]) -> None:
    here, there = ends()
    data = b"".join(here.sign("X", **fields) for fields in said)
    lines = framing.Lines()
    heard = [there.open(line) for piece in cut(data, places) for line in lines.feed(piece)]
    assert heard == [{"line": "X", **fields, "n": number} for number, fields in enumerate(said)]


@settings(deadline=None)
@given(FIELDS, st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_changed_byte_breaks_the_seal(fields: Any, place: int, flip: int) -> None:
    here, there = ends()
    line = bytearray(here.sign("X", **fields)[:-1])
    line[place % len(line)] ^= flip
    with pytest.raises(framing.BadLine):
        there.open(bytes(line))


@settings(deadline=None)
@given(FIELDS, st.integers(0, 1 << 20))
def test_every_beginning_of_a_line_is_refused(fields: Any, place: int) -> None:
    here, there = ends()
    line = here.sign("X", **fields)[:-1]
    with pytest.raises(framing.BadLine):
        there.open(line[: place % len(line)])


def test_a_line_counts_once_and_in_its_turn() -> None:
    here, there = ends()
    first, second = here.sign("A")[:-1], here.sign("B")[:-1]
    with pytest.raises(framing.BadLine):
        there.open(second)
    assert there.open(first)["line"] == "A"
    with pytest.raises(framing.BadLine):
        there.open(first)
    assert there.open(second)["line"] == "B"


def test_a_line_does_not_count_in_the_other_direction() -> None:
    here, _ = ends()
    with pytest.raises(framing.BadLine):
        here.open(here.sign("GO")[:-1])


@pytest.mark.parametrize("facts", [("d", 1, 0), ("c", 2, 0), ("c", 1, 1), ("c", "1", 0), ("c", 1), ("c,1", 0)])
def test_other_facts_make_other_keys(facts: Any) -> None:
    assert not {LEADER, MEMBER} & {*framing.session(b"s" * 32, *facts)}


def test_a_line_has_a_limit_for_who_sends_and_for_who_reads() -> None:
    here, _ = ends()
    spare = len(here.sign("X", text="")) - 1
    line = here.sign("X", text="x" * (framing.LONGEST_LINE - spare - 1))
    assert len(line) == framing.LONGEST_LINE
    assert [*framing.Lines().feed(line)] == [line[:-1]]
    with pytest.raises(ValueError, match="8193"):
        here.sign("X", text="x" * (framing.LONGEST_LINE - spare))
    with pytest.raises(framing.BadLine):
        [*framing.Lines().feed(b"x" * framing.LONGEST_LINE)]
    with pytest.raises(framing.BadLine):
        [*framing.Lines().feed(b"x" * framing.LONGEST_LINE + b"\n")]


def test_what_came_before_a_line_that_is_too_long_stands() -> None:
    lines, heard = framing.Lines(), []
    with pytest.raises(framing.BadLine):
        heard.extend(lines.feed(b"a\nb\n" + b"x" * 9000))
    assert heard == [b"a", b"b"]


@settings(deadline=None)
@given(st.binary(max_size=300) | st.recursive(st.just(b"1"), lambda inner: st.tuples(inner).map(lambda one: b"[" + one[0] + b"]")))
def test_any_bytes_are_an_object_or_a_bad_line(data: bytes) -> None:
    with contextlib.suppress(framing.BadLine):
        assert isinstance(framing.parse(data), dict)


@pytest.mark.parametrize(
    "line", [b"[" * 8000, b'{"a":' * 1600, b"9" * 8000, b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":"\xff"}', b"", b"[]", b"nul"]
)
def test_lines_that_are_built_to_hurt_are_bad_lines(line: bytes) -> None:
    with pytest.raises(framing.BadLine):
        framing.parse(line)


@pytest.mark.parametrize("value", [True, None, 1.0, "1", [1], -1, 8, 10**30])
def test_a_number_is_an_integer_within_its_bounds(value: Any) -> None:
    assert framing.number({"x": 7}, "x", 0, 7) == 7
    with pytest.raises(framing.BadLine, match="x is no number between 0 and 7"):
        framing.number({"x": value}, "x", 0, 7)


@pytest.mark.parametrize("value", [True, None, "1", [], -0.1])
def test_a_time_is_not_negative(value: Any) -> None:
    assert framing.seconds({"x": json.loads("1e999")}, "x", 60.0) == 60.0
    assert framing.seconds({"x": 3}, "x", 60.0) == 3.0
    with pytest.raises(framing.BadLine):
        framing.seconds({"x": value}, "x", 60.0)


@pytest.mark.parametrize("value", [None, "", "abcd", 3, ["a"]])
def test_a_text_has_a_length(value: Any) -> None:
    assert framing.text({"x": "abc"}, "x", 3) == "abc"
    with pytest.raises(framing.BadLine):
        framing.text({"x": value}, "x", 3)


def test_nonces_do_not_repeat() -> None:
    assert len({framing.nonce() for _ in range(1000)}) == 1000
