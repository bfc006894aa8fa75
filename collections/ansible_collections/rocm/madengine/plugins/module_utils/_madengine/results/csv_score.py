# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ``multiple_results`` CSV measured: its rows, read in bounded pieces whatever the bytes are.

A row counts when its ``performance`` is a finite number (``"1,444"`` and ``50%`` are), ``model`` and ``metric`` are there,
and no column that tells its outcome says that it failed. A row with more cells than the header is none: ``1,444`` without
quotes would be read as 1. Everything else (blank, ``nan``, ``FAILED``, too short, repeated headers, NUL bytes, binary files)
is survived and counted as what it is, and the reason says so.

Source: madengine's ``multiple_results`` contract (columns ``model,performance,metric``, blanks around names happen).
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
from dataclasses import dataclass
from typing import IO, Any, Dict, Iterator, List, Optional, Set, Tuple

from ..core.text import printable
from . import metric_kinds
from .cells import figure, has_failed, number, tells_outcome

COLUMNS = ("model", "performance", "metric")
MOST_VALUES = 50
FAILED = "failed"
_CHUNK_BYTES = 128 << 10
_LONGEST_ROW = 256 << 10  # characters; what is longer is no row of a result, and must not fill the memory
_LONGEST_TEXT = 200
_MOST_COLUMNS = 1000
_HEAD_BYTES = 1 << 20  # a sparse file of terabytes has no end of blanks
_MOST_COMPARED = 10_000
_LEDGER_COLUMNS = frozenset(
    (
        *("docker_file", "base_docker", "docker_sha", "docker_image", "git_commit", "machine_name", "relative_change"),
        *("build_duration", "test_duration", "data_download_duration", "build_number"),
    )
)
_LEDGER_AT = 3  # so many of them, and the table is one of madengine's own


@dataclass(frozen=True)
class Score:
    """What one CSV is worth: ``scored`` decides, then ``rows``.

    :param values: the first rows that count, as ``{model, performance, metric, value}``.
    :param reason: one sentence that says why the score is what it is.
    :param headline: the row to show when there is room for one, as in *values*; None where none is a rate or a throughput.
    :param is_zero: all throughputs, or where there are none all numbers, are 0 or less: what a benchmark writes that did not run.
    :param zeros: how many of *scored* are throughputs of 0 or less.
    :param is_history: rows of other runs are among them, as madengine's own ledgers have them.
    """

    rows: int
    scored: int
    reason: str
    values: Tuple[Dict[str, Any], ...] = ()
    headline: Optional[Dict[str, Any]] = None
    is_zero: bool = False
    zeros: int = 0
    is_history: bool = False


class Table:
    """A CSV that somebody else has written; iterating gives its data rows as lists of text.

    :ivar header: the column names without blanks and byte order mark; empty until the first row was read.
    :ivar broken: rows that no CSV reader can make sense of.
    :ivar repeated: headers that came again among the rows.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.header: List[str] = []
        self.broken = self.repeated = self.bytes = 0
        self.has_nul = False

    def __iter__(self) -> Iterator[List[str]]:
        for block in self._blocks():
            reader = csv.reader(io.StringIO(block))
            while True:
                try:
                    for row in reader:
                        if row:  # an empty line is no row
                            if self.header:
                                yield row
                            else:
                                self._begin(row)
                    break
                except csv.Error:  # the reader goes on with the next line
                    self.broken += 1

    def places(self) -> Optional[Tuple[int, int, int]]:
        """Return where model, performance and metric stand in a row, or None if one of them is missing."""
        if not all(name in self.header for name in COLUMNS):
            return None
        model, performance, metric = (self.header.index(name) for name in COLUMNS)
        return model, performance, metric

    def is_no_data(self, row: List[str]) -> bool:
        """Say whether *row* holds nothing: only blanks, or the header once more."""
        first = row[0].strip()
        if first and first != self.header[0]:  # nearly all rows; the rest of it takes its time
            return False
        cells = [cell.strip() for cell in row]
        if not any(cells):
            return True
        if cells[: len(self.header)] != self.header:
            return False
        self.repeated += 1
        return True

    def _begin(self, row: List[str]) -> None:
        names = [name.strip().strip("\ufeff").strip() for name in row[:_MOST_COLUMNS]]
        # `Performance` is read as what it means; two that differ by their case alone stay two.
        lowered = [name.lower() for name in names]
        names = [low if low in COLUMNS and lowered.count(low) == 1 else name for name, low in zip(names, lowered)]
        self.header = names if any(names) else []

    def _blocks(self) -> Iterator[str]:
        """Give the text in pieces that end where a row ends, with ``\\n`` for every kind of line end."""
        # Blocks are parsed one by one, so a quote that never closes spoils one block and not the memory.
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")("replace"), True)
        rest = ""
        for chunk in iter(functools.partial(self._stream.read, _CHUNK_BYTES), b""):
            self.bytes += len(chunk)
            text = rest + self._without_nul(decoder.decode(chunk))
            cut = _end_of_row(text)
            if not cut and len(text) > _LONGEST_ROW:
                cut = len(text)
            if cut:
                yield text[:cut]
            rest = text[cut:]
        yield rest + self._without_nul(decoder.decode(b"", final=True))

    def _without_nul(self, text: str) -> str:
        # Python before 3.11 refuses NUL; a blank keeps a damaged number from becoming another number.
        if "\0" not in text:
            return text
        self.has_nul = True
        return text.replace("\0", " ")


def score(stream: IO[bytes]) -> Score:
    """Return what the CSV in *stream* is worth; no content makes it raise.

    >>> score(io.BytesIO(b"model,performance,metric\\nllama,12.5,tokens_per_second\\nllama,nan,latency\\n")).reason
    '1 of 2 rows holds a finite performance'
    """
    table = Table(stream)
    tally: Optional[_Tally] = None
    for row in table:
        tally = tally or _tally(table)
        if tally is None:
            break  # whatever follows, no row of it can count
        value, why = tally.reading.value(row)
        if value is not None:
            tally.add(row, value)
        elif not table.is_no_data(row):
            tally.refuse(row, why)
    if tally is None:
        return Score(0, 0, _reason(table))
    rows = tally.scored + sum(tally.refused.values())
    reason = _counted(table, rows, tally) if rows else _reason(table)
    return Score(rows, tally.scored, reason, tuple(tally.values), tally.headline(), tally.is_zero(), tally.zeros, tally.is_history())


def records(stream: IO[bytes]) -> Iterator[Tuple[Dict[str, str], Optional[float], str]]:
    """Give each row as (column → text, performance, why it does not count); columns that a ragged row lacks are blank."""
    table = Table(stream)
    reading: Optional[_Reading] = None
    for row in table:
        reading = reading or _reading(table)
        if reading is None:
            return
        value, why = reading.value(row)
        if value is not None or not table.is_no_data(row):
            cells = [cell.strip() for cell in row] + [""] * (len(table.header) - len(row))
            yield dict(zip(table.header, cells)), value, why


def has_shape(stream: IO[bytes]) -> bool:
    """Say whether *stream* holds a CSV with the columns of a result, as far as its first `_HEAD_BYTES` tell."""
    table = Table(io.BytesIO(stream.read(_HEAD_BYTES)))
    next(iter(table), None)
    return table.places() is not None


class _Reading:
    """How one table's rows are read."""

    def __init__(self, header: List[str], places: Tuple[int, int, int]) -> None:
        self.places, self._cells = places, len(header)
        names = [name.lower() for name in header]
        self.is_ledger = len(_LEDGER_COLUMNS.intersection(names)) >= _LEDGER_AT
        self._outcomes = [(column, name) for column, name in enumerate(names) if tells_outcome(name)]
        self.identity = [column for column, name in enumerate(header) if metric_kinds.identifies(name)]

    def value(self, row: List[str]) -> Tuple[Optional[float], str]:
        """Return the number of *row*, or None and why it does not count."""
        model, performance, metric = self.places
        try:
            found = figure(row[performance])
            if any(column < len(row) and has_failed(row[column], name) for column, name in self._outcomes):
                return None, FAILED
            if found is None:
                return None, "without a number" if row[performance].strip() else "blank"
            if not row[model].strip() or not row[metric].strip():
                return None, "without model or metric"
            # A number for a metric is the rest of another number: `1,444` fills the place of a column that came short.
            if len(row) > self._cells or number(row[metric]) is not None:
                return None, "with too many cells"
        except IndexError:
            return None, "too short"
        return found[0], ""


class _Tally:
    """What the rows of one table come to."""

    def __init__(self, reading: _Reading) -> None:
        self.reading = reading
        self.refused: Dict[str, int] = {}
        self.scored = self.zeros = self._throughputs = self._positive = 0
        self.values: List[Dict[str, Any]] = []
        self._best: Tuple[int, Optional[Dict[str, Any]]] = (0, None)
        self._ranks: Dict[str, Tuple[int, bool]] = {}
        self._seen: Set[Tuple[str, ...]] = set()
        self._failed: Dict[Tuple[str, ...], bool] = {}
        self._is_repeated = False

    def add(self, row: List[str], value: float) -> None:
        self.scored += 1
        metric = row[self.reading.places[2]]
        if metric not in self._ranks:  # few metrics, many rows
            self._ranks[metric] = metric_kinds.headline(metric), metric_kinds.kind(metric) == metric_kinds.RATE
        rank, is_throughput = self._ranks[metric]
        self._throughputs += is_throughput
        self.zeros += is_throughput and value <= 0
        self._positive += value > 0
        if len(self.values) < MOST_VALUES:
            self.values.append(_shown(row, self.reading.places, value))
        if rank:
            # A number before a zero or a -1: that is what is written where nothing was measured.
            worth = rank + 2 * (value > 0)
            if worth > self._best[0]:
                self._best = worth, _shown(row, self.reading.places, value)
        self._note(row)

    def refuse(self, row: List[str], why: str) -> None:
        self.refused[why] = self.refused.get(why, 0) + 1
        if why == FAILED and len(self._failed) < _MOST_COMPARED:
            self._failed[self._what(row)] = not row[self.reading.places[1]].strip()

    def headline(self) -> Optional[Dict[str, Any]]:
        return self._best[1]

    def is_zero(self) -> bool:
        return 0 < self._throughputs == self.zeros or (self.scored > 0 and not self._positive)

    def zeros_in_words(self) -> List[str]:
        if self.is_zero():
            return ["no throughput is above 0" if self._throughputs else "no number is above 0"]
        return [f"{self.zeros} throughputs are not above 0"] if self.zeros else []

    def is_history(self) -> bool:
        return self._is_repeated or self.reading.is_ledger or bool(self.scored and self._has_failed_before())

    def _has_failed_before(self) -> bool:
        """Say whether a row that failed cannot be of the run that the good rows are of.

        A benchmark writes what failed of a sweep, or of its metrics. A ledger has a row without a metric, one for what another run
        measured well, or one for a model of its own beside those of earlier runs.
        """
        models, metrics = {what[0] for what in self._seen}, {what[1] for what in self._seen}
        for what, is_blank in self._failed.items():
            model, metric, *further = what
            if not metric or what in self._seen or (not any(further) and model not in models and (is_blank or metric in metrics)):
                return True
        return False

    def _note(self, row: List[str]) -> None:
        """Take note of what *row* measures: who measures the same twice keeps a history."""
        if not self._is_repeated and self.scored <= _MOST_COMPARED:
            what = self._what(row)
            self._is_repeated = what in self._seen
            self._seen.add(what)

    def _what(self, row: List[str]) -> Tuple[str, ...]:
        """Return what *row* measures: its model, its metric, and what else tells it from others."""
        model, _performance, metric = self.reading.places
        columns = (model, metric, *(column for column in self.reading.identity if column not in (model, metric)))
        return tuple(row[column].strip() if column < len(row) else "" for column in columns)


def _tally(table: Table) -> Optional[_Tally]:
    reading = _reading(table)
    return None if reading is None else _Tally(reading)


def _reading(table: Table) -> Optional[_Reading]:
    places = table.places()
    return None if places is None else _Reading(table.header, places)


def plain(text: str) -> str:
    """Return *text* as one short line without control, escape or direction characters."""
    return printable(text[:_LONGEST_TEXT]).strip()


def _shown(row: List[str], places: Tuple[int, int, int], value: float) -> Dict[str, Any]:
    said = {name: plain(row[column]) for name, column in zip(COLUMNS, places)}
    return {**said, "performance": said["performance"].replace(",", ""), "value": value}


def _reason(table: Table) -> str:
    """Return why no row of *table* can count."""
    if not table.bytes:
        return "the file is empty"
    if table.places() is not None:
        return "a header and no rows"
    if table.has_nul:
        return "no CSV, but binary data"
    missing = [name for name in COLUMNS if name not in table.header]
    separator = next((each for each in ";\t|" if any(each in name for name in table.header)), "")
    return f"no column {', '.join(missing)}" + (f" (columns are told apart by {separator!r}, and not by commas)" if separator else "")


def _counted(table: Table, rows: int, tally: _Tally) -> str:
    counts = *tally.refused.items(), ("broken", table.broken), ("repeated headers", table.repeated)
    notes = [f"{count} {what}" for what, count in counts if count] + (tally.zeros_in_words())
    verb = "holds" if tally.scored == 1 else "hold"
    return f"{tally.scored} of {rows} rows {verb} a finite performance" + (f" ({', '.join(notes)})" if notes else "")


def _end_of_row(text: str) -> int:
    """Return where the last whole row of *text* ends, 0 if none does; quoted fields may hold line ends."""
    last = cut = text.rfind("\n") + 1
    if text.count('"', 0, cut) % 2 == 0:
        return cut
    for _attempt in range(64):
        before = text.rfind("\n", 0, cut - 1) + 1
        if before and text.count('"', before, cut) % 2:
            return before
        cut = before
        if not cut:
            break
    # One open row so far. If it does not close in time, the quote was a stray one, as in 5" disk.
    return last if len(text) > _LONGEST_ROW else 0
