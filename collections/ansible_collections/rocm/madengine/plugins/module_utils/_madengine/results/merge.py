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
from typing import IO, Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ..core.errors import JobFault
from . import identity, metric_kinds
from .csv_score import COLUMNS, plain, records
from .identity import Identity

_NEVER_NEGATIVE = (metric_kinds.RATE, metric_kinds.COUNT, metric_kinds.LATENCY, metric_kinds.MEMORY)
_MOST_ROWS = 10_000
_MOST_NAMED = 20
_MOST_LEFT_OUT = 100

Row = Tuple[Dict[str, str], float]
Share = Tuple[str, IO[bytes]]
Hole = Tuple[Dict[str, str], str]  # the cells, and why they do not count
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
    telling = identity.telling([(rank, cells) for rank, cells, _value, _why in found])
    groups, holes = _grouped(found, telling)
    for less, more in identity.paired(groups).items():  # the narrowest first
        groups[more].update(groups.pop(less))
    _without_unmeasured(groups)
    merged = [_merged(what, dict(sorted(rows.items())), names, telling) for what, rows in groups.items()]
    left_out = [{**_named(what, cells), "reason": why} for what, (cells, why) in holes.items() if what not in groups]
    return _text(merged), [how for _cells, how in merged], left_out[:_MOST_LEFT_OUT]


def _read(shares: Iterable[Share]) -> Tuple[List[str], List[Found]]:
    """Return the names of the nodes, and their rows with the rank of each."""
    names: List[str] = []
    found: List[Found] = []
    spelling = identity.Spelling()
    for rank, (name, stream) in enumerate(shares):
        names.append(name)
        for cells, value, why in records(stream):
            found.append((rank, spelling.unified(cells), value, why))
            if len(found) > _MOST_ROWS * len(names):
                raise JobFault("results: too many rows to merge", "use the policy richest", limit=_MOST_ROWS)
    return names, found


def _grouped(found: Sequence[Found], telling: Set[str]) -> Tuple[Dict[Identity, Dict[int, List[Row]]], Dict[Identity, Hole]]:
    """Return the rows with a number by what they measured and whose they are, and of those without one the first."""
    groups: Dict[Identity, Dict[int, List[Row]]] = {}
    holes: Dict[Identity, Hole] = {}
    for rank, cells, value, why in found:
        what = identity.identity(cells, telling)
        if value is None:
            holes.setdefault(what, (cells, why))
        else:
            groups.setdefault(what, {}).setdefault(rank, []).append((cells, value))
    return groups, holes


def _without_unmeasured(groups: Dict[Identity, Dict[int, List[Row]]]) -> None:
    """Take out what a node wrote where it measured nothing (a -1, the zeros of a benchmark that did not run), if another has a number."""
    has_run: Dict[Tuple[int, Identity], bool] = {}
    for what, rows in groups.items():
        for rank, mine in rows.items() if _like(rows) == metric_kinds.RATE else ():
            has_run[rank, _point(what)] = has_run.get((rank, _point(what)), False) or any(value > 0 for _cells, value in mine)
    for what, rows in groups.items():
        like = _like(rows)
        nothing = [rank for rank, mine in rows.items() if _is_nothing(mine, like, has_run.get((rank, _point(what)), True))]
        for rank in nothing if len(nothing) < len(rows) else ():
            del rows[rank]


def _is_nothing(mine: List[Row], like: str, has_run: bool) -> bool:
    values = [value for _cells, value in mine]
    return max(values) <= 0 and (not has_run or (min(values) < 0 and like in _NEVER_NEGATIVE))


def _like(rows: Dict[int, List[Row]]) -> str:
    """Return the kind of a merged row; whatever its name, a percentage is a share."""
    every = [cells for mine in rows.values() for cells, _value in mine]
    return metric_kinds.SHARE if any(cells["performance"].endswith("%") for cells in every) else metric_kinds.kind(every[0]["metric"])


def _point(what: Identity) -> Identity:
    """Return at which point of a sweep a row was measured: what it says without its metric."""
    return tuple(item for item in what if item[0] != "metric")


def _merged(what: Identity, rows: Dict[int, List[Row]], names: Sequence[str], telling: Set[str]) -> Tuple[Dict[str, str], Dict[str, Any]]:
    like = _like(rows)
    how, combine = _RULES[like]
    value = combine([_mean([value for _cells, value in mine]) for mine in rows.values()])
    text = str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    lacking = [plain(name) for rank, name in enumerate(names) if rank not in rows]
    carried = _carried(rows, telling)
    note: Dict[str, Any] = {**_named(what, carried), "how": how}
    note.update(kind=like, nodes=len(rows), lacking=lacking[:_MOST_NAMED])
    return {**carried, "performance": text}, {**note, "performance": text, "value": value}


def _named(what: Identity, cells: Dict[str, str]) -> Dict[str, Any]:
    """Return what tells a row from others, in words."""
    further = {plain(name): plain(cells[name]) for name, _text in what if cells.get(name) and name not in ("model", "metric")}
    return {"model": plain(cells["model"]), "metric": plain(cells["metric"]), "identity": further}


def _carried(rows: Dict[int, List[Row]], telling: Set[str]) -> Dict[str, str]:
    """Return the columns that a merged row has: what the nodes' rows agree on, and what they measured is nobody's any more."""
    every = [cells for mine in rows.values() for cells, _value in mine]
    found = dict(every[0])
    for cells in every[1:]:
        found.update((name, text) for name, text in cells.items() if name in telling and text and not found.get(name))
    for name in found:
        if name not in telling and any(cells.get(name, "") not in ("", found[name]) for cells in every):
            found[name] = ""
    return found


def _sum(values: List[float]) -> float:
    """Return the sum as one would write it, or the largest number there is."""
    try:
        return _written(math.fsum(values), values)
    except OverflowError:
        scaled, largest = _scaled(values)
        return max(-sys.float_info.max, min(scaled * largest, sys.float_info.max))


def _mean(values: List[float]) -> float:
    try:
        return _written(math.fsum(values) / len(values), values)
    except OverflowError:
        scaled, largest = _scaled(values)
        return scaled / len(values) * largest


def _written(value: float, values: List[float]) -> float:
    """Return *value* without what binary fractions add: 100.1 and 200.2 are 300.3, and not 300.29999999999995."""
    short = float(f"{value:.14g}")
    return short if len(values) > 1 and math.isfinite(short) and len(repr(short)) + 3 < len(repr(value)) else value


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
