# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a prolog notes for its epilog, so that the job's own files can be told from those that were there before.

The note belongs to the job's user and is read as that user: whoever changes it changes what becomes of the own results.

Source: results.md, "Gather".
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..core import files, process
from ..core.deadline import Deadline
from ..core.errors import Fault
from ..manifest.job_spec import JobSpec
from ..results import collect, provenance
from ..results.provenance import Origins, Wanted
from ..slurm.allocation import Allocation
from .job_state import JobState
from .request import Request

NOTE = "origins.json"
_LOOK_SECONDS = 10.0
_LARGEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Note:
    """What is known of a job's results before it runs.

    :param benign: patterns of log lines that are no failure, from the manifest.
    :param results_dirs: where a job script of the user's own puts its results, in the work directory or below it.
    """

    origins: Origins = dataclasses.field(default_factory=Origins)
    benign: Tuple[str, ...] = ()
    results_dirs: Tuple[str, ...] = ()

    def sources(self) -> List[collect.Source]:
        """Return the `results_dirs` as sources, to be called as the job's user; a link to the outside of the work directory is none."""
        home = os.path.realpath(self.origins.work_dir)
        inside = [path for path in self.results_dirs if self.origins.work_dir and os.path.realpath(path).startswith(home + os.sep)]
        return [{"path": path, "root": path} for path in dict.fromkeys(map(os.path.realpath, inside))]


def expected(models: Sequence[Mapping[str, Any]], asked: Request) -> Tuple[Wanted, ...]:
    """Return what the job's models leave, in their order; the name that the request gives is the first model's.

    :param models: as ``job_spec.model`` describes them.
    """
    found = tuple(provenance.wanted(model) for model in models) or (Wanted(),)
    return (dataclasses.replace(found[0], csv=asked.results, folder=""), *found[1:]) if asked.results else found


def note(state: JobState, job: Allocation, user: process.Account, asked: Request, spec: JobSpec, deadline: Deadline) -> None:
    """Write down, for the job's *user*, which CSVs are there now; where the share hangs, only what is expected."""
    models = spec.models
    leaves = expected(models, asked)
    folders = [job.path(folder) for folder in spec.results_dirs]
    roots = [job.work_dir, *collect.workspaces(job.job_id, job.node_rank, len(job.nodes)), *folders]
    before: Dict[str, Any] = {}
    with contextlib.suppress(Fault):
        before = process.run(user, provenance.snapshot, roots, provenance.places(leaves), deadline=deadline.sooner(_LOOK_SECONDS))
    said = {
        "expected": [dataclasses.asdict(each) for each in leaves],
        "work_dir": job.work_dir,
        "outputs": _outputs(job),
        "benign": [pattern for model in models for pattern in model.get("benign") or []],
        "results_dirs": folders,
        "before": before,
    }
    state.keep(NOTE, json.dumps(said) + "\n", user.uid, user.gid)


def read(path: str) -> Note:
    """Return the note in the file *path*, to be called as the job's user; where it is lost, nothing is known."""
    try:
        said = json.loads(files.read(path, _LARGEST_BYTES))
        leaves = tuple(Wanted(**{**each, "places": tuple(each["places"])}) for each in said["expected"])
        origins = Origins(leaves, str(said["work_dir"]), str(said["outputs"]), dict(said["before"]))
        return Note(origins, tuple(map(str, said["benign"])), tuple(map(str, said["results_dirs"])))
    except (Fault, OSError, ValueError, TypeError, KeyError, RecursionError):
        return Note()


def _outputs(job: Allocation) -> str:
    """Return where madengine keeps its jobs' files, relative to the submit directory; empty where that is the directory itself."""
    folder = os.path.relpath(job.path(os.path.dirname(job.stdout) or "."), job.work_dir)
    return "" if folder == "." or folder.startswith("..") else folder
