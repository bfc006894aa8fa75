# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time that is left, on a clock that nobody can set back.

Source: ``time.monotonic``; a node whose wall clock jumps must neither wait for ever nor give up at once.
"""

from __future__ import annotations

import time
from typing import Callable

from .errors import ShareFault


class Deadline:
    """One point in time that all the steps of a story share.

    :param seconds: how long from now.
    :param clock: seconds that only ever grow; a test gives its own.

    >>> Deadline(10, clock=lambda: 5.0).left()
    10.0
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start = clock, clock()
        self._seconds = float(seconds)

    def left(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(0.0, self._start + self._seconds - self._clock())

    def spent(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._start

    def has_passed(self) -> bool:
        return self.left() <= 0.0

    def at_most(self, seconds: float) -> float:
        """Return *seconds*, or what is left if that is less: the timeout of one step."""
        return min(float(seconds), self.left())

    def sooner(self, seconds: float) -> Deadline:
        """Return a deadline *seconds* from now that never lies behind this one."""
        return Deadline(self.at_most(seconds), self._clock)

    def check(self, doing: str) -> None:
        """Do nothing while there is time.

        :param doing: ``noun: what was going on``, for the message.
        :raises ShareFault: the time is up.
        """
        if self.has_passed():
            raise ShareFault(
                f"{doing}: the time is up",
                "look at the timeline for the slow step, or raise Deadline",
                waited_seconds=round(self.spent(), 1),
            )
