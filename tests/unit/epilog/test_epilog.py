# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The epilog's story: each part is done whatever becomes of the others, and no user's fault drains a node."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import exit_status, job_end
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import Status
from helpers import csvs, stories

epilog = stories.imported("epilog")
UNKNOWN = 3999999999  # a uid that no node knows
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")


class Docker:
    """A daemon with one container of the job; a dead one answers nothing."""

    def __init__(self) -> None:
        self.is_dead = False
        self.asked: List[str] = []

    def containers_of(self, job_id: str, is_job: Any = None) -> List[Dict[str, str]]:
        self.asked.append("list")
        if self.is_dead:
            raise NodeFault("engine: no answer", "start docker", part="docker")
        return [{"id": "c"}]

    def container(self, container: str) -> Optional[Dict[str, Any]]:
        return {"State": {"Status": "running"}}

    def stop(self, container: str, grace_seconds: int) -> bool:
        self.asked.append("stop")
        return True

    def remove(self, container: str) -> bool:
        self.asked.append("remove")
        return True

    def close(self) -> None:
        pass


class Ended(stories.StoryNode):
    """A node on which the job has run and left a CSV."""

    docker: Docker

    @property
    def collection(self) -> Path:
        return self.work_dir / "results"

    def has_run(self) -> None:
        self.here.begin(self.uid, self.gid, "/opt/r", Status(job_id=stories.JOB_ID, node="localhost", nodes=("localhost",)))
        self.place.make(self.uid, self.gid)
        self.here.ready(images=[], results=[csvs.NAME], collection_dir=str(self.collection))
        path = csvs.write(Path(self.place.results, csvs.NAME), csvs.table(12.5))
        os.chown(path, self.uid, self.gid)

    def leaves_nothing(self) -> bool:
        return not self.here.exists() and not os.path.lexists(self.place.path)


@pytest.fixture(params=[pytest.param("nobody", marks=as_root), "myself"])
def node(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ended]:
    user = pwd.getpwnam("nobody") if request.param == "nobody" else pwd.getpwuid(os.getuid())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        os.chmod(folder, 0o755)
        made = Ended(Path(folder), monkeypatch, user.pw_uid, user.pw_gid)
        made.docker = Docker()
        monkeypatch.setattr(job_end, "Engine", lambda socket: made.docker)
        yield made


def test_a_job_s_results_are_kept_and_everything_else_goes(node: Ended) -> None:
    node.has_run()
    assert node.tell(epilog, SLURM_JOB_EXIT_CODE2="0:0") == exit_status.DONE
    assert (node.said, node.leaves_nothing()) == ([], True)
    assert (node.collection / "node_0" / csvs.NAME).read_text() == csvs.table(12.5)
    assert json.loads((node.collection / "selection.json").read_text())["verdict"] == "ok"
    assert node.docker.asked == ["list", "stop", "remove"]
    phases = [json.loads(line)["phase"] for line in (node.collection / "node_0/timeline.jsonl").read_text().splitlines()]
    assert phases == ["find", "diagnose", "stop", "gather", "choose", "remove"]
    assert [json.loads(line)["phase"] for line in node.noted] == [*phases, "report", "clean"]


@pytest.mark.parametrize(("code", "verdict"), [("1:0", "job_failed"), ("0:15", "job_failed"), ("0:0", "ok"), ("", "ok")])
def test_how_slurm_says_that_it_ended_is_in_the_verdict(node: Ended, code: str, verdict: str) -> None:
    node.has_run()
    node.tell(epilog, SLURM_JOB_EXIT_CODE2=code)
    assert json.loads((node.collection / "selection.json").read_text())["verdict"] == verdict


def test_a_requeued_job_s_other_restart_count_changes_nothing(node: Ended) -> None:
    node.has_run()
    node.tell(epilog, SLURM_JOB_RESTART_COUNT="1")
    assert json.loads((node.collection / "node_0/node.json").read_text())["attempt"] == 0


def test_a_job_without_a_state_is_not_ours(node: Ended) -> None:
    assert node.tell(epilog) == exit_status.DONE
    assert (node.said, node.noted, node.docker.asked) == ([], [], [])


def test_twice_is_once(node: Ended) -> None:
    node.has_run()
    node.tell(epilog)
    before = {path: path.read_bytes() for path in node.collection.rglob("*") if path.is_file()}
    assert node.tell(epilog) == exit_status.DONE
    assert {path: path.read_bytes() for path in node.collection.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("drain_on", "status"), [(("docker",), exit_status.DRAIN), (("disk",), exit_status.DONE), ((), exit_status.DONE)])
def test_a_dead_daemon_drains_where_the_admin_says_so_and_the_results_are_kept_all_the_same(
    node: Ended, drain_on: Any, status: int
) -> None:
    node.has_run()
    node.site, node.docker.is_dead = Site(drain_on=drain_on), True
    assert node.tell(epilog) == status
    assert len(node.said) == 1
    assert node.said[0].startswith("madengine: node: engine: no answer")
    assert json.loads((node.collection / "selection.json").read_text())["verdict"] == "ok"
    assert node.leaves_nothing()


def test_a_user_whom_the_node_has_forgotten_is_one_line_and_the_rest_is_cleaned(node: Ended) -> None:
    node.has_run()
    assert node.tell(epilog, SLURM_JOB_UID=str(UNKNOWN)) == exit_status.DONE
    assert len(node.said) == 1
    assert "does not know the user" in node.said[0]
    assert node.place.results in node.said[0]
    assert node.docker.asked == ["list", "stop", "remove"]
    assert (os.listdir(node.place.results), node.here.exists()) == ([csvs.NAME], False)


def test_a_share_that_cannot_be_written_is_one_line_and_the_files_stay_where_it_says(node: Ended) -> None:
    node.has_run()
    node.work_dir.rmdir()
    node.work_dir.write_text("no directory")
    node.site = Site(drain_on=("docker", "disk", "key"))
    assert node.tell(epilog) == exit_status.DONE
    assert len(node.said) == 1
    assert node.place.results in node.said[0]
    assert (os.listdir(node.place.results), node.here.exists()) == ([csvs.NAME], False)


@as_root
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_work_directory_that_the_user_may_not_write_is_the_same_line(node: Ended, mode: int) -> None:
    node.has_run()
    node.work_dir.chmod(mode)
    if node.uid != 0:
        assert node.tell(epilog) == exit_status.DONE
        assert len(node.said) == 1
        assert node.place.results in node.said[0]
        assert os.listdir(node.place.results) == [csvs.NAME]


@pytest.mark.parametrize("text", [None, "", "{", "null", "\0"])
def test_a_lost_status_is_one_line_and_the_files_stay(node: Ended, text: Any) -> None:
    node.has_run()
    os.unlink(node.here.file("status.json"))
    if text is not None:
        Path(node.here.file("status.json")).write_text(text)
    assert node.tell(epilog) == exit_status.DONE
    assert len(node.said) == 1
    assert node.place.results in node.said[0]
    assert node.docker.asked == ["list", "stop", "remove"]
    assert (os.listdir(node.place.results), node.here.exists()) == ([csvs.NAME], False)


def test_a_job_that_never_started_costs_docker_nothing(node: Ended) -> None:
    node.here.begin(node.uid, node.gid, "/opt/r", Status(job_id=stories.JOB_ID))
    node.here.fail(JobFault("image: nobody has it", "build it"))
    assert node.tell(epilog) == exit_status.DONE
    assert (node.docker.asked, node.said, node.leaves_nothing()) == ([], [], True)


def test_a_job_that_started_without_our_help_loses_its_containers_too(node: Ended) -> None:
    node.here.begin(node.uid, node.gid, "/opt/r", Status(job_id=stories.JOB_ID))
    node.place.make(node.uid, node.gid)
    assert node.tell(epilog) == exit_status.DONE
    assert (node.docker.asked, node.said, node.leaves_nothing()) == (["list", "stop", "remove"], [], True)


@pytest.mark.parametrize("part", ["stop", "gather", "choose", "remove", "report"])
def test_a_defect_in_one_part_leaves_no_other_undone(node: Ended, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def broken(self: Any) -> None:
        raise ZeroDivisionError("a defect \udcff")

    node.has_run()
    monkeypatch.setattr(job_end.JobEnd, part, broken)
    assert node.tell(epilog) == exit_status.DONE
    assert len(node.said) == 1
    assert f"madengine: defect: {part} was left undone" in node.said[0]
    assert "ZeroDivisionError" in node.said[0]
    assert not node.here.exists()
    assert os.path.lexists(node.place.path) is (part == "gather")


@pytest.mark.parametrize("more", [{"SLURM_JOB_ID": ""}, {"SLURMD_NODENAME": "elsewhere"}])
def test_an_environment_that_is_not_slurm_s_is_said_and_drains_nothing(node: Ended, more: Dict[str, str]) -> None:
    assert node.tell(epilog, **more) == exit_status.DONE
    assert len(node.said) == 1


def _killed_at(number: int, node: Ended) -> bool:
    """Tell the story in a child that is killed in front of its change *number* to a file; say whether it came so far."""
    pid = os.fork()
    if pid == 0:
        me, count = os.getpid(), 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += os.getpid() == me  # not in the children that are the user
                if count == number and os.getpid() == me:
                    os.kill(me, signal.SIGKILL)
                return call(*args, **kwargs)

            return called

        for name in ("mkdir", "rename", "unlink", "rmdir", "fsync"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            node.tell(epilog)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_wherever_it_is_killed_the_next_run_ends_what_it_began(node: Ended) -> None:
    number, was_killed = 0, True
    while was_killed:
        number += 1
        node.has_run()
        was_killed = _killed_at(number, node)
        assert node.tell(epilog) == exit_status.DONE
        assert node.said == []
        assert node.leaves_nothing(), number
        assert (node.collection / "node_0" / csvs.NAME).read_text() == csvs.table(12.5)
        facts = json.loads((node.collection / "node_0/node.json").read_text())
        assert [each["name"] for each in facts["files"]] == [csvs.NAME], number
        assert json.loads((node.collection / "selection.json").read_text())["verdict"] == "ok"
        shutil.rmtree(node.collection)
    assert number > 10
