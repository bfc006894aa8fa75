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
from types import MappingProxyType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from ..core.errors import JobFault
from . import docker_options, environment, quoting
from .schema import Document

REMOVED = "REDACTED"
_DEEPEST = 8  # defaults within defaults that anybody writes
_SHORTEST = 6  # what is shorter stands in too many other places by chance
# In capitals, as environment variables are: `--pad-token=…` is a model's argument.
_ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9_-])([A-Z_][A-Z0-9_]*)=(?:'([^']*)'|\"([^\"]*)\"|((?:\$\([^()'\"]*\)|\$\{[^}'\"]*\}|`[^`'\"]*`|[^\s'\"])*))"
)
# In a text that holds JSON, as a variable may.
_IN_JSON = re.compile(r"\"([A-Za-z_][A-Za-z0-9_-]{0,60})\"\s*:\s*\"([^\"\\]+)\"")
_OPTION = re.compile(r"(?<![\w-])--?([A-Za-z][\w-]*)[= ]['\"]?([^\s'\"$-][^\s'\"]*)")
_SCHEME = re.compile(r"(?:bearer|basic|token) +", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s:@]+)@")
_EXPANSION = re.compile(
    r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\([^()]*(?:\([^()]*\)[^()]*)*\)"
    r"|\{[#!]?[A-Za-z_][A-Za-z0-9_]*(?::?[-=+](?P<default>.*)|:?\?.*|[:#%/^,@].*)?\})|`[^`]*`",
    re.DOTALL,
)
_DEFAULTED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*):?[-=]([^${}]*)\}")
_EXPORTED = ("env_vars", "env", "environment")  # what these hold is exported by somebody
_REFERENCE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_FALLING_BACK = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*):?-(.+)\}")


def values(document: Document, known: Mapping[str, str]) -> Set[str]:
    """Return the values of the secrets that *document* holds anywhere, and of those in the environment *known*.

    One is known by its name, or by the form that its issuer gives it.

    A plain word of *known* (``POSTGRES_PASSWORD=postgres``) is none of them: it would be taken out of an image's name.
    """
    found = {value for name, value in known.items() if environment.is_secret(name, value) and not (value.isalpha() and value.islower())}
    forms: Set[str] = set()
    for key_path, is_secret, value in texts(document):
        if is_secret:
            found.add(value)
        pairs = _passed(value) if key_path.endswith(".additional_docker_run_options") else _assigned(value)
        found.update(text for assigned, text in pairs if environment.is_secret(assigned, text))
        forms.update(quoting.known_forms(value))
    found.update(form for form in forms if not any(len(secret) >= _SHORTEST and secret in form for secret in found))
    return {value for value in map(held, found) if len(value) >= _SHORTEST and value != REMOVED}


def _passed(options: str) -> Iterator[Tuple[str, str]]:
    """Give what a string of ``docker run`` options assigns, whatever its quotes are."""
    try:
        parsed = docker_options.parse(options)
    except JobFault:
        yield from _assigned(options)
        return
    for name, equals, value in ((option.value or "").partition("=") for option in parsed):
        if equals:
            yield name, docker_options.shown(value)
    yield from _DEFAULTED.findall(options)


def of_options(document: Document) -> Set[str]:
    """Return what *document* gives to options such as ``--api-key``: a program needs them where they stand, so they stay."""
    pairs = (match for _key_path, _is_secret, value in texts(document) for match in _OPTION.findall(value))
    return {value for name, value in pairs if len(value) >= _SHORTEST and environment.is_secret(name.replace("-", "_"), value)}


def url_passwords(document: Document) -> Set[str]:
    """Return the passwords in the URLs of *document*; a clone needs them, so they stay, but nobody is to see them."""
    return {match for _key_path, _is_secret, value in texts(document) for match in _URL_PASSWORD.findall(value)}


def key_paths(document: Document, hidden: Set[str]) -> List[str]:
    """Return where *document* holds one of the secrets *hidden* in clear; no secret is in a key_path's own name."""
    return sorted(
        {without(key_path, hidden) for key_path, _is_secret, value in texts(document) if any(secret in value for secret in hidden)}
    )


def strip(document: Document, hidden: Set[str]) -> Tuple[Dict[str, str], List[Dict[str, str]]]:
    """Take the secrets out of *document*; an expansion holds none and stays where a shell reads it.

    :param hidden: their values, from `values`.
    :returns: the variables that its containers need, {name: the expansion that gives the value, or nothing: it passes by name},
        and what was taken out, as ``{"name", "where", "reason"}``.
    """
    context, taken = document.get("context") or {}, []
    variables = context.get("docker_env_vars") or {}
    needed = {name: _source(name, variables) for name, value in variables.items() if holds_secret(name, value)}
    for key_path, holder, reason in (
        ("context.docker_env_vars", variables, "a secret: it passes by name, from the environment of the run"),
        ("context.docker_build_arg", context.get("docker_build_arg") or {}, "a secret: a build takes it from the environment"),
    ):
        for name in [name for name, value in holder.items() if holds_secret(name, value)]:
            if holder[name] != "" and not (holder is variables and needed[name]):
                taken.append({"name": name, "where": key_path, "reason": reason})
            holder[name] = ""
    _clean(document, sorted(hidden, key=len, reverse=True), taken)
    return dict(sorted(needed.items())), taken


def holds_secret(name: str, value: Any) -> bool:
    """Say whether the variable *name* holds a secret: its name says so, or its *value* is another variable's that does.

    >>> holds_secret("HF_TOKEN", "x"), holds_secret("MY_LOGIN", "${MAD_SECRETS_T}"), holds_secret("MODEL", "$NAME")
    (True, True, False)
    """
    return environment.is_secret(name, value) or (isinstance(value, str) and any(map(environment.is_secret, _referred(value))))


def held(value: str) -> str:
    """Return what *value* holds itself: nothing if it is only an expansion, and of ``${NAME:-default}`` the default.

    >>> held("$(cat file)"), held("${A:-${B}}"), held("${A:-hf_x}"), held("Bearer $A"), held("a $A")
    ('', '', 'hf_x', '', 'a $A')
    """
    value = _SCHEME.sub("", value, count=1) if _SCHEME.match(value) else value
    for _level in range(_DEEPEST):
        match = _EXPANSION.fullmatch(value)
        if match is None:
            break
        value = match.group("default") or ""
    return value


def by_name(text: str, where: str, sources: Mapping[str, str] = MappingProxyType({})) -> Tuple[str, List[Dict[str, str]]]:
    """Return a string of ``docker run`` options with ``-e SECRET=value`` made ``-e SECRET``, and what was taken out.

    An expansion stays, and one of a variable that the same string gives becomes what that is given: the shell that starts the
    container knows nothing of ``-e``.

    :param sources: what `strip` returned.
    """
    changes, taken, given = [], [], expansions(text, where, sources)
    for option in docker_options.parse(text, where):
        name, equals, value = (option.value or "").partition("=")
        if option.name != "env" or not equals or not environment.is_secret(name, docker_options.shown(value)):
            continue
        if not docker_options.has_expansion(value) or held(docker_options.shown(value)):
            changes.append((option, name))
            taken.append({"name": name, "where": where, "reason": "a secret: it passes by name, from the environment of the run"})
        elif docker_options.is_expansion(value) and given[name] != docker_options.shown(value):
            changes.append((option, docker_options.quoted(f"{name}=" + docker_options.hidden(given[name]))))
    return docker_options.replaced(text, changes), taken


def expansions(text: str, where: str, sources: Mapping[str, str] = MappingProxyType({})) -> Dict[str, str]:
    """Return what an option string and the *sources* give to secrets by expansions alone, {name: expansion}, each followed to its begin."""
    pairs = [(option.value or "").partition("=") for option in docker_options.parse(text, where) if option.name == "env"]
    given = {name: docker_options.shown(value) for name, equals, value in pairs if equals and docker_options.is_expansion(value)}
    given = {name: value for name, value in given.items() if environment.is_secret(name, value) and value and not held(value)}
    given = {**{name: source for name, source in sources.items() if source}, **given}
    for name in given:
        for _step in given:
            source = _REFERENCE.fullmatch(given[name])
            if source is None or source.group(1) not in given or source.group(1) == name:
                break
            given[name] = given[source.group(1)]
    return given


def _source(name: str, variables: Mapping[str, Any]) -> str:
    """Return the expansion of another variable that gives the secret *name* its value, or nothing."""
    value = str(variables.get(name, ""))
    match = _REFERENCE.fullmatch(value)
    if match:
        return f"${{{match.group(1)}}}" if match.group(1) != name else ""
    return value if set(_referred(value)) - {name} and not held(value) else ""


def sources(variables: Mapping[str, Any]) -> Dict[str, List[str]]:
    """Return what each secret of *variables* takes its value from where it has none of its own: {name: names}, the nearest first.

    >>> sources({"HF_TOKEN": "${MAD_SECRETS_HFTOKEN}", "HUB_TOKEN": "$HF_TOKEN"})
    {'HF_TOKEN': ['MAD_SECRETS_HFTOKEN'], 'HUB_TOKEN': ['HF_TOKEN', 'MAD_SECRETS_HFTOKEN']}
    """
    direct = {name: _referred(value) for name, value in variables.items()}
    found = {}
    for name in (name for name in direct if environment.is_name(name) and holds_secret(name, variables[name])):
        chain = [name]
        for each in chain:  # it grows while it is followed
            chain += [other for other in direct.get(each, ()) if other not in chain][: _DEEPEST - len(chain)]
        found[name] = chain[1:]
    return {name: chain for name, chain in found.items() if chain}


def _referred(value: Any) -> List[str]:
    """Return the variables that *value* names in their order (``${A:-$B}``); none where it has more than that."""
    text = str(value)
    found: List[str] = []
    while len(found) < _DEEPEST:
        match = _REFERENCE.fullmatch(text) or _FALLING_BACK.fullmatch(text)
        if match is None:
            return []
        found.append(match.group(1))
        if match.re is _REFERENCE:
            break
        text = match.group(2)
    return list(dict.fromkeys(found))


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
        secrets = {key: is_secret or environment.is_secret(key, child) for key, child in value.items()}
        return {environment.mask(key, hidden): masked(child, hidden, secrets[key]) for key, child in value.items()}
    if isinstance(value, list):
        return [masked(child, hidden, is_secret) for child in value]
    if is_secret and value and (isinstance(value, str) or _is_number(value)):
        return environment.MASK
    return environment.mask(value, hidden) if isinstance(value, str) else value


def _clean(holder: Any, hidden: Sequence[str], taken: List[Dict[str, str]], key_path: str = "", is_secret: bool = False) -> None:
    """Replace what is secret in *holder*, in place and in keys too, and note in *taken* what it was.

    In variables that somebody exports a secret's name goes too: its empty value would be exported over the shell's own.
    """
    for key, child in list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder)):
        where = f"{key_path}.{key}" if key_path else str(key)
        secret = is_secret or (isinstance(key, str) and environment.is_secret(key, child))
        if isinstance(child, (dict, list)):
            _clean(child, hidden, taken, where, secret)
        elif isinstance(child, str) or (secret and _is_number(child)):
            clean = _cleaned(str(child), hidden, secret)
            if clean != str(child):
                taken.append({"name": str(key), "where": key_path, "reason": "a secret" if secret else "it holds a secret"})
                holder[key] = clean
            if secret and not clean and key_path.rpartition(".")[2] in _EXPORTED:
                del holder[key]
        if isinstance(key, str) and without(key, hidden) != key:
            holder[without(key, hidden)] = holder.pop(key)


def _cleaned(text: str, hidden: Sequence[str], is_secret: bool) -> str:
    return "" if is_secret and held(text) not in ("", REMOVED) else without(text, hidden)


def _assigned(text: str) -> Iterator[Tuple[str, str]]:
    if "=" in text:
        for match in _ASSIGNED.finditer(text):
            yield match.group(1), match.group(2) or match.group(3) or match.group(4) or ""
    if '":' in text:
        yield from _IN_JSON.findall(text)
    if "${" in text:
        yield from _DEFAULTED.findall(text)


def texts(document: Any, key_path: str = "", is_secret: bool = False) -> Iterator[Tuple[str, bool, str]]:
    """Give (key_path, whether a key on the way to it is a secret's name, text) of everything textual in *document*."""
    for key, child in document.items() if isinstance(document, dict) else enumerate(document):
        where = f"{key_path}.{key}" if key_path else str(key)
        secret = is_secret or (isinstance(key, str) and environment.is_secret(key, child))
        if isinstance(child, (dict, list)):
            yield from texts(child, where, secret)
        elif isinstance(child, str) or (secret and _is_number(child)):
            yield where, secret, str(child)
        if isinstance(key, str):
            yield where, False, key


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
