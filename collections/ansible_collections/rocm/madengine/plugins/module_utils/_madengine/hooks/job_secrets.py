# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of a job's secrets, so that nothing that we quote of the job shows one, whatever it was printed beside.

They are read where the job has them: in its manifests, in madengine's credential.json, in the environment of its containers.
They stay in memory; no file of ours has them.

Source: madengine 2.1, ``credential.json`` in the submit directory and in a node's workspace.
"""

from __future__ import annotations

import contextlib
import os.path
from typing import Any, Iterable, List, Mapping, Optional

from ..core.errors import JobFault
from ..manifest import quoting, redaction
from ..results.candidates import document
from ..slurm.allocation import Allocation
from . import request, task_environment

CREDENTIAL = "credential.json"
_MOST_FILES = 20


def files_of(job: Allocation, workspaces: Iterable[str]) -> List[str]:
    """Return the files of *job* that may hold secrets; to be called as its user, who may have made anything of them.

    :param workspaces: where madengine works on this node.
    """
    manifests: List[str] = []
    with contextlib.suppress(JobFault):  # what was asked is no request any more, or the manifest is gone
        manifests += task_environment.manifests_of(request.read(job))
    folders = [job.work_dir, *workspaces] if job.work_dir else list(workspaces)
    return [*manifests, *(os.path.join(folder, CREDENTIAL) for folder in folders)][:_MOST_FILES]


def values_in(paths: Iterable[str]) -> List[str]:
    """Return the values of the secrets in the JSON documents *paths*; one that cannot be read has none. As the job's user."""
    found = set()
    for content in map(document, paths):
        found |= redaction.values(content, {}) | redaction.url_passwords(content)
    return quoting.tellable(found)


def values_of(job: Allocation, workspaces: Iterable[str]) -> List[str]:
    """Return the values of the secrets in `files_of` the *job*."""
    return values_in(files_of(job, workspaces))


def values_given(container: Optional[Mapping[str, Any]]) -> List[str]:
    """Return the values of the secrets in a container's environment, from ``docker inspect``'s document."""
    settings = (container or {}).get("Config") or {}
    return quoting.tellable(quoting.secrets_in(settings.get("Env") or []))
