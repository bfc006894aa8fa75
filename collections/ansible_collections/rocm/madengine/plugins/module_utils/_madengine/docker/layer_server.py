# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A root process that hands the daemon's layer files to a child that is the job's user.

Root reads and nothing else; the store is written by the user. The two speak over a socket pair: a line of JSON asks, frames
of a length and that many bytes answer, a frame of length 0 ends the answer, and one marked as a failure says why there is
none.

The socket's buffers stay as they are: larger ones were slower (measured, 0.5 to 8 MiB; the bytes then leave the CPU's cache
on their way).

Source: architecture.md, "Identities".
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import struct
from functools import partial
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Protocol, cast

from ..core import process
from ..core.errors import NodeFault
from . import daemon, layerdb
from .layerdb import Unexpected

_FAILED = 1 << 31
_LONGEST_FRAME = 4 << 20
_LONGEST_QUESTION = 4096


class Source(Protocol):
    """Where an image's config and layers can be read without ``docker save``; each method may raise `graph.Unexpected`."""

    def config(self, image_id: str) -> bytes: ...

    def sizes(self, image_id: str) -> List[int]: ...

    def length(self, image_id: str, index: int) -> int: ...

    def layer(self, image_id: str, index: int) -> Iterator[bytes]: ...

    def documents(self, image_id: str) -> List[bytes]: ...

    def packed(self, image_id: str, index: int) -> Iterator[bytes]: ...


def source_of(driver: str, root_dir: str, is_containerd_store: bool) -> Optional[Source]:
    """Return what reads the files of a daemon of this node, or None if they are of an unknown kind or not for this user."""
    if is_containerd_store:
        return layerdb.ContentStore((daemon.containerd_root(), os.path.join(root_dir, "containerd", "daemon")))
    is_ours = driver == "overlay2" and os.access(os.path.join(root_dir, "image", driver), os.R_OK | os.X_OK)
    return layerdb.GraphDriverLayers(root_dir, driver) if is_ours else None


def start(docker_socket: str) -> int:
    """Start the reader in a process of its own; it ends when nobody holds the other end any more.

    :returns: a descriptor for `LayerClient`: the child that becomes the user keeps it, this process closes it.
    """
    ours, theirs = socket.socketpair()
    kept = {ours.fileno()}
    # A grandchild: nobody needs to wait for it. A peer's connection that it held open would look alive when the hook is dead.
    pid = process.fork(lambda: min(0, process.fork(lambda: _live(ours, docker_socket), kept)))
    ours.close()
    os.waitpid(pid, 0)
    return theirs.detach()


class LayerClient:
    """A `Source` at the other end of a descriptor that `start` gave; it owns the descriptor from now on."""

    def __init__(self, handle: int) -> None:
        self._socket = socket.socket(fileno=handle)
        self._stream = cast(IO[bytes], self._socket.makefile("rb", buffering=1 << 20))

    def config(self, image_id: str) -> bytes:
        return b"".join(self._ask(ask="config", image=image_id))

    def sizes(self, image_id: str) -> List[int]:
        return [int(size) for size in json.loads(b"".join(self._ask(ask="sizes", image=image_id)))]

    def length(self, image_id: str, index: int) -> int:
        return int(b"".join(self._ask(ask="length", image=image_id, index=index)))

    def layer(self, image_id: str, index: int) -> Iterator[bytes]:
        return self._ask(ask="layer", image=image_id, index=index)

    def documents(self, image_id: str) -> List[bytes]:
        return [base64.b64decode(each) for each in json.loads(b"".join(self._ask(ask="documents", image=image_id)))]

    def packed(self, image_id: str, index: int) -> Iterator[bytes]:
        return self._ask(ask="packed", image=image_id, index=index)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _ask(self, **question: Any) -> Iterator[bytes]:
        try:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            yield from _answer(self._stream)
        except (OSError, struct.error) as error:
            raise Unexpected(f"the reader is gone: {error}") from error


def serve(peer: socket.socket, local: Callable[[], Optional[Source]]) -> None:
    """Answer the questions that come over *peer* until it is closed.

    :param local: finds the source when the first question comes.
    """
    source: Optional[Source] = None
    with peer.makefile("rb") as questions:
        for line in iter(lambda: questions.readline(_LONGEST_QUESTION), b""):
            try:
                source = source or local()
                for chunk in _answered(source, json.loads(line)):
                    _send(peer, len(chunk), chunk)
                _send(peer, 0, b"")
            except (Unexpected, ValueError, LookupError, TypeError) as error:
                reason = str(error).encode("utf-8", "replace")[:1000]
                _send(peer, len(reason) | _FAILED, reason)


def _answered(source: Optional[Source], question: Dict[str, Any]) -> Iterator[bytes]:
    if source is None:
        raise Unexpected("the daemon keeps its layers in a way that is not known here")
    image_id = str(question["image"])
    if question["ask"] in ("layer", "packed"):
        layer = source.packed if question["ask"] == "packed" else source.layer
        return layer(image_id, int(question["index"]))
    if question["ask"] == "documents":
        return iter([json.dumps([base64.b64encode(each).decode() for each in source.documents(image_id)]).encode()])
    if question["ask"] == "sizes":
        return iter([json.dumps(source.sizes(image_id)).encode()])
    if question["ask"] == "length":
        return iter([b"%d" % source.length(image_id, int(question["index"]))])
    return iter([source.config(image_id)])


def _answer(stream: IO[bytes]) -> Iterator[bytes]:
    while True:
        (length,) = struct.unpack("!I", stream.read(4))
        if length == 0:
            return
        data = stream.read(min(length & ~_FAILED, _LONGEST_FRAME))
        if length & _FAILED:
            raise Unexpected(data.decode("utf-8", "replace"))
        if len(data) != length:
            raise Unexpected("the reader broke off")
        yield data


def _send(peer: socket.socket, length: int, data: bytes) -> None:
    peer.sendall(struct.pack("!I", length))
    if data:  # who has read the end of an answer may have gone
        peer.sendall(data)


def _live(ours: socket.socket, docker_socket: str) -> int:
    """Be the reader: the end of the questions is the end."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve(ours, partial(_local, docker_socket))
    return 0


def _local(docker_socket: str) -> Optional[Source]:
    """Return the source for the daemon behind a socket, asked by root itself: the user's word would be a path of his choice."""
    # Neither through the SDK nor through http.client: their imports would take longer than many a publication.
    try:
        return source_of(*daemon.info(docker_socket).storage)
    except NodeFault:
        return None
