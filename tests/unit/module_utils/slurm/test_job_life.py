# SPDX-License-Identifier: GPL-3.0-or-later
"""A job is over where SLURM says so, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import job_life

LINE = "JobId={} JobName=run.sh UserId=alice(1001) JobState={} Reason=None Requeue=1 Restarts={} BatchFlag=1 Comment=JobState=FAILED"


@pytest.mark.parametrize("state", ["RUNNING", "CONFIGURING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "WHATEVER"])
def test_a_job_that_goes_on_or_is_in_a_state_that_nobody_knows_is_not_over(state: str) -> None:
    assert job_life.state_of(LINE.format(7, state, 0), 7, 0) == ""


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", "NODE_FAIL", "PENDING", "REQUEUE_HOLD", "FAILED"])
def test_a_job_that_slurm_has_ended_or_requeued_is_over(state: str) -> None:
    assert job_life.state_of(LINE.format(7, state, 0), 7, 0) == state


def test_the_next_attempt_is_not_this_one() -> None:
    assert job_life.state_of(LINE.format(7, "RUNNING", 1), 7, 0) == "REQUEUED"
    assert job_life.state_of(LINE.format(7, "RUNNING", 1), 7, 1) == ""


def test_of_an_array_or_a_heterogeneous_job_only_the_one_itself_counts() -> None:
    others = "\n".join(LINE.format(number, "COMPLETED", 0) for number in (8, 9, 70))
    assert job_life.state_of(others + "\n" + LINE.format(7, "RUNNING", 0) + "\n", 7, 0) == ""
    assert job_life.state_of(others, 7, 0) == ""


@pytest.mark.parametrize("output", ["", "\n", "JobId=7", "JobState=FAILED", "slurm_load_jobs error: Unable to contact slurm controller"])
def test_what_says_nothing_is_no_answer(output: str) -> None:
    assert job_life.state_of(output, 7, 0) == ""


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("echo JobId=7 JobState=CANCELLED Restarts=0", "CANCELLED"),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", "gone"),
        ("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1", ""),
        ("exec sleep 60", ""),
        ('[ "$*" = "--oneliner show job 7" ] && [ "$SLURM_CONF" = /etc/x ] && echo JobId=7 JobState=FAILED', "FAILED"),
    ],
)
def test_scontrol_is_asked_and_not_for_long(tmp_path: Path, script: str, wanted: str) -> None:
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "scontrol").chmod(0o755)
    assert job_life.over(7, 0, f"{tmp_path}:{os.defpath}", "/etc/x", seconds=2.0) == wanted


def test_without_scontrol_nobody_can_say(tmp_path: Path) -> None:
    assert job_life.over(7, 0, str(tmp_path)) == ""
