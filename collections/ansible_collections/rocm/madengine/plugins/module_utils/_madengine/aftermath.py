# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with a job that is over, on one of its nodes; each part can be repeated and stands for itself.

Source: results.md, "Gather", "Choose", "Clean"; architecture.md, "Identities".
"""

from __future__ import annotations

import os
from typing import Any, Dict, List

from . import account, artifacts, files, results
from .config import Site
from .engine import Engine
from .state import READY, JobState
from .workspace import Workspace

# SLURM has given the job its KillWait already, and `docker run` has passed that SIGTERM on.
_STOP_SECONDS = 2
_TIMELINE = "timeline.jsonl"


class Aftermath:
    """A job that is over, as this node knows it.

    :param exit_code: ``status:signal`` as SLURM says; ``0:0`` is success.
    """

    def __init__(self, site: Site, here: JobState, place: Workspace, user: account.Account, exit_code: str) -> None:
        self._site, self._here, self._place, self._user, self._exit_code = site, here, place, user, exit_code
        # What root wrote down when the job started; SLURM's restart count, for one, is another by now.
        self._known: Dict[str, Any] = here.facts()
        self._folder = ""

    @property
    def has_run(self) -> bool:
        """Whether the prolog let the job start on this node."""
        return self._known.get("status") == READY

    @property
    def has_failed(self) -> bool:
        return self._exit_code != "0:0"

    def stop(self) -> None:
        """Stop the job's containers, and nobody else's.

        :raises NodeFault: the Docker daemon does not answer (part ``docker``).
        """
        docker = Engine(self._site.docker_socket)
        for container in docker.containers_of(str(self._known["job_id"])):
            docker.stop(container["id"], _STOP_SECONDS)

    def gather(self) -> None:
        """Copy this node's results to the share, as the job's user.

        :raises ShareFault: the share cannot be written; the results stay on the node then.
        """
        nodes = self._known["nodes"]
        sources: List[artifacts.Source] = [{"path": self._place.results, "all": True}]
        sources += artifacts.workspaces(self._known["job_id"], self._known["node_rank"], len(nodes))
        gathered = account.run(self._user, artifacts.gather, sources, self._collection, self._facts(), self._known["began"])
        self._folder = gathered["folder"]

    def choose(self) -> None:
        """Rank what all nodes have gathered so far, and publish the best; the last node to come leaves the answer."""
        facts = {"failed": self.has_failed, "exit_code": self._exit_code, "since": self._known["began"]}
        facts.update({name: self._known[name] for name in ("job_id", "attempt", "nodes")})
        account.run(self._user, results.settle, self._collection, self._csv, self._site.results_policy, facts)

    def report(self) -> None:
        """Put this node's timeline beside its results."""
        if self._folder:
            account.run(self._user, files.write, os.path.join(self._folder, _TIMELINE), self._here.text(_TIMELINE) or "")

    def remove(self) -> None:
        """Remove the job's containers, and nobody else's.

        :raises NodeFault: as `stop`.
        """
        docker = Engine(self._site.docker_socket)
        for container in docker.containers_of(str(self._known["job_id"])):
            docker.remove(container["id"])

    def clean(self) -> None:
        """Remove the job's workspace and its state; results that could not be gathered stay."""
        if self._folder or not self.has_run:
            self._place.remove()
        self._here.remove()

    @property
    def _collection(self) -> str:
        return str(self._known["collection_dir"])

    @property
    def _csv(self) -> str:
        names = self._known.get("results") or [""]
        return str(names[0])

    def _facts(self) -> Dict[str, Any]:
        images = self._known.get("images") or [{}]
        return {
            "rank": self._known["node_rank"],
            **{name: self._known[name] for name in ("node", "job_id", "attempt")},
            "exit_code": self._exit_code,
            "failed": self.has_failed,
            "csv": self._csv,
            "image": images[0].get("reference", ""),
            "image_id": images[0].get("identity", ""),
        }
