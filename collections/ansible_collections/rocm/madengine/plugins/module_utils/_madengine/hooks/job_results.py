# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with a job's files at its end by children that are its user: plain values in, plain values out.

All that is read here the user could have written, and all that is written lies where the user may write.

Source: results.md, "Gather", "Choose"; architecture.md, "Identities".
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Mapping

from ..core import files
from ..core.errors import ShareFault
from ..docker.engine import Engine
from ..report import diagnostics
from ..results import collect, selection
from . import job_runs, origins, task_environment
from .job_state import Status

_LOCK_SECONDS = 60.0


def diagnose(socket: str, dest: str, job_id: str, note: str, secrets: List[str]) -> str:
    """Write down in *dest* what the job's containers do and say; return it in one line.

    :param note: the file of what is expected of the job, see `origins`.
    :param secrets: values that are taken out of all of it.
    """
    with contextlib.closing(Engine(socket)) as docker:
        return str(diagnostics.diagnose(docker, dest, job_id, benign=origins.read(note).benign, secrets=secrets)["summary"])


def facts_of(known: Status, csv: str, exit_code: str, has_failed: bool) -> Dict[str, Any]:
    """Return what ``node.json`` says of the job and its node.

    :param known: what root has written down.
    :param csv: the name of the result, or "".
    """
    images = known.images or ({},)
    return {
        "rank": known.node_rank,
        **{name: getattr(known, name) for name in ("node", "job_id", "attempt")},
        "exit_code": exit_code,
        "failed": has_failed,
        "csv": csv,
        "image": images[0].get("reference", ""),
        "image_id": images[0].get("identity", ""),
    }


def gather(sources: List[collect.Source], collection: str, facts: Mapping[str, Any], since: float, note: str, secrets: List[str]) -> str:
    """Copy this node's results into the directory *collection*, as `collect.gather`; return where they are."""
    known = origins.read(note)
    shared = known.sources() if facts["rank"] == 0 else []  # all nodes see these files: once is enough
    return str(collect.gather([*sources, *shared], collection, facts, since, origins=known.origins, secrets=secrets)["folder"])


def runs(job_id: int, rank: int, folders: List[str]) -> List[str]:
    """Return the runs that the job has had in *folders* on this node."""
    return list(job_runs.workspaces(job_id, rank, folders))


def settle(collection: str, csv: str, policy: str, facts: Mapping[str, Any], further: List[str], note: str) -> None:
    """Rank what all nodes have gathered so far, and publish the best."""
    beside = task_environment.model_dirs(collection, origins.read(note).origins.expected)
    selection.settle(collection, csv, policy, facts, _LOCK_SECONDS, further, beside)


def write(path: str, text: str) -> None:
    """Put *text* under *path*.

    :raises ShareFault: it cannot be written.
    """
    try:
        files.write(path, text)
    except OSError as error:
        raise ShareFault("job_end: cannot write", "look at the share", path=path, error=error.strerror or str(error)) from error
