# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of several nodes' tables measured the same, whatever each node calls a column and in whatever order it writes.

A column tells what was measured by its name (`metric_kinds`). Where the name leaves it open, what the nodes hold decides:
a parameter has the same few values on all of them, a measurement and a node's own name have other ones on each.

Source: results.md, "Choose".
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from . import metric_kinds
from .cells import figure

Cells = Dict[str, str]
Identity = Tuple[Tuple[str, str], ...]
Held = Dict[int, Set[str]]  # rank → what its rows hold in one column

_KEYS = ("model", "metric")
_MOST_WEIGHED = 20  # columns; each is a walk through all rows
_MOST_COMPARED = 200
_MOST_HELD = 1000


class Spelling:
    """One name for a column that nodes write differently (``Max Concurrency``, ``max_concurrency``): the first that came."""

    def __init__(self) -> None:
        self._first: Dict[str, str] = {}
        self._known: Dict[Tuple[str, ...], Mapping[str, str]] = {}

    def unified(self, cells: Cells) -> Cells:
        """Return *cells* under the names that came first; two columns of one table stay two."""
        columns = tuple(cells)
        names = self._known.get(columns)
        if names is None:
            keys = Counter(map(_key, columns))
            names = {name: self._first.setdefault(_key(name), name) if keys[_key(name)] == 1 else name for name in columns}
            self._known[columns] = names
        return {names[name]: text for name, text in cells.items()}


def telling(rows: Sequence[Tuple[int, Cells]]) -> Set[str]:
    """Return the columns of *rows* (rank, cells) that tell what a row measured.

    A column that its name calls a count, or what somebody calls a run, tells nothing where hardly any of what it holds is on
    two nodes and each node's rows differ without it. One that its name calls a measurement does tell where all nodes hold the
    same of it, and rows of one node differ in nothing else: a sweep over it.
    """
    held = _held(rows)
    named = {name for name in held if metric_kinds.identifies(name)}
    found = {*_KEYS, *(name for name in named if metric_kinds.is_setting(name) or not _is_measured(held[name]))}
    own = [name for name in sorted(named & found) if metric_kinds.is_doubtful(name) and _is_each_nodes_own(held[name])]
    for name in own[:_MOST_WEIGHED]:
        if _distinct(rows, found - {name}) == _distinct(rows, found):
            found.discard(name)
    swept = [name for name in sorted(set(held) - named) if not metric_kinds.is_of_the_run(name) and _is_swept(held[name])]
    for name in swept[:_MOST_WEIGHED]:
        if _distinct(rows, found | {name}) > _distinct(rows, found):
            found.add(name)
    return found


def identity(cells: Cells, columns: Set[str]) -> Identity:
    """Return what a row measured: ``8``, ``8.0`` and `` 8`` are one concurrency, ``FP8`` and ``fp8`` one precision."""
    named = ((name, cells[name]) for name in sorted(columns.intersection(cells)))
    return tuple((name, _key(text) if name == "metric" else _alike(text)) for name, text in named if text)


def paired(groups: Mapping[Identity, Mapping[int, Any]]) -> Dict[Identity, Identity]:
    """Return for rows that say less than another node's the only ones that they can belong to: {identity: identity}.

    A node that writes no ``tp`` measured what the other calls ``tp=8``, if there is one such row and that node has none of it.
    """
    by_keys: Dict[Identity, List[Identity]] = {}
    for each in groups:
        by_keys.setdefault(tuple(item for item in each if item[0] in _KEYS), []).append(each)
    found: Dict[Identity, Identity] = {}
    taken = {each: set(groups[each]) for each in groups}
    for alike in by_keys.values():
        for each in sorted(alike, key=len)[:-1] if len(alike) <= _MOST_COMPARED else ():
            wider = [other for other in alike if len(other) > len(each) and set(each).issubset(other)]
            if len(wider) == 1 and not taken[each] & taken[wider[0]]:
                found[each] = wider[0]
                taken[wider[0]] |= taken[each]
    return found


def _key(name: str) -> str:
    return re.sub(r"[\s_/()\[\]-]+", " ", name).strip().casefold()


def _alike(text: str) -> str:
    found = figure(text)
    return text.casefold() if found is None else repr(found[0])


def _held(rows: Iterable[Tuple[int, Cells]]) -> Dict[str, Held]:
    held: Dict[str, Held] = {}
    for rank, cells in rows:
        for name, text in cells.items():
            if name not in (*_KEYS, "performance") and text:
                mine = held.setdefault(name, {}).setdefault(rank, set())
                if len(mine) < _MOST_HELD:
                    mine.add(_alike(text))
    return held


def _is_measured(held: Held) -> bool:
    """Say whether a column holds fractions of which hardly any is on two nodes: these were measured, whatever it is called."""
    every = _counted(held)
    numbers = [figure(text) for text in every]
    fractions = sum(number is not None and not number[0].is_integer() for number in numbers)
    return None not in numbers and 2 * fractions > len(every) and _is_each_nodes_own(held)


def _is_each_nodes_own(held: Held) -> bool:
    every = _counted(held)
    is_round = all(_is_round(text) for text in every)
    return len(held) > 1 and len(every) > 2 * sum(nodes > 1 for nodes in every.values()) and not is_round


def _is_round(text: str) -> bool:
    """Say whether *text* is a number as somebody sets one: a power of two, or so many hundreds."""
    number = figure(text)
    value = int(number[0]) if number is not None and number[0].is_integer() else 0
    return value > 0 and (value & (value - 1) == 0 or value % 64 == 0 or value % 50 == 0)


def _is_swept(held: Held) -> bool:
    first, *others = held.values()
    return bool(others) and len(first) > 1 and all(each == first for each in others)


def _counted(held: Held) -> Dict[str, int]:
    return Counter(text for mine in held.values() for text in mine)


def _distinct(rows: Sequence[Tuple[int, Cells]], columns: Set[str]) -> int:
    return len({(rank, identity(cells, columns)) for rank, cells in rows})
