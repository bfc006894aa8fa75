# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One plain question to the local Docker daemon, without the SDK and without anybody's configuration.

It is what root believes of Docker, and what is asked where the SDK's import would take longer than the work.

Source: Docker Engine API v1.41, ``GET /_ping`` and ``GET /info``; HTTP/1.0, whose answer ends with the connection.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ..core import files
from ..core.deadline import Deadline
from ..core.errors import JobFault, NodeFault, Part

SECONDS = 10.0
_CONTAINERD, _CONTAINERD_SOCKET = "/var/lib/containerd", "/run/containerd/containerd.sock"
_CONTAINERD_CONFIG = "/etc/containerd/config.toml"
_CONTAINERD_ROOT = re.compile(r"""\s*root\s*=\s*(["'])(.*?)\1""")
_LARGEST_ANSWER = 4 << 20
_CHUNK_BYTES = 64 << 10
_REMEDY = "start docker on this node, and read `journalctl -u docker` if it does not stay up"


@dataclass(frozen=True)
class Info:
    """What matters of ``docker info``."""

    version: str
    driver: str
    root_dir: str
    is_containerd_store: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Info:
        kinds = dict(pair for pair in document.get("DriverStatus") or [] if len(pair) == 2)
        containerd = str(kinds.get("driver-type", "")).startswith("io.containerd.snapshotter")
        return cls(str(document.get("ServerVersion")), str(document.get("Driver")), str(document.get("DockerRootDir")), containerd)

    @property
    def takes_zstd(self) -> bool:
        """Whether ``docker load`` takes layers that are packed with zstd: the classic store since 23.0, containerd's always."""
        major = self.version.partition(".")[0]
        return self.is_containerd_store or (major.isdigit() and int(major) >= 23)

    @property
    def data_dir(self) -> str:
        """Return where the daemon of this node keeps its images: its own directory, or that of a containerd which it has found."""
        is_found = self.is_containerd_store and os.path.exists(_CONTAINERD_SOCKET)  # as dockerd itself decides
        return containerd_root() if is_found else self.root_dir

    @property
    def storage(self) -> Tuple[str, str, bool]:
        """Return what `layer_server.source_of` wants to know."""
        return self.driver, self.root_dir, self.is_containerd_store


def containerd_root(path: str = _CONTAINERD_CONFIG) -> str:
    """Return where this node's own containerd keeps its files, or where its configuration has moved them to.

    Source: containerd-config.toml(5), ``root``.
    """
    lines: List[str] = []
    with contextlib.suppress(JobFault):
        lines = files.read(os.path.realpath(path), 1 << 20).decode("ascii", "replace").splitlines()
    return next((match.group(2) for match in map(_CONTAINERD_ROOT.match, lines) if match), _CONTAINERD)


def info(path: str, seconds: float = SECONDS) -> Info:
    """Return how the daemon behind the socket *path* stores images.

    :raises NodeFault: it does not answer, or nothing useful (part ``docker``).
    """
    return Info.of(document(path, seconds))


def document(path: str, seconds: float = SECONDS) -> Dict[str, Any]:
    """Return all of ``docker info``; faults as `info`."""
    try:
        found = json.loads(ask(path, "/info", seconds))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NodeFault("docker: no useful answer", _REMEDY, part=Part.DOCKER, socket=path)
    return found


def ask(path: str, what: str = "/_ping", seconds: float = SECONDS) -> bytes:
    """Return the body of the daemon's answer to ``GET`` *what*.

    :param seconds: for all of it, however slowly it comes.
    :raises NodeFault: it does not answer, or not with 200 (part ``docker``).
    """
    deadline, answer = Deadline(seconds), bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(max(0.001, deadline.left()))
            peer.connect(path)
            peer.sendall(f"GET {what} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            while len(answer) <= _LARGEST_ANSWER:
                peer.settimeout(max(0.001, deadline.left()))
                chunk = peer.recv(_CHUNK_BYTES)
                if not chunk:
                    break
                answer += chunk
    except OSError as error:
        raise _silent(path, error.strerror or str(error) or type(error).__name__) from error
    head, _blank, body = bytes(answer).partition(b"\r\n\r\n")
    status = b"".join(head.split(None, 2)[1:2]).decode("ascii", "replace")[:20]
    if status != "200":
        raise NodeFault("docker: no useful answer", _REMEDY, part=Part.DOCKER, socket=path, status=status)
    return body


def _silent(path: str, reason: str) -> NodeFault:
    return NodeFault("docker: no answer", _REMEDY, part=Part.DOCKER, socket=path, error=reason)
