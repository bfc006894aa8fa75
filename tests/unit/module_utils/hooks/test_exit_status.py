# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an outcome means to SLURM: a node leaves service for what it cannot do, never for what somebody did wrong."""

from __future__ import annotations

import functools
from typing import List, Optional, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault, PeerFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import exit_status
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.timeline import Timeline

ALL = ("docker", "disk", "key")


def same(fault: Fault) -> Fault:
    return fault


def outcome(error: Optional[BaseException], drain_on: Tuple[str, ...] = ALL) -> Tuple[int, List[Fault], List[str]]:
    faults: List[Fault] = []
    said: List[str] = []

    def story() -> None:
        if error is not None:
            raise error

    return exit_status.run(story, faults.append, said.append, drain_on, same), faults, said


def test_a_story_that_ends_well_says_nothing() -> None:
    assert outcome(None) == (exit_status.DONE, [], [])


@pytest.mark.parametrize("part", ALL)
def test_a_node_leaves_service_for_its_own_fault_of_a_kind_that_the_site_listed(part: str) -> None:
    fault = NodeFault("engine: no answer", "start docker", part=part)
    assert outcome(fault, (part,)) == (exit_status.DRAIN, [fault], [fault.line() + "; this node leaves service"])
    assert outcome(fault, tuple(set(ALL) - {part})) == (exit_status.DONE, [fault], [fault.line()])
    assert outcome(fault, ("none",)) == (exit_status.DONE, [fault], [fault.line()])


@pytest.mark.parametrize("fault", [
    JobFault("image: not allowed", "ask"),
    ShareFault("layout: store away", "mount it"),
    PeerFault("n2", NodeFault("engine: no answer", "start docker", part="docker")),
    NodeFault("host: odd", "look"),
    NodeFault("host: odd", "look", part="none"),
])  # fmt: skip
def test_a_node_stays_in_service_for_what_is_not_its_own_listed_fault(fault: Fault) -> None:
    assert outcome(fault) == (exit_status.DONE, [fault], [fault.line()])


@pytest.mark.parametrize("error", [ValueError("boom"), RecursionError(), MemoryError(), OSError(28, "No space left")])
def test_a_defect_of_ours_keeps_no_job_and_drains_no_node_but_is_loud(error: Exception) -> None:
    status, faults, said = outcome(error)
    assert (status, faults) == (exit_status.DONE, [])
    assert said[0].startswith("madengine: defect: the job continues without our help\nTraceback")
    assert type(error).__name__ in said[0]


def test_being_told_to_stop_is_no_outcome_of_ours() -> None:
    with pytest.raises(SystemExit):
        outcome(SystemExit(143))


def _raise(*_args: object) -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize(("part", "status"), [("disk", exit_status.DRAIN), ("weather", exit_status.DONE)])
def test_a_fault_that_cannot_be_written_down_still_decides_about_the_node(part: str, status: int) -> None:
    said: List[str] = []
    fault = NodeFault("files: too little space", "free space", part=part)

    def story() -> None:
        raise fault

    assert exit_status.run(story, _raise, said.append, ALL, same) == status
    assert said[0].startswith(fault.line())
    assert said[1].startswith("madengine: defect: the fault could not be written down\nTraceback")


def test_a_part_for_which_the_node_leaves_service_counts_before_another_of_the_node() -> None:
    docker = NodeFault("engine: no answer", "start docker", part="docker")
    assert parts_done(DISK, docker, drain_on=("docker",))[2] is docker
    assert parts_done(DISK, docker, drain_on=("disk",))[2] is DISK


def test_a_log_that_cannot_be_reached_keeps_no_verdict_from_being_written() -> None:
    faults: List[Fault] = []
    fault = JobFault("image: nobody has it", "build it")

    def story() -> None:
        raise fault

    assert exit_status.run(story, faults.append, _raise, ALL, same) == exit_status.DONE
    assert faults == [fault]
    assert exit_status.run(story, _raise, _raise, ALL, same) == exit_status.DONE


DISK, SHARE = NodeFault("files: too little space", "free space", part="disk"), ShareFault("results: store away", "mount it")


def parts_done(
    *errors: Optional[Exception], say: exit_status.Say = lambda _text: None, drain_on: Tuple[str, ...] = ()
) -> Tuple[List[int], List[str], Optional[Fault]]:
    """Do a part for each of *errors*, which it raises; give back what was begun, the results in the timeline, the fault."""
    begun: List[int] = []

    def part(number: int, error: Optional[Exception]) -> None:
        begun.append(number)
        if error is not None:
            raise error

    log = Timeline({}, [])
    raised: Optional[Fault] = None
    try:
        parts = [(f"part{number}", functools.partial(part, number, error)) for number, error in enumerate(errors)]
        exit_status.each(parts, log, say, drain_on)
    except Fault as fault:
        raised = fault
    return begun, [line["result"] for line in log.lines], raised


def test_every_part_of_an_epilog_is_done_whatever_becomes_of_the_others() -> None:
    said: List[str] = []
    assert parts_done(SHARE, None, ValueError("boom"), DISK, None, say=said.append) == (
        [0, 1, 2, 3, 4], ["share", "ok", "defect", "node", "ok"], DISK,
    )  # fmt: skip
    assert said[0].startswith("madengine: defect: part2 was left undone\nTraceback")
    assert said[1:] == [SHARE.line()]
    assert parts_done(None, None) == ([0, 1], ["ok", "ok"], None)


def test_the_gravest_fault_is_the_one_that_counts_and_else_the_first() -> None:
    other = JobFault("manifest: cannot read", "look")
    assert parts_done(SHARE, DISK)[2] is parts_done(DISK, SHARE)[2] is DISK
    assert parts_done(SHARE, other)[2] is SHARE


def test_a_log_that_cannot_be_reached_leaves_no_part_undone() -> None:
    assert parts_done(ValueError("boom"), SHARE, DISK, None, say=_raise) == ([0, 1, 2, 3], ["defect", "share", "node", "ok"], DISK)


def test_the_status_that_drains_is_one_that_no_interpreter_ends_with() -> None:
    # 1 a traceback, 2 a usage error, 120 a lost stdout, 126 and 127 from the shell, above 128 a signal.
    assert exit_status.DRAIN not in {0, 1, 2, 120, 126, 127, *range(128, 256)}
