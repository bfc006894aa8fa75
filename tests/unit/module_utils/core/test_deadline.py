# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time that is left: one point in time for all steps, on a clock that only grows."""

from __future__ import annotations

import doctest
from typing import List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from hypothesis import given, settings
from hypothesis import strategies as st

SECONDS = st.floats(0, 1e6)


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@settings(deadline=None)
@given(SECONDS, st.lists(SECONDS, max_size=8))
def test_what_is_left_and_what_is_spent_add_up_until_the_time_is_up(seconds: float, steps: List[float]) -> None:
    clock = Clock()
    limit = Deadline(seconds, clock)
    for step in steps:
        before = limit.left()
        clock.now += step
        assert 0.0 <= limit.left() <= before
        assert limit.left() == pytest.approx(max(0.0, seconds - limit.spent()), abs=1e-6)
        assert limit.has_passed() == (limit.left() == 0.0)


@settings(deadline=None)
@given(SECONDS, SECONDS, SECONDS)
def test_a_sooner_deadline_never_lies_behind_the_one_it_is_made_of(seconds: float, sooner: float, step: float) -> None:
    clock = Clock()
    limit = Deadline(seconds, clock)
    clock.now += step
    part = limit.sooner(sooner)
    assert limit.at_most(sooner) == min(sooner, limit.left())
    assert part.left() == pytest.approx(limit.at_most(sooner), abs=1e-6)
    clock.now += sooner / 2
    assert part.left() <= limit.left() + 1e-6


def test_time_that_is_up_is_the_share_s_fault_and_says_who_waited_how_long() -> None:
    clock = Clock()
    limit = Deadline(5, clock)
    limit.check("image: loading")
    clock.now += 5.04
    with pytest.raises(ShareFault, match=r"image: loading: the time is up \(waited_seconds=5.0\)"):
        limit.check("image: loading")


def test_the_real_clock_is_the_one_that_nobody_can_set_back() -> None:
    assert 4.0 < Deadline(5).left() <= 5.0
    assert doctest.testmod(deadline).failed == 0
