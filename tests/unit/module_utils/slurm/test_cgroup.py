# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container is a job's by its control group only where SLURM itself keeps that job."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import cgroup
from hypothesis import given
from hypothesis import strategies as st

ID = "4f" * 32
OTHER = "5a" * 32


@pytest.mark.parametrize(("path", "job"), [
    ("/slurm/uid_2000/job_7", "7"),
    ("slurm/uid_2000/job_7", "7"),
    ("/slurm/uid_2000/job_7/step_0/task_0", "7"),
    ("/slurm_n01/uid_2000/job_7/step_batch", "7"),
    ("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", "7"),
    ("/system.slice/n01_slurmstepd.scope/job_7", "7"),
    ("/slurm/uid_2000/job_77", "77"),
    ("/slurm/uid_2000/job_7/../job_8/x", "8"),
    ("", None),
    ("/", None),
    ("/docker", None),
    ("/job_7", None),
    ("job_7", None),
    ("/slurm/job_7", None),
    ("/slurm/uid_2000/job_7x", None),
    ("/slurm/uid_2000/xjob_7", None),
    ("/slurm/uid_2000/job_", None),
    ("/slurm/uid_2000/job_7\n", None),
    ("/slurm/uid_2000/job_\u0667", None),
    ("/slurm/uid_x/job_7", None),
    ("/slurmish/uid_2000/job_7", None),
    ("/user.slice/user-2000.slice/user@2000.service/job_7", None),
    ("/user.slice/user-2000.slice/user@2000.service/slurm/uid_2000/job_7", None),
    ("/user.slice/system.slice/slurmstepd.scope/job_7", None),
    ("/slurm/uid_2000/job_7/../../../user.slice/job_7", None),
])  # fmt: skip
def test_only_slurm_s_own_place_for_a_job_counts(path: str, job: Optional[str]) -> None:
    assert cgroup.job_in(path) == job
    assert cgroup.job_of(ID, path, 0) == job


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    found = cgroup.job_in(text)
    assert found is None or found.isdecimal()


def running(tmp_path: Path, text: str, parent: str = "") -> Optional[str]:
    folder = tmp_path / "99"
    folder.mkdir()
    (folder / "cgroup").write_text(text)
    return cgroup.job_of(ID, parent, 99, str(tmp_path))


@pytest.mark.parametrize(("text", "job"), [
    (f"0::/system.slice/slurmstepd.scope/job_7/step_0/{ID}\n", "7"),
    ("0::/system.slice/slurmstepd.scope/job_7/step_0\n", "7"),  # moved there by the site's own means
    (f"4:memory:/slurm/uid_2000/job_7/{ID}\n3:freezer:/slurm/uid_2000/job_7/{ID}\n2:cpu:/\n", "7"),
    (f"4:memory:/slurm/uid_2000/job_7/{ID}\n3:freezer:/slurm/uid_2000/job_8/{ID}\n", None),
    (f"0::/docker/{ID}\n", None),
    # What is below a container's own group its inside has made: another SLURM, with jobs of its own.
    (f"0::/docker/{ID}/system.slice/slurmstepd.scope/job_7\n", None),
    (f"0::/docker/{ID}/slurm/uid_2000/job_7\n", None),
    (f"0::/docker/{OTHER}/slurm/uid_2000/job_7/{ID}\n", None),
    ("nonsense\n:\n1:2\n", None),
    ("", None),
])  # fmt: skip
def test_where_a_container_runs_decides_and_not_what_was_asked_for(tmp_path: Path, text: str, job: Optional[str]) -> None:
    assert running(tmp_path, text, parent="/slurm/uid_2000/job_9") == job


def test_a_process_that_is_over_by_now_is_nobody_s(tmp_path: Path) -> None:
    assert cgroup.job_of(ID, "/slurm/uid_2000/job_7", 99, str(tmp_path)) is None
