# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the prolog hands over to the job's tasks: variables, the names that pass into containers, the manifest.

The TaskProlog, a shell script, reads plain files (``state`` lists them); this noun decides what is in them.

Source: manifest-and-environment.md, "Environment pass-through"; torch.distributed's ``env://`` for MASTER_ADDR,
MASTER_PORT and NODE_RANK.
"""

from __future__ import annotations

import json
import os.path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..core.errors import JobFault
from ..core.text import printable
from ..manifest import environment, job_spec
from ..slurm.allocation import Allocation
from . import origins
from .job_state import JobState
from .request import WORD, Request

# Below the ephemeral ports, beside torch's own default, and another one for each of a node's jobs.
_FIRST_PORT, _PORTS = 29500, 1000
_LONGEST_NAME_BYTES = 255


def wanted(asked: Request, pass_env: Sequence[str]) -> Optional[Dict[str, Any]]:
    """Return what the job's manifest and its request make of each other; to be called as the job's user.

    :param pass_env: the site's ``PassEnv``.
    :returns: ``images``, ``results`` (names of CSVs, the first model's first), ``environment`` and ``document``, else as
        ``job_spec.load_for_job`` gives them; None for a job that asked for nothing and has no manifest.
    :raises JobFault: the manifest cannot be used.
    """
    add, without = environment.split(pass_env)
    if not asked.is_explicit and not os.path.lexists(asked.manifest):
        return None
    if asked.manifest:
        found = job_spec.load_for_job(asked.manifest, add=add, without=without)
    else:
        found = {"images": [], "models": [], "results": [], "document": None, "environment": environment.for_task({}, add, without)}
    if asked.image:
        found["images"] = [{"reference": asked.image}]
    found["results"] = list(dict.fromkeys(each.csv for each in origins.expected(found["models"], asked) if each.csv))
    return found


def variables(job: Allocation, offers: List[Mapping[str, Any]], manifest_path: str, results_dir: str) -> Dict[str, str]:
    """Return what every task of *job* on this node gets, unless its user has set it.

    :param offers: the job's images, the first of which is the one that ``MAD_IMAGE`` names.
    :param manifest_path: the restored manifest, empty where the job has none.
    :param results_dir: this node's directory for the job's CSVs.
    """
    found = {
        "MASTER_ADDR": job.leader,
        "MASTER_PORT": str(_FIRST_PORT + job.job_id % _PORTS),
        "NNODES": str(len(job.nodes)),
        "NODE_RANK": str(job.node_rank),
        "MAD_RESULTS_DIR": results_dir,
        # Without it even `madengine --version` copies all of MODEL_DIR.
        "MAD_SETUP_MODEL_DIR": "false",
    }
    if offers:
        found.update(MAD_IMAGE=offers[0]["reference"], MAD_IMAGE_ID=offers[0]["identity"])
    if manifest_path:
        found["MAD_MANIFEST"] = manifest_path
    return found


def collection_dir(job: Allocation, models: Sequence[Mapping[str, Any]]) -> str:
    """Return where the job's results come together on the share.

    A job of ``madengine run`` has its own place, in which an unmodified collector looks first: beside its output file,
    ``<model>/<job id>``. Any other gets ``madengine-<job id>`` in its work directory.
    """
    folder, name = os.path.split(job.stdout.replace("%j", str(job.job_id)))
    if name.startswith(WORD + "-") and models:
        return os.path.join(job.path(folder), _folder_name(models[0]["name"]), str(job.job_id))
    return job.path(f"{WORD}-{job.job_id}")


def write(here: JobState, job: Allocation, wanted: Mapping[str, Any], offers: List[Mapping[str, Any]], results_dir: str) -> None:
    """Leave the files for the TaskProlog, readable by the job's user alone, and say that the tasks may start.

    :param wanted: ``images``, ``environment`` (as ``environment.for_task`` gives it) and ``document`` (or None).
    """
    passing = wanted["environment"]
    manifest_path = here.file("manifest.json") if wanted.get("document") else ""
    exports = {**passing["exports"], **variables(job, offers, manifest_path, results_dir)}
    texts = {
        "exports": [f"{name}={value}" for name, value in exports.items()],
        "names": passing["names"],
        "globs": passing["globs"],
        "without": passing["without"],
        "when_set": [f"{given} {other}" for given, other in passing["when_set"].items()],
        "fixed": passing["fixed"],
    }
    for name, lines in texts.items():
        _require_lines(name, lines)
    for name, lines in texts.items():
        here.keep(name, "".join(line + "\n" for line in lines), job.uid, job.gid)
    if manifest_path:
        here.keep("manifest.json", json.dumps(wanted["document"], indent=2) + "\n", job.uid, job.gid)


def _folder_name(model: str) -> str:
    """Return the directory of *model* as madengine calls it; a name that a user made up leads nowhere else."""
    name = printable(model.replace("/", "_"), "_").encode()[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore")
    return "_" if name in ("", ".", "..") else name


def _require_lines(name: str, lines: Sequence[str]) -> None:
    """Do nothing if each of *lines* is one to the shell that reads them; what is behind a newline would be another variable.

    :raises JobFault: one is not.
    """
    for line in lines:
        if "\n" in line or "\0" in line:
            raise JobFault("handover: a value of more than one line", "give it in one line", file=name, name=line.partition("=")[0])
