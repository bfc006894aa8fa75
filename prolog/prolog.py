# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start of a madengine job, on each of its nodes, before its first task.

slurmd starts the gate ``50-madengine`` as root, and the gate starts this. Root forks; whatever touches the user's files
or the Docker socket runs as the job's user. Exit status: 0, or 75 where this node must leave service (see ``context``).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from typing import Any, Callable, Dict, Iterator, List

RELEASE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(RELEASE, "lib"))

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import deadline, errors, process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import (
    config,
    exit_status,
    job_images,
    job_state,
    journal,
    metrics,
    request,
    task_environment,
    timeline,
    workspace,
)
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import barrier, credential, session
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import shared_dir
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import allocation, settings

# A node that gives up before it has met the others looks for them no longer than this; a lease that is not given back expires.
TELLING_SECONDS, RELEASE_SECONDS = 3.0, 30.0


def story(site: config.Site, job: allocation.Allocation, here: job_state.JobState, log: timeline.Timeline) -> None:
    """Give the job its images and its environment on this node, or raise the fault that keeps it from starting."""
    within = deadline.Deadline(site.deadline_seconds)
    place = workspace.Workspace(job.job_id)
    meet = functools.partial(meeting_of, site, job, within)
    with abort_peers(meet):
        with log.step("manifest"):
            user = process.of(job.uid, job.gid)
            asked = request.read(job)
            wanted = process.run(user, task_environment.wanted, asked, site.pass_env, deadline=within)
        if wanted is not None:
            place.make(job.uid, job.gid)
            place.sweep(lambda job_id: job_state.JobState(job_id).exists())
    if wanted is None:  # `madengine run` without a manifest: it did not ask, and there is nothing to do for it
        tell(meet, errors.JobFault("handover: no manifest on this node", "put it where all nodes see it", path=asked.manifest))
        here.remove()
        return
    with abort_peers(meet):
        images = images_of(site, job, asked, user, within)
        images.prepare()
        have = [] if job.is_leader else images.have()
    collection = task_environment.collection_dir(job, wanted["models"])
    with (
        meet(have=have) as meeting,
        shared_dir.SharedDirProbe(user, within, (collection, job.attempt, job.node_rank, len(job.nodes))) as common,
    ):
        offers = lead(meeting, images, common, wanted, log) if meeting.is_leader else follow(meeting, images, common, log)
    with log.step("handover"):
        task_environment.write(here, job, wanted, offers, place.results)
        here.ready(images=offers, results=wanted["results"], collection_dir=collection, apart=common.apart)


def lead(
    meeting: session.Session,
    images: job_images.JobImages,
    common: shared_dir.SharedDirProbe,
    wanted: Dict[str, Any],
    log: timeline.Timeline,
) -> Any:
    """Publish the images, and let all go when all have loaded them."""
    with log.step("publish") as facts:
        held = meeting.common() if images.may_broadcast else []
        offers = meeting.run_child(images.stage(wanted["images"], len(meeting.allocation.nodes) == 1, held))
        facts.update(job_images.totals(offers))
    common.mark(meeting)
    meeting.publish(offers)
    try:
        with log.step("rendezvous", nodes=len(meeting.allocation.nodes)):
            meeting.finish()
    finally:
        leased = [offer for offer in offers if offer.get("lease")]
        if leased:
            # A share that hangs by now costs some seconds, and neither the job nor the fault that is on its way up.
            with contextlib.suppress(Exception), log.step("release"):
                images.release(leased).result(deadline.Deadline(RELEASE_SECONDS))
    return offers


def follow(meeting: session.Session, images: job_images.JobImages, common: shared_dir.SharedDirProbe, log: timeline.Timeline) -> Any:
    """Load what the leader offers, and wait until all others have, too."""
    with log.step("wait"):
        offers = meeting.images()
    with log.step("load") as facts:
        loaded = meeting.run_child(images.load(offers))
        facts.update(job_images.totals(loaded))
    common.mark(meeting)
    with log.step("rendezvous"):
        meeting.loaded([image["identity"] for image in loaded])
    return offers


@contextlib.contextmanager
def abort_peers(meet: Callable[..., session.Session]) -> Iterator[None]:
    """Let the other nodes know at once why this one gives up, where they would wait for it until the deadline."""
    try:
        yield
    except Exception as error:
        tell(meet, error)
        raise


def tell(meet: Callable[..., session.Session], error: Exception) -> None:
    """Let those who have come to meet this node know why it does not take part."""
    with contextlib.suppress(Exception), meet(grace_seconds=TELLING_SECONDS):
        raise error


def meeting_of(site: config.Site, job: allocation.Allocation, within: deadline.Deadline, **options: Any) -> session.Session:
    """Return the meeting of the job's nodes; one that is alone needs no proof of what it is, and no key."""
    proof = credential.of(site.auth, site.key_file) if len(job.nodes) > 1 else credential.Munge()
    return barrier.meet(job, proof, within, ports=site.port_range, **options)


def images_of(
    site: config.Site, job: allocation.Allocation, asked: request.Request, user: process.Account, within: deadline.Deadline
) -> job_images.JobImages:
    """Return the job's images, as the one who may ask Docker sees them."""
    acting = user if site.docker_access == "user" else process.named(process.SERVICE)
    folder = os.path.dirname(asked.manifest)
    return job_images.JobImages(site, asked.store, acting, within, asked.transport, job.job_id, folder, len(job.nodes))


def main() -> int:
    """Find out whose job this is, and tell its story."""
    site = config.read()
    journal.open_at(site.log_level)
    verdicts: List[Callable[[errors.Fault], None]] = []

    def hook() -> None:
        job = allocation.of(os.environ)
        if not site.enabled or not request.concerns_us(job):
            return
        if len(job.nodes) > 1 and not settings.meets_in_prolog(os.environ.get("SLURM_CONF", "")):
            journal.say(f"madengine: job {job.job_id}: stepping aside; its nodes cannot meet while PrologFlags lacks Alloc")
            return
        for warning in site.warnings:
            journal.say(f"madengine: {warning}")
        here = job_state.JobState(job.job_id)
        here.begin(job.uid, job.gid, RELEASE, job_state.Status(**job.facts(), began=time.time()))
        verdicts.append(here.fail)
        log = timeline.Timeline(job.place(), [timeline.appender(here.file("timeline.jsonl")), journal.note])
        with metrics.counted(site.metrics_dir, log, os.path.basename(RELEASE), journal.say):
            story(site, job, here, log)

    def decide(fault: errors.Fault) -> None:
        for verdict in verdicts:
            verdict(fault)

    return exit_status.run(hook, decide, journal.say, site.drain_on)


if __name__ == "__main__":
    sys.exit(main())
