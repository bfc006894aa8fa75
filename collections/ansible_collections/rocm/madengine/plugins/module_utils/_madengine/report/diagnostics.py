# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a job's containers failed, for a person to read: what ran, what listened, how it ended, what it said last.

Best effort within bounds: each probe has its own time limit and may fail alone, sizes are capped, secrets are masked.
Containers are looked at and never changed.

Source: results.md, "Diagnose".
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from ..core import files
from ..core.errors import Fault, ShareFault
from ..docker.engine import Engine
from ..manifest.quoting import all_masked, masked, secrets_in
from ..results.csv_score import plain
from . import container_probes, log_errors

LINES = 200
PROBE_SECONDS = 10.0
_MOST_CONTAINERS = 16
_MOST_FAILURES = 20
_MOST_KERNEL_LINES = 50
_LONGEST_TEXT = 4 << 20


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
        kernel = case.probe("kernel", container_probes.kernel_lines) or []
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
        name = _name_of(document)
        settings = document.get("Config") or {}
        self._secrets += secrets_in(settings.get("Env") or [])
        state = state_of(document, kernel)
        self.keep(f"{name}/state.json", json.dumps({**state, **_shape_of(document)}, indent=1) + "\n")
        tails = []
        for each in container_probes.PROBES:
            for path, text in self.probe(f"{name}: {each.name}", functools.partial(each.look, self._docker, document, self._lines)) or []:
                self.keep(f"{name}/{path}", text)
                tails += [text] if each.is_log else []
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


def _containers(docker: Engine, job_id: str, container: str) -> List[Dict[str, Any]]:
    ids = [container] if container else [each["id"] for each in docker.containers_of(job_id)]
    return [document for document in map(docker.container, ids) if document is not None]


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
    return container_probes.file_name(str(document.get("Name") or document.get("Id", ""))[:80])


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
