# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One table out of the nodes' tables, for serving where each node measured its own share of the load.

Throughput-like metrics are summed, latency-like ones averaged, memory taken at its maximum, whatever is none of them
averaged; each row says in the selection how it came about. The order in which nodes come never matters.

Source: results.md, "Choose"; the metric names are those of vLLM, SGLang, Primus and madengine's own models.
"""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from typing import IO, Any, Callable, Dict, Iterable, List, Sequence, Tuple

from ..core.errors import JobFault
from .csv_score import COLUMNS, plain, records

_MOST_ROWS = 10_000
_RATE = re.compile(
    r"per[ _-]?s(ec(ond)?)?(?![a-z])|/ ?s(ec(ond)?)?(?![a-z])|per[ _-]?min|flops|throughput|bandwidth|(?<![a-z])(tps|qps|rps|fps)(?![a-z])"
)
_WAIT = re.compile(r"latency|ttft|tpot|(?<![a-z])(itl|e2el)(?![a-z])|time[ _-](per|to)|s(ec(ond)?)?[ _-]?per")
_MEMORY = re.compile(r"(?<![a-z])v?(ram|mem)(?![a-z])|memory|(?<![a-z])[gm]i?b(ytes)?(?![a-z])")
_COUNT = re.compile(r"tokens|samples|images|requests|queries|(?<![a-z])tok(?![a-z])|goodput")
_TIME = re.compile(r"time|duration|seconds|delay|(?<![a-z])(ms|us|ns|sec)(?![a-z])")

Row = Tuple[Dict[str, str], float]


def kind(metric: str) -> str:
    """Return what *metric* is like: ``throughput``, ``latency``, ``memory`` or ``other``.

    >>> kind("tokens_per_second"), kind("Mean TTFT (ms)"), kind("peak_memory_GB"), kind("accuracy")
    ('throughput', 'latency', 'memory', 'other')
    """
    text = metric.lower()
    for pattern, name in ((_RATE, "throughput"), (_WAIT, "latency"), (_MEMORY, "memory"), (_COUNT, "throughput"), (_TIME, "latency")):
        if pattern.search(text):
            return name
    return "other"


def merge(streams: Iterable[IO[bytes]]) -> Tuple[bytes, List[Dict[str, Any]]]:
    """Return the merged CSV, and for each of its rows how it came about.

    A node that measured the same model and metric several times (a sweep) keeps its rows apart: the first of each node
    are merged, then the second.

    :param streams: one CSV a node, the lowest rank first: it decides the order of rows and the columns carried along.
    :returns: the text, and ``{model, metric, how, kind, nodes, performance, value}`` per row.
    :raises JobFault: there are more rows than anybody could mean.
    """
    groups: Dict[Tuple[str, str, int], List[Row]] = {}
    for stream in streams:
        seen: Dict[Tuple[str, str], int] = {}
        for cells, value in records(stream):
            pair = (cells["model"], cells["metric"])
            seen[pair] = seen.get(pair, 0) + 1
            groups.setdefault((*pair, seen[pair]), []).append((cells, value))
            if len(groups) > _MOST_ROWS:
                raise JobFault("results: too many rows to merge", "use the policy richest", limit=_MOST_ROWS)
    merged = [_merged(rows) for rows in groups.values()]
    return _text(merged), [how for _cells, how in merged]


def _merged(rows: Sequence[Row]) -> Tuple[Dict[str, str], Dict[str, Any]]:
    cells, values = rows[0][0], [value for _cells, value in rows]
    like = kind(cells["metric"])
    how, combine = _RULES[like]
    value = combine(values)
    text = str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    note = {"model": plain(cells["model"]), "metric": plain(cells["metric"]), "how": how, "kind": like, "nodes": len(values)}
    return {**cells, "performance": text}, {**note, "performance": text, "value": value}


def _sum(values: List[float]) -> float:
    """Return the exactly rounded sum, or the largest number there is."""
    try:
        return math.fsum(values)
    except OverflowError:
        scaled, largest = _scaled(values)
        return max(-sys.float_info.max, min(scaled * largest, sys.float_info.max))


def _mean(values: List[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        scaled, largest = _scaled(values)
        return scaled / len(values) * largest


def _scaled(values: List[float]) -> Tuple[float, float]:
    largest = max(map(abs, values))
    return math.fsum(value / largest for value in values), largest


_RULES: Dict[str, Tuple[str, Callable[[List[float]], float]]] = {
    "throughput": ("sum", _sum),
    "latency": ("mean", _mean),
    "memory": ("max", max),
    "other": ("mean", _mean),
}


def _text(merged: Sequence[Tuple[Dict[str, str], Dict[str, Any]]]) -> bytes:
    columns = list(COLUMNS)
    for cells, _how in merged:
        columns.extend(name for name in cells if name and name not in columns)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells for cells, _how in merged)
    return stream.getvalue().encode("utf-8", "replace")
