# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build manifest made fit for every node: what the builder knew, without its secrets, its literals and its pull.

madengine's runner merges the manifest's context last, so what is wrong in the file wins over the runtime; that is why the file
itself is restored. Doing it twice changes nothing.

Source: madengine 2.1, ``container_runner.py`` (``-e`` in a model's options > docker_env_vars > shell > image) and
``job.sh.j2`` (deployment_config.env_vars between double quotes); the behaviour of unmodified madengine was observed.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ..core.errors import JobFault
from . import docker_options, environment, mounts, pinning, redaction
from . import schema as documents
from .schema import Document, Entry, section

LABEL = "madengine.job"
# What only a shell would expand, wherever it stands; of `$NAME` only what is all of it, or a part of a path or a list.
LITERAL = re.compile(r"\$\{|\$\(|\A`[^`]*`\Z|\A\$[A-Za-z_][A-Za-z0-9_]*\Z|(?<![^/:,=;])\$[A-Z_]")
# Of these, what the runtime's value can be put in for.
_KNOWABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^${}]*))?\}|\A\$([A-Za-z_][A-Za-z0-9_]*)\Z|(?<![^/:,=;])\$([A-Z_][A-Z0-9_]*)")
# The same, and `$NAME` anywhere, as bash reads it between double quotes.
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^${}]*))?\}|([A-Za-z_][A-Za-z0-9_]*)())")
_FORM = re.compile(r"\$\{[^}]*\}?|\$\([^)]*\)?|`[^`]*`|\$[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_FORM = 60
_UNSAFE_IN_BASH = re.compile(r"[\"\\`$\n]")
_PULLED = ("local_image", "registry_image", "registry")
# madengine's job script gives this one to each process itself.
_PER_PROCESS = frozenset(("MIOPEN_USER_DB_PATH",))
_SECRET_SOURCE = re.compile(r"\$\{?(MAD_SECRETS[A-Za-z0-9_]*)")


@dataclass
class Restored:
    """A restored document and what became of it; places are paths in the document, and no value is in the report."""

    document: Document
    restored: List[str] = field(default_factory=list)
    dropped_mounts: List[Dict[str, str]] = field(default_factory=list)
    dropped_env: List[Dict[str, str]] = field(default_factory=list)
    masked: List[Dict[str, str]] = field(default_factory=list)

    def drop(self, where: str, name: str, reason: str) -> None:
        self.dropped_env.append({"name": name, "where": where, "reason": reason})


def restore(
    manifest: Document,
    runtime: Optional[Mapping[str, str]] = None,
    models: Sequence[Mapping[str, Any]] = (),
    image_form: str = "neutral",
    directory: str = "",
) -> Restored:
    """Return *manifest* restored; it is itself left alone.

    :param runtime: the environment of the run, as far as it is known here; it wins over what the manifest says.
    :param models: what ``models.json`` lists; it fills the fields of a model that the manifest has lost.
    :param directory: what mounts of ``./…`` are relative to; they are refused without it.
    :param image_form: ``neutral`` (the key is the exact image, which madengine runs without a pull) or ``keep``.
    :raises JobFault: a model's options or mounts cannot be read, or a mount's host path means nothing on a node; the message
        names the place.
    """
    result = Restored(copy.deepcopy(manifest))
    _join_lines(result)
    _fill_models(result, models)
    if image_form == "neutral":
        pinning.pin(result.document)
    hidden = redaction.values(result.document, runtime or {})
    known = {name: value for name, value in (runtime or {}).items() if _is_usable(value, hidden)}
    _drop_copies(result, hidden)
    _prefer_runtime(result, known)
    _expand(result, known)
    _copy_deployment(result, known)
    _prefer_runtime_in_exports(result, known)
    _fill_guest_os(result)
    _name_secrets(result, runtime or {})
    with redaction.kept(hidden):
        needed, result.masked = redaction.strip(result.document, hidden)
        _set_all_options(result, needed, _by_name(result, known), directory)
        if image_form == "neutral":
            _neutralise(result)
    for report in (result.dropped_env, result.dropped_mounts, result.masked):
        report[:] = [{key: redaction.without(text, hidden) for key, text in entry.items()} for entry in report]
    result.restored = sorted({redaction.without(key_path, hidden) for key_path in _differences(manifest, result.document)})
    return result


def spellings(reference: str) -> List[str]:
    """Return the ways in which Docker understands *reference*; an image needs as many as it has models.

    >>> spellings("rocm/vllm:1")
    ['rocm/vllm:1', 'docker.io/rocm/vllm:1', 'index.docker.io/rocm/vllm:1']
    """
    first = reference.partition("/")[0]
    if "/" in reference and ("." in first or ":" in first or first == "localhost"):
        return [reference]
    return [reference, f"docker.io/{reference}", f"index.docker.io/{reference}"]


def _is_usable(value: str, hidden: Set[str]) -> bool:
    """Say whether a value of the runtime may go into a file; an unexpanded literal was exported by somebody who had no value."""
    return not LITERAL.search(value) and not any(secret in value for secret in hidden)


def _join_lines(result: Restored) -> None:
    """Make one line of a model's options, so that no part of a secret stands on another."""
    for entry in documents.entries(result.document):
        written = entry.model.get("additional_docker_run_options")
        if written:
            entry.model["additional_docker_run_options"] = docker_options.joined(str(written))


def _fill_models(result: Restored, models: Sequence[Mapping[str, Any]]) -> None:
    by_name = {model["name"]: model for model in models if isinstance(model.get("name"), str)}
    for entry in documents.entries(result.document):
        known = by_name.get(entry.name) or by_name.get(entry.name[len("local-") :])
        if known is None:
            continue
        model = section(result.document, "built_models", entry.key)
        for name, value in known.items():
            # An emptied url is meant: nothing is to be cloned.
            if model.get(name) is None or (model[name] == "" and name != "url"):
                model[name] = copy.deepcopy(value)
    if by_name:
        documents.check(result.document, "models.json")  # what it fills in is as foreign as the manifest


def _copy_deployment(result: Restored, known: Mapping[str, str]) -> None:
    """Let deployment_config.env_vars reach the container: madengine exports them, and passes on few of them."""
    source = (result.document.get("deployment_config") or {}).get("env_vars") or {}
    target = section(result.document, "context", "docker_env_vars")
    for name, value in source.items():
        if name in target or name in environment.OF_THE_RUN or name in _PER_PROCESS or value is None:
            continue
        if redaction.holds_secret(name, value):
            target[name] = ""  # by name: the job script has it, or the shell
            continue
        if _is_preferred(name, value, known):
            target[name] = known[name]
            continue
        expanded, missing = _expanded(value, known, _VARIABLE) if isinstance(value, str) else (value, "")
        if missing:
            result.drop("deployment_config.env_vars", name, f"{missing} is for the job's shell, so it is not copied to the container")
        else:
            target[name] = expanded


def _expand(result: Restored, known: Mapping[str, str]) -> None:
    """Put the runtime's value where a ``${NAME}`` stands unexpanded; drop what stays unknown."""
    context = section(result.document, "context")
    for group in ("docker_env_vars", "docker_build_arg"):
        for name, value in list(section(context, group).items()):
            _expand_one(result, context[group], name, value, known, f"context.{group}")
    for name in ("docker_gpus", "gpu_vendor", "guest_os"):
        if name in context:
            _expand_one(result, context, name, context[name], known, "context")


def _expand_one(result: Restored, holder: Document, name: str, value: Any, known: Mapping[str, str], where: str) -> None:
    if value is None:
        del holder[name]
        result.drop(where, name, "no value")
    elif isinstance(value, str) and LITERAL.search(value) and not _is_passed(name, value, where):
        expanded, missing = _expanded(value, known, _KNOWABLE)
        if missing:
            del holder[name]
            result.drop(where, name, f"{missing} was never expanded, and the runtime does not know it")
        else:
            holder[name] = expanded


def _is_passed(name: str, value: str, where: str) -> bool:
    """Say whether a variable with an expansion passes by name; a build has no shell that would expand another's name."""
    return environment.is_secret(name, value) if where.endswith("docker_build_arg") else redaction.holds_secret(name, value)


def _expanded(value: str, known: Mapping[str, str], literal: re.Pattern[str]) -> Tuple[str, str]:
    """Return *value* expanded, and the first expansion that could not be."""
    missing: List[str] = []

    def one(match: re.Match[str]) -> str:
        name, default = match.group(1) or match.group(3) or match.group(4), match.group(2)
        if name in known and name not in environment.OF_THE_RUN and not environment.is_secret(name):
            return known[name]
        if default is None:
            missing.append(match.group())
        return default or ""

    expanded = literal.sub(one, value)
    if not missing and LITERAL.search(expanded):
        missing = [form[:_LONGEST_FORM] for form in _FORM.findall(expanded)[:1]]
    return expanded, missing[0] if missing else ""


def _prefer_runtime(result: Restored, known: Mapping[str, str]) -> None:
    """Let the runtime win: madengine would prefer what the manifest says."""
    variables = section(result.document, "context", "docker_env_vars")
    for name in list(variables):
        if name in environment.OF_THE_RUN:
            del variables[name]
            result.drop("context.docker_env_vars", name, "it differs between runs or nodes, and the run itself sets it")
        elif _is_preferred(name, variables[name], known):
            variables[name] = known[name]


def _prefer_runtime_in_exports(result: Restored, known: Mapping[str, str]) -> None:
    """Let the runtime win over what madengine's job script exports."""
    exported = (result.document.get("deployment_config") or {}).get("env_vars") or {}
    for name in [name for name, value in exported.items() if _is_preferred(name, value, known) and name not in _PER_PROCESS]:
        if _UNSAFE_IN_BASH.search(known[name]):
            del exported[name]  # bash would read it between double quotes; the shell's own value reaches the job as it is
        elif name not in environment.OF_THE_RUN:
            exported[name] = known[name]


def _is_preferred(name: str, value: Any, known: Mapping[str, str]) -> bool:
    return value is not None and name in known and name not in environment.OF_THE_HOST and not environment.is_secret(name, value)


def _name_secrets(result: Restored, runtime: Mapping[str, str]) -> None:
    """Give an empty value to each ``MAD_SECRETS*`` that is set or used: madengine puts what a manifest lacks on a command line."""
    variables = section(result.document, "context", "docker_env_vars")
    texts = [*variables.values(), *(entry.model.get("additional_docker_run_options") for entry in documents.entries(result.document))]
    used = {name for text in texts for name in _SECRET_SOURCE.findall(str(text))}
    given = {name for name, value in runtime.items() if value and name.startswith("MAD_SECRETS") and environment.is_name(name)}
    for name in sorted(used | given):
        variables.setdefault(name, "")


def _by_name(result: Restored, known: Mapping[str, str]) -> List[str]:
    """Return what the runtime has of the groups and the manifest lacks: it passes by name, each node's own value."""
    variables, choice = section(result.document, "context", "docker_env_vars"), environment.choose()
    unmeant = environment.OF_THE_RUN | _PER_PROCESS
    chosen = (name for name in known if choice.has(name) and not environment.is_secret(name))
    return sorted(name for name in chosen if name not in variables and name not in unmeant)


def _fill_guest_os(result: Restored) -> None:
    context = section(result.document, "context")
    if context.get("guest_os"):
        section(context, "docker_env_vars").setdefault("MAD_GUEST_OS", context["guest_os"])


def _drop_copies(result: Restored, hidden: Set[str]) -> None:
    """Drop a variable that holds a secret under a name that does not say so: half a value would help nobody."""
    for keys in (("context", "docker_env_vars"), ("context", "docker_build_arg"), ("deployment_config", "env_vars")):
        holder = (result.document.get(keys[0]) or {}).get(keys[1]) or {}
        for name in [name for name, value in holder.items() if not environment.is_secret(name, value)]:
            if any(secret in str(holder[name]) for secret in hidden):
                del holder[name]
                result.drop(".".join(keys), name, "it holds a secret under a name that does not say so; pass it as MAD_SECRETS_…")


def _set_all_options(result: Restored, secrets: Mapping[str, str], names: Sequence[str], directory: str) -> None:
    for entry in documents.entries(result.document):
        if entry.model:
            _set_options(result, entry, secrets, names, directory)
    section(result.document, "context")["docker_mounts"] = {}


def _set_options(result: Restored, entry: Entry, secrets: Mapping[str, str], names: Sequence[str], directory: str) -> None:
    """Give a model's options the mounts, the secrets and the runtime's variables by name, and the job's label."""
    where = f"built_models.{entry.key}.additional_docker_run_options"
    written = str(entry.model.get("additional_docker_run_options") or "")
    sources = redaction.expansions(written, where, secrets)
    text, taken = redaction.by_name(written, where, secrets)
    text = mounts.resolved(text, where, directory)
    given_mounts = (result.document.get("context") or {}).get("docker_mounts") or {}
    wanted = mounts.wanted({target: source or "" for target, source in given_mounts.items()}, directory=directory)
    text, dropped = mounts.merge(text, wanted, where)
    result.masked += taken
    result.dropped_mounts += [{**mount.to_dict(), "where": where} for mount in dropped]
    given = docker_options.parse(text, where)
    passed = {option.value.partition("=")[0] for option in given if option.name == "env" and option.value}
    text += "".join(f" -e {_assignment(name, sources.get(name, ''))}" for name in secrets if name not in passed)
    text += "".join(f" -e {name}" for name in names if name not in passed and name not in secrets)
    if not any(option.name == "label" and (option.value or "").partition("=")[0] == LABEL for option in given):
        text += f" --label {LABEL}=${{SLURM_JOB_ID}}"
    entry.model["additional_docker_run_options"] = docker_options.trimmed(text)


def _assignment(name: str, source: str) -> str:
    """Return what passes a secret: by its name, or the user's own value before that of its source."""
    return docker_options.quoted(f"{name}=" + docker_options.hidden(f"${{{name}:-{source}}}")) if source else name


def _neutralise(result: Restored) -> None:
    """Make the key of each image the exact reference: any madengine runs that after one ``docker image inspect``."""
    document = result.document
    images: Document = {}
    models: Document = {}
    for entry in documents.entries(document):
        # A placeholder waits for whoever fills it in, and slurm_multi's own script reads more than the key.
        if pinning.is_placeholder(entry.written) or pinning.is_slurm_multi(document, entry):
            images[entry.key], models[entry.key] = entry.image, entry.model
            continue
        # Docker takes what is written, unless it has a blank or a scheme around it.
        reference = entry.written if entry.reference.startswith(entry.written) else entry.reference
        key = next((spelling for spelling in spellings(reference) if spelling not in images), None)
        if key is None:
            raise JobFault(
                "manifest: too many models share an image", "give each its own tag, or restore with image_form keep", image=reference
            )
        images[key] = _neutral(entry, reference)
        if entry.model:
            models[key] = entry.model
    named = {entry.key for entry in documents.entries(document)}
    rest = {key: model for key, model in (document.get("built_models") or {}).items() if key not in named and key not in models}
    document["built_images"], document["built_models"] = images, {**models, **rest}


def _neutral(entry: Entry, reference: str) -> Document:
    made = {name: value for name, value in entry.image.items() if name not in _PULLED}
    made["docker_image"] = reference
    registry_image = entry.image.get("registry_image")
    if registry_image:
        made["source_image"] = registry_image  # where it can be had; madengine does not read this name
    return made


def _differences(before: Any, after: Any, key_path: str = "") -> List[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: List[str] = []
        for key in {**before, **after}:
            found += _differences(before.get(key, ...), after.get(key, ...), f"{key_path}.{key}" if key_path else key)
        return found
    return [] if before == after and type(before) is type(after) else [key_path]
