# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's own broadcast to all nodes of a job, in pieces that are under way at once.

One sbcast sends a block when every node has said that it has the one before, so most links are idle at any time; and with
its defaults the first node sends each block to eight others. As a chain (width 1) each node sends each byte once, and
pieces that follow each other keep all its links busy. At 16 nodes that takes a third of the time (``make bench-scale``).

Source: sbcast(1) of Slurm 22.05 and 24.11; run from a prolog as the job's user it works in both (measured). In 22.05 the
width is the first node's alone, the others hand on to TreeWidth nodes at once: pieces make that slower (measured).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from dataclasses import dataclass
from typing import IO, Dict, Iterable, Iterator, List, Sequence, Tuple

from ..core import files, process
from ..core.deadline import Deadline
from ..core.errors import Fault, ShareFault

SPOOL = "/var/tmp"  # noqa: S108  a place that every node has; the file's name is made by us and its bytes are verified
STRIPE = 256 << 10  # so many bytes go to one piece, the next to the next: all end at about the same time
MOST_PIECES = 64
_WIDTH_SINCE = (24, 11)
_LONGEST_CHAIN = 32  # nodes; a block's way along a longer one takes longer than sending it twice
_ABSENT = re.compile(r"REQUEST_FILE_BCAST\(([^()\s]+)\): No such file or directory")
_LOOK_SECONDS = 10.0
# What slurmd makes of a namespace that is not there yet (measured with 24.11.5 and 26.05.5).
_CLOSED = "Unknown error 255"
_CLOSED_REMEDY = "where jobs have namespaces of their own (NamespaceType, JobContainerType), set ImageStore, or Transport=registry"
_BLOCKS, _SMALLEST_BLOCK, _LARGEST_BLOCK = 8, 128 << 10, 4 << 20  # of a piece, bytes; each slurmd holds a block of each piece


@dataclass(frozen=True)
class Plan:
    """How a file travels.

    :param pieces: how many are under way at once.
    :param width: to how many others each node hands a block on, or 0 for SLURM's defaults.
    """

    pieces: int = 1
    width: int = 0


def plan(nodes: int, deadline: Deadline, path: str = process.PATH) -> Plan:
    """Return how a file best gets to a job of *nodes* nodes, this one included.

    :param path: where ``sbcast`` is searched.
    """
    if nodes < 3 or _version(deadline, path) < _WIDTH_SINCE:
        return Plan()
    return Plan(pieces=16, width=1) if nodes <= _LONGEST_CHAIN else Plan(pieces=8, width=2)


def targets(target: str, pieces: int) -> List[str]:
    """Return the names of *target*'s pieces on every node."""
    return [f"{target}.{number}" for number in range(pieces)]


def cut(chunks: Iterable[bytes], folder: str, pieces: int) -> List[str]:
    """Write *chunks* into at most *pieces* files of *folder*, one stripe after the other; return those that are not empty.

    :raises ShareFault: they cannot be written.
    """
    names = targets(os.path.join(folder, "piece"), pieces)
    try:
        with contextlib.ExitStack() as stack:
            streams: List[IO[bytes]] = []
            for number, stripe in enumerate(_stripes(chunks)):
                if number < pieces:
                    streams.append(stack.enter_context(open(names[number], "xb", opener=_private)))
                streams[number % pieces].write(stripe)
    except OSError as error:
        remedy = "free space on this node" if files.is_full(error) else "look at this node's disk"
        raise ShareFault("broadcast: cannot write", remedy, path=folder, error=error.strerror or str(error)) from error
    return names[: len(streams)]


@dataclass(frozen=True)
class Striped:
    """What `cut` has written, read where it has arrived: any part of it, without a copy.

    :param names: the pieces, in their order.
    """

    names: Tuple[str, ...]

    def has(self, stop: int) -> bool:
        """Say whether all before *stop* is there."""
        return all(_size(name) >= _share(stop, number, len(self.names)) for number, name in enumerate(self.names))

    def send(self, peer: socket.socket, parts: Iterable[Tuple[int, int]]) -> None:
        """Send the bytes of *parts*, each from its first to before its stop.

        :raises ShareFault: a piece is not there, or not readable.
        """
        with contextlib.ExitStack() as stack:
            streams = self._opened(stack)
            for start, stop in parts:
                for number, offset, length in _parts(start, stop, len(streams)):
                    peer.sendfile(streams[number], offset, length)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the same bytes; whoever reads them proves their digest.

        :raises ShareFault: as `send`.
        """
        with contextlib.ExitStack() as stack:
            streams = self._opened(stack)
            for number, offset, length in _parts(start, stop, len(streams)):
                yield os.pread(streams[number].fileno(), length, offset)

    def _opened(self, stack: contextlib.ExitStack) -> List[IO[bytes]]:
        try:
            return [stack.enter_context(files.opened(name)) for name in self.names]
        except Fault as fault:
            raise ShareFault("broadcast: a piece did not arrive", "share a store", **fault.seen) from fault


def _parts(start: int, stop: int, pieces: int) -> Iterator[Tuple[int, int, int]]:
    """Give piece, offset in it and length of what lies between *start* and *stop*.

    >>> list(_parts(STRIPE - 1, STRIPE + 2, 2))
    [(0, 262143, 1), (1, 0, 2)]
    """
    while start < stop:
        stripe, within = divmod(start, STRIPE)
        length = min(STRIPE - within, stop - start)
        yield stripe % pieces, stripe // pieces * STRIPE + within, length
        start += length


def _share(stop: int, number: int, pieces: int) -> int:
    """Return how many of the first *stop* bytes lie in a piece.

    >>> [_share(2 * STRIPE + 5, number, 2) for number in range(2)]
    [262149, 262144]
    """
    whole, rest = divmod(stop, STRIPE)
    full = whole // pieces + (number < whole % pieces)
    return full * STRIPE + (rest if number == whole % pieces else 0)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return -1


def command(source: str, target: str, job_id: str, width: int = 0) -> List[str]:
    """Return the argument list that puts *source* under *target* on every node of the job."""
    tuned = [f"--treewidth={width}", f"--size={_block_bytes(os.path.getsize(source))}"] if width else []
    return ["sbcast", "--force", f"--jobid={job_id}", *tuned, source, target]


def send(sources: Sequence[str], target: str, job_id: str, deadline: Deadline, width: int = 0, path: str = process.PATH) -> None:
    """Send the pieces of a file to all nodes of the job, this one included, all at once; the acting user owns them there.

    :param sources: the pieces, which arrive as `targets` of *target*.
    :param width: as in `Plan`.
    :raises ShareFault: it did not work; no sbcast is left running.
    """
    commands = [command(*names, job_id, width) for names in zip(sources, targets(target, len(sources)))]
    try:
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(_started(each, path)) for each in commands]
            answers = [_answer(each, deadline) for each in running]
    except FileNotFoundError as error:
        raise ShareFault("broadcast: no sbcast on this node", "install SLURM's client commands, or share a store", job=job_id) from error
    except subprocess.TimeoutExpired as error:
        raise ShareFault("broadcast: the time is up", "share a store, or raise Deadline", job=job_id) from error
    for status, answer in answers:
        if status != 0:
            remedy = _CLOSED_REMEDY if _CLOSED in answer else "read its answer, or share a store"
            raise ShareFault("broadcast: sbcast failed", remedy, job=job_id, target=target, answer=answer)


def without(paths: Sequence[str], source: str, job_id: str, path: str = process.PATH) -> List[str]:
    """Return the job's nodes on which one of the files *paths* is not there, without a word to their prologs, and quickly.

    Each slurmd is asked to create a file below a file. That succeeds nowhere, and why it fails says what is there: "not a
    directory" where the file is, "no such file" where it is not, and anything else says nothing.

    :param paths: files that this node has itself.
    :param source: any small file that the acting user can read.
    :returns: none where sbcast cannot be asked.
    """
    found: List[str] = []
    within = Deadline(_LOOK_SECONDS)
    for name in paths:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            with _started(["sbcast", f"--jobid={job_id}", source, os.path.join(name, "x")], path) as process:
                output, _errors = process.communicate(timeout=max(1.0, within.left()))
            found += _ABSENT.findall(output.decode("utf-8", "replace"))
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def _started(words: Sequence[str], path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for as long as the block lasts: there are several at once."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(words, env=_environment(path), stdin=none, stdout=pipe, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing happens to one that has ended


def _answer(process: subprocess.Popen[bytes], deadline: Deadline) -> Tuple[int, str]:
    output, _errors = process.communicate(timeout=max(1.0, deadline.left()))
    return process.returncode, " ".join(output.decode("utf-8", "replace").split())[-280:]


def _version(deadline: Deadline, path: str) -> Tuple[int, int]:
    """Return sbcast's version, or (0, 0) if it does not say: then nothing is asked of it that is not in all versions."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        with _started(["sbcast", "--version"], path) as process:
            status, answer = _answer(process, deadline)
            found = re.search(r"\b(\d+)\.(\d+)\.", answer)
            return (int(found[1]), int(found[2])) if found and status == 0 else (0, 0)
    return (0, 0)


def _environment(path: str) -> Dict[str, str]:
    return {"PATH": path, "HOME": os.path.expanduser("~"), "LC_ALL": "C.UTF-8"}


def _block_bytes(size_bytes: int) -> int:
    return min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, size_bytes // _BLOCKS))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _stripes(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give *chunks* in stripes, of which only the last may be shorter."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= STRIPE:
            yield bytes(held[:STRIPE])
            del held[:STRIPE]
    if held:
        yield bytes(held)
