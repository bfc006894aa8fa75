# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node keeps of a job between its prolog, its tasks and its epilog: ``/run/madengine/jobs/<job id>/``.

=================  =======================  =========================================================
name               who may read             what
=================  =======================  =========================================================
``status.json``    everybody                the verdict and the facts, for programs
``verdict``        everybody                ``starting``, ``ready``, ``aside`` or the fault's line, for the TaskProlog
``notes``          everybody                lines that are said once in the job's output
``stderr``         everybody                the file of the job's errors, where it is not that of its output
``release``        everybody                the hook release that the job started under
``timeline.jsonl`` everybody                the phases so far
``exports``        the job's user           ``NAME=value`` lines that the TaskProlog exports
``names``          the job's user           names that a container takes from the task's environment
``globs``          the job's user           patterns of further such names; ``without`` holds what they must leave out
``when_set``       the job's user           ``GIVEN OTHER`` lines: where GIVEN is set, a container gets OTHER too
``sources``        the job's user           ``NAME OTHER …`` lines: a secret that is not set has the first OTHER's value
``fixed``          the job's user           ``NAME=value`` lines for a container alone
``manifest.json``  the job's user           the manifest, restored, without secrets
``origins.json``   the job's user           what is expected of the job, and which CSVs were there before it
``leader``         the job's user           the job's first node
``keep``           the job's user           what the user wants left alone: ``builds``, ``manifest``
``python``         the job's user           the interpreter that `madengine run` of a task is helped with
=================  =======================  =========================================================

The directory appears whole, vanishes whole, and a file in it changes by rename: whenever SIGKILL comes, a reader finds
a complete state or none. What belongs to the job's user that user can change, so root believes none of it afterwards.
The directories are root's alone: whatever a user may fill lies elsewhere (`workspace`). Where the filesystem is full all the same,
``.reserve`` gives way to what a job begins with.

Source: architecture.md, "State".
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from ..core import files
from ..core.errors import Fault
from ..core.text import printable

BASE = "/run/madengine"
_LARGEST_BYTES = 16 << 20
_PAGE_BYTES = 4096
_RESERVE_PAGES = 8  # a job begins with three files or four, and each is there twice for a moment
# ASIDE: the job did not ask, and cannot be helped; it runs as if we were not there.
STARTING, READY, FAILED, ASIDE = "starting", "ready", "failed", "aside"


@dataclass(frozen=True)
class Status:
    """What ``status.json`` says; this is the one place that knows its fields.

    :param status: `STARTING`, `READY`, `FAILED` or `ASIDE`; empty where nothing is known of the job.
    :param implicit: whether the job did not ask for anything itself.
    :param stderr: the file of the job's errors, where it is not that of its output.
    :param began: when the prolog began, in seconds since the epoch.
    :param images: the job's images, as the first node offered them.
    :param results: names of the CSVs that count.
    :param collection_dir: where the job's results come together.
    :param run_base: the same for ``runs.collection_dir``, if the job holds several runs.
    :param unshared_ranks: ranks of the nodes that do not see the first one's collection directory.
    :param gathered: where this node's results are now; empty before they were gathered.
    :param delivered: whether they were brought to the first node.
    :param fault: of a job that was not let start, as ``Fault.to_dict`` gives it; *line* is what its tasks say.
    """

    status: str = ""
    job_id: int = 0
    node: str = ""
    node_rank: int = 0
    user: str = ""
    uid: int = -1
    gid: int = -1
    nodes: Tuple[str, ...] = ()
    attempt: int = 0
    ends_by: int = 0
    began: float = 0.0
    implicit: bool = False
    stderr: str = ""
    images: Tuple[Mapping[str, Any], ...] = ()
    results: Tuple[str, ...] = ()
    collection_dir: str = ""
    run_base: str = ""
    unshared_ranks: Tuple[int, ...] = ()
    gathered: str = ""
    delivered: bool = False
    fault: Optional[Mapping[str, Any]] = None
    line: str = ""

    @classmethod
    def parse(cls, text: str) -> Status:
        """Return what *text* says; nothing where it cannot be read, and no field that is not ours."""
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            told = json.loads(text)
            known = {name: _as(told[name], default) for name, default in _DEFAULTS.items() if name in told}
            return cls(**known)
        return cls()

    def text(self) -> str:
        """Return what is written; what has not been said is left out."""
        said = {name: value for name, value in vars(self).items() if value != _DEFAULTS[name] or name in _ALWAYS}
        return json.dumps(said, indent=1, default=str) + "\n"


_ALWAYS = ("status", "job_id", "node", "node_rank", "attempt")
_NOTHING = Status()
_DEFAULTS: Dict[str, Any] = {item.name: item.default for item in dataclasses.fields(Status)}


def _as(value: Any, default: Any) -> Any:
    """Return *value* as the type of its field.

    :raises TypeError: it is of another kind.
    """
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if default is not None and not isinstance(value, (int, float) if isinstance(default, float) else type(default)):
        raise TypeError(value)
    return value


class JobState:
    """One job's directory on this node.

    :param job_id: whose.
    :param base: where the directory of all jobs is; a test gives its own.
    """

    def __init__(self, job_id: int, base: str = BASE) -> None:
        self.base, self.path = base, os.path.join(base, "jobs", str(int(job_id)))

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def begin(self, uid: int, gid: int, release: str, status: Status = _NOTHING) -> None:
        """Make the directory anew: whatever an earlier attempt of the same job left is gone.

        :raises NodeFault: it cannot be written (part ``disk``).
        """
        begun = dataclasses.replace(status, status=STARTING, uid=uid, gid=gid)
        with self._writing():
            _make(self.base)
            _make(os.path.dirname(self.path))
            try:
                self._begin(release, begun)
            except OSError as error:
                # Where nothing is written, nobody is told. So there is a reserve; what needs more room than that is a fault
                # that the tasks are told of.
                if not files.is_full(error) or not _give_way(self._reserve):
                    raise
                self._begin(release, begun)
            _set_aside(self._reserve)

    def _begin(self, release: str, begun: Status) -> None:
        fresh = self._beside("new")
        files.remove_tree(fresh)
        _make(fresh)
        files.write(os.path.join(fresh, "release"), release + "\n")
        if begun.stderr:
            files.write(os.path.join(fresh, "stderr"), begun.stderr + "\n")
        _say(fresh, STARTING, begun)
        self.remove()
        os.rename(fresh, self.path)

    @property
    def _reserve(self) -> str:
        return os.path.join(self.base, ".reserve")

    def is_of(self, uid: int) -> bool:
        """Say whether this node has the job, and root has written down that it is of user *uid*."""
        return self.exists() and self.status().uid == uid

    def keep(self, name: str, text: str, uid: int, gid: int) -> None:
        """Write *name* for the job's user alone.

        :raises NodeFault: as `begin`.
        """
        with self._writing():
            files.write(self.file(name), text, mode=0o400, owner=(uid, gid))

    def ready(self, **facts: Any) -> None:
        """Say that the job's tasks may start, and change these *facts* of its status.

        :raises NodeFault: as `begin`.
        """
        changed: Dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
        with self._writing():
            _say(self.path, READY, dataclasses.replace(self.status(), status=READY, **changed))

    def note(self, *lines: str) -> None:
        """Have *lines* said once in the job's output, after those that are noted already."""
        if lines:
            text = "".join(printable(line) + "\n" for line in lines)
            with self._writing():
                files.write(self.file("notes"), (self.text("notes") or "") + text)

    def stand_aside(self, *lines: str) -> None:
        """Let the job's tasks start as if we were not there, and have *lines* said why.

        :raises NodeFault: as `begin`; the tasks start all the same.
        """
        self._decide(ASIDE, dataclasses.replace(self.status(), status=ASIDE))
        self.note(*lines)

    def fail(self, fault: Fault) -> None:
        """Say why the job's tasks must not start, and leave the line as this node's last fault.

        A job that did not ask for our help is not kept from running without it.

        :raises NodeFault: as `begin`; the tasks are told all the same.
        """
        if self.status().implicit:
            self.stand_aside(f"madengine: this job runs without help: {fault}")
            return
        line = printable(fault.line())
        self._decide(line, dataclasses.replace(self.status(), status=FAILED, fault=fault.to_dict(), line=line))
        with self._writing():
            files.write(os.path.join(self.base, "last_fault"), line + "\n")

    def status(self) -> Status:
        """Return what ``status.json`` says."""
        return Status.parse(self.text("status.json") or "{}")

    def text(self, name: str) -> Optional[str]:
        """Return the content of *name*, or None where it is not there."""
        try:
            return files.read(self.file(name), _LARGEST_BYTES).decode("utf-8", "replace")
        except Fault:
            return None

    def remove(self) -> None:
        """Remove the directory and all in it; harmless if it is gone.

        :raises OSError: a process of the job's still fills it; to a reader it is gone all the same.
        """
        gone = self._beside("gone")
        files.remove_tree(gone)  # what a removal that was killed has left
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, gone)
            files.remove_tree(gone)

    def _decide(self, verdict: str, status: Status) -> None:
        """Leave the *verdict* for the tasks, also where there is no room for anything new.

        A filesystem that is full has no page for another file, but that of ``verdict`` is there from the start.
        """
        with self._writing():
            try:
                _say(self.path, verdict, status)
            except OSError:
                _overwrite(self.file("verdict"), verdict)
                raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise files.local_fault("job_state", self.path, error) from error

    def _beside(self, what: str) -> str:
        folder, job_id = os.path.split(self.path)
        return os.path.join(folder, f".{what}.{job_id}")


def _say(folder: str, verdict: str, status: Status) -> None:
    # A task reads the verdict, a person the facts: the facts first, so that nobody finds a verdict without them.
    files.write(os.path.join(folder, "status.json"), status.text())
    files.write(os.path.join(folder, "verdict"), verdict + "\n")


def _set_aside(path: str) -> None:
    """Take room for a verdict or two while there is some."""
    wanted = _RESERVE_PAGES * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_blocks * 512 < wanted:
                os.posix_fallocate(handle, 0, wanted)
        finally:
            os.close(handle)


def _give_way(path: str) -> bool:
    """Give the reserve's room back to the filesystem; say whether there was any."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            had = os.fstat(handle).st_blocks > 0
            os.ftruncate(handle, 0)
            return had
        finally:
            os.close(handle)
    return False


def _overwrite(path: str, line: str) -> None:
    """Put *line* into the file *path* where it stands; no task reads it before the prolog is over."""
    data = line.encode("utf-8", "surrogateescape")[: _PAGE_BYTES - 1] + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(handle, data, 0)
        os.ftruncate(handle, len(data))
    finally:
        os.close(handle)


def _make(path: str, mode: int = 0o755) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    os.chmod(path, mode)  # whatever slurmd's umask is: tasks must be able to read, and nobody but us to write
