# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be found out about a container and its node: `PROBES` is the list, and a new probe is one entry of it.

Source: results.md, "Diagnose"; proc(5) for ``net/tcp``; the kernel's Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Mapping, Tuple

from ..core.deadline import Deadline
from ..core.text import printable
from ..docker.engine import Engine
from . import log_files

Texts = List[Tuple[str, str]]  # file name → content
LOG_DIRS = ("/run_logs", "/myworkspace")
_LISTENING = "0A"
_KERNEL = re.compile(
    r"amdgpu|kfd|nvidia|NVRM|Xid|mlx5|infiniband|out of memory|oom[-_]|killed process|memory cgroup|pcie.*error|hardware error|segfault",
    re.I,
)


@dataclass(frozen=True)
class Probe:
    """One look at a container, which may fail alone.

    :param name: what the note says where it failed.
    :param look: given the daemon, the document of ``docker inspect`` and how many lines of a log, what it finds.
    :param is_log: whether the cause of a failure may stand in it.
    """

    name: str
    look: Callable[[Engine, Mapping[str, Any], int], Texts]
    is_log: bool = False


def processes(docker: Engine, document: Mapping[str, Any], _lines: int) -> Texts:
    return [("processes.txt", docker.top(str(document["Id"])))]


def sockets(_docker: Engine, document: Mapping[str, Any], _lines: int) -> Texts:
    pid = int((document.get("State") or {}).get("Pid") or 0)
    return [("sockets.txt", listening(pid))] if pid else []


def output(docker: Engine, document: Mapping[str, Any], lines: int) -> Texts:
    return [("output.log", docker.logs(str(document["Id"]), lines))]


def _logs_below(folder: str) -> Probe:
    """Return the probe for the newest logs below *folder*: from the host where it is mounted, else out of the container."""

    def look(docker: Engine, document: Mapping[str, Any], lines: int) -> Texts:
        mounts = {str(mount.get("Destination", "")).rstrip("/"): str(mount.get("Source", "")) for mount in document.get("Mounts") or []}
        if os.path.isdir(mounts.get(folder, "")):
            found = [(path, log_files.tail(path, lines)) for path in log_files.newest_logs(mounts[folder])]
        else:
            with contextlib.closing(docker.files_in(str(document["Id"]), folder)) as pieces:
                found = list(log_files.logs_in(pieces, lines))
        return [(f"logs/{file_name(path)}", text) for path, text in found]

    return Probe(folder, look, is_log=True)


PROBES = (Probe("processes", processes), Probe("sockets", sockets), Probe("output", output, is_log=True), *map(_logs_below, LOG_DIRS))


def listening(pid: int, proc: str = "/proc") -> str:
    """Return the listening TCP sockets of the network namespace that *pid* lives in, a line each."""
    lines = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"{proc}/{pid}/net/{table}", encoding="ascii", errors="replace") as stream:
            rows = (line.split() for line in stream)
            lines += [f"{table:5} {_address(row[1])}  uid {row[7]}" for row in rows if len(row) > 7 and row[3] == _LISTENING]
    return "".join(line + "\n" for line in sorted(set(lines)))


def kernel_lines(path: str = "/dev/kmsg") -> List[str]:
    """Return what the kernel has said of GPUs, the network and memory; nothing if this account may not read it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        records = b"".join(_records(handle, Deadline(5)))
    finally:
        os.close(handle)
    return [_whole(line) for line in records.decode("utf-8", "replace").splitlines() if _KERNEL.search(line)]


def file_name(path: str) -> str:
    """Return a name for *path* that leads nowhere else."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", path.strip("/")).lstrip(".")[-120:] or "_"


def _records(handle: int, deadline: Deadline) -> Iterator[bytes]:
    while not deadline.has_passed():
        try:
            record = os.read(handle, 8192)
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # the oldest records were overwritten while we read
        if not record:
            return
        yield record


def _whole(line: str) -> str:
    """Return one of the kernel's lines without its counters, as text that shows as what it is."""
    text = line.partition(";")[2] or line
    return printable(text[:1000])


def _address(text: str) -> str:
    """Return ``address:port`` of what the kernel writes: words in the machine's byte order, the port in hexadecimal."""
    host, _colon, port = text.partition(":")
    words = [bytes.fromhex(host[place : place + 8])[::-1] for place in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return f"[{address}]:{int(port, 16)}" if address.version == 6 else f"{address}:{int(port, 16)}"
