# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stories of prolog and epilog, told in the test's process on a node that is a directory."""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401 (a child that is another user may be unable to read this interpreter)
import functools
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import (
    config,
    job_state,
    journal,
    node_probe,
    watchdog,
    workspace,
)

from . import programs

JOB_ID = 999004711


def imported(hook: str) -> ModuleType:
    """Return ``prolog/prolog.py`` or ``epilog/epilog.py`` as a module; nothing of it runs."""
    return programs.imported(f"{hook}/{hook}.py")


class StoryNode:
    """A node below *base*, on which the job of *uid* starts or ends; its journal is in `said` and `noted`."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch, uid: int, gid: int) -> None:
        self.uid, self.gid = uid, gid
        self.here = job_state.JobState(JOB_ID, str(base / "run"))
        self.place = workspace.Workspace(JOB_ID, str(base / "var"))
        self.work_dir = base / "work"
        self.work_dir.mkdir()
        if os.geteuid() == 0:
            os.chown(self.work_dir, uid, gid)
        self.said: List[str] = []
        self.noted: List[str] = []
        self.site = config.Site(deadline_seconds=20.0)
        self.broken = "no answer"  # what root finds when it looks at a part of this node
        self._patch = monkeypatch
        monkeypatch.setattr(job_state, "JobState", functools.partial(job_state.JobState, base=str(base / "run")))
        monkeypatch.setattr(workspace, "Workspace", functools.partial(workspace.Workspace, base=str(base / "var")))
        monkeypatch.setattr(config, "read", lambda: self.site)
        monkeypatch.setattr(watchdog, "guarded", lambda work, *_: work())
        monkeypatch.setattr(node_probe.NodeProbe, "finds", lambda probe, part: self.broken)
        monkeypatch.setattr(journal, "open_at", lambda level: None)
        monkeypatch.setattr(journal, "say", self.said.append)
        monkeypatch.setattr(journal, "note", self.noted.append)

    def environment(self, **more: str) -> Dict[str, str]:
        """Return what slurmd gives a prolog."""
        return {
            "SLURM_CLUSTER_NAME": "lab",
            "SLURM_JOB_ID": str(JOB_ID),
            "SLURM_JOB_USER": "alice",
            "SLURM_JOB_UID": str(self.uid),
            "SLURM_JOB_GID": str(self.gid),
            "SLURM_JOB_NODELIST": "localhost",
            "SLURMD_NODENAME": "localhost",
            "SLURM_JOB_WORK_DIR": str(self.work_dir),
            "SLURM_JOB_STDOUT": str(self.work_dir / "slurm-%j.out"),
            "SLURM_JOB_COMMENT": "madengine",
            **more,
        }

    def tell(self, hook: ModuleType, **more: str) -> int:
        """Run the hook's ``main`` with slurmd's environment and return its exit status."""
        self._patch.setattr(os, "environ", self.environment(**more))
        status = hook.main()
        assert isinstance(status, int)
        return status

    def verdict(self) -> str:
        return (self.here.text("verdict") or "").rstrip("\n")

    def phases(self) -> Dict[str, str]:
        """Return the phases so far, each with its result."""
        lines = [json.loads(line) for line in (self.here.text("timeline.jsonl") or "").splitlines()]
        return {line["phase"]: line["result"] for line in lines}

    def exports(self) -> Dict[str, Any]:
        return dict(line.split("=", 1) for line in (self.here.text("exports") or "").splitlines())
