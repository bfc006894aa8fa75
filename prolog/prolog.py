# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start of a madengine job, on each of its nodes, before its first task.

slurmd starts the gate ``50-madengine`` as root, and the gate starts this. Root forks; whatever touches the user's files
or the Docker socket runs as the job's user. Exit status: 0, or 75 where this node must leave service (see ``exit_status``).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from typing import Any, Iterator, List

RELEASE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(RELEASE, "lib"))

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, PeerFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import (
    hook,
    job_images,
    job_state,
    journal,
    node_probe,
    origins,
    request,
    task_environment,
    workspace,
)
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.timeline import Timeline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest.job_spec import JobSpec
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import barrier, credential, session
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import shared_dir
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import job_life, sbcast, settings
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation

PROGRAM = "/opt/madengine-hooks/current/prolog/prolog.py"  # as the gate starts it
RELEASE_SECONDS = 30.0  # a lease that is not given back by then expires


def begin(site: Site, job: Allocation, state: job_state.JobState) -> bool:
    """Say whether the job is ours; then this node has a state of it."""
    if not site.enabled or not request.concerns_us(job):
        return False
    release = functools.partial(settings.installed, site.slurm_dir)
    if len(job.nodes) > 1 and not settings.meets_in_prolog(os.environ.get("SLURM_CONF", ""), release):
        journal.say(f"madengine: job {job.job_id}: stepping aside; its nodes cannot meet while PrologFlags lacks Alloc")
        return False
    for warning in site.warnings:
        journal.say(f"madengine: {warning}")
    implicit = not request.is_explicit(job)
    state.begin(job.uid, job.gid, RELEASE, job_state.Status(**job.facts(), began=time.time(), implicit=implicit))
    return True


def story(site: Site, job: Allocation, state: job_state.JobState, log: Timeline) -> None:
    """Give the job its images and its environment on this node, or raise the fault that keeps it from starting."""
    deadline, work = Deadline(site.deadline_seconds), workspace.Workspace(job.job_id)
    context, grace = (job.cluster, job.job_id, job.attempt, "start"), site.arrival_grace_seconds
    proof = functools.partial(credential.of, site.auth, site.key_file, *context)
    with barrier.Barrier(job, proof, deadline, ports=site.port_range, grace_seconds=grace) as peers, node_probe.own_docker(site):
        with log.step("manifest"):
            user = process.of(job.uid, job.gid)
            asked = request.read(job)
            wanted = JobSpec.of(process.run(user, task_environment.wanted, asked, site.pass_env, deadline=deadline))
        work.make(job.uid, job.gid)
        work.sweep(lambda job_id: job_state.JobState(job_id).exists())
        images = images_of(site, job, asked, user, deadline)
        images.prepare()
        collection = task_environment.collection_dir(job, wanted.names)
        bare, over = functools.partial(bare_nodes, site, job, user), functools.partial(job_over, site, job, user)
        together = peers.join([] if job.is_leader else images.have(), bare=bare, over=over)
        with shared_dir.SharedDirProbe(user, deadline, (collection, job.attempt, job.node_rank, len(job.nodes))) as probe:
            offers = lead(together, images, probe, wanted, log) if job.is_leader else follow(together, images, probe, log)
    with log.step("handover"):
        task_environment.write(state, job, wanted, offers, work.results, asked.keep, sys.executable)
        origins.note(state, job, user, asked, wanted, deadline)
        state.note(*job_images.decisions(offers), *wanted.left_out)
        base = task_environment.run_base(job, wanted)
        state.ready(images=offers, results=wanted.results, collection_dir=collection, run_base=base, unshared_ranks=probe.unshared_ranks)


def lead(together: session.Session, images: job_images.JobImages, probe: shared_dir.SharedDirProbe, wanted: JobSpec, log: Timeline) -> Any:
    """Publish the images, and let all go when all have loaded them.

    The others are told as soon as they can begin, and anew where the images turn out otherwise than they were told.
    """
    nodes, offering = len(together.allocation.nodes), job_images.Offering(together.publish)
    probe.leave_marker(together)
    with leases_of(offering, images, log):
        with log.step("publish") as facts:
            held = together.common() if images.may_broadcast else []
            offers = together.run_child(images.stage(wanted.images, nodes == 1, held), offering.begin)
            facts.update(job_images.totals(offers))
        offering.complete(offers)
        with log.step("rendezvous", nodes=nodes):
            faults = together.declined(functools.partial(job_images.has_another_way, offers))
            if not faults:
                together.finish()
        if faults:
            offers = otherwise(together, images, wanted, offering, held, faults, log)
    return offers


def otherwise(
    together: session.Session,
    images: job_images.JobImages,
    wanted: JobSpec,
    offering: job_images.Offering,
    held: List[str],
    faults: List[PeerFault],
    log: Timeline,
) -> Any:
    """Offer the images another way, for some nodes cannot take them the first; once, for each node says what it likes."""
    with log.step("publish") as facts:
        declined = job_images.declined(offering.offers, faults)
        offers = together.run_child(images.stage(wanted.images, False, held, declined))
        facts.update(job_images.totals(offers))
    offering.complete(offers)
    with log.step("rendezvous"):
        together.finish()
    return offers


def follow(together: session.Session, images: job_images.JobImages, probe: shared_dir.SharedDirProbe, log: Timeline) -> Any:
    """Load what the leader offers, and wait until all others have, too; once more where it offers something else meanwhile."""
    while True:
        with contextlib.suppress(session.Withdrawn):
            return loaded_with(together, images, probe, log)


def loaded_with(together: session.Session, images: job_images.JobImages, probe: shared_dir.SharedDirProbe, log: Timeline) -> Any:
    """Load what the leader offers now.

    :raises Withdrawn: it offers something else.
    """
    with log.step("wait"):
        offers = together.images()
    with log.step("load") as facts:
        try:
            loaded = together.run_child(images.load(offers))
        except Fault as fault:
            if not job_images.may_decline(offers, fault):
                raise
            facts["reason"] = str(fault)
            together.decline(fault)
        facts.update(job_images.totals(loaded))
    probe.leave_marker(together)
    with log.step("rendezvous"):
        together.loaded([image["identity"] for image in loaded])
    return job_images.decided(offers, loaded)


@contextlib.contextmanager
def leases_of(offering: job_images.Offering, images: job_images.JobImages, log: Timeline) -> Iterator[None]:
    """Give the store's leases back at the end of the block, however it ends."""
    try:
        yield
    finally:
        leased = offering.leased
        if leased:
            # A share that hangs by now costs some seconds, and neither the job nor the fault that is on its way up.
            with contextlib.suppress(Exception), log.step("release"):
                images.release(leased).result(Deadline(RELEASE_SECONDS))


def bare_nodes(site: Site, job: Allocation, user: process.Account) -> process.Child:
    """Begin to look which of the job's nodes have neither the gate that SLURM started here, nor a release."""
    paths, search = [*sys.argv[1:2], PROGRAM], settings.search_path(site.slurm_dir)
    return process.start(user, sbcast.without, paths, PROGRAM, str(job.job_id), search)


def job_over(site: Site, job: Allocation, user: process.Account) -> process.Child:
    """Begin to ask, as its user, whether the job is over for SLURM."""
    search, conf = settings.search_path(site.slurm_dir), os.environ.get("SLURM_CONF", "")
    return process.start(user, job_life.over, job.job_id, job.attempt, search, conf)


def images_of(site: Site, job: Allocation, asked: request.Request, user: process.Account, deadline: Deadline) -> job_images.JobImages:
    """Return the job's images, as the one who may ask Docker sees them."""
    acting = user if site.docker_access == "user" else process.named(process.SERVICE)
    folder = os.path.dirname(asked.manifest)
    return job_images.JobImages(site, asked.store, acting, deadline, asked.transport, job.job_id, folder, len(job.nodes))


def main() -> int:
    """Tell the story of a job that is ours, and leave the verdict for its tasks."""
    return hook.Hook(RELEASE, begin, story, leaves_verdict=True).guarded(os.environ)


if __name__ == "__main__":
    sys.exit(main())
