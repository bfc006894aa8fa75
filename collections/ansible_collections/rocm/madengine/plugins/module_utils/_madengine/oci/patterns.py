# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns of image names, read as the names themselves are: ``docker.io/rocm/*``, ``library/debian``, ``debian``.

``*``, ``?`` and ``[...]`` stand in the name, the tag or the digest, as in a shell; ``*`` reaches across slashes. A pattern
without a tag is for every tag and digest of the name. One with a tag is for names without a digest: beside a digest Docker
looks at no tag, so the tag would promise what nobody keeps.

Source: `image`; fnmatch.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Optional, Tuple

from .image import DEFAULT_DOMAIN, Reference

_HUB = ("docker.io/", "index.docker.io/")
_OFFICIAL = "library/"
_WILD = re.compile(r"\[[^\]/]*\]|[*?]")
_DOMAIN = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9._/-]*")
_TAG = re.compile(r"[A-Za-z0-9_.-]{0,128}")
_DIGEST = re.compile(r"[a-z0-9:]{0,71}")


def matches(pattern: str, reference: Reference) -> bool:
    """Say whether *pattern* is for *reference*.

    >>> matches("docker.io/rocm/*", Reference.parse("rocm/vllm:1.0")), matches("debian", Reference.parse("debian:12"))
    (True, True)
    """
    name, tag, digest = _cut(pattern)
    if digest is not None and not fnmatch.fnmatchcase(reference.digest or "", digest):
        return False
    if tag is not None and tag != "*" and (reference.digest is not None) != (digest is not None):
        return False
    if tag is not None and not fnmatch.fnmatchcase(reference.tag or "", tag):
        return False
    return _is_name(name, reference) or (reference.digest is None and fnmatch.fnmatchcase(str(reference), pattern))


def can_match(pattern: str) -> bool:
    """Say whether there is any name that *pattern* could be for."""
    name, tag, digest = _cut(pattern)
    domain, slash, path = name.partition("/")
    if not slash or not (set(".:[") & set(domain) or domain == "localhost" or _WILD.search(domain)):
        domain, path = "", name
    parts = ((domain, _DOMAIN), (path, _PATH), (tag or "", _TAG), (digest or "", _DIGEST))
    is_spelled = all(form.fullmatch(_WILD.sub("a", text)) for text, form in parts if text)
    has_digest = digest is None or fnmatch.fnmatchcase(digest[:7], "sha256:") or bool(_WILD.search(digest[:7]))
    return bool(path) and is_spelled and has_digest and "//" not in name and tag != "" and not name.endswith("/")


def _is_name(pattern: str, reference: Reference) -> bool:
    is_hub = reference.domain == DEFAULT_DOMAIN
    for domain in _HUB:
        if pattern.startswith(domain):
            rest = pattern[len(domain) :]
            return is_hub and any(fnmatch.fnmatchcase(name, rest) for name in (reference.path, reference.familiar))
    if is_hub and pattern.startswith(_OFFICIAL) and fnmatch.fnmatchcase(reference.path, pattern):
        return True
    return fnmatch.fnmatchcase(reference.familiar, pattern)


def _cut(pattern: str) -> Tuple[str, Optional[str], Optional[str]]:
    """Return a pattern's name, tag and digest, as a reference is cut."""
    bare = pattern.strip()
    bare = bare[len("docker://") :] if bare.startswith("docker://") else bare
    name, at, digest = bare.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon belongs to a registry's port
        return name, None, digest if at else None
    return head, tag, digest if at else None
