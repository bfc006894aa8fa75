# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""madengine's build manifest: what a job needs of it, and what it looks like restored.

Source: as `document` and `restore`.
"""

from __future__ import annotations

import os.path
from typing import Any, Dict, Iterable, List, Mapping, Optional

from ..core import files
from ..core.errors import JobFault
from . import environment, lint
from . import restore as restoring
from . import schema as documents
from .schema import Document, Entry

read = documents.read
text = documents.text
restore = restoring.restore
MODELS = "models.json"
_NO_DOCKERFILE = ("", "N/A (local image mode)")


def images(document: Document) -> List[Dict[str, Any]]:
    """Return each image that *document* needs, once and in its order, with its models and how it can be built again.

    :raises JobFault: an entry names no image.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for entry in documents.entries(document):
        known = found.setdefault(entry.reference, _image(document, entry))
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
) -> Dict[str, Any]:
    """Return all that a job's hooks need of the manifest in *path*, as JSON can hold it; no secret is in it.

    :param models_path: a ``models.json``; beside the manifest if empty.
    :param add: names, patterns and groups that pass into containers beside the usual ones, and *without* those that do not.
    :param runtime: the environment of the run, as far as it is known.
    :raises JobFault: the manifest cannot be used; the message says where and why.
    """
    original = read(path)
    directory = os.path.dirname(os.path.abspath(path))
    restored = restore(original, runtime, models(models_path, beside=path), directory=directory)
    document = restored.document
    found = [model(entry) for entry in documents.entries(document) if entry.model]
    for each in found[:1]:
        each["benign"] = [*each["benign"], *_texts((document.get("context") or {}).get("log_error_benign_patterns"))]
    return {
        "path": path,
        "document": document,
        "images": images(document),
        "models": found,
        "results": sorted({each["multiple_results"] for each in found} - {""}),
        "environment": environment.for_task(variables(document), add, without),
        "report": report(restored, original),
    }


def model(entry: Entry) -> Dict[str, Any]:
    """Return what is known of the model of *entry*; empty text where nothing is, and *benign*: what its log may say without harm."""
    return {
        "name": entry.name,
        "key": entry.key,
        "shape": entry.shape,
        "image": entry.reference,
        "multiple_results": entry.model.get("multiple_results") or "",
        "launcher": (entry.model.get("distributed") or {}).get("launcher") or "",
        "docker_options": entry.model.get("additional_docker_run_options") or "",
        "url": str(entry.model.get("url") or ""),
        "scripts": str(entry.model.get("scripts") or ""),
        "benign": _texts(entry.model.get("log_error_benign_patterns")),
    }


def _texts(given: Any) -> List[str]:
    """Return the texts of a list that a user wrote; nothing of what is none."""
    return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []


def variables(document: Document) -> Dict[str, str]:
    """Return the ``docker_env_vars`` of *document* as texts, the way madengine writes them on a command line."""
    given = (document.get("context") or {}).get("docker_env_vars") or {}
    return {name: str(value) for name, value in given.items() if value is not None}


def report(restored: restoring.Restored, original: Document) -> Dict[str, Any]:
    """Return what was restored and dropped, and the warnings for the manifest as it was."""
    return {
        "restored": restored.restored,
        "dropped_mounts": restored.dropped_mounts,
        "dropped_env": restored.dropped_env,
        "lint": lint.check(original),
    }


def _image(document: Document, entry: Entry) -> Dict[str, Any]:
    dockerfile = entry.image.get("dockerfile") or ""
    arguments = (document.get("context") or {}).get("docker_build_arg") or {}
    return {
        "reference": entry.reference,
        "models": [],
        "registry_image": entry.image.get("registry_image") or entry.image.get("source_image") or "",
        "dockerfile": "" if dockerfile in _NO_DOCKERFILE else dockerfile,
        "context": entry.model.get("dockercontext") or "",
        "build_args": {name: str(value) for name, value in arguments.items() if not environment.is_secret(name)},
        "secret_build_args": sorted(name for name in arguments if environment.is_secret(name)),
    }
