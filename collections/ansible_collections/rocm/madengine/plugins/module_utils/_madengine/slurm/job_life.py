# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a job goes on, as slurmctld says: one bounded question, which only those ask who have waited for a while.

Source: scontrol(1), ``show job``; squeue(1), "JOB STATE CODES"; measured with 22.05.8 and 24.11.5. In a prolog, a job runs for SLURM.
"""

from __future__ import annotations

import re

from . import scontrol

# What else a job may be, and whatever a later SLURM calls it, is no reason to give up.
_OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "COMPLETING",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",  # it was requeued: whoever starts for it now starts for its next attempt
    "PREEMPTED",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "REVOKED",
    "SPECIAL_EXIT",
    "TIMEOUT",
}
_UNKNOWN = "Invalid job id"  # forgotten, or never there


def over(job_id: int, attempt: int, path: str, conf: str = "", seconds: float = 10.0) -> str:
    """Return the state in which the job is over, or "" while it goes on or nobody can say.

    :param attempt: how often SLURM had restarted the job when this attempt began.
    :param path: where SLURM's programs are searched for.
    :param conf: what ``SLURM_CONF`` says, if anything.
    """
    output = scontrol.show("job", str(job_id), seconds, path, conf)
    return "gone" if _UNKNOWN in output else state_of(output, job_id, attempt)


def state_of(output: str, job_id: int, attempt: int) -> str:
    """Return what `over` does, from what ``scontrol --oneliner show job`` printed: an array's id is that of one of its tasks, too.

    >>> state_of("JobId=7 JobName=a JobState=COMPLETING Restarts=0", 7, 0), state_of("JobId=7 JobState=RUNNING Restarts=0", 7, 0)
    ('COMPLETING', '')
    """
    found = [_state(line, attempt) for line in output.splitlines() if _field(line, "JobId") == str(job_id)]
    return found[0] if found and all(found) else ""


def _state(line: str, attempt: int) -> str:
    state, restarts = _field(line, "JobState"), _field(line, "Restarts")
    if restarts.isdigit() and int(restarts) > attempt:
        return "REQUEUED"
    return state if state in _OVER else ""


def _field(line: str, name: str) -> str:
    match = re.search(rf"(?:^| ){name}=(\S*)", line)
    return match[1] if match else ""
