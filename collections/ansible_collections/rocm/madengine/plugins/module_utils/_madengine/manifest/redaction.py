# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking secrets out of a build manifest without taking them from the container.

In a manifest ``docker_env_vars.NAME = ""`` beside ``-e NAME`` in a model's options gives the container the real value out of the
docker client's environment, with no trace in argv, logs or the file; dropping the key leaks it into the log and ``ps``.

Source: observed with unmodified madengine 2.1; ``docker run`` 20.10.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from ..core.errors import JobFault
from . import docker_options, environment
from .schema import Document

REMOVED = "REDACTED"
_SHORTEST = 6  # what is shorter stands in too many other places by chance
# In capitals, as environment variables are: `--pad-token=…` is a model's argument.
_ASSIGNED = re.compile(r"(?<![A-Za-z0-9_-])([A-Z_][A-Z0-9_]*)=(?:'([^']*)'|\"([^\"]*)\"|([^\s'\"]*))")
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s:@]+)@")
_LITERAL = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]*(?::?-[^}]*)?\}?")


def values(document: Document, known: Mapping[str, str]) -> Set[str]:
    """Return the values of the secrets that *document* holds anywhere, and of those in the environment *known*."""
    found = {value for name, value in known.items() if environment.is_secret(name)}
    for _place, is_secret, value in _texts(document):
        if is_secret:
            found.add(value)
        found.update(text for assigned, text in _assigned(value) if environment.is_secret(assigned))
    return {value for value in found if len(value) >= _SHORTEST and value != REMOVED and not _LITERAL.fullmatch(value)}


def url_passwords(document: Document) -> Set[str]:
    """Return the passwords in the URLs of *document*; a clone needs them, so they stay, but nobody is to see them."""
    return {match for _place, _is_secret, value in _texts(document) for match in _URL_PASSWORD.findall(value)}


def places(document: Document, hidden: Set[str]) -> List[str]:
    """Return where *document* holds one of the secrets *hidden* in clear; no secret is in a place's own name."""
    return sorted({without(place, hidden) for place, _is_secret, value in _texts(document) if any(secret in value for secret in hidden)})


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
    for option in docker_options.parse(text, where):
        name, equals, _value = (option.value or "").partition("=")
        if option.name == "env" and equals and environment.is_secret(name):
            changes.append((option, name))
    return docker_options.replaced(text, changes)


def without(text: str, hidden: Iterable[str]) -> str:
    """Return *text* with the secrets *hidden* (values) replaced, the longest first."""
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    return text


@contextlib.contextmanager
def kept(hidden: Set[str]) -> Iterator[None]:
    """Take the secrets *hidden* out of a fault that the block raises: it may show what it found."""
    try:
        yield
    except JobFault as fault:
        fault.seen = {name: without(value, hidden) if isinstance(value, str) else value for name, value in fault.seen.items()}
        raise


def masked(value: Any, hidden: Sequence[str], is_secret: bool = False) -> Any:
    """Return a copy of *value* (what JSON can hold) in which no secret is left: by its name, or by its being known."""
    if isinstance(value, dict):
        secrets = {key: is_secret or environment.is_secret(key) for key in value}
        return {environment.mask(key, hidden): masked(child, hidden, secrets[key]) for key, child in value.items()}
    if isinstance(value, list):
        return [masked(child, hidden, is_secret) for child in value]
    if is_secret and value and (isinstance(value, str) or _is_number(value)):
        return environment.MASK
    return environment.mask(value, hidden) if isinstance(value, str) else value


def _clean(holder: Any, hidden: Sequence[str], is_secret: bool = False) -> None:
    """Replace what is secret in *holder*, in place and in keys too."""
    for key, child in list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder)):
        secret = is_secret or (isinstance(key, str) and environment.is_secret(key))
        if isinstance(child, (dict, list)):
            _clean(child, hidden, secret)
        elif isinstance(child, str) or (secret and _is_number(child)):
            holder[key] = "" if secret else without(child, hidden)
        if isinstance(key, str) and without(key, hidden) != key:
            holder[without(key, hidden)] = holder.pop(key)


def _assigned(text: str) -> Iterator[Tuple[str, str]]:
    if "=" in text:
        for match in _ASSIGNED.finditer(text):
            yield match.group(1), match.group(2) or match.group(3) or match.group(4) or ""


def _texts(document: Any, place: str = "", is_secret: bool = False) -> Iterator[Tuple[str, bool, str]]:
    """Give (place, whether a key on the way to it is a secret's name, text) of everything textual in *document*."""
    for key, child in document.items() if isinstance(document, dict) else enumerate(document):
        where = f"{place}.{key}" if place else str(key)
        secret = is_secret or (isinstance(key, str) and environment.is_secret(key))
        if isinstance(child, (dict, list)):
            yield from _texts(child, where, secret)
        elif isinstance(child, str) or (secret and _is_number(child)):
            yield where, secret, str(child)
        if isinstance(key, str):
            yield where, False, key


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
