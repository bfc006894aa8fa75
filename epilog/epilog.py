# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a madengine job, on each of its nodes, however it ended.

slurmd starts the gate ``50-madengine`` as root, and the gate starts this, from the release that the job's prolog ran.
Root forks; whatever touches the user's files runs as the job's user. Exit status: 0, or 75 where this node must leave
service (see ``exit_status``).
"""

from __future__ import annotations

import os
import sys
from typing import List, Mapping

RELEASE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(RELEASE, "lib"))

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import (
    config,
    exit_status,
    hook,
    job_end,
    job_state,
    journal,
    timeline,
    workspace,
)
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import allocation


def story(site: config.Site, job: allocation.Allocation, state: job_state.JobState, log: timeline.Timeline) -> None:
    """Keep what the job has left of worth on this node, and remove the rest."""
    ended = job_end.JobEnd(site, job, state, workspace.Workspace(job.job_id), exit_code(os.environ))
    parts: List[exit_status.Step] = []
    if ended.may_have_run:
        parts += [("find", ended.find), ("diagnose", ended.diagnose), ("stop", ended.stop)]
    if ended.has_run:
        parts += [("gather", ended.gather), *([("exchange", ended.exchange)] if ended.is_unshared else []), ("choose", ended.choose)]
    if ended.may_have_run:
        parts += [("remove", ended.remove), ("report", ended.report)]
    if ended.may_have_left_images:
        parts += [("release", ended.release)]
    parts += [("clean", ended.clean)]
    exit_status.each(parts, log, journal.say, site.drain_on)


def exit_code(environ: Mapping[str, str]) -> str:
    """Return how the job ended, as SLURM says: ``0:0``, or status and signal."""
    return environ.get("SLURM_JOB_EXIT_CODE2") or "0:0"


def main() -> int:
    """Tell the story of a job that this node knows."""
    outcome = "ok" if exit_code(os.environ) == "0:0" else "failed"
    return hook.Hook(RELEASE, lambda site, job, state: state.exists(), story, outcome).guarded(os.environ)


if __name__ == "__main__":
    sys.exit(main())
