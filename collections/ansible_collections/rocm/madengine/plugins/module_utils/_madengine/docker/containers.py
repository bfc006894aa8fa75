# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a container is, by what `docker ps` and `docker inspect` say of it.

Source: Docker Engine API v1.41, ``GET /containers/json`` and ``GET /containers/<id>/json``; madengine 2.1, the workspace that it mounts.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Mapping

from ..slurm import cgroup

JOB_LABEL = "madengine.job"
_WORKSPACE = "/myworkspace"  # where madengine mounts a node's workspace, `/tmp/madengine_job_<id>[_<run>][_node_<rank>]`
_WORKSPACE_OF_JOB = re.compile(r"/madengine_job_([0-9]+)(?:_[^/]*)?(?:/|$)")


def is_of(container: Mapping[str, Any], inspect: Callable[[], Mapping[str, Any]], job_id: str, is_job: Callable[[str], bool]) -> bool:
    """Say whether a container is the job's: by label, else ``SLURM_JOB_ID`` in its environment, else its workspace, else its cgroup.

    What a container says itself comes first: one that names another job is not this one's, wherever it was put.

    :param container: an entry of the list of containers.
    :param inspect: gives the whole of it; not asked where the label tells.
    :param is_job: says whether another job, which a container names, is one of the same user's on this node; if not, its word
        does not count, and no container escapes by it.
    """
    label = str((container.get("Labels") or {}).get(JOB_LABEL, ""))
    if label and (label == job_id or is_job(label)):
        return label == job_id
    document = inspect()
    words = (document.get("Config") or {}).get("Env") or []
    named = [each.partition("=")[2] for each in words if each.startswith("SLURM_JOB_ID=")]
    for other in (*named, _workspace_of(document)):
        if other and (other == job_id or is_job(other)):
            return bool(other == job_id)
    parent = (document.get("HostConfig") or {}).get("CgroupParent") or ""
    return cgroup.job_of(str(container["Id"]), str(parent), int((document.get("State") or {}).get("Pid") or 0)) == job_id


def summary(each: Mapping[str, Any]) -> Dict[str, str]:
    """Return id, name, image and state (``running``, ``exited`` …) of an entry of the list of containers."""
    names = each.get("Names") or [""]
    return {"id": each["Id"], "name": str(names[0]).lstrip("/"), "image": str(each.get("Image")), "state": str(each.get("State"))}


def _workspace_of(document: Mapping[str, Any]) -> str:
    """Return the job whose workspace madengine has mounted into a container, empty if there is none."""
    for mount in document.get("Mounts") or []:
        if str(mount.get("Destination", "")).rstrip("/") == _WORKSPACE and mount.get("Type", "bind") == "bind":
            found = _WORKSPACE_OF_JOB.search(str(mount.get("Source", "")))
            if found:
                return found.group(1)
    return ""
