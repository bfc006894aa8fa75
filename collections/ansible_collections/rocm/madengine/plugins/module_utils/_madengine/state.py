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

Everything but ``task/`` is root's and appears by rename, so a SIGKILL at any instant leaves a readable state.

Source: architecture.md, "State".
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import Any, Dict, Mapping, Optional

from . import files
from .errors import Fault

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
        os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
        self.remove()
        os.mkdir(self.path, 0o755)
        task = self.file("task")
        os.mkdir(task, 0o700)
        os.chown(task, uid, gid)
        files.write(self.file("release"), release + "\n")
        self._say(STARTING, STARTING, facts)

    def keep(self, name: str, text: str, uid: int, gid: int) -> None:
        """Write *name* for the job's user alone; root stays the one who decides what is in it."""
        files.write(self.file(name), text, mode=0o400, owner=(uid, gid))

    def ready(self, **facts: Any) -> None:
        """Say that the job's tasks may start."""
        self._say(READY, READY, {**self.facts(), **facts})

    def fail(self, fault: Fault) -> None:
        """Say why the job's tasks must not start, and leave the line as this node's last fault."""
        self._say(FAILED, fault.line(), {**self.facts(), "fault": fault.to_dict(), "line": fault.line()})
        files.write(os.path.join(self.base, "last_fault"), fault.line() + "\n")

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
        """Remove the directory and all in it; harmless if it is gone, and no link in it is followed."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def _say(self, status: str, verdict: str, facts: Mapping[str, Any]) -> None:
        # A task reads the verdict, a person the facts: the facts first, so that nobody finds a verdict without them.
        files.write(self.file("status.json"), json.dumps({**facts, "status": status}, indent=1, default=str) + "\n")
        files.write(self.file("verdict"), verdict + "\n")
