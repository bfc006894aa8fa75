# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What prolog and epilog have in common: nothing is written for a job that is not ours, and a verdict has one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault, Part
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import (
    config,
    exit_status,
    hook,
    job_state,
    journal,
    metrics,
    node_probe,
)

FAULT = JobFault("image: nobody has it", "build it")
ENVIRONMENT = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_UID": "1000",
    "SLURM_JOB_GID": "1000",
    "SLURM_JOB_NODELIST": "n1",
    "SLURMD_NODENAME": "n1",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> job_state.JobState:
    known = job_state.JobState(4711, str(tmp_path / "run"))
    monkeypatch.setattr(job_state, "JobState", lambda job_id: known)
    monkeypatch.setattr(config, "read", lambda: config.Site(metrics_dir=str(tmp_path), drain_on=("docker",)))
    monkeypatch.setattr(journal, "open_at", lambda level: None)
    monkeypatch.setattr(journal, "note", lambda text: None)
    return known


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    lines: List[str] = []
    monkeypatch.setattr(journal, "say", lines.append)
    return lines


def begin(site: config.Site, job: Any, state: job_state.JobState) -> bool:
    state.begin(0, 0, "/opt/release", job_state.Status())
    return True


def raising(fault: Fault) -> Any:
    def story(site: config.Site, job: Any, state: job_state.JobState, log: Any) -> None:
        with log.step("image"):
            raise fault

    return story


def test_the_story_gets_what_slurm_says_and_its_phases_are_counted(here: job_state.JobState, said: List[str], tmp_path: Path) -> None:
    def story(site: config.Site, job: Any, state: job_state.JobState, log: Any) -> None:
        with log.step("image", node=job.node):
            pass

    assert hook.Hook("/opt/7", begin, story, outcome="ok").run(ENVIRONMENT) == exit_status.DONE
    counters = (tmp_path / "madengine.prom").read_text()
    assert 'madengine_jobs_total{outcome="ok"} 1' in counters
    assert 'madengine_phase_total{phase="image",result="ok"} 1' in counters
    assert 'madengine_release_info{release="7"} 1' in counters
    assert '"phase": "image"' in (here.text("timeline.jsonl") or "")
    assert said == []


def test_a_job_that_is_not_ours_gets_no_story_and_no_state(here: job_state.JobState, said: List[str], tmp_path: Path) -> None:
    assert hook.Hook("/opt/7", lambda *_: False, raising(FAULT), leaves_verdict=True).run(ENVIRONMENT) == exit_status.DONE
    assert (here.exists(), said, (tmp_path / "madengine.prom").exists()) == (False, [], False)


@pytest.mark.parametrize(("leaves_verdict", "verdict"), [(True, FAULT.line()), (False, "starting")])
def test_a_fault_is_written_down_where_tasks_are_to_come(
    here: job_state.JobState, said: List[str], leaves_verdict: bool, verdict: str
) -> None:
    assert hook.Hook("/opt/7", begin, raising(FAULT), leaves_verdict=leaves_verdict).run(ENVIRONMENT) == exit_status.DONE
    assert ((here.text("verdict") or "").strip(), said) == (verdict, [FAULT.line()])


def test_a_fault_before_the_job_is_ours_spoils_no_state_that_another_attempt_has_left(here: job_state.JobState, said: List[str]) -> None:
    def no_begin(site: config.Site, job: Any, state: job_state.JobState) -> bool:
        raise FAULT

    here.begin(0, 0, "/opt/release", job_state.Status())
    assert hook.Hook("/opt/7", no_begin, raising(FAULT), leaves_verdict=True).run(ENVIRONMENT) == exit_status.DONE
    assert (here.text("verdict") or "").strip() == "starting"


@pytest.mark.parametrize(("found", "status"), [("no answer", exit_status.DRAIN), ("", exit_status.DONE)])
def test_a_part_of_the_node_that_the_site_named_takes_it_out_of_service_if_root_finds_it_broken_too(
    here: job_state.JobState, said: List[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str, status: int
) -> None:
    monkeypatch.setattr(node_probe.NodeProbe, "finds", lambda probe, part: found)
    fault = NodeFault("engine: no answer", "start docker", part=Part.DOCKER)
    assert hook.Hook("/opt/7", begin, raising(fault)).run(ENVIRONMENT) == status
    # What is counted as the node's, and wakes people up, is what root has found, too.
    result = "node" if status == exit_status.DRAIN else "job"
    assert f'madengine_phase_total{{phase="image",result="{result}"}} 1' in (tmp_path / "madengine.prom").read_text()
    assert f'"result": "{result}"' in (here.text("timeline.jsonl") or "")


def test_a_part_that_nobody_could_look_at_is_counted_as_the_job_s(
    here: job_state.JobState, said: List[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(probe: node_probe.NodeProbe, part: Part) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(node_probe.NodeProbe, "finds", broken)
    fault = NodeFault("engine: no answer", "start docker", part=Part.DOCKER)
    assert hook.Hook("/opt/7", begin, raising(fault)).run(ENVIRONMENT) == exit_status.DONE
    counters = (tmp_path / "madengine.prom").read_text()
    assert 'result="job"' in counters
    assert 'result="node"' not in counters


@pytest.mark.parametrize(
    "facts",
    [
        {"phase": "x", "result": "node", "seconds": -1, "time": 5, "outcome": "x"},
        {'phase="image",evil="1"} 1\nmadengine_phase_total{phase="x': 1, "method": 'a"b\nmadengine_phase_total{phase="x"} 9\n'},
        {f"series{number}": number for number in range(5000)},
        {"bytes_moved": "NaN"},
        {"bytes_moved": 1e300, "bytes": 10**400},
        {"bytes_moved": [1], "images": {"a": "b"}},
    ],
)
def test_what_a_user_s_process_tells_of_a_phase_makes_no_series_of_its_own(
    here: job_state.JobState, said: List[str], tmp_path: Path, facts: Any
) -> None:
    def story(site: config.Site, job: Any, state: job_state.JobState, log: Any) -> None:
        with log.step("load") as told:
            told.update(facts)

    hook.Hook("/opt/7", begin, story).run(ENVIRONMENT)
    found = metrics.parse((tmp_path / "madengine.prom").read_text())
    assert {labels for _name, labels in found} == {
        (("phase", "load"),), (("phase", "load"), ("result", "ok")), (("release", "7"),),
    }  # fmt: skip
    assert len(found) == 5
    assert len((tmp_path / "madengine.prom").read_text().splitlines()) == 3 * len(found)


def test_a_job_of_several_nodes_knows_their_addresses(here: job_state.JobState, said: List[str], tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("NodeName=n[1-2] NodeAddr=10.0.0.[1-2]\n")
    seen = []

    def story(site: config.Site, job: Any, state: job_state.JobState, log: Any) -> None:
        seen.append((job.leader_address, job.address_of("n2")))

    environment = {**ENVIRONMENT, "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CONF": str(tmp_path / "slurm.conf")}
    assert hook.Hook("/opt/7", begin, story).run(environment) == exit_status.DONE
    assert seen == [("10.0.0.1", "10.0.0.2")]
