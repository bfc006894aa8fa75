# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of a job on a node, as its timeline tells them: how long each took, what it moved, and its colour in the picture.

Source: the file is that of `timeline`.
"""

from __future__ import annotations

import json
import statistics
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..core import files
from ..core.errors import Fault
from . import time_axis
from .quoted import field, number

RUN, _OTHER = "job", "other phases"
# Every phase that a hook of ours has, in the order of a job's life; each has a colour of its own in every report.
PHASES = (
    *("manifest", "publish", "wait", "load", "rendezvous", "release", "handover", RUN),
    *("find", "diagnose", "stop", "gather", "exchange", "choose", "remove", "report", "clean"),
)
COLOURS = len(PHASES) + 1  # and one for what there is no colour left for
_OF_THE_PROLOG, _OF_THE_EPILOG = frozenset(PHASES[: PHASES.index(RUN)]), frozenset(PHASES[PHASES.index(RUN) + 1 :])
_BELOW_SECONDS = 0.0005  # would be shown as 0 ms
_MOST_PHASES = 100
_TIMELINE_BYTES = 1 << 20
_BYTES = ("bytes", "bytes_moved", "bytes_read", "bytes_written", "size_bytes")


def timeline(path: str) -> List[Dict[str, Any]]:
    try:
        with files.opened(path) as stream:
            lines = stream.read(_TIMELINE_BYTES).decode("utf-8", "replace").splitlines()
    except (Fault, OSError):
        return []
    return [phase for phase in map(_phase, lines[:_MOST_PHASES]) if phase]


def _phase(line: str) -> Optional[Dict[str, Any]]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return _described(said) if isinstance(said, dict) else None


def _described(said: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    if not 0 < number(said.get("time")) < 1e11 or not 0 <= number(said.get("seconds")) < 1e8:
        return None
    begin, seconds = number(said["time"]), number(said.get("seconds"))
    moved = sum(number(said.get(name)) for name in _BYTES)
    return {
        "name": field(said, "phase")[:40] or "?",
        "begin": begin,
        "end": begin + seconds,
        "seconds": seconds,
        "took": time_axis.duration(seconds),
        "bytes": time_axis.size(moved) if moved > 0 else "",
        "result": field(said, "result")[:40],
        "is_ok": said.get("result") in ("ok", None),
        "is_folded": seconds < _BELOW_SECONDS and said.get("result") in ("ok", None),
        "fault": field(said, "fault"),
        "decision": field(said, "decision"),
        # That of a load is usual on the classic store, and nobody's concern.
        "detour": field(said, "reason") if said.get("phase") == "publish" else "",
    }


def with_run(phases: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return *phases* with the job's own run among them: what lies between the prolog's last phase and the epilog's first."""
    before = [phase["end"] for phase in phases if phase["name"] in _OF_THE_PROLOG and phase["is_ok"]]
    after = [phase["begin"] for phase in phases if phase["name"] in _OF_THE_EPILOG]
    ends = [phase["end"] for phase in phases if phase["name"] in _OF_THE_PROLOG and after and phase["end"] <= min(after)]
    if not before or not after or not ends or any(phase["name"] == RUN for phase in phases):
        return phases
    run = _described({"phase": RUN, "time": max(ends), "seconds": min(after) - max(ends)})
    place = next(number for number, phase in enumerate(phases) if phase["begin"] >= min(after))
    return [*phases[:place], run, *phases[place:]] if run else phases


def colours_of(names: Sequence[str]) -> Dict[str, int]:
    """Return the number of each phase's colour: a known one has its own, another one that no phase here has, while there are some."""
    known = {name: PHASES.index(name) for name in names if name in PHASES}
    free = [number for number in range(len(PHASES)) if number not in known.values()]
    strange = [name for name in names if name not in known]
    return {**known, **{name: free[place] if place < len(free) else COLOURS - 1 for place, name in enumerate(strange)}}


def legend(colours: Mapping[str, int]) -> List[Dict[str, Any]]:
    shown_ones = [{"name": name, "colour": colour} for name, colour in colours.items() if colour != COLOURS - 1]
    return shown_ones + ([{"name": _OTHER, "colour": COLOURS - 1}] if len(shown_ones) < len(colours) else [])


def summed(nodes: Sequence[Mapping[str, Any]], names: Sequence[str], colours: Mapping[str, int]) -> List[Dict[str, Any]]:
    found: Dict[str, List[Tuple[float, str]]] = {name: [] for name in names}
    for node in nodes:
        for phase in node["phases"]:
            if phase["name"] in found:
                found[phase["name"]].append((phase["seconds"], node["name"]))
    return [
        {
            "name": name,
            "count": len(times),
            "fastest": time_axis.duration(min(times)[0]),
            "median": time_axis.duration(statistics.median(seconds for seconds, _node in times)),
            "slowest": time_axis.duration(max(times)[0]),
            "slowest_node": max(times)[1],
            "colour": colours[name],
        }
        for name, times in found.items()
    ]
