# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with a job that is over, on one of its nodes; each part can be repeated and stands for itself.

Source: results.md, "Gather", "Choose", "Clean"; architecture.md, "Identities".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

from ..core import process
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..docker.engine import Engine
from ..images import distribute
from ..manifest import quoting
from ..peers import credential
from ..report import render
from ..results import bundle, collect, upload
from ..slurm.allocation import Allocation
from ..slurm.hostlist import listed
from . import job_containers, job_results, job_runs, job_secrets, madengine_dirs, origins, request
from .config import Site
from .job_state import ASIDE, FAILED, READY, STARTING, JobState
from .workspace import Workspace

# What madengine 2.1 says where rank 0 has no number, whatever became of the containers.
_NO_NUMBER = "3:0"
_LOOK_SECONDS = 10.0
_TIMELINE = "timeline.jsonl"


class JobEnd:
    """A job that is over, as this node knows it.

    :param job: as SLURM describes it to the epilog.
    :param exit_code: ``status:signal`` as SLURM says; ``0:0`` is success.
    """

    def __init__(self, site: Site, job: Allocation, state: JobState, work: Workspace, exit_code: str) -> None:
        self._site, self._job, self._state, self._work, self._exit_code = site, job, state, work, exit_code
        # What root wrote down when the job started; SLURM's restart count, for one, is another by now.
        self._known = state.status()
        self._deadline = Deadline(site.deadline_seconds)
        # An epilog that is repeated must not gather out of a workspace that is gone.
        self._folder = self._known.gathered
        self._containers: List[str] = []
        self._given: List[str] = []
        self._have_outlived = self._have_failed = False

    @property
    def has_run(self) -> bool:
        """Whether the job has run on this node with our help; where its state is lost, it is taken to have."""
        return self._known.status not in (STARTING, FAILED, ASIDE)

    @property
    def may_have_run(self) -> bool:
        """Whether the job's script was not kept from running: then there may be containers of its own."""
        return self._known.status != FAILED

    @property
    def may_have_left_images(self) -> bool:
        """Whether something of the job's images may still lie about: its prolog did not come to its end."""
        return self._known.status != READY

    @property
    def has_failed(self) -> bool:
        """Whether the job failed or its time was up; of one that was cancelled SLURM tells an epilog nothing (``0:0``)."""
        return self._exit_code != "0:0" or self._is_late

    @property
    def is_failure(self) -> bool:
        """Whether the job's numbers are those of a job that failed, as far as this node knows.

        Of one status that alone says nothing: then its containers tell, and the CSVs.
        """
        return self.has_failed and (self._exit_code != _NO_NUMBER or self._is_late or self._have_outlived or self._have_failed)

    @property
    def is_unshared(self) -> bool:
        """Whether the prologs found that not all nodes see the collection directory that the first one sees."""
        return bool(self._known.unshared_ranks)

    def find(self) -> None:
        """Look for the job's containers, and nobody else's.

        :raises NodeFault: the Docker daemon does not answer (part ``docker``).
        """
        found = self._with_docker(job_containers.find, str(self._job.job_id), self._is_own)
        self._containers = found.ids
        self._have_outlived, self._have_failed = found.is_running, found.has_failed and self._exit_code == _NO_NUMBER
        self._given = found.secrets

    def _is_own(self, job_id: str) -> bool:
        """Say whether another job of this user's is on this node: only then a container may say that it is of that one."""
        if not job_id.isdigit() or int(job_id) == self._job.job_id:
            return False
        return JobState(int(job_id), self._state.base).is_of(self._job.uid)

    def diagnose(self) -> None:
        """Write down what the containers of a job that failed, or that they outlived, are doing and saying, as its user.

        It goes among what will be gathered.

        :raises Fault: it could not be written, or Docker does not answer.
        """
        if self._containers and (self.has_failed or self._have_outlived):
            dest = os.path.join(self._work.results, "diagnostics")
            self._as_user(job_results.diagnose, self._socket, dest, str(self._job.job_id), self._state.file(origins.NOTE), self._secrets)

    def stop(self) -> None:
        """Stop the containers that `find` has found.

        :raises NodeFault: as `find`.
        """
        if self._containers:
            self._with_docker(job_containers.stop, self._containers)

    def gather(self) -> None:
        """Copy this node's results to the share, as the job's user; once this has been done it is not done again.

        :raises Fault: they could not be copied, and stay on the node; the fault says where.
        """
        if self._folder:
            return
        if self._known.status != READY:
            raise JobFault("job_end: what this node knew of the job is lost", "copy the results by hand", results=self._work.results)
        sources: List[collect.Source] = [{"path": self._work.results, "all": True}]
        known, folders = self._known, self._work.temporary_dirs()
        sources += collect.sources_in(self._workspaces)
        with self._kept(self._work.results):
            self._folder = self._gathered(sources)
            if known.run_base and not self._is_guest:
                self._as_user(
                    job_runs.gather, folders, known.run_base, self._facts(), known.began, self._state.file(origins.NOTE), self._secrets
                )
        self._state.ready(gathered=self._folder)

    def exchange(self) -> None:
        """Where nodes share no directory: the first one takes the others' results in, and any other brings its own to that one.

        :raises Fault: some did not come, or this node's could not be brought, and where they stay.
        """
        if self._is_guest:
            self._bring()
        else:
            self._take_in()

    def choose(self) -> None:
        """Rank what all nodes have gathered so far, and publish the best; the last node to come leaves the answer.

        A node that could bring nothing leaves this to the others, who see the same files; one that sees others leaves it
        to the first node.
        """
        if self._folder and not self._is_guest:
            facts = {"failed": self.is_failure, "exit_code": self._exit_code, "since": self._known.began}
            facts.update({name: getattr(self._known, name) for name in ("job_id", "attempt", "nodes")})
            further, note = list(self._known.results[1:]), self._state.file(origins.NOTE)
            asked = self._csv, self._site.results_policy, facts, further
            self._as_user(job_results.settle, self._collection, *asked, note)
            if self._known.run_base:
                self._as_user(job_runs.settle, self._known.run_base, *asked, self._collection, note)

    def report(self) -> None:
        """Put this node's timeline beside its results; the last node to come writes the job's report."""
        if self._folder:
            self._put_timeline()
            if not self._is_guest:
                self._as_user(render.write_if_last, self._collection, self.is_unshared)

    def remove(self) -> None:
        """Remove the containers that `find` has found.

        :raises NodeFault: as `find`.
        """
        if self._containers:
            self._with_docker(job_containers.remove, self._containers)

    def release(self) -> None:
        """Give back the leases that the job still has in the image store, and remove what came of a broadcast."""
        self._as_user(distribute.forget, self._store, str(self._job.job_id))

    def clean(self) -> None:
        """Remove the job's workspace and its state; results that could not be gathered elsewhere stay."""
        is_empty = bool(self._folder) and not self._folder.startswith(self._work.path + os.sep)
        try:
            if (is_empty or not self.has_run) and not self._site.keep_workspace:
                said = self._work.temporary_dirs()[:-1]
                with contextlib.suppress(OSError):  # whatever a user has made of it
                    self._work.remove()
                self._remove_madengine_s(said)
        finally:
            self._state.remove()

    def _remove_madengine_s(self, folders: List[str]) -> None:
        """Remove what madengine worked in on this node (its credential.json is in there), as the user; in /tmp then what is root's in it.

        :param folders: where the tasks said that their temporary files are.
        """
        rank = self._known.node_rank
        with contextlib.suppress(JobFault):  # a user whom this node has forgotten
            for folder in folders:
                self._as_user(madengine_dirs.remove, self._job.job_id, rank, None, folder)
            left = self._as_user(madengine_dirs.remove, self._job.job_id, rank)
            if left:
                madengine_dirs.remove(self._job.job_id, rank, self._job.uid)

    def _with_docker(self, work: Callable[..., Any], *args: Any) -> Any:
        """Return what *work* makes of the job's daemon: root asks the node's, and the user asks the user's own."""
        asked = self._as_user if self._site.has_own_dockers else lambda work, *args: work(*args)
        return asked(_asked, self._socket, work, *args)

    @property
    def _socket(self) -> str:
        if "%" not in self._site.docker_socket:
            return self._site.docker_socket
        is_service_s = self._site.docker_access == "service"
        return self._site.socket_of(process.named(process.SERVICE) if is_service_s else self._user)

    def _as_user(self, work: Callable[..., Any], *args: Any) -> Any:
        return process.run(self._user, work, *args, deadline=self._deadline)

    @functools.cached_property
    def _user(self) -> process.Account:
        """The job's, asked for once: a directory service that hangs costs its time every time."""
        return process.of(self._job.uid, self._job.gid)

    def _gathered(self, sources: List[collect.Source]) -> str:
        """Return where this node's results are now; one that shares none may lack the work directory altogether."""
        try:
            return self._gathered_in(self._collection, sources)
        except ShareFault:
            if not self._is_guest:
                raise
        return self._gathered_in(self._work.make_aside(self._job.uid, self._job.gid), sources)

    def _gathered_in(self, collection: str, sources: List[collect.Source]) -> str:
        facts = self._facts()
        if self._known.run_base:
            facts["runs"] = self._as_user(job_results.runs, self._known.job_id, self._known.node_rank, self._work.temporary_dirs())
        if self._is_guest:
            facts["elsewhere"] = "{}:{}/node_{}".format(facts["node"], collection, facts["rank"])
        return str(
            self._as_user(job_results.gather, sources, collection, facts, self._known.began, self._state.file(origins.NOTE), self._secrets)
        )

    def _take_in(self) -> None:
        """Wait for the bundles of those who share no directory; what a run before this one has got is not waited for again."""
        ranks, refusal = self._known.unshared_ranks, None
        if self._folder:
            ranks = self._as_user(bundle.missing, self._collection, ranks, vars(self._known))
        else:
            refusal = ShareFault("job_end: the first node has no place for results", "read its epilog log")
        user = self._user

        def store(rank: int, brought: Any) -> process.Child:
            return process.start(user, bundle.unpack, self._collection, brought, rank)

        came = upload.collect(*self._meeting, ranks, store, self._wait, refusal=refusal, ports=self._site.port_range)
        lost = [str(self._known.nodes[rank]) for rank in ranks if not came.get(rank)]
        if lost:
            raise ShareFault(
                "job_end: not all nodes brought their results", "fetch them there", missing=listed(lost), waited_seconds=self._wait
            )

    def _bring(self) -> None:
        """Bring this node's candidates to the first node; what is not taken there stays here."""
        if self._folder and not self._known.delivered:
            with self._kept(self._folder):
                self._put_timeline()
                packed = self._as_user(bundle.pack, self._folder, self._known.node_rank, list(self._known.results) or [""])
                upload.deliver(*self._meeting, packed, self._wait, ports=self._site.port_range)
            self._state.ready(delivered=True)

    def _put_timeline(self) -> None:
        text = quoting.masked(self._state.text(_TIMELINE) or "", self._secrets)
        self._as_user(job_results.write, os.path.join(self._folder, _TIMELINE), text)

    @functools.cached_property
    def _secrets(self) -> List[str]:
        """The values that nothing of what we keep may show, as far as this node can find them out."""
        user, folders = self._user, self._workspaces
        found: List[str] = []
        with contextlib.suppress(Fault):  # the share hangs, or the user is gone
            found = process.run(user, job_secrets.values_of, self._job, folders, deadline=self._deadline.sooner(_LOOK_SECONDS))
        return [*found, *self._given]

    @property
    def _workspaces(self) -> List[str]:
        known = self._known
        return collect.workspaces(known.job_id, known.node_rank, len(known.nodes), self._work.temporary_dirs())

    @contextlib.contextmanager
    def _kept(self, where: str) -> Iterator[None]:
        """Have a fault say *where* the results stay, whatever it is."""
        try:
            yield
        except Fault as fault:
            if where not in str(fault):
                fault.seen = {**fault.seen, "results": where}
            raise

    @property
    def _is_guest(self) -> bool:
        """Whether the first node does not see what this one writes."""
        return self.is_unshared and self._known.node_rank != 0

    @property
    def _meeting(self) -> Tuple[Allocation, credential.Credential]:
        """Return who meets, as the prologs knew each other, and this node's proof that it belongs to them."""
        known = self._known
        allocation = dataclasses.replace(self._job, attempt=known.attempt, nodes=known.nodes, node=known.node)
        context = allocation.cluster, allocation.job_id, allocation.attempt, "results"
        return allocation, credential.of(self._site.auth, self._site.key_file, *context)

    @property
    def _is_late(self) -> bool:
        return time.time() >= (self._known.ends_by or float("inf"))

    @property
    def _wait(self) -> float:
        return self._site.results_wait_seconds

    @property
    def _store(self) -> str:
        with contextlib.suppress(JobFault):
            return request.read(self._job).store or self._site.image_store
        return self._site.image_store

    @property
    def _collection(self) -> str:
        return self._known.collection_dir

    @property
    def _csv(self) -> str:
        return self._known.results[0] if self._known.results else ""

    def _facts(self) -> Dict[str, Any]:
        return job_results.facts_of(self._known, self._csv, self._exit_code, self.is_failure)


def _asked(socket: str, work: Callable[..., Any], *args: Any) -> Any:
    with contextlib.closing(Engine(socket)) as docker:
        return work(docker, *args)
