# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's choice as files in its collection directory: the result where madengine looks first, and ``selection.json`` beside it.

Each file is replaced at once and for good; doing it again changes nothing.

Source: results.md, "Choose".
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from typing import IO, Iterator, Mapping, Optional, Tuple

from ..core import files
from ..core.errors import Fault, ShareFault
from . import selection_json
from .selection_json import FILE, Selection, read


@dataclass(frozen=True)
class Choice:
    """What ``selection.json`` says and the bytes that it is about.

    :param name: under which name the result is published; empty if there is none.
    :param source: the chosen CSV's path, or None.
    :param merged: the merged CSV, or None.
    :param others: the choices for the job's further models, each with a name of its own.
    """

    selection: Selection
    name: str
    source: Optional[str]
    merged: Optional[bytes]
    others: Tuple[Choice, ...] = ()

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Give the result's bytes.

        :raises JobFault: the chosen CSV is gone.
        """
        with files.opened(self.source) if self.source is not None else io.BytesIO(self.merged or b"") as stream:
            yield stream


def publish(choice: Choice, collection_dir: str, name: str = "") -> bool:
    """Put the result and ``selection.json`` into *collection_dir*, each at once and for good.

    A result that this job's earlier ``selection.json`` there has named and that counts no more is taken away.

    :param name: another name for the result than its own.
    :returns: whether anything changed.
    :raises ShareFault: it cannot be written.
    """
    name = (name or choice.name) if choice.name else ""
    changed = put(choice, os.path.join(collection_dir, name)) if name else False
    for other in choice.others:
        changed = (bool(other.name) and put(other, os.path.join(collection_dir, other.name))) or changed
    with _explained(os.path.join(collection_dir, FILE)):
        changed = _withdraw(choice, collection_dir, name) or changed
        return selection_json.write(choice.selection, collection_dir) or changed


def publish_beside(choice: Choice, folders: Mapping[str, str]) -> None:
    """Put the results of the further models into directories of their own, {name of the CSV: directory}; errors as `put`.

    Nothing is removed there: what else is in it is not this job's alone to know.
    """
    for other in choice.others:
        folder = folders.get(other.selection.name)
        if folder and other.name:
            with _explained(folder):
                os.makedirs(folder, exist_ok=True)
            put(other, os.path.join(folder, other.name))


def put(choice: Choice, target: str) -> bool:
    """Put the result under *target*, at once and for good.

    :returns: whether anything changed.
    :raises ShareFault: it cannot be written.
    """
    if is_same(choice, target):
        return False
    with _explained(target), choice.open() as source, files.new(target) as stream:
        for block in iter(lambda: source.read(1 << 20), b""):
            stream.write(block)
    return True


def write(target: str, content: bytes) -> None:
    """Put *content* under *target*, at once and for good.

    :raises ShareFault: it cannot be written.
    """
    with _explained(target):
        files.write(target, content)


def is_same(choice: Choice, target: str) -> bool:
    """Say whether *target* holds the choice's bytes already."""
    try:
        with choice.open() as wanted, files.opened(target) as present:
            while True:
                block = wanted.read(1 << 20)
                if block != present.read(1 << 20):
                    return False
                if not block:
                    return True
    except (Fault, OSError):
        return False


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        seen = error.strerror or str(error)
        raise ShareFault(
            "results: cannot write the choice", "make room there and collect the results again", path=path, error=seen
        ) from error


def _withdraw(choice: Choice, folder: str, name: str) -> bool:
    """Take away what an earlier choice for the same job has published under another name."""
    earlier = read(folder)
    old = str(earlier.selected.get("published")) if earlier.selected is not None else ""
    if not old or old == name or os.path.basename(old) != old or earlier.job_id != choice.selection.job_id:
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, old))
        return True
    return False
