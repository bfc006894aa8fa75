# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers that a job has left on a node: which they are, how they end, and that they go.

Source: architecture.md, "Identities"; the Docker Engine's API, container states.
"""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, NamedTuple, Optional

from ..docker.answers import Refused
from ..docker.engine import Engine
from . import job_secrets

# SLURM has given the job its KillWait already, and `docker run` has passed that SIGTERM on.
_STOP_SECONDS = 2


class Found(NamedTuple):
    """A job's containers.

    :param is_running: whether one has outlived the job.
    :param has_failed: whether one ended with another status than 0.
    :param secrets: the values of the secrets in their environment.
    """

    ids: List[str]
    is_running: bool
    has_failed: bool
    secrets: List[str]


def find(docker: Engine, job_id: str, is_own: Callable[[str], bool]) -> Found:
    """Return the containers of the job; *is_own* as ``Engine.containers_of`` takes it."""
    found = docker.containers_of(job_id, is_own)
    documents = [docker.container(each["id"]) for each in found]
    is_running = any(each.get("state") == "running" for each in found)
    secrets = [value for document in documents for value in job_secrets.values_given(document)]
    return Found([str(each["id"]) for each in found], is_running, any(map(_has_failed, documents)), list(dict.fromkeys(secrets)))


def stop(docker: Engine, containers: List[str]) -> None:
    """Stop them all, also if one refuses.

    :raises Refused: one did.
    """
    _with_each(docker, containers, lambda container: docker.stop(container, _STOP_SECONDS))


def remove(docker: Engine, containers: List[str]) -> None:
    """Remove them all; errors as `stop`."""
    _with_each(docker, containers, docker.remove)


def _with_each(docker: Engine, containers: List[str], do: Callable[[str], object]) -> None:
    refusals: List[Refused] = []
    for container in containers:
        try:
            do(container)
        except Refused as refusal:
            if not _is_going(docker, container):
                refusals.append(refusal)
    if refusals:
        raise refusals[0]


def _is_going(docker: Engine, container: str) -> bool:
    """Say whether *container* is gone or on its way: one with ``--rm`` is removed by the daemon as soon as it has ended."""
    document = docker.container(container)
    return document is None or (document.get("State") or {}).get("Status") in ("removing", "dead")


def _has_failed(document: Optional[Mapping[str, Any]]) -> bool:
    state = (document or {}).get("State") or {}
    return bool(state.get("OOMKilled") or state.get("ExitCode"))
