# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directories that madengine makes for a job's nodes and leaves behind, with the user's credential.json in them.

They are in /tmp, or where the job's tasks said that their SLURM_TMPDIR is. That is the user's word: root removes nothing there.

Source: madengine 2.1's job script; ``slurm.runs`` for their names.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import List, Optional

from ..core import files
from ..slurm import runs

TMP = "/tmp"  # noqa: S108 (madengine's choice)
PREFIX = "madengine_job_"  # the other name that it uses, below SLURM_TMPDIR, does not say whose it is: that directory must


def of_job(job_id: int, rank: int, uid: int, folder: str = TMP) -> List[str]:
    """Return the directories in *folder* that are this job's on its node *rank* and belong to *uid*; links are none."""
    found: List[str] = []
    with contextlib.suppress(OSError):
        names = [name for name in sorted(os.listdir(folder)) if name.startswith(PREFIX) or _is_of_job(folder, job_id)]
        for listed in runs.by_run(names, job_id, rank).values():
            found += [path for path in (os.path.join(folder, name) for name in listed) if _is_directory_of(path, uid)]
    return sorted(found)


def remove(job_id: int, rank: int, uid: Optional[int] = None, folder: str = TMP) -> List[str]:
    """Remove them, and return those that could not be: the root of a container may have written there.

    :param uid: whose they are; None for whoever asks.
    """
    owner = os.geteuid() if uid is None else uid
    for path in of_job(job_id, rank, owner, folder):
        with contextlib.suppress(OSError):
            files.remove_tree(path)
    return of_job(job_id, rank, owner, folder)


def _is_of_job(folder: str, job_id: int) -> bool:
    """Say whether *folder* is one job's alone, by its name: ``/scratch/slurm.4711``, ``/local/alice/4711.0``."""
    return str(job_id) in re.findall(r"[0-9]+", folder)


def _is_directory_of(path: str, uid: int) -> bool:
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return stat.S_ISDIR(status.st_mode) and status.st_uid == uid
    return False
