# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What root finds out by itself about the parts of this node: nothing that a user wrote, or a user's process said, counts.

A fault of the node is noticed where a user's files, a registry's words or a share's errors are at work. So before a node
leaves service for it, root looks: one plain request to the Docker socket, one write of its own on each local disk, one
reading of the key.

Source: architecture.md, "Fault policy".
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from typing import Callable, Dict, Iterator, Tuple

from ..core import process
from ..core.errors import Fault, JobFault, NodeFault, Part
from ..docker import daemon
from ..peers import credential
from . import job_state, workspace
from .config import Site

LEAST_DOCKER_BYTES, LEAST_BYTES = 1 << 30, 16 << 20
_WRITTEN_BYTES = 1 << 20
_KEY_SECONDS = 60.0
_OWN_DOCKER = "start your own Docker on every node of the job (`systemctl --user start docker`), and let it linger"


@contextlib.contextmanager
def own_docker(site: Site) -> Iterator[None]:
    """Make a fault of a daemon that is its user's own the job's, before the other nodes hear of it: root need not look."""
    try:
        yield
    except NodeFault as fault:
        if not _is_of_own_docker(site, fault):
            raise
        raise _of_the_job(fault, _OWN_DOCKER) from fault


class NodeProbe:
    """This node's parts, as root finds them; each is looked at once.

    :param site: where the parts are.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: Dict[Part, str] = {}
        self._looks: Dict[Part, Callable[[], None]] = {Part.DOCKER: self._docker, Part.DISK: self._disk, Part.KEY: self._key}

    def judged(self, fault: Fault) -> Fault:
        """Return *fault* if it is none of a part of the node, or root finds that part broken, too; else the job's own fault."""
        if not isinstance(fault, NodeFault) or fault.part not in self._looks:
            return fault
        if _is_of_own_docker(self._site, fault):
            return _of_the_job(fault, _OWN_DOCKER)
        part = str(fault.part)
        if self.finds(Part(part)):
            return fault
        return _of_the_job(
            fault, f"look at what the job brings along: its files, its settings and its image; root finds this node's {part} well"
        )

    def finds(self, part: Part) -> str:
        """Return what is wrong with *part*, or ""."""
        if part not in self._known:
            self._known[part] = _reason(self._looks[part])
        return self._known[part]

    def _docker(self) -> None:
        if not self._site.has_own_dockers:
            daemon.ask(self._socket())

    def _disk(self) -> None:
        for path, least in self._disks():
            with contextlib.suppress(FileNotFoundError):
                _require(path, least)

    def _disks(self) -> Iterator[Tuple[str, int]]:
        yield job_state.BASE, LEAST_BYTES
        yield workspace.BASE, LEAST_BYTES
        # Root writes nowhere because a user's own daemon says so.
        if not self._site.has_own_dockers:
            with contextlib.suppress(NodeFault):
                yield daemon.info(self._socket()).data_dir, LEAST_DOCKER_BYTES

    def _socket(self) -> str:
        is_service_s = "%" in self._site.docker_socket
        return self._site.socket_of(process.named(process.SERVICE)) if is_service_s else self._site.docker_socket

    def _key(self) -> None:
        credential.of(self._site.auth, self._site.key_file, "probe").challenge(_KEY_SECONDS)


def _is_of_own_docker(site: Site, fault: NodeFault) -> bool:
    # A daemon that its user can stop is no part of the node: whoever could drain a node with it would.
    return fault.part == Part.DOCKER and site.has_own_dockers


def _of_the_job(fault: NodeFault, remedy: str) -> JobFault:
    judged = JobFault(fault.what, remedy)
    judged.seen = fault.seen  # not as arguments: a child chooses the names
    return judged


def _reason(look: Callable[[], None]) -> str:
    try:
        look()
    except Fault as fault:
        return str(fault)
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def _require(path: str, least_bytes: int) -> None:
    """Do nothing if there is room below *path*, and a file can be written.

    :raises OSError: there is not, or it cannot.
    """
    status = os.statvfs(path)
    if status.f_bavail * status.f_frsize < least_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.TemporaryFile(dir=path) as stream:
        stream.write(bytes(_WRITTEN_BYTES))
        stream.flush()
        os.fsync(stream.fileno())
