# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the site has decided: ``/etc/madengine/hooks.conf``, in SLURM's own style.

``Key=Value`` a line, keys in any case, ``#`` begins a comment. A key that nobody knows or a value that means nothing
is an error for `parse` when *strict* (preflight, the role) and a warning beside the default otherwise: a typing
mistake in a configuration must not keep a cluster's jobs from starting.

Source: slurm.conf(5), "DESCRIPTION", for the syntax.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ..core import files, process
from ..core.errors import JobFault, Part
from ..images import conflict, transports
from ..manifest import environment
from ..oci import patterns
from ..oci.image import Reference
from ..peers import addresses, reserved

PATH = "/etc/madengine/hooks.conf"
DISABLED = "/etc/madengine/disabled"
_LARGEST_BYTES = 1 << 20

Names = Tuple[str, ...]


def _yes(text: str) -> bool:
    return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}[text.lower()]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86400:
        raise ValueError(text)
    return seconds


def _ports(text: str) -> Tuple[int, int]:
    low, dash, high = text.partition("-")
    ports = int(low), int(high if dash else low)
    if not 1 <= ports[0] <= ports[1] <= 65535 or reserved.is_reserved(ports[0]) != reserved.is_reserved(ports[1]):
        raise ValueError(text)
    return ports


def _names(text: str) -> Names:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _patterns(text: str) -> Names:
    found = _names(text)
    if not all(map(patterns.can_match, found)):
        raise ValueError(text)
    return found


def _words(text: str) -> Names:
    words = _names(text)
    try:
        environment.choose(*environment.split(words))
    except JobFault as fault:  # known here, it is a warning in the journal; later it would fail users' jobs
        raise ValueError(text) from fault
    return words


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(text)
    return text


def _socket(text: str) -> str:
    if not text.startswith("/") or re.search("%(?![uU])", text):
        raise ValueError(text)
    return text


def _program(text: str) -> str:
    if not text.startswith("/") or len(text.split()) > 1:  # the gates, which are shell, read it too
        raise ValueError(text)
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def choose(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(text)
        return text.lower()

    return choose


def _any_of(*choices: str) -> Callable[[str], Names]:
    def choose(text: str) -> Names:
        names = tuple(name.lower() for name in _names(text))
        if not set(names) <= set(choices):
            raise ValueError(text)
        return names

    return choose


def _key(name: str, read: Callable[[str], Any], expected: str, lenient: Optional[Callable[[str], Any]] = None) -> Dict[str, Any]:
    """Return what the table says of a key.

    :param lenient: reads a value that *read* refuses, where the default would allow what the site has meant to forbid.
    """
    return {"key": name, "read": read, "expected": expected, "lenient": lenient}


@dataclass(frozen=True)
class Site:
    """The one table of settings: the key in the file, how it is read, its default, and what a value may be."""

    enabled: bool = field(default=True, metadata=_key("Enabled", _yes, "yes or no"))
    image_store: str = field(default="", metadata=_key("ImageStore", _path, "an absolute path, or nothing"))
    transport: str = field(
        default=transports.AUTO,
        metadata=_key("Transport", _one_of(*transports.NAMES), f"{', '.join(transports.NAMES[:-1])} or {transports.NAMES[-1]}"),
    )
    compression: str = field(default="none", metadata=_key("Compression", _one_of("none", "gzip", "zstd"), "none, gzip or zstd"))
    docker_socket: str = field(
        default="/run/docker.sock", metadata=_key("DockerSocket", _socket, "an absolute path, with %u or %U for a user's name or number")
    )
    docker_access: str = field(default="user", metadata=_key("DockerAccess", _one_of("user", "service"), "user or service"))
    allow_images: Names = field(
        default=("*",), metadata=_key("AllowImages", _patterns, "patterns of image names, separated by commas", _names)
    )
    on_conflict: str = field(default=conflict.NEWEST, metadata=_key("OnConflict", _one_of(*conflict.POLICIES), "newest, leader or fail"))
    default_registry: bool = field(default=True, metadata=_key("DefaultRegistry", _yes, "yes or no"))
    allow_build: bool = field(default=True, metadata=_key("AllowBuild", _yes, "yes or no"))
    deadline_seconds: float = field(default=600.0, metadata=_key("Deadline", _seconds, "seconds, more than 0 and less than a day"))
    port_range: Tuple[int, int] = field(
        default=addresses.PORTS, metadata=_key("PortRange", _ports, "two ports, both of 1-1023 or both of 1024-65535, such as 288-307")
    )
    arrival_grace_seconds: float = field(default=60.0, metadata=_key("ArrivalGrace", _seconds, "seconds, more than 0 and less than a day"))
    key_file: str = field(default="", metadata=_key("KeyFile", _path, "an absolute path, or nothing"))
    auth: str = field(default="key", metadata=_key("Auth", _one_of("key", "munge"), "key or munge"))
    drain_on: Names = field(default=("docker",), metadata=_key("DrainOn", _any_of(*Part, "none"), "docker, disk and key, or none"))
    pass_env: Names = field(default=(), metadata=_key("PassEnv", _words, "names, patterns or @groups; a leading - takes one away"))
    results_policy: str = field(default="richest", metadata=_key("ResultsPolicy", _one_of("richest", "merge"), "richest or merge"))
    results_wait_seconds: float = field(default=10.0, metadata=_key("ResultsWait", _seconds, "seconds, more than 0 and less than a day"))
    keep_workspace: bool = field(default=False, metadata=_key("KeepWorkspace", _yes, "yes or no"))
    metrics_dir: str = field(default="", metadata=_key("MetricsDir", _path, "an absolute path, or nothing"))
    log_level: str = field(default="info", metadata=_key("LogLevel", _one_of("error", "info", "debug"), "error, info or debug"))
    python: str = field(default="/usr/bin/python3", metadata=_key("Python", _program, "the absolute path of a Python 3.9 or newer"))
    slurm_dir: str = field(default="", metadata=_key("SlurmDir", _path, "an absolute path, or nothing"))
    warnings: Names = ()

    def allows(self, reference: str) -> bool:
        """Say whether ``AllowImages`` lets a job use *reference*."""
        return any(patterns.matches(pattern, Reference.parse(reference)) for pattern in self.allow_images)

    @property
    def has_own_dockers(self) -> bool:
        """Whether each user's jobs have that user's own daemon: none of this node's, and no more to be believed than the user."""
        return "%" in self.docker_socket and self.docker_access == "user"

    def socket_of(self, account: process.Account) -> str:
        """Return where Docker listens for *account*: the one who may ask Docker for a job.

        :raises JobFault: the account's name cannot stand in a path.
        """
        if "/" in account.name:
            raise JobFault("config: a name that is no part of a path", "use %U in DockerSocket", name=account.name)
        return self.docker_socket.replace("%u", account.name).replace("%U", str(account.uid))


_KEYS = {item.metadata["key"].lower(): item for item in dataclasses.fields(Site) if item.metadata}
KEYS = tuple(item.metadata["key"] for item in _KEYS.values())


def read(path: str = PATH) -> Site:
    """Return the settings in *path*, with a warning for whatever in it could not be used; never fails."""
    try:
        text = files.read(path, _LARGEST_BYTES).decode("utf-8-sig", "replace")
    except JobFault as fault:
        return Site(warnings=(f"{fault}; the defaults hold",))
    return parse(text, path)


def parse(text: str, where: str = PATH, strict: bool = False) -> Site:
    """Return the settings that *text* holds.

    :param strict: raise for the first thing that cannot be used, instead of noting it in ``warnings``.
    :raises JobFault: *strict*, and a key is unknown or a value is not what is expected.

    >>> parse("Deadline=20 # seconds").deadline_seconds
    20.0
    """
    values: Dict[str, Any] = {}
    warnings: List[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            name, value = _setting(content, f"{where}:{number}")
        except JobFault as fault:
            if strict:
                raise
            warnings.append(str(fault))
            values.update(_lenient(content))
        else:
            values[name] = value
    return Site(**values, warnings=tuple(warnings))


def render(settings: Mapping[str, Any]) -> str:
    """Return what a file must hold so that `parse` finds *settings* in it, in the order of the table.

    :param settings: by key; a truth value, a number, a text, or a list of texts.
    :raises JobFault: a key is unknown or given twice, or a value is not what is expected.

    >>> render({"deadline": 20, "DrainOn": ["docker", "disk"]})
    'Deadline=20\\nDrainOn=docker,disk\\n'
    """
    lines: Dict[str, str] = {}
    for key, value in settings.items():
        item = _known(str(key), "settings")
        known = item.metadata["key"]
        if known in lines:
            raise JobFault("config: a key is given twice", "give each key once", key=known, place="settings")
        text = _text(value)
        if text is None:
            raise _refused(item, known, str(value), "settings")
        _value(item, known, text, "settings")
        lines[known] = f"{known}={text}\n"
    return "".join(lines[known] for known in KEYS if known in lines)


def settings_of(site: Site) -> Dict[str, Any]:
    """Return what holds for each key, given or by default, as JSON knows it."""
    found = {item.metadata["key"]: getattr(site, item.name) for item in _KEYS.values()}
    found["PortRange"] = "{}-{}".format(*site.port_range)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def _text(value: Any) -> Optional[str]:
    """Return *value* as it stands in the file, or None if it cannot."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        parts = [_text(part) for part in value]
        return None if any(part is None or "," in part for part in parts) else ",".join(map(str, parts))
    if not isinstance(value, (str, int, float)):
        return None
    text = str(value).strip()
    return None if "#" in text or len(text.splitlines()) > 1 else text


def _setting(content: str, place: str) -> Tuple[str, Any]:
    key, equals, value = (part.strip() for part in content.partition("="))
    item = _known(key, place)
    if not equals:
        raise JobFault("config: a key without a value", "write Key=Value", key=key, place=place)
    return item.name, _value(item, key, value, place)


def _lenient(content: str) -> Dict[str, Any]:
    """Return what of a refused line holds nevertheless."""
    key, _equals, value = (part.strip() for part in content.partition("="))
    item = _KEYS.get(key.lower())
    return {item.name: item.metadata["lenient"](value)} if item is not None and item.metadata["lenient"] else {}


def _known(key: str, place: str) -> dataclasses.Field[Any]:
    item = _KEYS.get(key.lower())
    if item is None:
        raise JobFault("config: unknown key", f"use one of {' '.join(KEYS)}", key=key, place=place)
    return item


def _value(item: dataclasses.Field[Any], key: str, text: str, place: str) -> Any:
    try:
        return item.metadata["read"](text)
    except (ValueError, KeyError):
        raise _refused(item, key, text, place) from None


def _refused(item: dataclasses.Field[Any], key: str, value: str, place: str) -> JobFault:
    return JobFault("config: not a value for this key", f"give {item.metadata['expected']}", key=key, value=value, place=place)
