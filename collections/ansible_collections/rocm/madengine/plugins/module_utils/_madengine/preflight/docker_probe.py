# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at one node's Docker: the daemon, where it keeps images, and who may ask it.

As `probes`: nothing is judged.

Source: Docker Engine API v1.41 ("GET /info").
"""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import stat
from typing import Any, Dict, Iterable, Optional, Sequence, Set

from ..core import process
from ..core.errors import Fault, JobFault, NodeFault
from ..docker import daemon
from ..hooks import config

_GIB = 1 << 30


def docker(site: config.Site, users: Sequence[str], seconds: float) -> Dict[str, Any]:
    """Return the daemon's version and image store, and the free space where it keeps and unpacks images.

    :param users: where each has a daemon of their own, that of the first whom this node knows is asked.
    :returns: nothing where it knows none of them.
    :raises NodeFault: it does not answer (part ``docker``).
    """
    path = next(iter(_sockets(site, users).values()), "") if "%" in site.docker_socket else site.docker_socket
    if not path:
        return {}
    info = daemon.info(path, seconds)
    roots = [daemon.containerd_root(), os.path.join(info.root_dir, "containerd")] if info.is_containerd_store else []
    places = [info.root_dir, docker_temporary(info.root_dir), *roots]
    return {
        "version": info.version,
        "driver": info.driver,
        "is_containerd": info.is_containerd_store,
        "free_gib": free_gib(places),
    }


def docker_temporary(root: str, pid_file: str = "/run/docker.pid", proc: str = "/proc") -> str:
    """Return where the daemon unpacks what it loads: its ``DOCKER_TMPDIR``, or ``tmp`` in its root."""
    with contextlib.suppress(OSError, ValueError):
        with open(pid_file, encoding="ascii") as stream:
            pid = int(stream.read())
        with open(f"{proc}/{pid}/environ", "rb") as environ:
            for pair in environ.read().split(b"\0"):
                if pair.startswith(b"DOCKER_TMPDIR="):
                    return os.fsdecode(pair.partition(b"=")[2])
    return os.path.join(root, "tmp")


def free_gib(paths: Iterable[str]) -> Dict[str, float]:
    """Return the free space of each filesystem that *paths* lie on, under the first path on it; what is not there is left out."""
    free: Dict[str, float] = {}
    filesystems: Set[int] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            device, status = os.stat(path).st_dev, os.statvfs(path)
            if device not in filesystems:
                filesystems.add(device)
                free[path] = status.f_bavail * status.f_frsize / _GIB
    return free


def pigz() -> Dict[str, Any]:
    """Return where the unpacker is that Docker prefers, if there is one."""
    return {"path": shutil.which("unpigz") or ""}


def users(names: Sequence[str], site: config.Site, invoking: str = "") -> Dict[str, Any]:
    """Return who of *names* may use the daemon's socket, which may be another for each.

    :param invoking: one more, who is nobody where this node does not know the name.
    :raises NodeFault: there is no such socket.
    """
    names = list(dict.fromkeys([*names, *([invoking] if invoking else [])]))
    if not names:
        return {"may": [], "barred": [], "unknown": [], "group": ""}
    status = None if "%" in site.docker_socket else _stat_of_socket(site.docker_socket)
    found: Dict[str, Any] = {"may": [], "barred": [], "unknown": [], "group": _group(status.st_gid) if status else ""}
    for name in names:
        try:
            user = process.named(name)
        except JobFault:
            found["unknown"] += [name] if name != invoking else []
        else:
            found["may" if _may_ask(user, site, status) else "barred"].append(name)
    return found


def _stat_of_socket(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise NodeFault("users: no Docker socket", "start docker on this node", path=path, error=error.strerror) from error


def _may_ask(user: process.Account, site: config.Site, status: Optional[os.stat_result]) -> bool:
    with contextlib.suppress(Fault):
        return _may_write(user, status or _stat_of_socket(site.socket_of(user)))
    return False


def _sockets(site: config.Site, names: Iterable[str]) -> Dict[str, str]:
    """Return the socket of each of *names* that this node knows."""
    found = {}
    for name in names:
        with contextlib.suppress(JobFault):
            found[name] = site.socket_of(process.named(name))
    return found


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _may_write(user: process.Account, status: os.stat_result) -> bool:
    if user.uid == status.st_uid:
        return bool(status.st_mode & stat.S_IWUSR)
    if status.st_gid in user.groups:
        return bool(status.st_mode & stat.S_IWGRP)
    return bool(status.st_mode & stat.S_IWOTH)
