# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's Docker daemon as far as a preflight asks it: one answer to ``GET /info`` on a Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Iterator, Set, Union


@contextlib.contextmanager
def daemon(path: Path, document: Union[str, Any], status: int = 200) -> Iterator[str]:
    """Listen at *path* and give each guest *document*; the text ``silence`` lets him wait."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(8)
        thread = threading.Thread(target=_serve, args=(server, document, status))
        thread.start()
        try:
            yield str(path)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextlib.contextmanager
def refusing(path: Path, uid: int) -> Iterator[Set[int]]:
    """Listen at *path*, which is the user's alone, and refuse all; give the uids of who has come."""
    seen: Set[int] = set()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        os.chown(path, uid, -1)
        path.chmod(0o600)
        server.listen(8)
        thread = threading.Thread(target=_refuse, args=(server, seen))
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _refuse(server: socket.socket, seen: Set[int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            guest, _ = server.accept()
            with guest, contextlib.suppress(OSError):  # one that hangs up keeps nobody else from being refused
                seen.add(struct.unpack("3i", guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
                guest.recv(65536)
                guest.sendall(b"HTTP/1.1 500 X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


def _serve(server: socket.socket, document: Union[str, Any], status: int) -> None:
    waiting = []
    with contextlib.suppress(OSError):
        while True:
            guest, _ = server.accept()
            if document == "silence":
                waiting.append(guest)
                continue
            with guest, contextlib.suppress(OSError):
                guest.recv(65536)
                body = (document if isinstance(document, str) else json.dumps(document)).encode()
                guest.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    for guest in waiting:
        guest.close()
