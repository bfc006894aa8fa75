# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door through which everything goes that is quoted from a job: its logs, its command lines, its names.

A secret is known by its value where that is known, by the name that it is given (``HF_TOKEN=…``, ``--api-key …``, a JSON
key), or by its form. Masking is best effort: a program may print a secret in any way.

Source: the forms are those that their issuers publish (Hugging Face, GitHub, GitLab, AWS, OpenAI; RFC 6750, RFC 3986).
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Iterator, List, Mapping, Sequence

from . import environment

_SHORTEST_SECRET, _SHORTEST_TELLABLE = 4, 6
_PLAIN = re.compile(r"[A-Z]?[a-z]{1,15}|[A-Z]{1,15}|[0-9.]{1,11}")
_MEASURED = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,6})?")
_COLOUR = r"(?:\x1b\[[0-9;]{0,20}m)*"
_ASSIGNED = re.compile(
    rf"(?:(?<![A-Za-z0-9_-])|(?<=[0-9]m))([A-Za-z_][A-Za-z0-9_-]*)({_COLOUR}\\?[\"']?\]?\s*(?:=>|->|[=:]|%3[Dd])\s*{_COLOUR}\\?\$?\"?'?)"
    # A quote within it is the shell's.
    r"((?![A-Za-z_]\w*=[^=\s])[^\s\"',;\\\x1b]{4,}(?:[\"'][\w+/=-]+[\"']?)*)"
)
# What a command takes as a password by a short option.
_COMMAND = re.compile(
    r"(\b(?:docker|podman|nerdctl|skopeo|helm|oras|buildah)(?: registry)? login\b[^\n|;&]{0,200}? -p[ =]?|\bsshpass -p ?"
    r"|\bcurl\b[^\n|;&]{0,300}? (?:-u|--user)[ =]?[\"']?[^\s:]{1,60}:|\bmysql(?:dump)?\b[^\n|;&]{0,200}? -p)(?=\S)[\"']?([^\s\"']{4,})"
)
# As people and prompts say it, and as `wandb login` takes it; what may also stand there is a word, so a secret has letters and digits.
_SPOKEN = re.compile(
    r"(\b(?:pass(?:word|phrase)(?: for [^\n:]{1,80}?)?(?: is|:)?|(?:api[ -]?key|token)(?: is| was|:|=|(?= ['\"]))|wandb login)\s+[\"']?)"
    r"(?=[\w+/=-]*[0-9])(?=[\w+/=-]*[A-Za-z])([^\s\"',;<>]{8,})",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)([= ]\"?'?)([^\s\"',;-][^\s\"',;]{5,})")
# A name in capitals, and beside it what has letters and digits: a table, a sentence.
_BESIDE = re.compile(r"(?<![\w-])([A-Z][A-Z0-9_]{3,})(\s+(?:(?:is|to|was)\s+)?)(?=\S*[0-9])(?=\S*[A-Za-z])([^\s\"',;=:]{8,})")
_KNOWN_FORM = re.compile(
    r"hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|(?<=(?i:bearer) )[\w.~+/=-]{8,}|(?<=(?i:basic) )[\w+/=]{8,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|(?<![\w-])sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}|(?<=://)[^/\s:@]{12,}(?=@)|(?<=[Aa]uthorization: )(?i:token|api-?key) \S{8,}"
    r"|AIza[\w-]{30,}|(?<![A-Za-z0-9])r8_[A-Za-z0-9]{30,}|nvapi-[\w-]{30,}|npm_[A-Za-z0-9]{30,}|do[por]_v1_[0-9a-f]{40,}|pypi-[\w-]{30,}"
    r"|dckr_pat_[\w-]{20,}|(?<=[?&]sig=)[^&\s\"']{8,}|(?<=X-Amz-Signature=)\w{16,}|(?<=Cookie: )[^\r\n\"']{8,}|(?<=\"auth\": \")[\w+/=]{8,}"
    r"|(?<=<password>)[^<\s]{4,}(?=</)|(?<=<token>)[^<\s]{8,}(?=</)|wandb_v1_\w{20,}|(?<=PRIVATE KEY-----)[^-]{1,10000}(?=-----END)"
)

_IN_URL = re.compile(r"://[^/\s@]*\Z")


def known_forms(text: str) -> List[str]:
    """Return the secrets that *text* shows by their form, but for those in the user's part of a URL: who reads it needs them.

    >>> known_forms("--hf hf_abcdefghijklmnop0 https://ghp_abcdefghijklmnopqrst@github.com/x")
    ['hf_abcdefghijklmnop0']
    """
    found = [match for match in _KNOWN_FORM.finditer(text) if not _IN_URL.search(text, max(0, match.start() - 300), match.start())]
    return [match.group() for match in found]


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """Return *text* without the *secrets* (values), and without what looks like one by its name or its form.

    >>> masked("HF_TOKEN=abcdefgh step=12345 --api-key abcdef https://u:pass@host/")
    'HF_TOKEN=******** step=12345 --api-key ******** https://********@host/'
    """

    def assigned(match: re.Match[str]) -> str:
        name, sign, value = match.groups()
        plain = name.lstrip("-").replace("-", "_")
        if plain == "token" and _MEASURED.fullmatch(value):
            return match.group()  # ``time per token: 12.3``
        # A connection string's, and no working directory.
        is_secret = environment.is_secret(plain, value) or (plain.lower() == "pwd" and (sign + value).strip("=: \"'")[:1] not in "/~.$")
        return name + sign + (environment.MASK if is_secret else value)

    # By its form first: a name may end before its secret does (``Authorization: Bearer …``).
    by_form = _KNOWN_FORM.sub(environment.MASK, environment.mask(text, secrets))
    by_name = _OPTION.sub(assigned, _ASSIGNED.sub(assigned, by_form))
    by_name = _SPOKEN.sub(rf"\1{environment.MASK}", by_name)
    return _BESIDE.sub(assigned, _COMMAND.sub(rf"\1{environment.MASK}", by_name) if " -" in by_name else by_name)


def all_masked(value: Any, secrets: Sequence[str] = ()) -> Any:
    """Return a copy of *value* (what JSON can hold) with each text in it `masked`."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, Mapping):
        return {masked(str(key), secrets): all_masked(child, secrets) for key, child in value.items()}
    return [all_masked(child, secrets) for child in value] if isinstance(value, (list, tuple)) else value


def tellable(values: Iterable[str]) -> List[str]:
    """Return those of the secrets *values* that can be taken out of a text by their value, the longest first.

    A plain word or a short number (``postgres``, ``123456``) stands in too many other places.

    >>> tellable(["s3cr3t-value", "postgres", "123456", "abc"])
    ['s3cr3t-value']
    """
    found = {value for value in values if len(value) >= _SHORTEST_TELLABLE and not _PLAIN.fullmatch(value)}
    return sorted(found, key=lambda value: (-len(value), value))


def without(blocks: Iterable[bytes], secrets: Sequence[str]) -> Iterator[bytes]:
    """Give the text in *blocks* without the *secrets* (values), also where one lies across two blocks.

    >>> b"".join(without([b"a s3cr", b"3t b"], ["s3cr3t"]))
    b'a ******** b'
    """
    hidden = sorted((secret.encode("utf-8", "surrogateescape") for secret in secrets if secret), key=len, reverse=True)
    if not hidden:
        yield from blocks
        return
    pattern, rest = re.compile(b"|".join(map(re.escape, hidden))), b""
    for block in blocks:
        rest += block
        # What begins behind this may be the begin of a longer one.
        cut, done = max(0, len(rest) - len(hidden[0]) + 1), 0
        for match in pattern.finditer(rest):
            if match.start() >= cut:
                break
            yield rest[done : match.start()] + environment.MASK.encode()
            done = match.end()
        yield rest[done : max(cut, done)]
        rest = rest[max(cut, done) :]
    yield pattern.sub(environment.MASK.encode(), rest)


def secrets_in(variables: Iterable[str]) -> List[str]:
    """Return the values of the secrets among ``NAME=value`` lines."""
    pairs = (str(variable).partition("=") for variable in variables)
    return [value for name, _equals, value in pairs if environment.is_secret(name, value) and len(value) >= _SHORTEST_SECRET]
