# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's name, and what an image is whatever its name and wherever it lies.

Names are read as Docker reads them. What an image *is* are its layers' diff ids and the part of its configuration that a
container sees: ``.Id`` is the config's digest on the classic store and the manifest's on the containerd store, and a tag
says nothing about content.

Source: distribution/reference v0.6 (grammar and ``splitDockerDomain``), OCI image-spec v1.1 config.md; ``docker image
inspect`` of 20.10, 26.1 (classic and containerd store) for the fields.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ..core.errors import JobFault

DEFAULT_DOMAIN = "docker.io"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX_64 = re.compile(r"[0-9a-f]{64}")
_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST_NAME = 255
_MOST_LAYERS = 1000  # Docker itself stops at 127

_TEXTS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell")
_MAPS = ("Labels", "Volumes", "ExposedPorts", "Healthcheck")


@dataclass(frozen=True)
class Reference:
    """An image's name in full: ``domain/path`` with a tag, a digest or both.

    >>> str(Reference.parse("docker.io/library/debian"))
    'debian:latest'
    >>> Reference.parse("localhost:5000/a/b:1").domain
    'localhost:5000'
    """

    domain: str
    path: str
    tag: Optional[str]
    digest: Optional[str]

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return what Docker would understand by *text*; blanks around it and a leading ``docker://`` are dropped.

        :raises JobFault: it is no image name; the message shows it whole and names the part.
        """
        bare = text.strip()
        bare = bare[len("docker://") :] if bare.startswith("docker://") else bare
        name, digest = _cut_digest(text, bare)
        name, tag = _cut_tag(text, name)
        domain, path = _split_domain(name)
        if not _DOMAIN.fullmatch(domain):
            raise _refused(text, "registry", domain)
        if not _PATH.fullmatch(path) or len(domain) + 1 + len(path) > _LONGEST_NAME or _HEX_64.fullmatch(name):
            raise _refused(text, "name", path)
        return cls(domain, path, tag or (None if digest else "latest"), digest)

    @property
    def name(self) -> str:
        """Return ``domain/path``, as a registry client needs it."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """Return the name as ``docker images`` shows it: without ``docker.io/`` and ``library/``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        first, _slash, rest = self.path.partition("/")
        return rest if first == "library" and "/" not in rest else self.path

    @property
    def full(self) -> str:
        """Return the reference with its domain always said."""
        return self.name + self._suffix()

    @property
    def pinned(self) -> Reference:
        """Return the reference as Docker keeps it: of tag and digest the digest alone."""
        return Reference(self.domain, self.path, None, self.digest) if self.digest else self

    @property
    def has_registry(self) -> bool:
        """Say whether the name itself names a registry, other than by Docker's default."""
        return self.domain != DEFAULT_DOMAIN

    def __str__(self) -> str:
        return self.familiar + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True)
class Identity:
    """What makes two images the same image: the layers' diff ids, base first, and the configuration's fingerprint."""

    diff_ids: Tuple[str, ...]
    config_fingerprint: str

    @property
    def digest(self) -> str:
        """Return one ``sha256:…`` for the whole, equal on every node and every kind of store."""
        return _sha256({"layers": list(self.diff_ids), "config": self.config_fingerprint})

    @classmethod
    def of_inspect(cls, document: Mapping[str, Any]) -> Identity:
        """Return the identity of what ``docker image inspect`` describes.

        :raises JobFault: it is no such description.
        """
        layers = (document.get("RootFS") or {}).get("Layers") or []
        return cls(diff_ids_of(layers), _fingerprint(document.get("Config"), document.get("Os"), document.get("Architecture")))

    @classmethod
    def of_config(cls, document: Mapping[str, Any]) -> Identity:
        """Return the identity of the image whose OCI (or Docker) config blob this is.

        :raises JobFault: it is no image config.
        """
        root = document.get("rootfs")
        if not isinstance(root, Mapping):
            raise JobFault("image: no image config", "build or save the image again", fields=sorted(map(str, document))[:20])
        layers = root.get("diff_ids") or []
        return cls(diff_ids_of(layers), _fingerprint(document.get("config"), document.get("os"), document.get("architecture")))


def is_digest(value: object) -> bool:
    """Say whether *value* is the text of a sha256 digest, and so safe as a part of a path."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def digest_of(data: bytes) -> str:
    """Return the digest of *data*, as ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chain_ids(diff_ids: Iterable[str]) -> List[str]:
    """Return the chain id of each layer: what names the layer together with all below it.

    >>> chain_ids(["sha256:" + "0" * 64])
    ['sha256:0000000000000000000000000000000000000000000000000000000000000000']
    """
    chain: List[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def diff_ids_of(values: object) -> Tuple[str, ...]:
    """Return *values* as a tuple of diff ids.

    :raises JobFault: one of them is no sha256 digest.
    """
    if not isinstance(values, (list, tuple)) or len(values) > _MOST_LAYERS or not all(is_digest(value) for value in values):
        raise JobFault("image: not a list of layer digests", "build or save the image again", value=str(values)[:200])
    return tuple(values)


def _cut_digest(text: str, bare: str) -> Tuple[str, Optional[str]]:
    name, at, digest = bare.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _refused(text, "digest", digest)
    return name, digest or None


def _cut_tag(text: str, name: str) -> Tuple[str, Optional[str]]:
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon belongs to a registry's port
        return name, None
    if not _TAG.fullmatch(tag):
        raise _refused(text, "tag", tag)
    if head == "sha256":
        raise JobFault("image: an image id is no name", "give the image a name and tag", image=text)
    return head, tag


def _split_domain(name: str) -> Tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not (any(mark in first for mark in ".:") or first == "localhost" or first.lower() != first):
        first, rest = DEFAULT_DOMAIN, name
    if first == "index.docker.io":
        first = DEFAULT_DOMAIN
    return first, f"library/{rest}" if first == DEFAULT_DOMAIN and "/" not in rest else rest


def _refused(text: str, part: str, value: str) -> JobFault:
    return JobFault(f"image: not an image name, look at its {part}", "write it as name:tag", image=text, **{part: value})


def _fingerprint(config: object, system: object, architecture: object) -> str:
    """Return a digest of what a container sees of the configuration.

    Daemons add fields (Hostname, Image, AttachStdin …) and write nothing as null, "", [], {} or not at all.
    """
    given = _typed("config", config or {}, Mapping)
    seen: Dict[str, Any] = {"os": str(system or ""), "architecture": str(architecture or "")}
    for names, kind in ((_TEXTS, str), (_LISTS, list), (_MAPS, Mapping)):
        seen.update((name, _typed(name, given[name], kind)) for name in names if given.get(name))
    if seen.get("WorkingDir") == "/":
        del seen["WorkingDir"]
    return _sha256(seen)


def _typed(name: str, value: object, kind: type) -> Any:
    if not isinstance(value, kind):
        raise JobFault("image: malformed image config", "build or save the image again", field=name, value=str(value)[:200])
    return value


def _sha256(value: object) -> str:
    return digest_of(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
