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
from typing import Any, Iterable, List, Mapping, Sequence

from . import environment

_SHORTEST_SECRET = 4
_ASSIGNED = re.compile(r"(?<![A-Za-z0-9_])([A-Za-z_][A-Za-z0-9_]*)(\\?\"?'?\s*[=:]\s*\\?\"?'?)((?![A-Za-z_]\w*=[^=\s])[^\s\"',;\\]{4,})")
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)([= ]\"?'?)([^\s\"',;-][^\s\"',;]{5,})")
_KNOWN_FORM = re.compile(
    r"hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|(?<=Bearer )[\w.~+/=-]{8,}|(?<=Basic )[\w+/=]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)|(?<![\w-])sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
)


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """Return *text* without the *secrets* (values), and without what looks like one by its name or its form.

    >>> masked("HF_TOKEN=abcdefgh step=12345 --api-key abcdef https://u:pass@host/")
    'HF_TOKEN=******** step=12345 --api-key ******** https://********@host/'
    """

    def assigned(match: re.Match[str]) -> str:
        name, sign, value = match.groups()
        return name + sign + (environment.MASK if environment.is_secret(name.lstrip("-").replace("-", "_"), value) else value)

    by_name = _OPTION.sub(assigned, _ASSIGNED.sub(assigned, environment.mask(text, secrets)))
    return _KNOWN_FORM.sub(environment.MASK, by_name)


def all_masked(value: Any, secrets: Sequence[str] = ()) -> Any:
    """Return a copy of *value* (what JSON can hold) with each text in it `masked`."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, Mapping):
        return {masked(str(key), secrets): all_masked(child, secrets) for key, child in value.items()}
    return [all_masked(child, secrets) for child in value] if isinstance(value, (list, tuple)) else value


def secrets_in(variables: Iterable[str]) -> List[str]:
    """Return the values of the secrets among ``NAME=value`` lines."""
    pairs = (str(variable).partition("=") for variable in variables)
    return [value for name, _equals, value in pairs if environment.is_secret(name, value) and len(value) >= _SHORTEST_SECRET]
