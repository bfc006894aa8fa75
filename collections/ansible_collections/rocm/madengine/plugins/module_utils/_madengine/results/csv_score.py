# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ``multiple_results`` CSV measured: its rows, read in bounded pieces whatever the bytes are.

A row counts when its ``performance`` is a finite number and ``model`` and ``metric`` are there. Everything else (blank,
``nan``, ``FAILED``, ragged, repeated headers, NUL bytes, binary files) is survived and counted as what it is.

Source: madengine's ``multiple_results`` contract (columns ``model,performance,metric``, blanks around names happen).
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import math
from dataclasses import dataclass
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

from ..core.text import printable

COLUMNS = ("model", "performance", "metric")
MOST_VALUES = 50
_CHUNK_BYTES = 128 << 10
_LONGEST_ROW = 256 << 10  # characters; what is longer is no row of a result, and must not fill the memory
_LONGEST_TEXT = 200
_MOST_COLUMNS = 1000


@dataclass(frozen=True)
class Score:
    """What one CSV is worth: ``scored`` decides, then ``rows``.

    :param values: the first rows that count, as ``{model, performance, metric, value}``.
    :param reason: one sentence that says why the score is what it is.
    """

    rows: int
    scored: int
    reason: str
    values: Tuple[Dict[str, Any], ...] = ()


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
    table, blank, scored = Table(stream), 0, 0
    values: List[Dict[str, Any]] = []
    places: Optional[Tuple[int, int, int]] = None
    for row in table:
        places = places or table.places()
        if places is None:
            break  # whatever follows, no row of it can count
        value = _value(row, *places)
        if value is None:
            blank += not table.is_no_data(row)
            continue
        scored += 1
        if scored <= MOST_VALUES:
            values.append(_shown(row, places, value))
    rows = scored + blank
    return Score(rows, scored, _reason(table, rows, scored), tuple(values))


def records(stream: IO[bytes]) -> Iterator[Tuple[Dict[str, str], float]]:
    """Give each row that counts as (column → text, performance); columns that a ragged row lacks are blank."""
    table = Table(stream)
    for row in table:
        places = table.places()
        if places is None:
            return
        value = _value(row, *places)
        if value is not None:
            cells = [cell.strip() for cell in row] + [""] * (len(table.header) - len(row))
            yield dict(zip(table.header, cells)), value


def number(text: str) -> Optional[float]:
    """Return the finite number that *text* is, or None.

    >>> number(" 1e3 "), number("nan"), number("1_000"), number("12 tokens/s")
    (1000.0, None, None, None)
    """
    if not text:  # the usual case on a node that knows nothing, and an exception costs more
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    # Python alone reads 1_000 as a number; whoever reads the CSV next would not.
    return value if math.isfinite(value) and "_" not in text else None


def plain(text: str) -> str:
    """Return *text* as one short line without control, escape or direction characters."""
    return printable(text[:_LONGEST_TEXT]).strip()


def _value(row: List[str], model: int, performance: int, metric: int) -> Optional[float]:
    try:
        value = number(row[performance])
        return value if value is not None and row[model].strip() and row[metric].strip() else None
    except IndexError:  # a ragged row
        return None


def _shown(row: List[str], places: Tuple[int, int, int], value: float) -> Dict[str, Any]:
    return {**{name: plain(row[place]) for name, place in zip(COLUMNS, places)}, "value": value}


def _reason(table: Table, rows: int, scored: int) -> str:
    if not table.bytes:
        return "the file is empty"
    if table.places() is None:
        if table.has_nul:
            return "no CSV, but binary data"
        missing = [name for name in COLUMNS if name not in table.header]
        return f"no column {', '.join(missing)}"
    if not rows:
        return "a header and no rows"
    notes = [f"{count} {what}" for count, what in ((table.broken, "broken"), (table.repeated, "repeated headers")) if count]
    verb = "holds" if scored == 1 else "hold"
    return f"{scored} of {rows} rows {verb} a finite performance" + (f" ({', '.join(notes)})" if notes else "")


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
