# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""madengine's build manifest: what a job needs of it, and what it looks like restored.

Source: as `document` and `restore`.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ..core import files
from ..core.errors import JobFault
from . import environment, pinning, redaction
from . import restore as restoring
from . import schema as documents
from .schema import Document, Entry

read = documents.read
text = documents.text
restore = restoring.restore
MODELS = "models.json"
_OUTPUT_DIR = "slurm_results"  # madengine's own
_MOST_SAID, _LONGEST_SAID = 12, 80
_NO_DOCKERFILE = ("", "N/A (local image mode)")


@dataclass(frozen=True)
class JobSpec:
    """All that a job's hooks need of its manifests; no secret is in it.

    :param images: what the job runs, once each: ``reference``, and where it can be had or how it is built (see `images`).
    :param models: the models, as `model` describes them.
    :param results: the names of the CSVs that count.
    :param environment: as ``environment.for_task`` gives it.
    :param documents: the manifests, restored; the first is the one that ``MAD_MANIFEST`` names.
    :param results_dirs: where a job script of the user's own puts its results, as the manifest says.
    :param output_dir: where ``madengine run`` inside the allocation has its results; empty if it is not known.
    :param left_out: what of the manifests the job does not get, a line each, for its output; names and no values.
    """

    images: Tuple[Mapping[str, Any], ...] = ()
    models: Tuple[Mapping[str, Any], ...] = ()
    results: Tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    documents: Tuple[Document, ...] = ()
    results_dirs: Tuple[str, ...] = ()
    output_dir: str = ""
    left_out: Tuple[str, ...] = ()

    @property
    def names(self) -> Tuple[str, ...]:
        """The models' names."""
        return tuple(str(each["name"]) for each in self.models)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> JobSpec:
        """Return what another process says of it (``vars`` of a specification, as JSON brought it)."""
        said: Dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
        return cls(**said)


def merged(specs: Sequence[JobSpec]) -> JobSpec:
    """Return what a job needs that names several manifests, for an A/B on the same nodes; the first one's environment holds."""
    images = {str(each["reference"]): each for spec in reversed(specs) for each in spec.images}
    order = dict.fromkeys(str(each["reference"]) for spec in specs for each in spec.images)
    return JobSpec(
        images=tuple(images[reference] for reference in order),
        models=tuple(each for spec in specs for each in spec.models),
        results=_all(spec.results for spec in specs),
        environment=specs[0].environment,
        documents=tuple(document for spec in specs for document in spec.documents),
        results_dirs=_all(spec.results_dirs for spec in specs),
        output_dir=specs[0].output_dir,
        left_out=_all(spec.left_out for spec in specs),
    )


def _all(names: Iterable[Tuple[str, ...]]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names for name in each))


def images(document: Document) -> List[Dict[str, Any]]:
    """Return each image that *document* needs, once and in its order, with its models and how it can be built again.

    What nobody has filled in (``<…>``) is passed over.

    :raises JobFault: an entry names no image, or one that must be pinned and cannot be.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for entry in documents.entries(document):
        text = pinning.written(document, entry)
        if text:
            reference = documents.reference(text, entry.where)
            known = found.setdefault(reference, _image(document, entry, reference))
            known["models"].append(entry.name)
    return list(found.values())


def models(path: str, beside: str = "") -> List[Mapping[str, Any]]:
    """Return the models that a ``models.json`` lists.

    :param path: the file; if empty, the one beside the manifest *beside*, and no models if there is none.
    :raises JobFault: it cannot be read, or is no list of models.
    """
    asked = path or os.path.join(os.path.dirname(beside), MODELS)
    if not path and not os.path.lexists(asked):
        return []
    listed = documents.load(files.read(asked, documents.LARGEST_BYTES), asked)
    if not isinstance(listed, list) or not all(isinstance(model, dict) for model in listed):
        raise JobFault("manifest: no list of models", "correct the file, or give another", path=asked)
    return listed


def load_for_job(
    path: str,
    models_path: str = "",
    add: Iterable[str] = (),
    without: Iterable[str] = (),
    runtime: Optional[Mapping[str, str]] = None,
) -> JobSpec:
    """Return all that a job's hooks need of the manifest in *path*.

    :param models_path: a ``models.json``; beside the manifest if empty.
    :param add: names, patterns and groups that pass into containers beside the usual ones, and *without* those that do not.
    :param runtime: the environment of the run, as far as it is known.
    :raises JobFault: the manifest cannot be used; the message says where and why.
    """
    written = read(path)
    restored = restore(written, runtime, models(models_path, beside=path), directory=os.path.dirname(os.path.abspath(path)))
    document = restored.document
    known = [model(entry) for entry in documents.entries(document) if entry.model]
    for each in known[:1]:
        each["benign"] = [*each["benign"], *_texts(documents.section_of(document, "context").get("log_error_benign_patterns"))]
    slurm = documents.section_of(documents.section_of(document, "deployment_config"), "slurm")
    passing = environment.for_task(variables(document), add, without, _sources(written))
    return JobSpec(
        images=tuple({**each, "work_dir": os.path.dirname(path)} for each in images(document)),
        models=tuple(known),
        results=tuple(sorted({each["multiple_results"] for each in known} - {""})),
        environment=passing,
        documents=(document,),
        results_dirs=tuple(dict.fromkeys(filter(None, _texts([slurm.get("results_dir"), *_of_cards(document)])))),
        output_dir=next(iter(_texts([slurm.get("output_dir") or (_OUTPUT_DIR if slurm else None)])), ""),
        left_out=_left_out(restored, passing["refused"]),
    )


def model(entry: Entry) -> Dict[str, Any]:
    """Return what is known of the model of *entry*; empty text where nothing is, and *benign*: what its log may say without harm."""
    return {
        "name": entry.name,
        "key": entry.key,
        "shape": entry.shape,
        "image": "" if pinning.is_placeholder(entry.written) else entry.reference,
        "multiple_results": entry.model.get("multiple_results") or "",
        "launcher": (entry.model.get("distributed") or {}).get("launcher") or "",
        "docker_options": entry.model.get("additional_docker_run_options") or "",
        "url": str(entry.model.get("url") or ""),
        "scripts": str(entry.model.get("scripts") or ""),
        "benign": _texts(entry.model.get("log_error_benign_patterns")),
    }


def _left_out(restored: restoring.Restored, refused: Iterable[str]) -> Tuple[str, ...]:
    """Return the line that says what of a manifest the job does not get; none where it gets all of it."""
    groups = {
        "left out": [*(str(each["name"]) for each in restored.dropped_env), *refused],
        "not mounted": [str(each["target"]) for each in restored.dropped_mounts],
        "taken out as secrets": [str(each["name"]) for each in restored.masked],
    }
    said = [f"{what}: {_few(list(dict.fromkeys(names)))}" for what, names in groups.items() if names]
    return (f"madengine: of the manifest, {'; '.join(said)} (madengine-restore says why)",) if said else ()


def _few(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _MOST_SAID} more"] if len(names) > _MOST_SAID else []
    return ", ".join([*(name[:_LONGEST_SAID] for name in names[:_MOST_SAID]), *more])


def _of_cards(document: Document) -> List[Any]:
    """Return where the models' own cards say that their job scripts put the results."""
    return [documents.section_of(entry.model, "slurm").get("results_dir") for entry in documents.entries(document) if entry.model]


def _sources(document: Document) -> Dict[str, List[str]]:
    """Return what the secrets of a manifest that is not yet restored take their values from; a container's own word comes first."""
    exported = documents.section_of(documents.section_of(document, "deployment_config"), "env_vars")
    return redaction.sources({**exported, **documents.section_of(documents.section_of(document, "context"), "docker_env_vars")})


def _texts(given: Any) -> List[str]:
    """Return the texts of a list that a user wrote; nothing of what is none."""
    return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []


def variables(document: Document) -> Dict[str, str]:
    """Return the ``docker_env_vars`` of *document* as texts, the way madengine writes them on a command line."""
    given = (document.get("context") or {}).get("docker_env_vars") or {}
    return {name: str(value) for name, value in given.items() if value is not None}


def _image(document: Document, entry: Entry, reference: str) -> Dict[str, Any]:
    dockerfile = entry.image.get("dockerfile") or ""
    arguments = (document.get("context") or {}).get("docker_build_arg") or {}
    return {
        "reference": reference,
        "models": [],
        "registry_image": reference if pinning.is_required(document) else _origin(entry),
        "image_digest": str(entry.image.get("image_digest") or ""),
        "build_fingerprint": str(entry.image.get("build_fingerprint") or ""),
        "dockerfile": "" if dockerfile in _NO_DOCKERFILE else dockerfile,
        "context": entry.model.get("dockercontext") or "",
        "build_args": {name: str(value) for name, value in arguments.items() if not environment.is_secret(name)},
        "secret_build_args": sorted(name for name in arguments if environment.is_secret(name)),
    }


def _origin(entry: Entry) -> str:
    text = str(entry.image.get("registry_image") or entry.image.get("source_image") or "")
    return "" if pinning.is_placeholder(text) else text
