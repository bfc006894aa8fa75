# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node keeps of a job between its prolog, its tasks and its epilog: ``/run/madengine/jobs/<job id>/``.

=================  =======================  =========================================================
name               who may read             what
=================  =======================  =========================================================
``status.json``    everybody                the verdict and the facts, for programs
``verdict``        everybody                ``starting``, ``ready``, or the fault's line, for the TaskProlog
``release``        everybody                the hook release that the job started under
``timeline.jsonl`` everybody                the phases so far
``exports``        the job's user           ``NAME=value`` lines that the TaskProlog exports
``names``          the job's user           names that a container takes from the task's environment
``globs``          the job's user           patterns of further such names; ``without`` holds what they must leave out
``when_set``       the job's user           ``GIVEN OTHER`` lines: where GIVEN is set, a container gets OTHER too
``fixed``          the job's user           ``NAME=value`` lines for a container alone
``manifest.json``  the job's user           the manifest, restored, without secrets
``task/``          the job's user           written by the TaskProlog as that user: an env file a task
=================  =======================  =========================================================

The directory appears whole, vanishes whole, and a file in it changes by rename: whenever SIGKILL comes, a reader finds
a complete state or none. What belongs to the job's user that user can change, so root believes none of it afterwards.

Source: architecture.md, "State".
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, Mapping, Optional

from ..core import files
from ..core.errors import Fault
from ..core.text import printable

BASE = "/run/madengine"
_LARGEST_BYTES = 16 << 20
STARTING, READY, FAILED = "starting", "ready", "failed"


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

    def begin(self, uid: int, gid: int, release: str, facts: Mapping[str, Any]) -> None:
        """Make the directory anew: whatever an earlier attempt of the same job left is gone."""
        _make(self.base)
        _make(os.path.dirname(self.path))
        fresh = self._beside("new")
        files.remove_tree(fresh)
        _make(fresh)
        _make(os.path.join(fresh, "task"), 0o700)
        os.chown(os.path.join(fresh, "task"), uid, gid)
        files.write(os.path.join(fresh, "release"), release + "\n")
        _say(fresh, STARTING, STARTING, facts)
        self.remove()
        os.rename(fresh, self.path)

    def keep(self, name: str, text: str, uid: int, gid: int) -> None:
        """Write *name* for the job's user alone."""
        files.write(self.file(name), text, mode=0o400, owner=(uid, gid))

    def ready(self, **facts: Any) -> None:
        """Say that the job's tasks may start."""
        _say(self.path, READY, READY, {**self.facts(), **facts})

    def fail(self, fault: Fault) -> None:
        """Say why the job's tasks must not start, and leave the line as this node's last fault."""
        line = printable(fault.line())
        _say(self.path, FAILED, line, {**self.facts(), "fault": fault.to_dict(), "line": line})
        files.write(os.path.join(self.base, "last_fault"), line + "\n")

    def facts(self) -> Dict[str, Any]:
        """Return what ``status.json`` holds; empty where there is none, or none that can be read."""
        text = self.text("status.json")
        with contextlib.suppress(ValueError):
            facts = json.loads(text or "{}")
            if isinstance(facts, dict):
                return facts
        return {}

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

    def _beside(self, what: str) -> str:
        folder, job_id = os.path.split(self.path)
        return os.path.join(folder, f".{what}.{job_id}")


def _say(folder: str, status: str, verdict: str, facts: Mapping[str, Any]) -> None:
    # A task reads the verdict, a person the facts: the facts first, so that nobody finds a verdict without them.
    files.write(os.path.join(folder, "status.json"), json.dumps({**facts, "status": status}, indent=1, default=str) + "\n")
    files.write(os.path.join(folder, "verdict"), verdict + "\n")


def _make(path: str, mode: int = 0o755) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    os.chmod(path, mode)  # whatever slurmd's umask is: tasks must be able to read, and nobody but us to write
