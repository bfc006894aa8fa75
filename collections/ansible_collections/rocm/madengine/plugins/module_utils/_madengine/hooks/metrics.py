# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This node's counters for Prometheus, as a file that node_exporter's textfile collector reads.

The file is its own memory: it is read, added to and replaced at once, so counters outlive the hooks and nobody reads half
of it. One that makes no sense is begun anew, which Prometheus takes for a restart.

Source: Prometheus' text exposition format 0.0.4; node_exporter's README, "Textfile Collector" (files ``*.prom``).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from ..core import files, locks
from ..core.errors import Fault
from .timeline import Timeline

FILE = "madengine.prom"
_LOCK = ".madengine.lock"
_LARGEST_BYTES = 1 << 20
_MOST_SERIES = 1000
_MOST_BYTES = 1 << 50  # of one phase: a number that a user's process made up must not be the last that a counter can hold
_LINE = re.compile(r'(madengine_[a-z_]+)(?:\{((?:[a-z_]+="[^"\\\n]*",?)*)\})? ([^ \n]+)')
_LABEL = re.compile(r'([a-z_]+)="([^"\\\n]*)"')
_BYTES = ("bytes", "bytes_moved", "bytes_read", "bytes_written", "size_bytes")

Series = Tuple[str, Tuple[Tuple[str, str], ...]]
Samples = Dict[Series, float]

# Name, type, help; also the order in the file.
FAMILIES: Sequence[Tuple[str, str, str]] = (
    ("madengine_jobs_total", "counter", "Jobs that ended on this node, by how they ended."),
    ("madengine_phase_total", "counter", "Phases of jobs on this node, by outcome."),
    ("madengine_phase_seconds_total", "counter", "Seconds spent in each phase, by outcome."),
    ("madengine_phase_bytes_total", "counter", "Bytes that each phase moved."),
    ("madengine_phase_last_seconds", "gauge", "How long each phase took the last time."),
    ("madengine_phase_last_timestamp_seconds", "gauge", "When each phase last began, by outcome."),
    ("madengine_release_info", "gauge", "The release of the hooks that last ran."),
)


def update(directory: str, lines: Iterable[Mapping[str, Any]], outcome: str = "", release: str = "") -> str:
    """Add what one job did on this node to the counters in *directory*.

    :param lines: the job's timeline, as `timeline.Timeline` writes it; a line that makes no sense is left out.
    :param outcome: how the job ended, for example ``ok``, ``failed`` or the kind of the fault; empty: it has not ended.
    :param release: the hooks' release.
    :returns: the file's path.
    :raises OSError: it cannot be written.
    """
    path = os.path.join(directory, FILE)
    with locks.flock(os.path.join(directory, _LOCK)):
        samples = _known(path)
        for line in lines:
            _count(samples, line)
        if outcome:
            _add(samples, "madengine_jobs_total", 1, outcome=_word(outcome))
        if release:
            for series in [series for series in samples if series[0] == "madengine_release_info"]:
                del samples[series]
            _put(samples, "madengine_release_info", 1, release=_word(release))
        files.write(path, render(samples))
    return path


@contextlib.contextmanager
def counted(directory: str, log: Timeline, release: str, say: Callable[[str], None], outcome: str = "") -> Iterator[None]:
    """Count what *log* has got by the end of the block, however it ends; a hook does not fail for its counters.

    :param directory: where the file is; "" for a site that wants none.
    :param say: is told, in one line, if they cannot be written.
    """
    try:
        yield
    finally:
        try:
            if directory:
                update(directory, log.lines, outcome, release)
        except OSError as error:
            seen = f"path={directory!r}, error={error.strerror!r}"
            say(f"madengine: metrics: cannot be written ({seen}); make the directory, or unset MetricsDir")


def parse(text: str) -> Samples:
    """Return the samples of ours in *text*; whatever else stands there is left out.

    >>> parse('madengine_phase_total{phase="image",result="ok"} 2\\n')
    {('madengine_phase_total', (('phase', 'image'), ('result', 'ok'))): 2.0}
    """
    samples: Samples = {}
    names = {name for name, *_rest in FAMILIES}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        value = _number(match.group(3)) if match else None
        if match and match.group(1) in names and value is not None and len(samples) < _MOST_SERIES:
            samples[match.group(1), tuple(sorted(_LABEL.findall(match.group(2) or "")))] = value
    return samples


def render(samples: Samples) -> str:
    """Return *samples* in the exposition format, families and labels in a fixed order."""
    lines: List[str] = []
    for name, kind, meaning in FAMILIES:
        mine = sorted((labels, value) for (family, labels), value in samples.items() if family == name)
        if mine:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for labels, value in mine:
            inside = ",".join(f'{label}="{text}"' for label, text in labels)
            lines.append(f"{name}{{{inside}}} {value:.15g}")
    return "".join(line + "\n" for line in lines)


def _known(path: str) -> Samples:
    try:
        return parse(files.read(path, _LARGEST_BYTES).decode("utf-8", "replace"))
    except Fault:
        return {}


def _count(samples: Samples, line: Mapping[str, Any]) -> None:
    phase, result, seconds = _word(line.get("phase")), _word(line.get("result")), _number(line.get("seconds"))
    if not phase or not result or seconds is None or seconds < 0:
        return
    _add(samples, "madengine_phase_total", 1, phase=phase, result=result)
    _add(samples, "madengine_phase_seconds_total", seconds, phase=phase, result=result)
    moved = sum(_number(line.get(name)) or 0.0 for name in _BYTES)
    if 0 < moved <= _MOST_BYTES:
        _add(samples, "madengine_phase_bytes_total", moved, phase=phase)
    _put(samples, "madengine_phase_last_seconds", seconds, phase=phase)
    began = _number(line.get("time"))
    if began is not None:
        _put(samples, "madengine_phase_last_timestamp_seconds", began, phase=phase, result=result)


def _add(samples: Samples, name: str, value: float, **labels: str) -> None:
    _put(samples, name, samples.get((name, tuple(sorted(labels.items()))), 0.0) + value, **labels)


def _put(samples: Samples, name: str, value: float, **labels: str) -> None:
    series = name, tuple(sorted(labels.items()))
    if series in samples or len(samples) < _MOST_SERIES:
        samples[series] = value


def _word(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", str(value or ""))[:60]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
