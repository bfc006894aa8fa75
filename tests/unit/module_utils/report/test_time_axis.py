# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture's places are in order and inside it, whatever the times."""

from __future__ import annotations

from typing import Any, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import time_axis
from hypothesis import example, given
from hypothesis import strategies as st

MOMENT = st.floats(0, 1e10, allow_nan=False)


@example([(0.0, 2e-309)], [])
@given(st.lists(st.tuples(MOMENT, st.floats(0, 1e6)), max_size=20), st.lists(MOMENT, max_size=5))
def test_places_are_inside_and_keep_the_order_of_time(spans: List[Any], moments: List[float]) -> None:
    axis = time_axis.Axis([(begin, begin + length) for begin, length in spans])
    ordered = sorted([*moments, *(begin for begin, _ in spans), *(begin + length for begin, length in spans)])
    places = [axis.place(moment) for moment in ordered]
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in places)
    assert all(after >= before - 1e-6 for before, after in zip(places, places[1:]))
    assert len(axis.ticks()) <= 50 * 5
    assert all(-1e-6 <= tick["left"] <= 100 + 1e-6 for tick in axis.ticks())  # type: ignore[operator]


def test_a_long_run_between_start_and_end_is_folded() -> None:
    axis = time_axis.Axis([(0, 4), (3, 10), (3610, 3612)])
    assert axis.seconds == 12
    assert axis.breaks() == [{"left": pytest.approx(92 * 10 / 12), "width": 8.0, "label": "1 h 00 min"}]
    assert [tick["label"] for tick in axis.ticks()] == ["0", "2 s", "4 s", "6 s", "8 s", "10 s", "0", "2 s"]
    assert axis.place(3612) == pytest.approx(100)
    assert axis.place(1000) == axis.place(3610)


def test_a_short_pause_is_not_folded() -> None:
    assert time_axis.Axis([(0, 5), (6, 10)]).breaks() == []


@given(st.floats(0, 1e8))
def test_a_duration_is_short_and_has_a_unit(seconds: float) -> None:
    assert len(time_axis.duration(seconds)) <= 13
    assert time_axis.duration(seconds).split()[-1] in ("ms", "s", "min", "h")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 ms"), (59.96, "1 min 00 s"), (3599.6, "1 h 00 min"), (0.9996, "1 s"), (30, "30 s")])
def test_a_duration_at_the_edge_of_a_unit_is_right(seconds: float, text: str) -> None:
    assert time_axis.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(999_999, "1.0 MB"), (1000, "1.0 kB"), (1e30, "1000000000000000.0 PB")])
def test_a_size_at_the_edge_of_a_unit_is_right(count: float, text: str) -> None:
    assert time_axis.size(count) == text
