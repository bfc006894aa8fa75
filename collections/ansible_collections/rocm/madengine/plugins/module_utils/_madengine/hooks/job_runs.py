# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs of madengine inside one allocation: each has its own collection directory, choice and report, never mixed.

All of it is to be called as the job's user.

Source: slurm/runs.py; results.md, "Gather".
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, List, Mapping, Sequence

from ..report import render
from ..results import collect, selection
from ..results.candidates import expected, nodes_in, refusal_of
from ..slurm import runs
from . import madengine_dirs, origins, task_environment

_MOST_RUNS = 100


def workspaces(job_id: int, rank: int, folders: Sequence[str]) -> Dict[str, List[str]]:
    """Return the workspaces in *folders* by run, in the order in which the runs began; that of the job's only run is none.

    In ``/tmp``, which all jobs share, only a name that holds the job id counts.
    """
    found: Dict[str, List[str]] = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(folder) if folder != madengine_dirs.TMP or name.startswith(madengine_dirs.PREFIX)]
            for run, known in runs.by_run(names, job_id, rank).items():
                found.setdefault(run, []).extend(os.path.join(folder, name) for name in known)
    found.pop("", None)
    return dict(sorted(found.items())[:_MOST_RUNS])


def gather(folders: Sequence[str], base: str, facts: Mapping[str, Any], since: float, note: str, secrets: Sequence[str] = ()) -> List[str]:
    """Copy what each run has left on this node to its own collection directory, and return those.

    :param base: as ``runs.collection_dir``.
    :param facts: as ``collect.gather`` wants them.
    :param note: the file of `origins`.
    :param secrets: as ``collect.gather`` takes them.
    :raises ShareFault: as ``collect.gather``.
    """
    known = origins.read(note).origins
    found = workspaces(int(facts["job_id"]), int(facts["rank"]), folders)
    for run, roots in found.items():
        target = runs.collection_dir(base, run)
        collect.gather(collect.sources_in(roots), target, {**facts, "run": run}, since, origins=known, secrets=secrets)
    return [runs.collection_dir(base, run) for run in found]


def settle(base: str, csv: str, policy: str, facts: Mapping[str, Any], further: Sequence[str], collection_dir: str, note: str) -> List[str]:
    """Choose the result of each run that any node has brought so far, as ``selection.settle`` does, and write its report.

    :param collection_dir: the job's own, where each node says which runs it has seen.
    :param note: the file of `origins`.
    :returns: the runs' collection directories.
    """
    parent, job_id = os.path.dirname(base), int(facts["job_id"])
    leaves = origins.read(note).origins.expected
    with contextlib.suppress(OSError):
        settled = [os.path.join(parent, name) for name in sorted(os.listdir(parent)) if runs.of_tag(_tag(base, name), job_id)][:_MOST_RUNS]
        for path in settled:
            run = runs.of_tag(_tag(base, os.path.basename(path)), job_id) or ""
            known = {**facts, "outside": outside(run, path, collection_dir, facts)}
            selection.settle(path, csv, policy, known, 60.0, list(further), task_environment.model_dirs(path, leaves))
            render.write_if_last(path, False)
        return settled
    return []


def outside(run: str, path: str, collection_dir: str, facts: Mapping[str, Any]) -> List[int]:
    """Return the ranks of the nodes that had no part in *run*: they have been here, and have seen nothing of it.

    :param path: the run's collection directory.
    :param facts: as ``selection.settle`` takes them.
    """
    most = expected(facts)
    with_part = {node.rank for node in nodes_in(path, most)}
    told = {node.rank: node.facts.get("runs") for node in nodes_in(collection_dir, most) if not refusal_of(node, facts)}
    return [rank for rank, seen in sorted(told.items()) if rank not in with_part and isinstance(seen, list) and run not in seen]


def _tag(base: str, name: str) -> str:
    """Return *name* without what stands before the job id in the name of *base* (``madengine-4711``)."""
    leader = os.path.basename(base).rstrip("0123456789")
    return name[len(leader) :] if name.startswith(leader) else ""
