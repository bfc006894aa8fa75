# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the prolog hands over to the job's tasks: variables, the names that pass into containers, the manifest.

The TaskProlog, a shell script, reads plain files (``state`` lists them); this noun decides what is in them.

Source: manifest-and-environment.md, "Environment pass-through"; torch.distributed's ``env://`` for MASTER_ADDR,
MASTER_PORT and NODE_RANK.
"""

from __future__ import annotations

import dataclasses
import json
import os.path
from typing import Any, Dict, Mapping, Sequence

from ..core.errors import JobFault
from ..core.text import printable
from ..manifest import environment, job_spec
from ..manifest.job_spec import JobSpec
from ..results.provenance import Wanted
from ..slurm.allocation import Allocation
from . import job_script, origins
from .job_state import JobState
from .request import WORD, Request

# Below the ephemeral ports, beside torch's own default, and another one for each of a node's jobs.
_FIRST_PORT, _PORTS = 29500, 1000
_LONGEST_NAME_BYTES = 255


def wanted(asked: Request, pass_env: Sequence[str]) -> Dict[str, Any]:
    """Return what the job's manifests and its request make of each other (``JobSpec.of`` reads it); to be called as the user.

    :param pass_env: the site's ``PassEnv``.
    :raises JobFault: a manifest cannot be used, or the one that was guessed is not this job's.
    """
    add, without = environment.split(pass_env)
    specs = [job_spec.load_for_job(path, add=add, without=without) for path in manifests_of(asked)]
    found = job_spec.merged(specs) if specs else job_spec.JobSpec(environment=environment.for_task({}, add, without))
    if not asked.is_explicit:
        _require_model(asked, found)
    if asked.images:
        found = dataclasses.replace(found, images=tuple({"reference": name} for name in asked.images))
    results = dict.fromkeys(each.csv for each in origins.expected(found.models, asked) if each.csv)
    return dict(vars(dataclasses.replace(found, results=tuple(results))))


def manifests_of(asked: Request) -> Sequence[str]:
    """Return the manifests that are to be read; to be called as the job's user.

    :raises JobFault: the job did not name one, and there is none.
    """
    if asked.is_explicit:
        return asked.manifests
    path = job_script.manifest_of(asked.script, os.path.dirname(asked.manifest)) or asked.manifest
    if not os.path.lexists(path):
        remedy = "put it where all nodes see it, or name it with --comment=madengine:manifest=…"
        raise JobFault("handover: no manifest found", remedy, path=path)
    return (path,)


def _require_model(asked: Request, found: JobSpec) -> None:
    """Do nothing if the manifest that was guessed is about the model that the job's output is named for."""
    names = {_folder_name(name) for name in found.names}
    if asked.model and not {asked.model, "local-" + asked.model} & (names | set(found.names)):
        raise JobFault(
            "handover: the manifest is of another model", "name the job's own with --comment=madengine:manifest=…",
            model=asked.model, manifest_has=", ".join(found.names), path=asked.manifest,
        )  # fmt: skip


def variables(job: Allocation, offers: Sequence[Mapping[str, Any]], manifests: Sequence[str], results_dir: str) -> Dict[str, str]:
    """Return what every task of *job* on this node gets, unless its user has set it; a step has its own of some of them.

    :param offers: the job's images, the first of which is the one that ``MAD_IMAGE`` names.
    :param manifests: the restored manifests; the first is the one that ``MAD_MANIFEST`` names.
    :param results_dir: this node's directory for the job's CSVs.
    """
    found = {
        "MASTER_ADDR": job.leader_address,
        "MASTER_PORT": str(_FIRST_PORT + job.job_id % _PORTS),
        "NNODES": str(len(job.nodes)),
        "NODE_RANK": str(job.node_rank),
        "MAD_RESULTS_DIR": results_dir,
        # Without it even `madengine --version` copies all of MODEL_DIR.
        "MAD_SETUP_MODEL_DIR": "false",
    }
    if offers:
        found.update(MAD_IMAGE=offers[0]["reference"], MAD_IMAGE_ID=offers[0]["identity"])
    if len(offers) > 1:
        found["MAD_IMAGES"] = " ".join(str(offer["reference"]) for offer in offers)
    if manifests:
        found["MAD_MANIFEST"] = manifests[0]
    if len(manifests) > 1:
        found["MAD_MANIFESTS"] = " ".join(manifests)
    return found


def collection_dir(job: Allocation, models: Sequence[str]) -> str:
    """Return where the job's results come together on the share.

    A job of ``madengine run`` has its own place, in which an unmodified collector looks first: beside its output file,
    ``<model>/<job id>``. Any other gets ``madengine-<job id>`` in its work directory.
    """
    folder, name = os.path.split(job.stdout.replace("%j", str(job.job_id)))
    if name.startswith(WORD + "-") and models:
        return os.path.join(job.path(folder), _folder_name(models[0]), str(job.job_id))
    return job.path(f"{WORD}-{job.job_id}")


def model_dirs(collection: str, leaves: Sequence[Wanted]) -> Dict[str, str]:
    """Return where madengine's own collector looks for the CSV of each of the job's further models, {name of the CSV: directory}.

    :param collection: as `collection_dir`; where it is not the first model's, the further ones have no place either.
    :param leaves: what the job's models leave, in their order.
    """
    parent, own = os.path.split(os.path.normpath(collection))
    folder, first = os.path.split(parent)
    if not leaves or first != _folder_name(leaves[0].model):
        return {}
    return {
        each.csv: os.path.join(folder, _folder_name(each.model), own) for each in leaves[1:] if each.csv and each.model != leaves[0].model
    }


def run_base(job: Allocation, spec: JobSpec) -> str:
    """Return where the runs of *job* have their results (``runs.collection_dir``), if it is an allocation that holds several."""
    if spec.output_dir and spec.names and not os.path.basename(job.stdout).startswith(WORD + "-"):
        return os.path.join(job.path(spec.output_dir), _folder_name(spec.names[0]), str(job.job_id))
    return collection_dir(job, spec.names)


def write(
    state: JobState,
    job: Allocation,
    spec: JobSpec,
    offers: Sequence[Mapping[str, Any]],
    results_dir: str,
    keep: Sequence[str] = (),
    python: str = "",
) -> None:
    """Leave the files for the TaskProlog, readable by the job's user alone.

    :param keep: what the user wants left alone, of ``request.KEEP``.
    :param python: the interpreter that `madengine run` of a task is to be helped with.
    """
    passing = spec.environment
    names = ["manifest.json", *(f"manifest.{number}.json" for number in range(2, len(spec.documents) + 1))][: len(spec.documents)]
    exports = {**passing["exports"], **variables(job, offers, [state.file(name) for name in names], results_dir)}
    texts = {
        "exports": [f"{name}={value}" for name, value in exports.items()],
        "names": passing["names"],
        "globs": passing["globs"],
        "without": passing["without"],
        "when_set": [f"{given} {other}" for given, other in passing["when_set"].items()],
        "sources": [" ".join([name, *others]) for name, others in passing["sources"].items()],
        "fixed": passing["fixed"],
        "leader": [job.leader],
        "keep": [" ".join(keep)],
        "python": [python],
    }
    for name, lines in texts.items():
        _require_lines(name, lines)
    for name, lines in texts.items():
        state.keep(name, "".join(line + "\n" for line in lines), job.uid, job.gid)
    for name, document in zip(names, spec.documents):
        state.keep(name, json.dumps(document, indent=2) + "\n", job.uid, job.gid)


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
