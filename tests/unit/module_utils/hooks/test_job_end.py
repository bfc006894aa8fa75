# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with a job that is over: its results are kept or stay where they are, and only what is its own goes."""

from __future__ import annotations

import dataclasses
import encodings.utf_8_sig  # noqa: F401 (the child that is the user may be unable to read this interpreter)
import json
import os
import pwd
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault, PeerFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Refused
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_end, madengine_dirs, origins
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_end import JobEnd
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState, Status
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.request import Request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.workspace import Workspace
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest.job_spec import JobSpec
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import credential
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import render
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import bundle, collect, upload
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation
from helpers import csvs, dockerinfo

JOB_ID = 999004711
UNKNOWN = 3999999999  # a uid that no node knows
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")


class Docker:
    """A daemon with one job's containers, some of which refuse; it knows what was asked of it."""

    def __init__(self) -> None:
        self.containers: Dict[str, str] = {}
        self.refusing: Dict[str, str] = {}
        self.statuses: Dict[str, int] = {}
        self.environment: List[str] = []
        self.is_dead = False
        self.asked: List[Tuple[str, str]] = []

    def containers_of(self, job_id: str, is_job: Any = None) -> List[Dict[str, str]]:
        if self.is_dead:
            raise NodeFault("engine: no answer", "start docker", part="docker")
        assert job_id == str(JOB_ID)
        return [{"id": name, "state": state} for name, state in self.containers.items()]

    def stop(self, container: str, grace_seconds: int) -> bool:
        return self._do("stop", container)

    def remove(self, container: str) -> bool:
        return self._do("remove", container)

    def container(self, container: str) -> Optional[Dict[str, Any]]:
        if container in self.statuses:
            return {"State": {"Status": "exited", "ExitCode": self.statuses[container]}}
        status = self.refusing.get(container, "exited")
        return {"State": {"Status": status}, "Config": {"Env": self.environment}} if status else None

    def close(self) -> None:
        self.asked.append(("close", ""))

    def _do(self, what: str, container: str) -> bool:
        self.asked.append((what, container))
        if container in self.refusing:
            raise Refused(f"engine: docker {what} was refused", "read the daemon's answer", container=container)
        return True


class Node:
    """A node's directories and a share, on which a job of one of three nodes has run as *uid*."""

    def __init__(self, base: Path, uid: int, gid: int) -> None:
        self.uid, self.gid = uid, gid
        self.here = JobState(JOB_ID, str(base / "run"))
        self.place = Workspace(JOB_ID, str(base / "var"))
        self.share = base / "share"
        self.share.mkdir()
        if os.geteuid() == 0:
            os.chown(self.share, uid, gid)
        self.collection = self.share / str(JOB_ID)
        self.docker = Docker()
        self.site = Site()
        self.name = "n2"

    def job(self, uid: Optional[int] = None) -> Allocation:
        owner = {"user": "alice", "uid": self.uid if uid is None else uid, "gid": self.gid}
        return Allocation("lab", JOB_ID, 1, ("n1", "n2", "n3"), self.name, comment="madengine", **owner)

    def has_run(self, **facts: Any) -> None:
        known = Status(**{**self.job().facts(), "attempt": 0})
        self.here.begin(self.uid, self.gid, "/opt/r", known)
        self.place.make(self.uid, self.gid)
        self.here.ready(images=[csvs_image()], results=[csvs.NAME], collection_dir=str(self.collection), **facts)

    def wrote(self, name: str, text: str) -> None:
        path = Path(self.place.results, name)
        path.write_text(text)
        os.chown(path, self.uid, self.gid)

    def ended(self, exit_code: str = "0:0", uid: Optional[int] = None) -> JobEnd:
        return JobEnd(self.site, self.job(uid), self.here, self.place, exit_code)

    def selection(self) -> Dict[str, Any]:
        document = json.loads((self.collection / "selection.json").read_text())
        assert isinstance(document, dict)
        return document


def csvs_image() -> Dict[str, str]:
    return {"reference": "rocm/vllm:1", "identity": "sha256:" + "4f" * 32}


@pytest.fixture(params=[pytest.param("nobody", marks=as_root), "myself"])
def node(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    user = pwd.getpwnam("nobody") if request.param == "nobody" else pwd.getpwuid(os.getuid())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        os.chmod(folder, 0o755)
        made = Node(Path(folder), user.pw_uid, user.pw_gid)
        monkeypatch.setattr(job_end, "Engine", lambda socket: made.docker)
        yield made


def test_a_node_s_results_come_to_the_share_and_are_chosen_from(node: Node) -> None:
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    ended = node.ended()
    assert (ended.has_run, ended.may_have_run, ended.has_failed) == (True, True, False)
    ended.gather()
    ended.choose()
    ended.report()
    ended.clean()
    folder = node.collection / "node_1"
    assert (folder / csvs.NAME).read_text() == csvs.table(12.5)
    assert {path.stat().st_uid for path in node.collection.rglob("*")} == {node.uid}
    facts = json.loads((folder / "node.json").read_text())
    assert (facts["rank"], facts["node"], facts["attempt"], facts["image"], facts["failed"]) == (1, "n2", 0, "rocm/vllm:1", False)
    assert (folder / "timeline.jsonl").exists()
    assert node.selection()["verdict"] in ("ok", "partial")
    assert not os.path.lexists(node.place.path)
    assert not node.here.exists()


def test_a_whole_end_costs_one_question_to_a_directory_service_that_may_hang(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[int] = []
    look_up = process.of
    monkeypatch.setattr(process, "of", lambda uid, gid: asked.append(uid) or look_up(uid, gid))
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    ended = node.ended()
    for part in (ended.gather, ended.choose, ended.report, ended.clean):
        part()
    assert asked == [node.uid]


@as_root
@pytest.mark.parametrize(("socket", "is_user"), [("%U.sock", True), ("{uid}.sock", False)])
def test_containers_in_a_user_s_own_docker_are_looked_for_by_that_user(tmp_path: Path, socket: str, is_user: bool) -> None:
    one = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        node = Node(Path(folder), one.pw_uid, one.pw_gid)
        node.site = Site(docker_socket=f"{folder}/{socket.format(uid=one.pw_uid)}")
        node.has_run()
        with dockerinfo.refusing(Path(folder, f"{one.pw_uid}.sock"), one.pw_uid) as askers, pytest.raises(Fault):
            node.ended().find()
        assert askers == {one.pw_uid if is_user else 0}


@pytest.mark.parametrize(("csv", "found"), [("", True), (csvs.NAME, True), ("perf_other.csv", False)])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_results_of_a_job_script_of_the_user_s_own_are_found_once(node: Node, rank: int, csv: str, found: bool) -> None:
    work, name = node.share / "work", node.job().nodes[rank]
    old = csvs.write(work / "results/perf_old.csv", csvs.table(9999.0))
    model = {"name": "m", "multiple_results": csv}
    node.name = name
    node.has_run(node_rank=rank)
    facts = {"uid": node.uid, "gid": node.gid, "work_dir": str(work)}
    spec = JobSpec(models=(model,), results_dirs=("results",))
    origins.note(node.here, dataclasses.replace(node.job(), **facts), process.of(node.uid, node.gid), Request(), spec, Deadline(20.0))
    new = csvs.write(work / "results" / csvs.NAME, csvs.table(100.0))
    csvs.write(work / "results/perf.csv", csvs.table(7777.0))  # a ledger
    for path in (work, old.parent, old, new):
        os.chown(path, node.uid, node.gid)
    node.here.ready(results=[csv])
    ended = node.ended()
    ended.gather()
    ended.choose()
    best = node.selection()["best"]
    assert (best or {}).get("value") == (100.0 if found and rank == 0 else None)


def test_each_model_of_the_job_s_manifest_has_its_csv_in_its_own_place_and_the_report_has_all(node: Node) -> None:
    node.collection = node.share / "out/llama" / str(JOB_ID)
    node.has_run()
    node.here.ready(results=["a.csv", "b.csv"])
    spec = JobSpec(models=({"name": "llama", "multiple_results": "a.csv"}, {"name": "qwen", "multiple_results": "b.csv"}))
    job = dataclasses.replace(node.job(), uid=node.uid, gid=node.gid)
    origins.note(node.here, job, process.of(node.uid, node.gid), Request(), spec, Deadline(20.0))
    node.wrote("a.csv", csvs.table(12.5, model="llama"))
    node.wrote("b.csv", csvs.table(80, model="qwen"))
    ended = node.ended()
    for part in (ended.gather, ended.choose, ended.report):
        part()
    assert node.selection()["best"]["model"] == "llama"
    assert (node.collection / "a.csv").read_text() == csvs.table(12.5, model="llama")
    assert (node.share / "out/qwen" / str(JOB_ID) / "b.csv").read_text() == csvs.table(80, model="qwen")
    assert sorted(os.listdir(node.share / "out")) == ["llama", "qwen"]
    report = (node.collection / "report.txt").read_text()
    assert "12.5 tokens_per_second" in report
    assert "b.csv: partial" in report  # two of three nodes have not come


def test_several_runs_in_one_job_are_several_results_and_never_mixed(node: Node) -> None:
    scratch = node.share.parent / "scratch"
    runs = {"20261006120000_a1b2c3": 100.0, "20261006120500_0f0f0f": 555.0}
    for run, value in runs.items():
        for name in (f"madengine_node_1_{run}", f"madengine_node_2_{run}", f"madengine_job_{JOB_ID + 1}_{run}_node_1"):
            (scratch / name).mkdir(parents=True)
            csvs.write(scratch / name / csvs.NAME, csvs.table(value if name.startswith("madengine_node_1") else 9999.0))
    for path in (*scratch.rglob("*"), scratch):
        os.chown(path, node.uid, node.gid)
    node.has_run(run_base=str(node.share / "out" / str(JOB_ID)))
    Path(node.place.task, "tmpdir").write_text(f"{scratch}\n")
    ended = node.ended()
    for _again in range(2):
        ended.gather()
        ended.choose()
    assert sorted(os.listdir(node.share / "out")) == [f"{JOB_ID}_{run}" for run in sorted(runs)]
    for run, value in runs.items():
        folder = node.share / "out" / f"{JOB_ID}_{run}"
        assert (folder / csvs.NAME).read_text() == csvs.table(value)
        assert json.loads((folder / "node_1/node.json").read_text())["run"] == run
    assert not (node.collection / csvs.NAME).exists()


def test_a_job_without_runs_of_its_own_leaves_nothing_beside_its_results(node: Node) -> None:
    node.has_run(run_base=str(node.collection))
    node.wrote(csvs.NAME, csvs.table(12.5))
    ended = node.ended()
    ended.gather()
    ended.choose()
    assert os.listdir(node.share) == [str(JOB_ID)]


def test_a_job_that_failed_is_said_to_have(node: Node) -> None:
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    ended = node.ended("1:0")
    ended.gather()
    ended.choose()
    assert (ended.has_failed, node.selection()["verdict"]) == (True, "job_failed")


@pytest.mark.parametrize(
    ("exit_code", "containers", "csv", "verdict"),
    [
        ("3:0", {}, csvs.table(12.5), "partial"),
        ("3:0", {"a": 0}, csvs.table(12.5), "partial"),
        ("3:0", {"a": 0, "b": 1}, csvs.table(12.5), "job_failed"),
        ("3:0", {}, csvs.table(""), "job_failed"),
        ("3:0", {}, None, "job_failed"),
        ("0:9", {"a": 0}, csvs.table(12.5), "job_failed"),
        ("1:0", {"a": 0}, csvs.table(12.5), "job_failed"),
    ],
)
def test_the_exit_status_of_a_rank_0_without_a_number_is_told_and_containers_and_csvs_decide(
    node: Node, exit_code: str, containers: Dict[str, int], csv: Optional[str], verdict: str
) -> None:
    node.has_run()
    if csv is not None:
        node.wrote(csvs.NAME, csv)
    node.docker.containers = dict.fromkeys(containers, "exited")
    node.docker.statuses = containers
    ended = node.ended(exit_code)
    ended.find()
    ended.gather()
    ended.choose()
    assert node.selection()["verdict"] == verdict  # two of three nodes have not come
    assert f"exit status was {exit_code}" in node.selection()["reason"]


def test_madengine_s_workspace_goes_with_the_job_and_nobody_else_s(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp = node.share.parent / "tmp"
    tmp.mkdir(mode=0o777)
    monkeypatch.setattr(madengine_dirs.remove, "__defaults__", (None, str(tmp)))
    mine = [f"madengine_job_{JOB_ID}_node_1", f"madengine_job_{JOB_ID}_20261006120000_a1b2c3_node_1", f"madengine_job_{JOB_ID}"]
    others = [f"madengine_job_{JOB_ID}0_node_1", f"madengine_job_{JOB_ID}_node_0", "madengine_job_7", "madengine_node_1", "else"]
    for name in (*mine, *others):
        csvs.write(tmp / name / "deep/credential.json", "s3cr3t")
    (tmp / f"madengine_job_{JOB_ID}_node_1/link").symlink_to(tmp / "else")
    for path in tmp.rglob("*"):
        os.lchown(path, node.uid, node.gid)
    if os.geteuid() == 0:  # what the root of a container left
        csvs.write(tmp / mine[0] / "root/of/container", "x")
    for keeps in (True, False):
        node.has_run()
        node.site = Site(keep_workspace=keeps)
        ended = node.ended()
        ended.gather()
        ended.clean()
        assert sorted(os.listdir(tmp)) == sorted([*others, *(mine if keeps else [])])
    assert (tmp / "else/deep/credential.json").exists()


@pytest.mark.parametrize("place", [f"slurm.{JOB_ID}", f"alice/{JOB_ID}.0", "scratch", f"slurm.{JOB_ID}0"])
def test_madengine_s_workspace_in_the_tasks_own_temporary_directory_goes_with_the_job(node: Node, place: str) -> None:
    folder, run = node.share.parent / place, "_20261006120000_a1b2c3"
    is_own = str(JOB_ID) in place.replace(".", "/").split("/")
    unnamed, named = ["madengine_node_1", f"madengine_node_1{run}"], f"madengine_job_{JOB_ID}_node_1"
    others = ["madengine_node_0", f"madengine_node_2{run}", "madengine_job_7_node_1", "else"]
    for name in (*unnamed, named, *others):
        csvs.write(folder / name / "deep/credential.json", "s3cr3t")
    (folder / "madengine_node_1/link").symlink_to(folder / "else")
    for path in (folder, folder.parent, *folder.rglob("*")):
        if path != node.share.parent:
            os.lchown(path, node.uid, node.gid)
    for keeps in (True, False):
        node.has_run()
        Path(node.place.task, "tmpdir").write_text(f"{folder}\n")
        node.site = Site(keep_workspace=keeps)
        ended = node.ended()
        ended.gather()
        ended.clean()
        left = [*unnamed, named] if keeps else [] if is_own else unnamed
        assert sorted(os.listdir(folder)) == sorted([*others, *left])
    assert (folder / "else/deep/credential.json").exists()


@as_root
def test_root_removes_nothing_where_a_task_said_that_its_temporary_files_are(node: Node) -> None:
    folder = node.share.parent / f"slurm.{JOB_ID}"
    csvs.write(folder / f"madengine_job_{JOB_ID}_node_1/root/of/container", "x")
    os.chown(folder, node.uid, node.gid)
    os.chown(folder / f"madengine_job_{JOB_ID}_node_1", node.uid, node.gid)
    node.has_run()
    Path(node.place.task, "tmpdir").write_text(f"{folder}\n")
    ended = node.ended()
    ended.gather()
    ended.clean()
    assert (folder / f"madengine_job_{JOB_ID}_node_1/root/of/container").exists() == (node.uid != 0)


@as_root
def test_a_directory_of_another_user_with_the_name_of_the_jobs_workspace_stays(tmp_path: Path) -> None:
    csvs.write(tmp_path / f"madengine_job_{JOB_ID}_node_1/x", "x")
    (tmp_path / f"madengine_job_{JOB_ID}").symlink_to(tmp_path / f"madengine_job_{JOB_ID}_node_1")
    assert madengine_dirs.remove(JOB_ID, 1, 4242, str(tmp_path)) == []
    assert (tmp_path / f"madengine_job_{JOB_ID}_node_1/x").exists()


def test_a_job_whose_prolog_failed_has_nothing_to_gather(node: Node) -> None:
    node.here.begin(node.uid, node.gid, "/opt/r", Status(**node.job().facts()))
    node.place.make(node.uid, node.gid)
    node.here.fail(JobFault("image: nobody has it", "build it"))
    ended = node.ended()
    assert (ended.has_run, ended.may_have_run) == (False, False)
    ended.clean()
    assert not os.path.lexists(node.place.path)
    assert not node.here.exists()


def test_a_job_whose_prolog_had_a_defect_may_have_run_without_our_help(node: Node) -> None:
    node.here.begin(node.uid, node.gid, "/opt/r", Status(**node.job().facts()))
    ended = node.ended()
    assert (ended.has_run, ended.may_have_run) == (False, True)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"status": 7}', "\0\0\0"])
def test_where_the_state_is_lost_the_containers_go_and_the_results_stay(node: Node, text: Optional[str]) -> None:
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    os.unlink(node.here.file("status.json"))
    if text is not None:
        Path(node.here.file("status.json")).write_text(text)
    node.docker.containers = {"a": ""}
    ended = node.ended()
    assert (ended.has_run, ended.may_have_run) == (True, True)
    ended.find()
    ended.stop()
    with pytest.raises(JobFault, match="lost") as caught:
        ended.gather()
    assert node.place.results in caught.value.line()
    ended.choose()
    ended.remove()
    ended.report()
    ended.clean()
    assert node.docker.asked == [("close", ""), ("stop", "a"), ("close", ""), ("remove", "a"), ("close", "")]
    assert os.listdir(node.place.results) == [csvs.NAME]
    assert not node.here.exists()


def test_a_user_whom_the_node_has_forgotten_keeps_the_results_and_the_rest_is_cleaned(node: Node) -> None:
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    node.docker.containers = {"a": ""}
    ended = node.ended(uid=UNKNOWN)
    ended.find()
    ended.stop()
    with pytest.raises(JobFault, match="does not know the user") as caught:
        ended.gather()
    assert f"results='{node.place.results}'" in caught.value.line()
    for part in (ended.choose, ended.remove, ended.report, ended.clean):
        part()
    assert os.listdir(node.place.results) == [csvs.NAME]
    assert not node.here.exists()


def test_a_share_that_cannot_be_written_is_one_line_that_says_where_the_results_stay(node: Node) -> None:
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    node.share.rmdir()
    node.share.write_text("no directory")
    ended = node.ended()
    with pytest.raises(ShareFault) as caught:
        ended.gather()
    assert caught.value.line().count(node.place.results) == 1
    ended.choose()
    ended.report()
    ended.clean()
    assert os.listdir(node.place.results) == [csvs.NAME]


def test_an_epilog_that_was_killed_while_it_cleaned_loses_nothing_when_it_is_repeated(node: Node) -> None:
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    first = node.ended()
    first.gather()
    first.choose()
    node.place.remove()
    before = {path.name: path.read_bytes() for path in node.collection.rglob("*") if path.is_file()}
    again = node.ended()
    for part in (again.find, again.stop, again.gather, again.choose, again.remove, again.clean):
        part()
    assert {path.name: path.read_bytes() for path in node.collection.rglob("*") if path.is_file()} == before
    assert not node.here.exists()


def test_a_share_that_hangs_costs_the_deadline_and_no_more(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.has_run()
    node.site = Site(deadline_seconds=0.05)
    monkeypatch.setattr(collect, "gather", lambda *_, **__: signal.pause())
    with pytest.raises(ShareFault, match="no answer in time") as caught:
        node.ended().gather()
    assert node.place.results in caught.value.line()


def test_a_timeline_that_cannot_be_written_is_the_share_s_fault(node: Node) -> None:
    node.has_run()
    ended = node.ended()
    ended.gather()
    (node.collection / "node_1/timeline.jsonl").mkdir()
    with pytest.raises(ShareFault, match="cannot write"):
        ended.report()


def test_one_container_that_refuses_saves_no_other(node: Node) -> None:
    node.has_run()
    node.docker.containers = {"a": "", "b": "", "c": ""}
    node.docker.refusing = {"b": "running"}
    ended = node.ended()
    ended.find()
    for part in (ended.stop, ended.remove):
        with pytest.raises(Refused, match="container='b'"):
            part()
    assert [what for what in node.docker.asked if what[1]] == [(verb, name) for verb in ("stop", "remove") for name in "abc"]


@pytest.mark.parametrize("status", ["", "removing", "dead"])
def test_a_container_that_the_daemon_is_removing_by_itself_is_no_fault(node: Node, status: str) -> None:
    node.has_run()
    node.docker.containers, node.docker.refusing = {"a": ""}, {"a": status}
    ended = node.ended()
    ended.find()
    ended.stop()
    ended.remove()


def test_a_daemon_that_is_dead_is_the_node_s_fault(node: Node) -> None:
    node.has_run()
    node.docker.is_dead = True
    ended = node.ended()
    with pytest.raises(NodeFault):
        ended.find()
    ended.stop()
    ended.remove()  # it is not asked a second time
    assert node.docker.asked == [("close", "")]


def test_what_a_job_put_into_its_results_leads_nowhere(node: Node, tmp_path: Path) -> None:
    node.has_run()
    root = Path(node.place.results)
    (root / "perf.csv").symlink_to("/etc/passwd")
    (root / "etc").symlink_to("/etc")
    os.mkfifo(root / "results.fifo")
    (root / "a\nb.csv").write_text("x")
    deep = root
    for number in range(30):
        deep = deep / f"d{number}"
        deep.mkdir()
    (deep / "perf_deep.csv").write_text("x")
    if os.geteuid() == 0:
        os.mknod(root / "perf_zero.csv", 0o020666, os.makedev(1, 5))
    for path in (root, *root.rglob("*")):
        os.lchown(path, node.uid, node.gid)
    node.wrote(csvs.NAME, csvs.table(12.5))
    ended = node.ended()
    ended.gather()
    ended.choose()
    ended.clean()
    files = [path for path in node.collection.rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() and path.name.isprintable() for path in files)
    assert not any("root:" in path.read_text(errors="replace") for path in files)
    assert node.selection()["verdict"] in ("ok", "partial")
    assert not os.path.lexists(node.place.path)
    assert os.path.exists("/etc/passwd")


@pytest.mark.parametrize(("code", "ends_in", "state", "is_explained"), [
    ("0:0", 60, "exited", False),
    ("1:0", 60, "exited", True),
    ("0:0", -1, "exited", True),
    ("0:0", 0, "running", True),
])  # fmt: skip
def test_a_job_that_failed_or_was_outlived_by_a_container_is_diagnosed(
    node: Node, monkeypatch: pytest.MonkeyPatch, code: str, ends_in: int, state: str, is_explained: bool
) -> None:
    explained: List[str] = []
    node.has_run(ends_by=int(time.time()) + ends_in if ends_in else 0)
    node.docker.containers["a"] = state
    ended = node.ended(code)
    monkeypatch.setattr(ended, "_as_user", lambda work, *args: explained.append(args[1]))
    ended.find()
    ended.diagnose()
    assert explained == ([os.path.join(node.place.results, "diagnostics")] if is_explained else [])


def test_a_job_without_containers_has_nothing_to_diagnose(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.has_run()
    ended = node.ended("1:0")
    monkeypatch.setattr(ended, "_as_user", lambda *_: pytest.fail("there is nobody to ask"))
    ended.find()
    ended.diagnose()


@pytest.mark.parametrize("where", ["manifest", "credential", "container", "nowhere"])
def test_a_secret_s_value_stands_in_no_file_that_we_write_whatever_it_was_printed_beside(
    node: Node, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, work_dir = "Zx81-not-a-known-form", node.share.parent / "work"
    texts = {"manifest": {"context": {"docker_env_vars": {"HF_TOKEN": secret}}}, "credential": {"nas": {"password": secret}}}
    csvs.write(work_dir / "build_manifest.json", json.dumps(texts.get(where if where == "manifest" else "", {})))
    csvs.write(work_dir / "credential.json", json.dumps(texts.get(where if where == "credential" else "", {})))
    job = dataclasses.replace(node.job(), work_dir=str(work_dir))
    monkeypatch.setattr(node, "job", lambda uid=None: job)
    node.docker.containers["a"] = "exited"
    node.docker.environment = [f"API_KEY={secret}"] if where == "container" else []
    node.has_run()
    node.wrote(csvs.NAME, csvs.table(12.5))
    node.wrote("llama.live.log", f"step 1\nusing [{secret}] as asked\nstep 2\n")
    ended = node.ended()
    for part in (ended.find, ended.gather, ended.choose, ended.report):
        part()
    render.write(str(node.collection))  # whoever makes it later: the job's user may lack what the HTML form needs
    texts_of = {path.name: path.read_text() for path in node.collection.rglob("*") if path.is_file()}
    assert {name for name, text in texts_of.items() if secret in text} == (
        {"llama.live.log", "report.html"} if where == "nowhere" else set()
    )
    assert "step 1" in texts_of["llama.live.log"]
    assert "step 2" in texts_of["report.html"]
    # What nobody can know is in what its user alone may read.
    modes = {path.name: path.stat().st_mode & 0o777 for path in node.collection.rglob("*") if path.is_file()}
    assert {name for name, mode in modes.items() if mode & 0o077 == 0} >= {"llama.live.log", "report.html"}


# Nodes that share no work directory.


class Post:
    """Stands in for the network between the epilogs; it knows what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fault: Optional[Exception] = None
        self.brought: List[Any] = []
        self.awaited: List[Any] = []
        self.bringing: Dict[int, Any] = {}
        self.refusal: Optional[Exception] = None
        monkeypatch.setattr(upload, "deliver", self._deliver)
        monkeypatch.setattr(upload, "collect", self._collect)
        monkeypatch.setattr(credential, "of", lambda auth, path, *context: "proof")

    def _deliver(self, allocation: Any, proof: Any, brought: Any, wait: float, ports: Any) -> None:
        self.brought.append((allocation, brought))
        if self.fault is not None:
            raise self.fault

    def _collect(self, allocation: Any, proof: Any, awaited: Any, store: Any, wait: float, refusal: Any, ports: Any) -> Dict[int, bool]:
        self.awaited.append(list(awaited))
        self.refusal = refusal
        for rank, brought in self.bringing.items():
            store(rank, brought).result()
        return dict.fromkeys(self.bringing, True)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(monkeypatch)


PARTS = ("find", "stop", "gather", "exchange", "choose", "remove", "report", "clean")


def done(ended: JobEnd, *parts: str) -> None:
    for part in parts or PARTS:
        getattr(ended, part)()


def test_a_node_that_is_apart_brings_its_results_to_the_first_once_and_leaves_the_choice_to_it(node: Node, post: Post) -> None:
    node.has_run(unshared_ranks=[1])
    node.wrote(csvs.NAME, csvs.table(12.5))
    assert node.ended().is_unshared
    done(node.ended(), "gather", "exchange")
    done(node.ended())  # as if the first run had been killed now
    assert len(post.brought) == 1
    allocation, brought = post.brought[0]
    assert (allocation.node, allocation.attempt, allocation.nodes, allocation.job_id) == ("n2", 0, ("n1", "n2", "n3"), JOB_ID)
    assert [name for name, _ in brought["files"]] == ["node.json", "timeline.jsonl", csvs.NAME]
    facts = json.loads((node.collection / "node_1/node.json").read_text())
    assert facts["elsewhere"] == f"n2:{node.collection}/node_1"
    assert sorted(os.listdir(node.collection)) == ["node_1"]
    assert (os.path.lexists(node.place.path), node.here.exists()) == (False, False)


def test_what_nobody_takes_stays_where_the_fault_says(node: Node, post: Post) -> None:
    node.has_run(unshared_ranks=[1])
    node.wrote(csvs.NAME, csvs.table(12.5))
    post.fault = PeerFault("n1", ShareFault("rendezvous: the leader did not answer", "read its epilog log"))
    ended = node.ended()
    ended.gather()
    with pytest.raises(PeerFault) as caught:
        ended.exchange()
    assert f"results='{node.collection}/node_1'" in caught.value.line()
    done(ended, "choose", "remove", "report", "clean")
    assert (node.collection / "node_1" / csvs.NAME).read_text() == csvs.table(12.5)
    assert not node.here.exists()


def test_a_node_without_the_work_directory_keeps_its_files_in_its_own_for_a_week(node: Node, post: Post) -> None:
    node.has_run(unshared_ranks=[1])
    node.wrote(csvs.NAME, csvs.table(12.5))
    node.wrote("results.log", "long")
    node.share.rmdir()
    node.share.write_text("no directory")
    done(node.ended())
    kept = os.path.join(node.place.path, "kept/node_1")
    assert post.brought[0][1]["folder"] == kept
    assert sorted(os.listdir(kept)) == [csvs.NAME, "node.json", "results.log", "timeline.jsonl"]
    assert json.loads(Path(kept, "node.json").read_text())["elsewhere"] == f"n2:{kept}"
    assert not node.here.exists()


def test_the_first_node_takes_in_what_has_not_come_yet_and_chooses_among_all(node: Node, post: Post) -> None:
    node.name = "n1"
    node.has_run(unshared_ranks=[1, 2])
    node.wrote(csvs.NAME, csvs.table(""))
    facts = {"job_id": JOB_ID, "attempt": 0, "node": "n3"}
    post.bringing = {2: packed(node, 2, facts)}
    ended = node.ended()
    ended.gather()
    with pytest.raises(ShareFault, match="not all nodes brought their results") as caught:
        ended.exchange()
    assert (caught.value.seen["missing"], post.refusal) == ("n2", None)
    done(ended, "choose", "report")
    selection = node.selection()
    assert (selection["verdict"], selection["selected"]["node"]) == ("partial", "n3")
    assert [(item["node"], item["reason"]) for item in selection["lacking"]][-1] == ("n2", "nothing came from this node")
    assert {path.stat().st_uid for path in node.collection.rglob("*")} == {node.uid}
    with pytest.raises(ShareFault):  # as if it had been killed: what has come is not waited for again
        done(node.ended(), "gather", "exchange")
    assert post.awaited == [[1, 2], [1]]


def packed(node: Node, rank: int, facts: Dict[str, Any]) -> Dict[str, Any]:
    base = Path(node.place.path, "elsewhere")
    csvs.node(base, rank, **facts)
    csvs.write(base / f"node_{rank}" / csvs.NAME, csvs.table(42.5))
    return bundle.pack(str(base / f"node_{rank}"), rank, [csvs.NAME])


def test_a_first_node_that_has_no_place_tells_the_others_so(node: Node, post: Post) -> None:
    node.name = "n1"
    node.has_run(unshared_ranks=[1, 2])
    node.share.rmdir()
    node.share.write_text("no directory")
    ended = node.ended()
    with pytest.raises(ShareFault, match="cannot write the collection directory"):
        ended.gather()
    with pytest.raises(ShareFault, match="not all nodes"):
        ended.exchange()
    assert "has no place" in str(post.refusal)


def test_a_user_whom_the_node_has_forgotten_exchanges_nothing(node: Node, post: Post) -> None:
    node.has_run(unshared_ranks=[1])
    ended = node.ended(uid=UNKNOWN)
    with pytest.raises(JobFault):
        ended.gather()
    ended.exchange()
    assert post.brought == []


@pytest.mark.parametrize("facts", [{}, {"unshared_ranks": []}])
def test_nodes_that_share_the_directory_are_not_unshared(node: Node, facts: Dict[str, Any]) -> None:
    node.has_run(**facts)
    assert not node.ended().is_unshared
