# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What prolog and epilog have in common: whose job it is, where its phases and its verdict are written down.

Source: architecture.md, "Observability".
"""

from __future__ import annotations

import dataclasses
import functools
import os.path
import signal
from dataclasses import dataclass
from typing import Callable, Mapping, Optional

from ..core.errors import Fault, ShareFault
from ..peers import addresses
from ..slurm import allocation, node_addresses
from ..slurm.allocation import Allocation
from . import config, exit_status, job_state, journal, metrics, node_probe, timeline, watchdog
from .config import Site
from .job_state import JobState
from .timeline import Timeline


@dataclass(frozen=True)
class Hook:
    """One of SLURM's scripts.

    :param release: the directory of the release that runs.
    :param begin: says whether the job is ours on this node; after that its state is there.
    :param story: what is done then.
    :param outcome: how the job ended, for the counters; "" while it has not.
    :param leaves_verdict: whether a fault is written down for the job's tasks.
    """

    release: str
    begin: Callable[[Site, Allocation, JobState], bool]
    story: Callable[[Site, Allocation, JobState, Timeline], None]
    outcome: str = ""
    leaves_verdict: bool = False

    def run(self, environ: Mapping[str, str]) -> int:
        """Find out from *environ* whose job this is, tell its story, and return the exit status."""
        site = config.read()
        journal.open_at(site.log_level)
        begun: Optional[JobState] = None
        judge = node_probe.NodeProbe(site).judged  # looks at each part once, whoever asks

        def hook() -> None:
            nonlocal begun
            job = allocation.of(environ)
            if len(job.nodes) > 1:
                conf = environ.get("SLURM_CONF", "")
                # Everybody has to find the leader; of the others an address is a help to it.
                known = {**node_addresses.of(conf, job.nodes), **addresses.given(conf, [job.leader], site.slurm_dir)}
                job = dataclasses.replace(job, addresses=known)
            state = job_state.JobState(job.job_id)
            if self.begin(site, job, state):
                begun = state
                log = Timeline(job.place(), [timeline.appender(state.file("timeline.jsonl")), journal.note], judge)
                with metrics.counted(site.metrics_dir, log, os.path.basename(self.release), journal.say, self.outcome):
                    self.story(site, job, state, log)

        def settle(fault: Fault) -> None:
            if self.leaves_verdict and begun is not None:
                begun.fail(fault)

        return exit_status.run(hook, settle, journal.say, site.drain_on, judge)

    def guarded(self, environ: Mapping[str, str]) -> int:
        """Do `run` in a child and be there when it hangs or dies; return the exit status."""
        site = config.read()
        seconds = site.deadline_seconds + (0.0 if self.leaves_verdict else site.results_wait_seconds) + watchdog.MARGIN_SECONDS
        hangs = ShareFault("hook: it hangs", "look for a filesystem that does not answer: the job's files may lie there", seconds=seconds)
        killed = ShareFault("hook: it was killed", "look with dmesg whether this node had no memory left")

        def failed(fault: Fault) -> None:
            journal.open_at(site.log_level)
            exit_status.run(lambda: _raise(fault), functools.partial(self._end, environ), journal.say, (), lambda same: same)

        def died(number: int) -> None:
            if number == signal.SIGKILL and self.leaves_verdict:  # no defect of ours; an epilog's state stays for whoever runs it again
                failed(killed)
                return
            journal.open_at(site.log_level)
            journal.say(f"madengine: defect: the hook was killed by signal {number}; the job continues without our help")

        return watchdog.guarded(lambda: self.run(environ), seconds, lambda: failed(hangs), died)

    def _end(self, environ: Mapping[str, str], fault: Fault) -> None:
        """Leave the verdict that the hook could not leave; an epilog's job has no tasks any more, and its state goes."""
        state = job_state.JobState(allocation.of(environ).job_id)
        if not state.exists():
            return
        if self.leaves_verdict:
            state.fail(fault)
        else:
            state.remove()


def _raise(fault: Fault) -> None:
    raise fault
