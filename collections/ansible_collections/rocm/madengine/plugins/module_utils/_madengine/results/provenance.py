# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a file in a workspace of madengine's is: this job's, or one that was copied in or lay there before.

A node's workspace is a copy of the whole submit directory: other jobs' results and earlier runs' files are in it, and
what another job wrote a moment ago has a fresh time. So only the places count where madengine itself takes a result from,
and there nothing that was present before the job's tasks began and has not changed since.

Source: results.md, "Gather"; measured with madengine 2.1's job script (``rsync -a`` keeps the time of what it copies).
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

LEDGERS = ("perf.csv", "perf_super*", "perf_entry*")
_ALWAYS_LEDGERS = LEDGERS[1:]
_RUN, _WORK = "run_directory", "workdir"
_MOST_FILES = 2000
_MOST_ENTRIES = 20_000
_OUTPUTS = ("madengine-*.out", "madengine-*.err", "madengine_*.sh", "madengine-*.sh")
_NODE = re.compile(r"node_[0-9]+")
_JOB = re.compile(r"[0-9]+(_[0-9]{14}_[0-9a-f]{6})?")
_COLLECTION = re.compile(r"madengine-[0-9]+|madengine_job_[0-9]+.*")

_BEFORE = "there before the job began, and not changed since"
_COPY_OF_BEFORE = "a copy of what was in the submit directory before the job began"
_COPY = "a copy of another run's file in the submit directory"
FOREIGN = (_BEFORE, _COPY_OF_BEFORE, _COPY)  # why a file is not this job's at all

Print = Tuple[int, int, int]  # size, time of the last change of the content in ns, inode


@dataclass(frozen=True)
class Wanted:
    """What one model leaves as its result.

    :param csv: its ``multiple_results``; empty: any CSV of the right shape.
    :param folder: the directory that ``multiple_results`` named, relative to where the model runs; empty for none.
    """

    model: str = ""
    csv: str = ""
    folder: str = ""
    places: Tuple[str, ...] = ()


def wanted(model: Mapping[str, Any]) -> Wanted:
    """Return what the model described by *model* (``name``, ``multiple_results``, ``url``, ``scripts``) leaves.

    ``multiple_results`` may have blanks around it and a directory before it. What is no CSV's name counts as none.

    >>> wanted({"name": "m", "multiple_results": " ./out/perf.csv "}).folder
    'out'
    """
    path = os.path.normpath(str(model.get("multiple_results") or "").strip() or ".")
    folder, csv = os.path.split(path)
    is_inside = not os.path.isabs(path) and not path.startswith("..")
    if not csv.lower().endswith(".csv") or csv.startswith(".") or not csv.isprintable():
        folder, csv = "", ""
    return Wanted(str(model.get("name") or ""), csv, folder if is_inside else "", tuple(_own_places(model)))


def places(every: Iterable[Wanted]) -> List[str]:
    """Return where in a workspace a result may be, relative to it; the workspace itself first."""
    found = ["", _RUN]
    folders = []
    for each in every:
        found += [*each.places, *(os.path.join(_RUN, place) for place in each.places)]
        folders += [each.folder] if each.folder else []
    found += [os.path.join(place, _WORK) for place in found]
    return list(dict.fromkeys([*found, *(os.path.join(place, folder) for place in found for folder in folders)]))


def _own_places(model: Mapping[str, Any]) -> List[str]:
    """Return the model's own directory, by each of the names that madengine may give it."""
    clone = os.path.basename(str(model.get("url") or "").rstrip("/"))
    name = str(model.get("name") or "")
    scripts = os.path.normpath(str(model.get("scripts") or "."))
    scripts = os.path.dirname(scripts) if os.path.splitext(scripts)[1] else scripts
    named = [clone, clone[:-4] if clone.endswith(".git") else "", name, name.rpartition("/")[2], scripts]
    return [place for place in dict.fromkeys(named) if place not in ("", ".") and not place.startswith(("/", ".."))]


def snapshot(roots: Sequence[str], looked_in: Sequence[str]) -> Dict[str, Print]:
    """Return size, time and inode of each CSV that is there now; to be called as the job's user.

    :param roots: the submit directory, and workspaces that an earlier attempt may have left.
    :param looked_in: as `places` gives them.
    """
    found: Dict[str, Print] = {}
    entries = 0
    for folder in (os.path.join(root, place) for root in roots for place in looked_in):
        with contextlib.suppress(OSError), os.scandir(folder) as listed:
            for entry in listed:
                entries += 1
                if len(found) >= _MOST_FILES or entries > _MOST_ENTRIES:
                    return found
                if entry.name.endswith(".csv"):
                    with contextlib.suppress(OSError):
                        found[os.path.normpath(entry.path)] = _print(entry.stat(follow_symlinks=False))
    return found


@dataclass(frozen=True)
class Origins:
    """What decides whether a file of a workspace is this job's.

    :param expected: what the job's models leave.
    :param work_dir: the submit directory, of which a workspace is a copy; empty where it is not known.
    :param outputs: where madengine keeps its jobs' files, relative to the submit directory; empty where it is not known.
    :param before: what `snapshot` found before the tasks began.
    """

    expected: Tuple[Wanted, ...] = (Wanted(),)
    work_dir: str = ""
    outputs: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", frozenset(places(self.expected)))

    def refusal(self, root: str, below: str, status: os.stat_result) -> str:
        """Return why the file *below* the workspace *root* is no result of this job, or nothing."""
        place, name = os.path.split(below)
        if place not in self._places:  # type: ignore[attr-defined]
            return "not where madengine takes a result from"
        if is_ledger(name) and not self._is_named(name):
            return "madengine's own ledger"
        found = _print(status)
        if self._known(os.path.join(root, below)) == found:
            return _BEFORE
        origin = os.path.join(self.work_dir, below) if self.work_dir else ""
        known = self._known(origin) if origin else None
        if known is not None and known[:2] == found[:2]:
            return _COPY_OF_BEFORE
        if origin and _is_copy(origin, status):
            return _COPY
        return ""

    def is_foreign(self, root: str, below: str, names: Sequence[str]) -> bool:
        """Say whether the directory *below* a workspace holds other jobs' files: an output or a collection directory.

        :param names: what is in it.
        """
        if not below:
            return False
        if self.outputs and below == self.outputs:
            return True
        own = os.path.basename(below)
        if _COLLECTION.fullmatch(own) or "selection.json" in names:
            return True
        if _JOB.fullmatch(own) and any(_NODE.fullmatch(name) for name in names):
            return True
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in _OUTPUTS)

    def _is_named(self, name: str) -> bool:
        return not is_always_ledger(name) and any(each.csv == name for each in self.expected)

    def _known(self, path: str) -> Optional[Print]:
        kept = self.before.get(os.path.normpath(path))
        return tuple(kept) if isinstance(kept, (list, tuple)) and len(kept) == 3 else None


def is_ledger(name: str) -> bool:
    """Say whether *name* is that of a file in which madengine itself keeps the history of all runs.

    >>> [is_ledger(name) for name in ("perf.csv", "workdir__perf.csv", "perf_super.csv", "perf_entry.json", "perf_llama.csv")]
    [True, True, True, True, False]
    """
    bare = re.sub(r"^.*__", "", name)
    return any(fnmatch.fnmatchcase(bare, pattern) for pattern in LEDGERS)


def is_always_ledger(name: str) -> bool:
    """Say whether *name* is a ledger's, even where a model's ``multiple_results`` says it; ``perf.csv`` depends on what is in it."""
    bare = re.sub(r"^.*__", "", name)
    return any(fnmatch.fnmatchcase(bare, pattern) for pattern in _ALWAYS_LEDGERS)


def _print(status: os.stat_result) -> Print:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _is_copy(origin: str, status: os.stat_result) -> bool:
    """Say whether a file was copied from *origin*, with its time; one that was copied there instead is the younger of the two."""
    try:
        source = os.lstat(origin)
    except OSError:
        return False
    is_alike = stat.S_ISREG(source.st_mode) and (source.st_size, source.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    is_other = (source.st_dev, source.st_ino) != (status.st_dev, status.st_ino)
    return is_alike and is_other and source.st_ctime_ns <= status.st_ctime_ns
