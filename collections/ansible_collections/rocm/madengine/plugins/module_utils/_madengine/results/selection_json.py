# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The document ``selection.json``: what was chosen as a job's result, and all that the choice depends on.

This is the one place that reads and writes it. The job's user can write it too, so what has another type than ours reads as
if it were not there.

Source: results.md, "Choose".
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from typing import Any, Dict, Mapping, Optional, Sequence

from ..core import files
from ..manifest.quoting import masked
from .candidates import document
from .csv_score import plain

FILE = "selection.json"
FACTS = ("job_id", "attempt", "nodes", "failed", "exit_code", "since", "newer_than", "outside")
VERSION = 1

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Selection:
    """The fields of ``selection.json``, in the order in which they are written.

    :param version: of the document; 0 if there is none of ours.
    :param name: the CSV's name that was asked for; empty for every CSV.
    :param verdict: one of `verdict.VERDICTS`.
    :param lacking: node, rank and reason of each node without data.
    :param selected: path, published, node, rank, rows, scored, values and headline of what is published, or None.
    :param best: the one row to show, or None.
    :param merged: what `merge.merge` says of each merged row.
    :param left_out: model, metric, identity and reason of each row that no node had a number for.
    :param candidates: what `Candidate.to_dict` says of each, the best first.
    :param further: name, verdict, reason, selected, best, merged, left_out, candidates and lacking of each further model.
    :param elsewhere: ``node:path`` of files of nodes that share no directory with the others.
    :param images: by node, its image and image_id.
    :param facts: what the choice was told, see `selection.settle`.
    :param basis: the digest of all that the choice depends on.
    """

    version: int = 0
    job_id: str = ""
    attempt: Optional[int] = None
    exit_code: str = ""
    name: str = ""
    policy: str = ""
    verdict: str = ""
    lacking: Sequence[Row] = field(default_factory=list)
    selected: Optional[Row] = None
    best: Optional[Row] = None
    merged: Sequence[Row] = field(default_factory=list)
    left_out: Sequence[Row] = field(default_factory=list)
    candidates: Sequence[Row] = field(default_factory=list)
    further: Sequence[Row] = field(default_factory=list)
    elsewhere: Sequence[str] = field(default_factory=list)
    artifacts: str = ""
    images: Row = field(default_factory=dict)
    images_agree: bool = True
    facts: Row = field(default_factory=dict)
    basis: str = ""
    reason: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """Return it as JSON has it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def has_number(self) -> bool:
        """Say whether a number of the job is published, of whichever of its models."""
        selected = [self.selected, *(each.get("selected") for each in self.further)]
        return any(isinstance(each, Mapping) and each.get("scored") for each in selected)

    def line(self) -> str:
        """Return ``best: <path> rows=<n> performance=<value> metric=<name> node=<node>``, or why there is none."""
        if self.best is not None:
            return "best: {path} rows={rows} performance={performance} metric={metric} node={node}".format(
                **_quoted(self.best, "path", "rows", "performance", "metric", "node")
            )
        if self.selected is not None and self.selected.get("scored"):
            return "best: none is a rate or a throughput, see {path} rows={rows} node={node}".format(
                **_quoted(self.selected, "path", "rows", "node")
            )
        return masked(plain(f"best: none, {self.verdict or 'missing'}: {self.reason or 'no selection.json'}"))


def read(collection_dir: str) -> Selection:
    """Return what ``selection.json`` in *collection_dir* says, or an empty one if there is none of ours."""
    present = document(os.path.join(collection_dir, FILE))
    return from_dict(present) if present.get("version") == VERSION else Selection()


def from_dict(present: Mapping[str, Any]) -> Selection:
    """Return the selection that `Selection.to_dict` gave; a field of another type is left out."""
    known = {name: present[name] for name, is_sane in _SANE.items() if name in present and is_sane(present[name])}
    for name in ("lacking", "merged", "left_out", "candidates", "further"):
        known[name] = [row for row in known.get(name, []) if isinstance(row, dict)]
    known["elsewhere"] = [path for path in known.get("elsewhere", []) if isinstance(path, str)]
    facts = known.get("facts", {})
    known["facts"] = {key: facts[key] for key in FACTS if key in facts and _is_sane_fact(key, facts[key])}
    return Selection(**known)


def write(chosen: Selection, collection_dir: str) -> bool:
    """Put *chosen* into *collection_dir*, at once and for good; say whether that changed anything.

    :raises OSError: it cannot be written.
    """
    if is_written(chosen, collection_dir):
        return False
    files.write(os.path.join(collection_dir, FILE), json.dumps(chosen.to_dict(), indent=1) + "\n")
    return True


def is_written(chosen: Selection, collection_dir: str) -> bool:
    """Say whether *collection_dir* holds *chosen* already, with no field more or less."""
    return document(os.path.join(collection_dir, FILE)) == chosen.to_dict()


def _is_sane_fact(key: str, value: Any) -> bool:
    if value is None:
        return True
    if key == "nodes":
        return isinstance(value, list) and all(isinstance(name, str) for name in value)
    if key == "outside":
        return isinstance(value, list) and all(isinstance(rank, int) for rank in value)
    if key in ("since", "newer_than"):
        return isinstance(value, (int, float))
    return isinstance(value, (str, int, bool))


def _quoted(row: Row, *names: str) -> Dict[str, str]:
    return {name: masked(plain(str(row.get(name)))) for name in names}


def _is_a(kind: type) -> Any:
    return lambda value: isinstance(value, kind)


_SANE = {
    **{name: _is_a(str) for name in ("job_id", "exit_code", "name", "policy", "verdict", "artifacts", "basis", "reason")},
    **{name: _is_a(list) for name in ("lacking", "merged", "left_out", "candidates", "further", "elsewhere")},
    **{name: _is_a(dict) for name in ("selected", "best", "images", "facts")},
    **{name: _is_a(int) for name in ("version", "attempt")},
    "images_agree": _is_a(bool),
}
