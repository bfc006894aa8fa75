# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's own tree broadcast of a file to all nodes of a job.

Source: sbcast(1) of Slurm 22.05 and 24.11; run from a prolog as the job's user it works in both (measured).
"""

from __future__ import annotations

import os
import subprocess
from typing import List

from . import account
from .deadline import Deadline
from .errors import ShareFault

SPOOL = "/var/tmp"  # noqa: S108  a place that every node has; the file's name is made by us and its bytes are verified


def command(source: str, target: str, job_id: str) -> List[str]:
    """Return the argument list that puts *source* under *target* on every node of the job."""
    return ["sbcast", "--force", f"--jobid={job_id}", source, target]


def send(source: str, target: str, job_id: str, deadline: Deadline, path: str = account.PATH) -> None:
    """Send a file to all nodes of the job, this one included; the acting user owns it there.

    :param path: where ``sbcast`` is searched.
    :raises ShareFault: it did not work.
    """
    environment = {"PATH": path, "HOME": os.path.expanduser("~"), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command(source, target, job_id), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=max(1.0, deadline.left()), check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ShareFault("broadcast: no sbcast on this node", "install SLURM's client commands, or share a store", job=job_id) from error
    except subprocess.TimeoutExpired as error:
        raise ShareFault("broadcast: the time is up", "share a store, or raise Deadline", job=job_id) from error
    if done.returncode != 0:
        answer = " ".join(done.stdout.decode("utf-8", "replace").split())[-280:]
        raise ShareFault("broadcast: sbcast failed", "read its answer, or share a store", job=job_id, target=target, answer=answer)
