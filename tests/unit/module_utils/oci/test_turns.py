# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sends at once takes turns: the lower rank first, as long as it gets on."""

from __future__ import annotations

import threading
from typing import List

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.turns import Turns

FOR_EVER, NO_TIME = 3600.0, 0.001  # seconds of patience


def waiting(turns: Turns, rank: int, done: List[int]) -> threading.Thread:
    """Start a thread that sends one piece under *rank*, and return it when it waits or has sent."""
    before = turns._pieces.get(rank, 0)

    def send() -> None:
        with turns.of(rank) as wait:
            wait()
            done.append(rank)

    thread = threading.Thread(target=send)
    thread.start()
    while turns._pieces.get(rank, 0) == before and rank not in done:
        threading.Event().wait(NO_TIME)
    return thread


def test_the_higher_rank_waits_until_the_lower_one_is_done() -> None:
    turns, done = Turns(FOR_EVER), []
    with turns.of(1) as wait:
        wait()
        later = waiting(turns, 2, done)
        for _piece in range(100):
            wait()
            assert done == []
        done.append(1)
    later.join()
    assert done == [1, 2]


def test_the_order_is_that_of_the_ranks_and_not_that_of_the_questions() -> None:
    turns, done = Turns(FOR_EVER), []
    with turns.of(0) as wait:
        wait()
        threads = [waiting(turns, rank, done) for rank in (3, 1, 2)]
    for thread in threads:
        thread.join()
    assert done == [1, 2, 3]


def test_a_lower_rank_that_comes_later_goes_first_from_then_on() -> None:
    turns, done = Turns(FOR_EVER), []
    with turns.of(2) as wait_high:
        wait_high()
        with turns.of(1) as wait_low:
            wait_low()
            later = waiting(turns, 2, done)
            assert done == []
    later.join()
    assert done == [2]


def test_one_that_gets_nowhere_holds_nobody_up() -> None:
    # A reader that takes up the second first, and the first only when that has come.
    turns = Turns(NO_TIME)
    with turns.of(1) as first, turns.of(2) as second:
        first()
        for _piece in range(3):
            second()
        first()


def test_two_parts_of_one_blob_do_not_wait_for_each_other() -> None:
    turns = Turns(FOR_EVER)
    with turns.of(1) as first, turns.of(1) as second:
        for _piece in range(3):
            second()
            first()


def test_whoever_breaks_off_gives_its_turn_on() -> None:
    turns, done = Turns(FOR_EVER), []
    try:
        with turns.of(1) as wait:
            wait()
            later = waiting(turns, 2, done)
            raise BrokenPipeError
    except BrokenPipeError:
        later.join()
    assert done == [2]
