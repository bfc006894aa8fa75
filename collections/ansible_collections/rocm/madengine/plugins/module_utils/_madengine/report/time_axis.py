# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things stand in a picture of a job's time, in per cent of its width, and how quantities are written for a person.

A job starts within seconds, runs for hours and ends within seconds: long stretches in which no phase ran on any node are
folded into a narrow break, so that both ends can be seen.
"""

from __future__ import annotations

import math
from typing import Dict, List, Sequence, Tuple

Interval = Tuple[float, float]

_BREAK = 8.0
_MOST_BREAKS = 4
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)


class Axis:
    """A time axis over *intervals* (begin and end, in seconds) with its long empty stretches folded.

    :ivar seconds: what the axis shows in all, without the breaks.
    """

    def __init__(self, intervals: Sequence[Interval]) -> None:
        merged = _merged(intervals)
        busy = sum(end - begin for begin, end in merged)
        gaps = sorted(((after[0] - before[1], after[0]) for before, after in zip(merged, merged[1:])), reverse=True)
        folded = {begin for length, begin in gaps[:_MOST_BREAKS] if length > busy / 2}
        self._parts: List[Interval] = []
        for begin, end in merged:
            if self._parts and begin not in folded:
                self._parts[-1] = (self._parts[-1][0], end)
            else:
                self._parts.append((begin, end))
        self.seconds = sum(end - begin for begin, end in self._parts)
        self._scale = (100.0 - _BREAK * (len(self._parts) - 1)) / max(self.seconds, 1e-6)  # no clock of ours tells less apart

    def place(self, moment: float) -> float:
        """Return where *moment* stands, from 0 to 100; what lies in a break stands at its edge."""
        left = 0.0
        for begin, end in self._parts:
            if moment <= end or (begin, end) == self._parts[-1]:
                return left + (min(max(moment, begin), end) - begin) * self._scale
            left += (end - begin) * self._scale + _BREAK
        return 0.0

    def breaks(self) -> List[Dict[str, object]]:
        """Return the breaks: ``{left, width, label}``."""
        pairs = zip(self._parts, self._parts[1:])
        return [{"left": self.place(before[1]), "width": _BREAK, "label": duration(after[0] - before[1])} for before, after in pairs]

    def ticks(self) -> List[Dict[str, object]]:
        """Return the ticks, ``{left, label}``; each part of the axis counts from its own beginning."""
        step = next((step for step in _STEPS if step >= self.seconds / 6), _STEPS[-1])
        ticks: List[Dict[str, object]] = []
        for begin, end in self._parts:
            for number in range(min(int((end - begin) / step) + 1, 50)):
                ticks.append({"left": self.place(begin + number * step), "label": duration(number * step) if number else "0"})
        return ticks


def _merged(intervals: Sequence[Interval]) -> List[Interval]:
    merged: List[Interval] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def duration(seconds: float) -> str:
    """Return *seconds* for a person.

    >>> [duration(seconds) for seconds in (0.0123, 2.34, 65, 7385, 200000)]
    ['12 ms', '2.3 s', '1 min 05 s', '2 h 03 min', '2 d 7 h']
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 48 * 60 else f"{minutes // 1440} d {minutes % 1440 // 60} h"


def size(count: float) -> str:
    """Return a number of bytes for a person.

    >>> [size(count) for count in (0, 999, 1500, 23 << 30)]
    ['0 B', '999 B', '1.5 kB', '24.7 GB']
    """
    if count < 1000:
        return f"{count:.0f} B"
    power = min(int(math.log10(count) / 3), 5)
    if round(count / 1000**power, 1) >= 1000 and power < 5:
        power += 1
    return f"{count / 1000**power:.1f} {'kMGTP'[power - 1]}B"


def amount(value: float) -> str:
    """Return a measured number for a person, large ones with thin spaces between thousands.

    >>> amount(1234567.891) == "1\\u202f234\\u202f567.9", amount(0.00012345), amount(42.0)
    (True, '0.00012345', '42')
    """
    if not 1000 <= abs(value) < 1e12:
        return f"{value:.5g}"
    return f"{value:,.1f}".replace(".0", "").replace(",", "\u202f")
