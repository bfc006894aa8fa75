# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which of SLURM's jobs a container lives, as its control group tells.

Only SLURM's own place for a job counts, never a name alone. Whoever may delegate control groups can call one ``job_7``
(a user's own systemd, a container's inside, another SLURM within a container), so nothing below the container's own
group is looked at. To put a container where SLURM keeps job 7 takes Docker or root, and either can do worse.

Source: Slurm's cgroup/v1 (``/slurm/uid_<uid>/job_<id>``, with the node's name behind ``slurm`` where there are several
slurmd) and cgroup/v2 (``/system.slice/slurmstepd.scope/job_<id>``) plugins; cgroups(7) for ``/proc/<pid>/cgroup``.
"""

from __future__ import annotations

import os.path
import re
from typing import List, Optional

from ..core import files
from ..core.errors import Fault

_LARGEST_BYTES = 64 << 10
_PLACE = re.compile(r"/(?:slurm(?:_[^/]+)?/uid_[0-9]+|system\.slice/(?:[^/]+_)?slurmstepd\.scope)/job_([0-9]+)(?:/.*)?")


def job_of(container_id: str, parent: str, pid: int, proc: str = "/proc") -> Optional[str]:
    """Return the id of the job in whose control group a container is, or None if there is no such job.

    :param container_id: the whole id, which Docker makes the name of the container's own group.
    :param parent: ``HostConfig.CgroupParent``: the user's words, so they count for a container that is over alone.
    :param pid: of its first process, 0 if it does not run.
    """
    if not pid:
        return job_in(parent)
    jobs = {job_in(path.partition(f"/{container_id}")[0]) for path in _paths(pid, proc)} - {None}
    return jobs.pop() if len(jobs) == 1 else None  # a process is in one group of each hierarchy: they must agree


def job_in(path: str) -> Optional[str]:
    """Return the id of the job whose group, or a group below it, *path* is.

    >>> job_in("/slurm/uid_2000/job_7/step_batch"), job_in("/user.slice/job_7"), job_in("/slurm/uid_2000/job_7/../job_8")
    ('7', None, '8')
    """
    found = _PLACE.fullmatch(os.path.normpath("/" + path.lstrip("/")))
    return found.group(1) if found else None


def _paths(pid: int, proc: str) -> List[str]:
    try:
        text = files.read(f"{proc}/{int(pid)}/cgroup", _LARGEST_BYTES).decode("utf-8", "replace")
    except Fault:  # it is over by now
        return []
    return [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]
