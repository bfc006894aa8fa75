# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ``docker run`` mounts, and adding mounts to its options without naming a mount point twice.

Source: docker/cli opts/mount.go and volume/mounts/linux_parser.go (moby 20.10); measured with 20.10.24: two different
``-v``/``--mount`` for one cleaned target are refused ("Duplicate mount point"), word for word the same ``-v`` twice is not; an
anonymous volume gives way to a bind without a word, and ``--tmpfs /x/`` beside ``-v a:/x`` is mounted *over* it.
"""

from __future__ import annotations

import csv
import posixpath
import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from ..core.errors import JobFault
from . import docker_options

WORK_DIR = "/myworkspace"  # madengine itself mounts the submit directory there
_MODE = re.compile(r"[A-Za-z]+(?:,[A-Za-z]+)*")
# Where the host path stands in an option's value.
_SOURCE = {"volume": re.compile(r"\A([^:]*):"), "mount": re.compile(r"(?:\A|,)\s*\"?(?i:source|src)=([^,\"]*)")}
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_BIND = re.compile(r"(?:\A|,)\s*(?i:type)=bind\s*(?:,|\Z)")


@dataclass(frozen=True)
class Mount:
    """A mount point (cleaned, expansions hidden), what is mounted there, and how.

    :ivar source: a host path or a volume's name; empty for an anonymous volume or a tmpfs.
    """

    target: str
    source: str = ""
    mode: str = ""

    def text(self) -> str:
        """Return ``source:target[:mode]``, as ``-v`` takes it, for a reader."""
        return docker_options.shown(":".join(part for part in (self.source, self.target, self.mode) if part))


@dataclass(frozen=True)
class Dropped:
    """A mount of ours that was left out, and why."""

    target: str
    source: str
    reason: str

    def to_dict(self) -> Dict[str, str]:
        return {"target": self.target, "source": self.source, "reason": self.reason}


def parse(text: str, where: str = "options") -> List[Mount]:
    """Return the mounts that a string of ``docker run`` options makes, in its order.

    :raises JobFault: as `options.parse`.

    >>> [mount.target for mount in parse("-v /a:/b/ --mount type=bind,src=/c,dst=/d --tmpfs=/e:size=1m -itv v:/f:ro")]
    ['/b', '/d', '/e', '/f']
    """
    found = []
    for option in docker_options.parse(text, where):
        reader = _READERS.get(option.name)
        if reader is not None and option.value:
            found.append(reader(option.value))
    return [mount for mount in found if mount.target]


def wanted(docker_mounts: Mapping[str, str], where: str = "context.docker_mounts", directory: str = "") -> List[Mount]:
    """Return the mounts of a manifest's ``docker_mounts``, {container path: host path}; a mode may be in the key.

    :param directory: what ``./…`` is relative to; it is refused without it.
    :raises JobFault: an entry is no mount; the message names it.
    """
    return [_wanted(key, source, f"{where}.{key}", directory) for key, source in docker_mounts.items()]


def resolved(text: str, where: str = "options", directory: str = "") -> str:
    """Return *text* with each ``~/…``, ``./…`` and ``a/b`` that it mounts made what a node can find: Docker takes none of them.

    :raises JobFault: as `options.parse`; a host path is of somebody else's home, or relative to a directory that is not known;
        or Docker would take no such mount.

    >>> resolved("-v ./a:/a --volume=~/b:/b --mount type=bind,src=./c,dst=/c -v named:/d", directory="/home/alice/run")
    '-v /home/alice/run/a:/a --volume="${HOME}/b:/b" --mount type=bind,src=/home/alice/run/c,dst=/c -v named:/d'
    """
    changes = []
    for option in docker_options.parse(text, where):
        value = option.value or ""
        match = _SOURCE[option.name].search(value) if option.name in _SOURCE else None
        if option.name == "volume":
            _check(value, where)
        if match:
            source = match.group(1)
            if _BIND.search(value) and _VOLUME_NAME.fullmatch(source):
                source = f"./{source}"  # a bind knows no volumes
            found = value[: match.start(1)] + _host_path(source, where, directory) + value[match.end(1) :]
            if found != value:
                changes.append((option, docker_options.quoted(found)))
    return docker_options.replaced(text, changes)


def merge(text: str, mounts: Iterable[Mount], where: str = "options", reserved: Sequence[str] = (WORK_DIR,)) -> Tuple[str, List[Dropped]]:
    """Return *text* with the *mounts* added whose mount point is still free, and those that were not added.

    What *text* itself mounts stays as it is. A mount that it already makes in the same way is neither added nor dropped.

    :raises JobFault: as `options.parse`.
    """
    taken = {mount.target: mount for mount in parse(text, where)}
    own, added, dropped = dict(taken), [docker_options.trimmed(text)], []
    for mount in mounts:
        holder = taken.get(mount.target)
        if mount.target in reserved:
            dropped.append(_dropped(mount, "madengine mounts its work directory there"))
        elif holder is None:
            taken[mount.target] = mount
            added.append("-v " + docker_options.quoted(":".join(part for part in (mount.source, mount.target, mount.mode) if part)))
        elif holder != mount:
            whose = "the model's own option" if mount.target in own else "an earlier entry"
            dropped.append(_dropped(mount, f"{whose} stays: {holder.text()}"))
    return " ".join(part for part in added if part), dropped


def repeated(mounts: Iterable[Mount]) -> List[str]:
    """Return the mount points that *mounts* name more than once, as Docker would refuse them."""
    seen: Dict[str, Mount] = {}
    found: List[str] = []
    for mount in mounts:
        if seen.setdefault(mount.target, mount) != mount:
            found.append(docker_options.shown(mount.target))
    return found


def clean(target: str) -> str:
    """Return *target* as Docker compares it: without a trailing slash, ``.``, ``..`` or a doubled slash.

    >>> clean("//a/./b/../c/")
    '/a/c'
    """
    return re.sub(r"\A/+", "/", posixpath.normpath(target)) if target else ""


def _volume(value: str) -> Mount:
    parts = value.split(":")
    if len(parts) == 1:
        return Mount(clean(parts[0]))
    return Mount(clean(parts[1]), clean(parts[0]) if parts[0].startswith("/") else parts[0], ":".join(parts[2:]))


def _mount(value: str) -> Mount:
    try:
        fields = next(csv.reader([value], strict=True), [])
    except csv.Error:
        fields = []  # Docker refuses it, and says so better than we could
    seen = {key.strip().lower(): text for key, _equals, text in (field.partition("=") for field in fields)}
    target = [text for key, text in seen.items() if key in ("target", "dst", "destination")]
    source = [text for key, text in seen.items() if key in ("source", "src")]
    # A field of its own that no -v has: such a mount is never the same as one of ours.
    return Mount(clean(target[-1]) if target else "", source[-1] if source else "", "--mount " + value)


def _tmpfs(value: str) -> Mount:
    target, _colon, mode = value.partition(":")
    return Mount(clean(target), "", "--tmpfs " + mode)


_READERS = {"volume": _volume, "mount": _mount, "tmpfs": _tmpfs}


def _host_path(source: str, where: str, directory: str) -> str:
    """Return *source*, a host path or a volume's name, as Docker takes it on any node: the user's home by its variable."""
    first = source.partition("/")[0]
    if first == "~":
        return docker_options.expandable("$HOME", where) + source[1:]
    if source.startswith("/") or docker_options.has_expansion(source[:1]) or _VOLUME_NAME.fullmatch(source):
        return source
    if directory and (first in (".", "..") or ("/" in source and not first.startswith("~"))):
        return posixpath.normpath(posixpath.join(directory, source))
    raise JobFault("mounts: no host path", "give an absolute path", where=where, found=docker_options.shown(source))


def _check(value: str, where: str) -> None:
    """Refuse the value of a ``-v`` that Docker would not take."""
    parts = value.split(":")
    target = parts[1] if len(parts) > 1 else parts[0]
    if len(parts) > 3 or not (target.startswith("/") or docker_options.has_expansion(target)):
        found = docker_options.shown(value)
        raise JobFault("mounts: no mount point", "give /host/path:/container/path[:mode]", where=where, found=found)


def _wanted(key: str, source: str, where: str, directory: str) -> Mount:
    target, _colon, mode = docker_options.expandable(key, where).partition(":")
    hidden = _host_path(docker_options.expandable(source, where), where, directory)
    if not (target.startswith("/") or docker_options.has_expansion(target[:1])) or clean(target) == "/":
        raise JobFault("mounts: no mount point", "give an absolute path inside the container, not /", where=where, found=key)
    if mode and not _MODE.fullmatch(mode):
        raise JobFault("mounts: no mode of a mount", "give one such as ro or rw,z", where=where, found=mode)
    if not source or ":" in hidden:
        raise JobFault("mounts: no host path", "give a path without a colon", where=where, found=source)
    return Mount(clean(target), clean(hidden) if hidden.startswith("/") else hidden, mode)


def _dropped(mount: Mount, reason: str) -> Dropped:
    return Dropped(docker_options.shown(mount.target), docker_options.shown(mount.source), reason)
