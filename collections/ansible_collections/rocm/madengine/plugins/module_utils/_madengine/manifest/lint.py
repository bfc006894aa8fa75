# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What in a build manifest is legal and yet likely a mistake: each warning has a name, a place and a sentence.

A check gives places and sentences; its name is the warning's name. None changes anything, none raises for content, and no
sentence holds a value that may be secret.

Source: what unmodified madengine 2.1 was observed to do with such manifests.
"""

from __future__ import annotations

import os.path
import re
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from ..core.errors import JobFault
from . import docker_options, mounts, redaction, restore
from . import schema as documents
from .schema import Document

Found = Iterator[Tuple[str, str]]
Entrypoints = Callable[[str], Optional[List[str]]]

_LOST = ("scripts", "args", "n_gpus", "timeout", "multiple_results", "additional_docker_run_options")
_SOCKETS = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
_INTERFACES = (*_SOCKETS, "NCCL_IB_HCA")
# What sh may read otherwise than it stands, by a word's unquoted text.
_UNSETTLED = (
    (re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}"), "bash makes several words of {…,…}"),
    (re.compile(r"[*?]|\[[^\]]+\]"), "it is a pattern, and stays one only where no file is like it"),
    (re.compile(r"\$q"), "a $ before a quote is one of the word in sh, and none in bash"),
)
_PLACEHOLDER = re.compile(r"<(?:FILL|YOUR|CHANGE|INSERT|REPLACE|TODO)[^<>]{0,60}>", re.IGNORECASE)


def check(
    document: Document, exists: Callable[[str], bool] = os.path.exists, entrypoint: Optional[Entrypoints] = None
) -> List[Dict[str, str]]:
    """Return the warnings for *document*, as ``{"name", "where", "message"}``, in the order of the checks.

    :param exists: whether a path is there on this host.
    :param entrypoint: gives an image's ENTRYPOINT, or None if the image is not here; no image is looked at without it.
    """
    hidden = redaction.values(document, {}) | redaction.url_passwords(document) | redaction.of_options(document)
    checks: Mapping[str, Callable[[], Found]] = {
        "secret_in_clear": lambda: _secret_in_clear(document, hidden),
        "unexpanded_literal": lambda: _unexpanded_literal(document),
        "mounts_reversed": lambda: _mounts_reversed(document, exists),
        "nodes_differ": lambda: _nodes_differ(document),
        "interfaces_differ": lambda: _interfaces_differ(document),
        "infiniband_disabled": lambda: _infiniband_disabled(document),
        "placeholder": lambda: _placeholder(document),
        "variables_unread": lambda: _variables_unread(document),
        "build_outside": lambda: _build_outside(document),
        "model_missing": lambda: _model_missing(document),
        "fields_lost": lambda: _fields_lost(document),
        "options": lambda: _options(document),
        "entrypoint": lambda: _entrypoint(document, entrypoint),
    }
    return [
        {"name": name, "where": redaction.without(where, hidden), "message": redaction.without(message, hidden)}
        for name, find in checks.items()
        for where, message in find()
    ]


def _secret_in_clear(document: Document, hidden: Set[str]) -> Found:
    for place in redaction.key_paths(document, hidden):
        yield place, "a secret stands here in clear, and the file may be readable by others"


def _unexpanded_literal(document: Document) -> Found:
    context = document.get("context") or {}
    for group in ("docker_env_vars", "docker_build_arg"):
        for name, value in (context.get(group) or {}).items():
            if isinstance(value, str) and restore.LITERAL.search(value):
                yield f"context.{group}.{name}", "a ${…} was never expanded, and a container would get it as it stands"


def _mounts_reversed(document: Document, exists: Callable[[str], bool]) -> Found:
    for key, source in ((document.get("context") or {}).get("docker_mounts") or {}).items():
        target = key.partition(":")[0]
        if source and source.startswith("/") and exists(target) and not exists(source):
            yield f"context.docker_mounts.{key}", "it reads {container path: host path}; here only the former is on this host"


def _nodes_differ(document: Document) -> Found:
    deployment = document.get("deployment_config") or {}
    slurm, distributed = deployment.get("slurm") or {}, deployment.get("distributed") or {}
    counts = {"deployment_config.slurm.nodes": slurm.get("nodes"), "deployment_config.distributed.nnodes": distributed.get("nnodes")}
    counts["deployment_config.env_vars.NNODES"] = (deployment.get("env_vars") or {}).get("NNODES")
    yield from _differing(counts, "a run has one number of nodes")


def _interfaces_differ(document: Document) -> Found:
    deployment, entries = document.get("deployment_config") or {}, documents.entries(document)
    for name in _INTERFACES:
        given = {f"built_models.{entry.key}.env_vars.{name}": _variable(entry.model.get("env_vars"), name) for entry in entries}
        slurm = deployment.get("slurm") or {}
        given = {
            **given,
            "deployment_config.slurm.network_interface": slurm.get("network_interface") if name in _SOCKETS else None,
            f"deployment_config.env_vars.{name}": (deployment.get("env_vars") or {}).get(name),
            f"context.docker_env_vars.{name}": ((document.get("context") or {}).get("docker_env_vars") or {}).get(name),
        }
        yield from _differing(given, f"{name} is given in several places, and they differ")


def _variable(variables: Any, name: str) -> Any:
    return variables.get(name) if isinstance(variables, dict) else None


def _differing(given: Mapping[str, Any], message: str) -> Found:
    said = {place: str(value) for place, value in given.items() if value not in (None, "")}
    if len(set(said.values())) > 1:
        yield list(said)[-1], f"{message}: " + ", ".join(f"{place} is {value!r}" for place, value in said.items())


def _infiniband_disabled(document: Document) -> Found:
    groups = {
        "context.docker_env_vars": (document.get("context") or {}).get("docker_env_vars") or {},
        "deployment_config.env_vars": (document.get("deployment_config") or {}).get("env_vars") or {},
    }
    for place, variables in groups.items():
        if str(variables.get("NCCL_IB_DISABLE", "0")) == "1":
            yield f"{place}.NCCL_IB_DISABLE", "InfiniBand is switched off; a preset of madengine sets this without a word"


def _placeholder(document: Document) -> Found:
    for where, _is_secret, text in redaction.texts(document):
        found = _PLACEHOLDER.search(text)
        if found:
            yield where, f"{found.group()} was to be filled in"


def _variables_unread(document: Document) -> Found:
    for entry in documents.entries(document):
        if entry.model.get("env_vars"):
            yield f"built_models.{entry.key}.env_vars", "nobody reads these; what a container needs is in context.docker_env_vars"


def _build_outside(document: Document) -> Found:
    for entry in documents.entries(document):
        for place, holder, key in (("built_images", entry.image, "dockerfile"), ("built_models", entry.model, "dockercontext")):
            path = str(holder.get(key) or "")
            if path.startswith(("/", "~")) or ".." in path.split("/"):
                yield f"{place}.{entry.key}.{key}", "it may lie outside the work directory, and nothing is built from there"


def _model_missing(document: Document) -> Found:
    images = document["built_images"]
    for entry in documents.entries(document):
        if not entry.model:
            yield entry.where, "no model of this key is in built_models, so madengine skips it"
    for key in document.get("built_models") or {}:
        if key not in images:
            yield f"built_models.{key}", "no image of this key is in built_images, so madengine never runs it"


def _fields_lost(document: Document) -> Found:
    for entry in documents.entries(document):
        lost = [name for name in _LOST if entry.model.get(name) is None]
        if entry.model and entry.shape != "build" and lost:
            yield f"built_models.{entry.key}", f"an image of shape {entry.shape} loses {', '.join(lost)}; models.json has them"


def _options(document: Document) -> Found:
    for entry in documents.entries(document):
        where = f"built_models.{entry.key}.additional_docker_run_options"
        text = entry.model.get("additional_docker_run_options") or ""
        try:
            own = mounts.parse(mounts.resolved(text, where, "/"), where)
        except JobFault as fault:
            yield where, str(fault)
            continue
        for target in mounts.repeated(own):
            yield where, f"{target} is mounted twice, and Docker refuses that"
        if any(mount.target == mounts.WORK_DIR for mount in own):
            yield where, f"{mounts.WORK_DIR} is where madengine mounts its work directory"
        for why in [why for word in docker_options.words(text, where) for pattern, why in _UNSETTLED if pattern.search(word.bare)]:
            yield where, f"{why}; quote the word"
        if docker_options.has_opaque(text, where):
            yield where, "a word here is an expansion, and what it mounts cannot be known"


def _entrypoint(document: Document, entrypoint: Optional[Entrypoints]) -> Found:
    for entry in documents.entries(document) if entrypoint is not None else ():
        if entrypoint is not None and entrypoint(entry.reference):
            yield entry.where, "the image has an ENTRYPOINT, and madengine's `docker run … cat` then ends at once (126)"
