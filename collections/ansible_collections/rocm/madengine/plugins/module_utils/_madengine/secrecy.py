# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking secrets out of a build manifest without taking them from the container.

In a manifest ``docker_env_vars.NAME = ""`` beside ``-e NAME`` in a model's options gives the container the real value out of the
docker client's environment, with no trace in argv, logs or the file; dropping the key leaks it into the log and ``ps``.

Source: observed with unmodified madengine 2.1; ``docker run`` 20.10.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Mapping, Sequence, Set, Tuple

from . import environment, options
from .document import Document

REMOVED = "REDACTED"
_SHORTEST = 6  # what is shorter stands in too many other places by chance
# In capitals, as environment variables are: `--pad-token=…` is a model's argument.
_ASSIGNED = re.compile(r"(?<![A-Za-z0-9_-])([A-Z_][A-Z0-9_]*)=(?:'([^']*)'|\"([^\"]*)\"|([^\s'\"]*))")
_LITERAL = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]*(?::?-[^}]*)?\}?")


def values(document: Document, known: Mapping[str, str]) -> Set[str]:
    """Return the values of the secrets that *document* holds anywhere, and of those in the environment *known*."""
    found = {value for name, value in known.items() if environment.is_secret(name)}
    for name, value in _texts(document):
        if name is not None and environment.is_secret(name):
            found.add(value)
        found.update(text for assigned, text in _assigned(value) if environment.is_secret(assigned))
    return {value for value in found if len(value) >= _SHORTEST and value != REMOVED and not _LITERAL.fullmatch(value)}


def places(document: Document) -> List[str]:
    """Return where *document* holds a secret in clear."""
    hidden = values(document, {})
    return sorted({place for place, value in _placed(document, "") if any(secret in value for secret in hidden)})


def strip(document: Document, hidden: Set[str]) -> List[str]:
    """Take the secrets out of *document*, and return the names that its containers need.

    :param hidden: their values, from `values`.
    """
    context = document.get("context") or {}
    variables = context.get("docker_env_vars") or {}
    exported = (document.get("deployment_config") or {}).get("env_vars") or {}
    for name in [name for name in exported if environment.is_secret(name)]:
        del exported[name]  # an empty value would be exported over the real one
    for holder in (variables, context.get("docker_build_arg") or {}):
        holder.update({name: "" for name in holder if environment.is_secret(name)})
    _clean(document, sorted(hidden, key=len, reverse=True))
    return sorted(name for name in variables if environment.is_secret(name))


def by_name(text: str, where: str) -> str:
    """Return a string of ``docker run`` options with ``-e SECRET=value`` made ``-e SECRET``."""
    changes = []
    for option in options.parse(text, where):
        name, equals, _ = (option.value or "").partition("=")
        if option.name == "env" and equals and environment.is_secret(name):
            changes.append((option, name))
    return options.replaced(text, changes)


def masked(value: Any, hidden: Sequence[str]) -> Any:
    """Return a copy of *value* (what JSON can hold) in which no secret is left: by its name, or by its being known."""
    if isinstance(value, dict):
        return {
            environment.mask(key, hidden): environment.MASK
            if isinstance(child, str) and child and environment.is_secret(key)
            else masked(child, hidden)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [masked(child, hidden) for child in value]
    return environment.mask(value, hidden) if isinstance(value, str) else value


def _clean(holder: Any, hidden: Sequence[str]) -> None:
    """Replace what is secret in *holder*, in place and in keys too."""
    for key, child in list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder)):
        if isinstance(child, (dict, list)):
            _clean(child, hidden)
        elif isinstance(child, str) and child:
            holder[key] = "" if isinstance(key, str) and environment.is_secret(key) else _without(child, hidden)
        if isinstance(key, str) and _without(key, hidden) != key:
            holder[_without(key, hidden)] = holder.pop(key)


def _without(text: str, hidden: Sequence[str]) -> str:
    for secret in hidden:
        text = text.replace(secret, REMOVED)
    return text


def _assigned(text: str) -> Iterator[Tuple[str, str]]:
    if "=" in text:
        for match in _ASSIGNED.finditer(text):
            yield match.group(1), match.group(2) or match.group(3) or match.group(4) or ""


def _texts(document: Any) -> Iterator[Tuple[Any, str]]:
    """Give (the key or None, the text) of everything textual in *document*."""
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        for key, child in holder.items() if isinstance(holder, dict) else ((None, item) for item in holder):
            if isinstance(child, (dict, list)):
                waiting.append(child)
            elif isinstance(child, str):
                yield key, child


def _placed(document: Any, place: str) -> Iterator[Tuple[str, str]]:
    for key, child in document.items() if isinstance(document, dict) else enumerate(document):
        where = f"{place}.{key}" if place else str(key)
        if isinstance(child, (dict, list)):
            yield from _placed(child, where)
        elif isinstance(child, str):
            yield where, child
