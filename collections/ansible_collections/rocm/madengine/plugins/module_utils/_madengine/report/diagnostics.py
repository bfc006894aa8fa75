# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a job's containers failed, for a person to read: what ran, what listened, how it ended, what it said last.

Best effort within bounds: each probe has its own time limit and may fail alone, sizes are capped, secrets are masked.
Containers are looked at and never changed.

Source: results.md, "Diagnose"; proc(5) for ``net/tcp``; the kernel's Documentation/ABI/testing/dev-kmsg.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import tarfile
import threading
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..core import files
from ..core.deadline import Deadline
from ..core.errors import Fault, ShareFault
from ..core.text import printable
from ..docker.engine import Engine
from ..manifest.quoting import all_masked, masked, secrets_in
from ..results.csv_score import plain
from . import log_errors

LINES = 200
PROBE_SECONDS = 10.0
LOG_PLACES = ("/run_logs", "/myworkspace")
_MOST_CONTAINERS = 16
_MOST_LOGS = 12
_MOST_FAILURES = 20
_MOST_ENTRIES = 5000
_MOST_KERNEL_LINES = 50
_TAIL_BYTES = 1 << 20
_ARCHIVE_BYTES = 64 << 20
_LONGEST_TEXT = 4 << 20
_LISTENING = "0A"
_KERNEL = re.compile(
    r"amdgpu|kfd|nvidia|NVRM|Xid|mlx5|infiniband|out of memory|oom[-_]|killed process|memory cgroup|pcie.*error|hardware error|segfault",
    re.I,
)


def diagnose(
    docker: Engine,
    dest: str,
    job_id: str = "",
    container: str = "",
    lines: int = LINES,
    probe_seconds: float = PROBE_SECONDS,
    benign: Sequence[str] = (),
    secrets: Sequence[str] = (),
) -> Dict[str, Any]:
    """Write what can be found out about a job's containers, or about one, to *dest*; they are left as they are.

    :param job_id: whose containers; or
    :param container: the id or name of one.
    :param lines: how much of the end of each log.
    :param benign: as `log_errors.lines_of` takes them.
    :param secrets: values that must not be shown, beside those in the containers' environment.
    :returns: ``{summary, containers: [{id, name, image, status, exit_code, oom_killed, error, cause, failures}], files, notes}``:
        *cause* the line that names the root cause, *files* relative to *dest*, *notes* what could not be found out and why.
    :raises ShareFault: *dest* cannot be written.
    """
    case = _Case(docker, dest, lines, probe_seconds, benign, secrets)
    with _explained(dest):
        os.makedirs(dest, mode=0o700, exist_ok=True)  # masking is best effort
        found = case.probe("containers", lambda: _containers(docker, job_id, container)) or []
        kernel = case.probe("kernel", kernel_lines) or []
        described = [case.container(document, kernel) for document in found[:_MOST_CONTAINERS]]
        case.keep("kernel.txt", "".join(line + "\n" for line in kernel[-_MOST_KERNEL_LINES:]))
        answer = {"summary": _summary(described, case.notes), "containers": described, "files": sorted(case.files), "notes": case.notes}
        answer = case.masked(answer)
        files.write(os.path.join(dest, "summary.json"), json.dumps(answer, indent=1) + "\n", 0o600)
    return answer


class _Case:
    """One look at a job: what was written so far, and what could not be."""

    def __init__(
        self, docker: Engine, dest: str, lines: int, seconds: float, benign: Sequence[str] = (), secrets: Sequence[str] = ()
    ) -> None:
        self._docker, self._dest, self._lines, self._seconds = docker, dest, max(1, lines), seconds
        self.files: List[str] = []
        self.notes: List[str] = []
        self._secrets: List[str] = list(secrets)
        self._benign = tuple(benign)

    def container(self, document: Mapping[str, Any], kernel: Sequence[str] = ()) -> Dict[str, Any]:
        """Look at one container from all sides."""
        name, container_id = _name_of(document), str(document["Id"])
        settings = document.get("Config") or {}
        self._secrets += secrets_in(settings.get("Env") or [])
        state = state_of(document, kernel)
        self.keep(f"{name}/state.json", json.dumps({**state, **_shape_of(document)}, indent=1) + "\n")
        self.keep(f"{name}/processes.txt", self.probe(f"{name}: processes", lambda: self._docker.top(container_id)))
        pid = int((document.get("State") or {}).get("Pid") or 0)
        self.keep(f"{name}/sockets.txt", self.probe(f"{name}: sockets", lambda: listening(pid)) if pid else "")
        said = self.probe(f"{name}: output", lambda: self._docker.logs(container_id, self._lines)) or ""
        self.keep(f"{name}/output.log", said)
        tails = [said]
        for place in LOG_PLACES:
            for path, tail in self.probe(f"{name}: {place}", lambda place=place: self._logs(document, place)) or []:  # type: ignore[misc]
                self.keep(f"{name}/logs/{_file_name(path)}", tail)
                tails.append(tail)
        signs = list(dict.fromkeys(line for tail in tails for line in log_errors.lines_of(tail.splitlines(), self._benign)))
        shown = [plain(masked(line, self._secrets)) for line in (log_errors.cause(signs), *signs[-_MOST_FAILURES:])]
        return {**state, "cause": shown[0], "failures": shown[1:]}

    def masked(self, answer: Dict[str, Any]) -> Dict[str, Any]:
        """Return *answer* without any secret that this case knows by its value."""
        return {key: all_masked(value, self._secrets) for key, value in answer.items()}

    def probe(self, what: str, look: Callable[[], Any]) -> Any:
        """Return what *look* finds within its time, or None and a note."""
        try:
            return within(self._seconds, look)
        except Fault as fault:
            self.notes.append(plain(f"{what}: {fault.what}"))
        except Exception as error:  # a probe that fails must not keep the others from looking
            self.notes.append(plain(f"{what}: {type(error).__name__}: {error}"))
        return None

    def keep(self, name: str, text: Optional[str]) -> None:
        """Write *text* down, masked and bounded; nothing if there is none."""
        if not text:
            return
        path = os.path.join(self._dest, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        files.write(path, masked(text, self._secrets)[-_LONGEST_TEXT:], 0o600)
        self.files.append(name)

    def _logs(self, document: Mapping[str, Any], place: str) -> List[Tuple[str, str]]:
        """Return path and tail of the newest logs below *place*: from the host where it is mounted, else out of the container."""
        mounts = {str(mount.get("Destination", "")).rstrip("/"): str(mount.get("Source", "")) for mount in document.get("Mounts") or []}
        if os.path.isdir(mounts.get(place, "")):
            return [(path, tail(path, self._lines)) for path in newest_logs(mounts[place])]
        with contextlib.closing(self._docker.files_in(str(document["Id"]), place)) as pieces:
            return list(logs_in(pieces, self._lines))


def within(seconds: float, look: Callable[[], Any]) -> Any:
    """Return ``look()``, or raise what it raised.

    :raises ShareFault: it took longer than *seconds*; a thread that hangs in the kernel is left behind.
    """
    outcome: Dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = look()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise ShareFault("no answer in time", "look again by hand", waited_seconds=seconds)
    return outcome["value"]


def state_of(document: Mapping[str, Any], kernel: Sequence[str] = ()) -> Dict[str, Any]:
    """Return how a container is, or how it ended, from ``docker inspect``'s document.

    :param kernel: the kernel's own lines: Docker 20.10 on cgroup v1 misses most of those it has killed for want of memory.
    """
    state, settings = document.get("State") or {}, document.get("Config") or {}
    container_id = str(document.get("Id", ""))
    is_oom = bool(state.get("OOMKilled")) or any("oom-kill" in line and container_id in line for line in kernel if container_id)
    return {
        "id": container_id[:12],
        "name": _name_of(document),
        "image": plain(str(settings.get("Image", ""))),
        "image_id": plain(str(document.get("Image", ""))),
        "status": plain(str(state.get("Status", ""))),
        "exit_code": state.get("ExitCode") if state.get("Status") in ("exited", "dead") else None,
        "oom_killed": is_oom,
        "error": masked(plain(str(state.get("Error", "")))),
        "started": plain(str(state.get("StartedAt", ""))),
        "finished": plain(str(state.get("FinishedAt", ""))),
    }


def listening(pid: int, proc: str = "/proc") -> str:
    """Return the listening TCP sockets of the network namespace that *pid* lives in, a line each."""
    lines = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"{proc}/{pid}/net/{table}", encoding="ascii", errors="replace") as stream:
            rows = (line.split() for line in stream)
            lines += [f"{table:5} {_address(row[1])}  uid {row[7]}" for row in rows if len(row) > 7 and row[3] == _LISTENING]
    return "".join(line + "\n" for line in sorted(set(lines)))


def newest_logs(folder: str, at_most: int = _MOST_LOGS) -> List[str]:
    """Return the logs below *folder* that were written last, the newest first; links are not followed."""
    found: List[Tuple[float, str]] = []
    waiting, looked_at = [(folder, 0)], 0
    while waiting and looked_at < _MOST_ENTRIES:
        path, depth = waiting.pop(0)
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                looked_at += 1
                if entry.is_dir(follow_symlinks=False) and depth < 4:
                    waiting.append((entry.path, depth + 1))
                elif _is_log(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
    return [path for _age, path in sorted(found, reverse=True)[:at_most]]


def logs_in(archive: Iterable[bytes], lines: int, at_most_bytes: int = _ARCHIVE_BYTES) -> Iterator[Tuple[str, str]]:
    """Give path and tail of the logs in a tar of some container's directory, of which only so much is read."""
    count = 0
    try:
        with tarfile.open(fileobj=_Stream(archive, at_most_bytes), mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                if member.isfile() and _is_log(member.name) and count < _MOST_LOGS:
                    stream = tar.extractfile(member)
                    count += 1
                    yield member.name, _last(stream.read(_TAIL_BYTES) if stream else b"", lines)
    except (tarfile.TarError, EOFError):
        return  # no such directory, or more than we read


def tail(path: str, lines: int) -> str:
    """Return the last *lines* of the file *path*, at most 1 MiB of it."""
    with files.opened(path) as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        return _last(stream.read(_TAIL_BYTES), lines)


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


class _Stream:
    """Pieces as a file to read from, up to a limit."""

    def __init__(self, pieces: Iterable[bytes], limit: int) -> None:
        self._pieces, self._left, self._rest = iter(pieces), limit, b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and self._left > 0:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._left -= len(piece)
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        if size and not data:
            # tarfile goes on reading nothing until it has skipped what a header promises, a sparse file's terabyte too
            raise EOFError
        return data


def _containers(docker: Engine, job_id: str, container: str) -> List[Dict[str, Any]]:
    ids = [container] if container else [each["id"] for each in docker.containers_of(job_id)]
    return [document for document in map(docker.container, ids) if document is not None]


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


def _shape_of(document: Mapping[str, Any]) -> Dict[str, Any]:
    """Return how the container was started; of its environment only the names."""
    settings, limits = document.get("Config") or {}, document.get("HostConfig") or {}
    return {
        "command": masked(" ".join(map(str, settings.get("Cmd") or []))),
        "entrypoint": masked(" ".join(map(str, settings.get("Entrypoint") or []))),
        "environment": sorted(str(variable).partition("=")[0] for variable in settings.get("Env") or []),
        "mounts": [f"{mount.get('Source')} -> {mount.get('Destination')}" for mount in document.get("Mounts") or []],
        "network": limits.get("NetworkMode"),
        "shm_size_bytes": limits.get("ShmSize"),
        "memory_limit_bytes": limits.get("Memory"),
    }


def _name_of(document: Mapping[str, Any]) -> str:
    return _file_name(str(document.get("Name") or document.get("Id", ""))[:80])


def _file_name(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", path.strip("/")).lstrip(".")[-120:] or "_"


def _is_log(name: str) -> bool:
    return name.endswith((".log", ".out", ".err"))


def _last(data: bytes, lines: int) -> str:
    return "".join(data.decode("utf-8", "replace").splitlines(keepends=True)[-lines:])


def _address(text: str) -> str:
    """Return ``address:port`` of what the kernel writes: words in the machine's byte order, the port in hexadecimal."""
    host, _colon, port = text.partition(":")
    words = [bytes.fromhex(host[place : place + 8])[::-1] for place in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return f"[{address}]:{int(port, 16)}" if address.version == 6 else f"{address}:{int(port, 16)}"


def _summary(described: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    if not described:
        return "no container of this job is left" + (f" ({notes[0]})" if notes else "")
    return "; ".join(_sentence(each) for each in described)


def _sentence(each: Mapping[str, Any]) -> str:
    ended = f"exit code {each['exit_code']}" if each["exit_code"] is not None else each["status"]
    killed = ", out of memory" if each["oom_killed"] else ""
    cause = f": {each['cause']}" if each["cause"] else ""
    return plain(f"{each['name']}: {ended}{killed}{cause}")


@contextlib.contextmanager
def _explained(dest: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ShareFault("diagnostics: cannot write", "make room there", path=dest, error=error.strerror or str(error)) from error
