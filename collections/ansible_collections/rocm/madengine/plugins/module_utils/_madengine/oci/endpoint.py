# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry of one image on this node's loopback, read-only and for as long as one pull lasts.

A pull is the Docker daemon's best-tested path: it fetches and proves the next layers while it unpacks this one, and asks only
for what it lacks. So the daemon gets a registry to pull from: it knows the digests of one image, answers under a name that
nobody can guess, and everything else is 404. The bytes go from the page cache to the socket, and are proved by the daemon.

A daemon tries TLS first. It is answered in plain HTTP: on anything else the containerd store's client gives up, while this
makes it, like the classic one, turn to HTTP (measured, 20.10 and 26.1).

Every user can connect here. Who is not the daemon is sent away before it costs a connection of the daemon's its turn; where
the kernel does not say who it is, it may hold one of `_AT_ONCE` for `_HEAD_SECONDS`.

Source: OCI distribution-spec v1.1, "Pull"; RFC 9110, 14 ("Range Requests"); moby, registry/config.go (127.0.0.0/8 is an insecure
registry by default); containerd, remotes/docker/resolver.go (``HTTPFallback``).
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, Mapping, Optional, Protocol, Tuple

from ..core import files, socket_owner
from ..core.deadline import Deadline
from ..core.errors import Fault
from .turns import Turns

HOST = "127.0.0.1"
_AT_ONCE = 32  # connections; a daemon has three or so, and a stranger may hold some
_BACKLOG = 4096  # a connection that finds no room is tried again after a second
_LONGEST_HEAD = 16 << 10
_HEAD_SECONDS = 10.0
_SEND_SECONDS = 600.0  # a daemon reads no further while its disk is busy
_PIECE_BYTES = 8 << 20  # between two looks at whose turn it is
_TLS = 0x16  # the first byte of a greeting
_FIRST_PAUSE, _LONGER, _LONGEST_PAUSE = 0.001, 1.25, 0.5  # seconds between two looks at a blob that is not there yet
_NO_DESCRIPTOR_SECONDS = 0.005
_PATH = re.compile(r"/v2/([a-z0-9/-]+)/(manifests|blobs)/(sha256:[0-9a-f]{64})")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_REASONS = {200: "OK", 206: "Partial Content", 400: "Bad Request", 404: "Not Found", 416: "Range Not Satisfiable"}


class Content(Protocol):
    """What stands behind a digest."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def media_type(self) -> str: ...

    def is_ready(self) -> bool:
        """Say whether all of it is there."""

    def send(self, peer: socket.socket, parts: Iterable[Tuple[int, int]]) -> None:
        """Send the bytes of *parts*, each from its first to before its stop; the next is asked for when one is sent."""


@dataclass(frozen=True)
class Document:
    """A manifest or a config, held in memory."""

    data: bytes
    media_type: str

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def is_ready(self) -> bool:
        return True

    def send(self, peer: socket.socket, parts: Iterable[Tuple[int, int]]) -> None:
        for start, stop in parts:
            peer.sendall(self.data[start:stop])


@dataclass(frozen=True)
class File:
    """A blob that lies, or will lie, in a file of its own."""

    path: str
    size_bytes: int
    media_type: str

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            # NFS remembers what it has not found until the directory is opened anew.
            os.close(os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            return os.lstat(self.path).st_size == self.size_bytes
        return False

    def send(self, peer: socket.socket, parts: Iterable[Tuple[int, int]]) -> None:
        with files.opened(self.path) as stream:
            for start, stop in parts:
                peer.sendfile(stream, start, stop - start)


class Endpoint:
    """The registry; it listens while the block lasts, on a port that the kernel chooses.

    :param contents: digest → what stands behind it: an image's manifest, its config and its layers, in the order in which the daemon
        has a use for them. Of what it asks for at once, the first is given first.
    :param deadline: until when a blob is waited for that is not there yet; None for not at all.
    :param uids: as whom the daemon may come, if not as root.
    """

    def __init__(self, contents: Mapping[str, Content], deadline: Optional[Deadline] = None, uids: Iterable[int] = (0,)) -> None:
        self._contents, self._deadline, self._uids = contents, deadline, {None, *uids}
        self._ranks, self._turns = {digest: rank for rank, digest in enumerate(contents)}, Turns()
        self._repository = f"madengine/{os.urandom(16).hex()}"
        self._slots, self._is_over = threading.BoundedSemaphore(_AT_ONCE), threading.Event()
        self._listener: Optional[socket.socket] = None
        self.sent: Dict[str, int] = {}  # digest → bytes, of what was asked for
        self.missed: Dict[str, None] = {}  # digests that were asked for and are not there

    def __enter__(self) -> Endpoint:
        self._listener = socket.create_server((HOST, 0), backlog=_BACKLOG)
        threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
            self._listener.close()

    @property
    def name(self) -> str:
        """Return the repository, as ``docker pull`` names it: ``127.0.0.1:<port>/madengine/<32 hex digits>``."""
        if self._listener is None:
            raise AssertionError("a name is for within the block")
        return f"{HOST}:{self._listener.getsockname()[1]}/{self._repository}"

    def _listen(self, listener: socket.socket) -> None:
        while not self._is_over.is_set():
            try:
                peer, _address = listener.accept()
            except OSError:
                if self._is_over.wait(_NO_DESCRIPTOR_SECONDS):
                    return
                continue  # no descriptor was left
            if socket_owner.of_peer(peer) not in self._uids:
                peer.close()
                continue
            self._slots.acquire()
            threading.Thread(target=self._attend, args=(peer,), daemon=True).start()

    def _attend(self, peer: socket.socket) -> None:
        """Answer one request: a connection costs nothing here, and one that is kept could be held by a stranger."""
        try:
            with peer, contextlib.suppress(OSError, Fault):  # the other end is gone, or a blob is
                peer.settimeout(_HEAD_SECONDS)
                self._answer(peer, _head(peer))
        finally:
            self._slots.release()

    def _answer(self, peer: socket.socket, head: str) -> None:
        method, target, fields = _request(head)
        if method not in ("GET", "HEAD"):
            _say(peer, 404 if method else 400)
        elif target == "/v2/":
            _say(peer, 200, {"Docker-Distribution-Api-Version": "registry/2.0"})
        else:
            self._give(peer, target, fields.get("range", ""), method == "GET")

    def _give(self, peer: socket.socket, target: str, wanted: str, has_body: bool) -> None:
        digest = self._digest(target)
        content = self._contents.get(digest)
        if content is None or not is_ready(content, self._deadline, self._is_over.wait):
            if digest:
                self.missed[digest] = None
            _say(peer, 404)
            return
        size_bytes = content.size_bytes
        start, stop = _range(wanted, size_bytes)
        if stop < start:
            _say(peer, 416, {"Content-Range": f"bytes */{size_bytes}"})
            return
        fields = {"Content-Type": content.media_type, "Docker-Content-Digest": digest, "Accept-Ranges": "bytes"}
        if stop - start < size_bytes:
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
        _say(peer, 206 if stop - start < size_bytes else 200, fields, stop - start)
        if has_body:
            self.sent[digest] = self.sent.get(digest, 0) + stop - start
            peer.settimeout(_SEND_SECONDS)
            with self._turns.of(self._ranks[digest]) as wait:
                content.send(peer, _pieces(start, stop, wait))

    def _digest(self, target: str) -> str:
        match = _PATH.fullmatch(target)
        return match[3] if match and hmac.compare_digest(match[1], self._repository) else ""


def is_ready(content: Content, deadline: Optional[Deadline], rest: Callable[[float], Optional[bool]]) -> bool:
    """Say whether *content* is there, now or by *deadline*; a share tells nobody of a new file, so it is looked for.

    :param deadline: None for not waiting at all.
    :param rest: spends some seconds, and says whether nobody waits any more.
    """
    pause = _FIRST_PAUSE
    while not content.is_ready():
        if deadline is None or deadline.has_passed() or rest(pause):
            return False
        pause = min(pause * _LONGER, _LONGEST_PAUSE)
    return True


def rested(seconds: float) -> bool:
    """Spend *seconds*, for whoever waits whatever happens."""
    time.sleep(seconds)
    return False


def _head(peer: socket.socket) -> str:
    """Return a request's lines, or nothing if they are none: TLS, no HTTP, too long."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = peer.recv(_LONGEST_HEAD)
        data += chunk
        if not chunk or data[0] == _TLS or len(data) > _LONGEST_HEAD:
            return ""
    return data.partition(b"\r\n\r\n")[0].decode("latin-1")


def _request(head: str) -> Tuple[str, str, Dict[str, str]]:
    """Return method, path and fields of a request; no method if it is none."""
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", "", {}
    return words[0], words[1], dict(_fields(lines))


def _fields(lines: list[str]) -> Iterator[Tuple[str, str]]:
    for line in lines:
        name, _colon, value = line.partition(":")
        yield name.strip().lower(), value.strip()


def _range(wanted: str, size_bytes: int) -> Tuple[int, int]:
    """Return the bytes that are asked for, from the first to behind the last; behind before the first if there are none.

    >>> _range("bytes=2-", 10), _range("bytes=2-3", 10), _range("", 10), _range("bytes=10-", 10)
    ((2, 10), (2, 4), (0, 10), (10, 0))
    """
    match = _RANGE.fullmatch(wanted)
    if not match:
        return 0, size_bytes
    start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else size_bytes, size_bytes)
    return (start, stop) if start < stop else (start, 0) if start else (1, 0)


def _pieces(start: int, stop: int, wait: Callable[[], None]) -> Iterator[Tuple[int, int]]:
    """Give the parts of what lies between *start* and *stop*, each when its turn has come."""
    for at in range(start, stop, _PIECE_BYTES):
        wait()
        yield at, min(at + _PIECE_BYTES, stop)


def _say(peer: socket.socket, status: int, fields: Optional[Mapping[str, str]] = None, length: int = 0) -> None:
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in (fields or {}).items())]
    peer.sendall("\r\n".join([*lines, f"Content-Length: {length}", "Connection: close", "", ""]).encode("latin-1"))
