# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hook ends, whatever it waits for, and leaves a verdict and nothing at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config, hook, job_state, journal, watchdog
from helpers import fuse

ENVIRONMENT = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_UID": "1000",
    "SLURM_JOB_GID": "1000",
    "SLURM_JOB_NODELIST": "n1",
    "SLURMD_NODENAME": "n1",
}
on_fuse = pytest.mark.skipif(not fuse.is_possible(), reason="only root can mount")


def guarded(work: Any, seconds: float) -> Tuple[int, List[str]]:
    """Guard *work* in a process of its own, for a guard adopts what others leave; return the status and what was called."""

    def whole() -> Any:
        called: List[str] = []
        status = watchdog.guarded(work, seconds, lambda: called.append("late"), lambda number: called.append(f"signal {number}"))
        return status, called

    status, called = process.start_as_self(whole).result()
    return status, called


@pytest.mark.parametrize("status", [0, 75])
def test_a_hook_that_ends_decides_itself(status: int) -> None:
    assert guarded(lambda: status, 60) == (status, [])


def test_a_hook_that_is_killed_drains_nothing_and_is_no_secret() -> None:
    assert guarded(lambda: os.kill(os.getpid(), signal.SIGSEGV) or 75, 60) == (0, ["signal 11"])


def test_a_hook_leaves_nothing_at_work(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    words = [sys.executable, "-c", f"import os, time; os.setsid(); open({str(path)!r}, 'w').write(str(os.getpid())); time.sleep(60)"]

    def work() -> int:
        subprocess.Popen(words)
        while not path.exists() or not path.read_text():
            os.sched_yield()
        return 0

    assert guarded(work, 60) == (0, [])
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)


@on_fuse
def test_root_itself_may_hang_and_the_hook_ends_all_the_same(tmp_path: Path) -> None:
    with fuse.deaf(tmp_path):
        assert guarded(lambda: os.stat(tmp_path / "x").st_size, 0.2) == (0, ["late"])


@pytest.mark.parametrize(("number", "leaves_verdict", "says"), [
    (signal.SIGKILL, True, "madengine: share: hook: it was killed"),
    (signal.SIGKILL, False, "madengine: defect: the hook was killed by signal 9"),
    (signal.SIGSEGV, True, "madengine: defect: the hook was killed by signal 11"),
])  # fmt: skip
def test_a_prolog_that_somebody_kills_fails_the_job_and_one_that_dies_of_itself_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, leaves_verdict: bool, says: str
) -> None:
    known, said = job_state.JobState(4711, str(tmp_path / "run")), tmp_path / "said"
    monkeypatch.setattr(job_state, "JobState", lambda job_id: known)
    monkeypatch.setattr(config, "read", config.Site)
    monkeypatch.setattr(journal, "open_at", lambda level: None)
    monkeypatch.setattr(journal, "say", said.write_text)

    def begin(site: Any, job: Any, state: job_state.JobState) -> bool:
        state.begin(0, 0, "/opt/release", job_state.Status())
        return True

    told = hook.Hook("/opt/7", begin, lambda *_: os.kill(os.getpid(), number), leaves_verdict=leaves_verdict)
    assert process.start_as_self(told.guarded, ENVIRONMENT).result() == 0
    assert said.read_text().startswith(says)
    assert known.exists()
    assert (known.text("verdict") or "").startswith(says) is ("share" in says)


@on_fuse
@pytest.mark.parametrize("leaves_verdict", [True, False])
def test_a_hook_that_hangs_leaves_the_verdict_for_the_tasks_and_an_epilog_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves_verdict: bool
) -> None:
    known, said = job_state.JobState(4711, str(tmp_path / "run")), tmp_path / "said"
    (tmp_path / "deaf").mkdir()
    monkeypatch.setattr(job_state, "JobState", lambda job_id: known)
    monkeypatch.setattr(config, "read", lambda: config.Site(deadline_seconds=0.1, results_wait_seconds=0.1))
    monkeypatch.setattr(watchdog, "MARGIN_SECONDS", 0.5)
    monkeypatch.setattr(journal, "open_at", lambda level: None)
    monkeypatch.setattr(journal, "say", said.write_text)

    def begin(site: Any, job: Any, state: job_state.JobState) -> bool:
        state.begin(0, 0, "/opt/release", job_state.Status())
        return True

    def story(*_: Any) -> None:
        os.listdir(tmp_path / "deaf")

    with fuse.deaf(tmp_path / "deaf"):
        told = hook.Hook("/opt/7", begin, story, leaves_verdict=leaves_verdict)
        assert process.start_as_self(told.guarded, ENVIRONMENT).result() == 0
    assert said.read_text().startswith("madengine: share: hook: it hangs (")
    assert known.exists() is leaves_verdict
    if leaves_verdict:
        assert (known.text("verdict") or "").startswith("madengine: share: hook: it hangs")
