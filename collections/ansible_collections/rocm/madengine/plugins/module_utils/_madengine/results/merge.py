# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One table out of the nodes' tables, for serving where each node measured its own share of the load.

Rows belong together that measured the same: model, metric and every further column that is no measurement (concurrency,
lengths, precision …) have the same content. Their order plays no part, and neither has the order in which nodes come.
Throughputs and counts are summed, latencies averaged, memory taken at its maximum; what is per GPU, per user or a
percentage is averaged, and so is whatever is none of them. Each row says in the selection how it came about.

Source: results.md, "Choose".
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections import Counter
from typing import IO, Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ..core.errors import JobFault
from . import metric_kinds
from .cells import figure
from .csv_score import COLUMNS, plain, records

_MOST_ROWS = 10_000
_MOST_NAMED = 20
_MOST_LEFT_OUT = 100

Row = Tuple[Dict[str, str], float]
Share = Tuple[str, IO[bytes]]
Identity = Tuple[Tuple[str, str], ...]
Found = Tuple[int, Dict[str, str], Optional[float], str]  # rank, and what `records` gives


def merge(shares: Iterable[Share]) -> Tuple[bytes, List[Dict[str, Any]], List[Dict[str, Any]]]:
    """Return the merged CSV, for each of its rows how it came about, and the rows that no node had a number for.

    A node that measured the same more than once counts with the mean: nothing says which of its rows are another's pair.

    :param shares: the node's name and its CSV, the lowest rank first: it decides the order of rows and the columns carried along.
    :returns: the text, ``{model, metric, identity, how, kind, nodes, lacking, performance, value}`` per row: *identity* has
        the further columns that tell the row from others, *lacking* the names of nodes that had no number for it; and
        ``{model, metric, identity, reason}`` per row that is left out.
    :raises JobFault: there are more rows than anybody could mean.
    """
    names, found = _read(shares)
    telling = _telling(found)
    groups: Dict[Identity, Dict[int, List[Row]]] = {}
    holes: Dict[Identity, Tuple[Dict[str, str], str]] = {}
    for rank, cells, value, why in found:
        identity = _identity(cells, telling)
        if value is None:
            holes.setdefault(identity, (cells, why))
        else:
            groups.setdefault(identity, {}).setdefault(rank, []).append((cells, value))
    merged = [_merged(identity, rows, names, telling) for identity, rows in groups.items()]
    left_out = [{**_named(identity, cells), "reason": why} for identity, (cells, why) in holes.items() if identity not in groups]
    return _text(merged), [how for _cells, how in merged], left_out[:_MOST_LEFT_OUT]


def _read(shares: Iterable[Share]) -> Tuple[List[str], List[Found]]:
    """Return the names of the nodes, and their rows with the rank of each."""
    names: List[str] = []
    found: List[Found] = []
    for rank, (name, stream) in enumerate(shares):
        names.append(name)
        for record in records(stream):
            found.append((rank, *record))
            if len(found) > _MOST_ROWS * len(names):
                raise JobFault("results: too many rows to merge", "use the policy richest", limit=_MOST_ROWS)
    return names, found


def _telling(found: Sequence[Found]) -> Set[str]:
    """Return the columns that tell what a row measured: by their names, unless what they hold gives them away.

    A parameter has the same few values on every node, or other whole ones on each; fractions of which hardly any is on two
    nodes were measured, whatever the column is called (``power_w``, ``speedup``).
    """
    named = {name for _rank, cells, _value, _why in found for name in cells if metric_kinds.identifies(name)}
    return {"model", "metric"} | {name for name in named if metric_kinds.is_setting(name) or not _is_measured(name, found)}


def _is_measured(column: str, found: Sequence[Found]) -> bool:
    held: Dict[int, Set[float]] = {}
    for rank, cells, _value, _why in found:
        if cells.get(column):
            number = figure(cells[column])
            if number is None:
                return False
            held.setdefault(rank, set()).add(number[0])
    every = Counter(value for mine in held.values() for value in mine)
    fractions = sum(not value.is_integer() for value in every)
    common = sum(nodes > 1 for nodes in every.values())
    return len(held) > 1 and 2 * fractions > len(every) > 2 * common


def _identity(cells: Dict[str, str], telling: Set[str]) -> Identity:
    """Return what a row measured: ``8``, ``8.0`` and `` 8`` are one concurrency, ``FP8`` and ``fp8`` one precision."""
    return tuple((name, _alike(cells[name])) for name in sorted(telling.intersection(cells)) if cells[name])


def _alike(text: str) -> str:
    found = figure(text)
    return text.casefold() if found is None else repr(found[0])


def _merged(
    identity: Identity, rows: Dict[int, List[Row]], names: Sequence[str], telling: Set[str]
) -> Tuple[Dict[str, str], Dict[str, Any]]:
    first = next(iter(rows.values()))[0][0]
    is_percentage = any(cells["performance"].endswith("%") for mine in rows.values() for cells, _value in mine)
    like = metric_kinds.SHARE if is_percentage else metric_kinds.kind(first["metric"])
    how, combine = _RULES[like]
    value = combine([_mean([value for _cells, value in mine]) if len(mine) > 1 else mine[0][1] for mine in rows.values()])
    text = str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    lacking = [plain(name) for rank, name in enumerate(names) if rank not in rows]
    note: Dict[str, Any] = {**_named(identity, first), "how": how}
    note.update(kind=like, nodes=len(rows), lacking=lacking[:_MOST_NAMED])
    return {**_carried(rows, telling), "performance": text}, {**note, "performance": text, "value": value}


def _named(identity: Identity, cells: Dict[str, str]) -> Dict[str, Any]:
    """Return what tells a row from others, in words."""
    further = {plain(name): plain(cells[name]) for name, _text in identity if name not in ("model", "metric")}
    return {"model": plain(cells["model"]), "metric": plain(cells["metric"]), "identity": further}


def _carried(rows: Dict[int, List[Row]], telling: Set[str]) -> Dict[str, str]:
    """Return the columns that a merged row has: what the nodes' rows agree on, and what they measured is nobody's any more."""
    every = [cells for mine in rows.values() for cells, _value in mine]
    found = dict(every[0])
    for name in found:
        if name not in telling and any(cells.get(name, "") not in ("", found[name]) for cells in every):
            found[name] = ""
    return found


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
    metric_kinds.RATE: ("sum", _sum),
    metric_kinds.COUNT: ("sum", _sum),
    metric_kinds.LATENCY: ("mean", _mean),
    metric_kinds.MEMORY: ("max", max),
    metric_kinds.SHARE: ("mean", _mean),
    metric_kinds.OTHER: ("mean", _mean),
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
