# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prolog's story: whose fault it is decides what becomes of the job, and nothing that a user does drains a node."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pwd
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, List, Mapping, Optional, Sequence

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import exit_status, job_images, task_environment
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import lease
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import barrier, watch
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import allocation, job_life, sbcast
from helpers import manifests, peers, stories

prolog = stories.imported("prolog")
ALLOCATION_OF = allocation.of
DEADLINE = 60.0  # nobody who is told waits for it, on however busy a machine
UNKNOWN = 3999999999  # a uid that no node knows
IDENTITY = "sha256:" + "4f" * 32
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")


class JobImages:
    """Stands in for `staging.JobImages` where Docker is needed: children of the right user that give a plain answer."""

    failing: ClassVar[Dict[str, Exception]] = {}
    early: ClassVar[Dict[str, Any]] = {}  # what of each offer is told otherwise, before it is known; {} for no word
    more: ClassVar[Dict[str, Any]] = {}  # of each offer
    loaded: ClassVar[Dict[str, Any]] = {}  # what of each offer is another when it is loaded
    fifo: ClassVar[str] = ""  # where who publishes waits, after its early word, until somebody has tried to load what that says

    def __init__(self, site: Site, store: str, user: process.Account, *_: Any) -> None:
        self._user = user

    may_broadcast = False

    def have(self) -> List[str]:
        return []

    def prepare(self) -> None:
        pass

    def stage(self, images: Sequence[Any], alone: bool, held: Sequence[str], declined: Any = None) -> process.Child:
        offers = [{**_offer(image, alone), **({"way": "sbcast"} if declined else self.more)} for image in images]
        return process.start_telling(self._user, _staged, self.early, offers, self.fifo)

    def load(self, offers: Sequence[Mapping[str, Any]]) -> process.Child:
        loaded = [{**offer, "method": "pull", **self.loaded} for offer in offers]
        if all(offer.get("way") == "sbcast" for offer in offers):
            return process.start(self._user, _answer, "load again", loaded)
        if any(offer.get("is_coming") for offer in offers) and "load early" in self.failing:
            return process.start(self._user, _answer, "load early", loaded, self.fifo)
        return process.start(self._user, _answer, "load", loaded)

    def release(self, offers: Sequence[Mapping[str, Any]]) -> process.Child:
        return process.start(self._user, _answer, "release", None)


def _offer(image: Any, alone: bool) -> Dict[str, Any]:
    reference = image if isinstance(image, str) else image["reference"]
    return {"reference": reference, "identity": IDENTITY, "transport": "shared", "method": "none", **({} if alone else {"lease": "l"})}


def _staged(tell: Any, early: Dict[str, Any], offers: List[Dict[str, Any]], fifo: str) -> Any:
    if early:
        for _ in range(3):
            tell([{**offer, **early} for offer in offers])
    if fifo:
        Path(fifo).read_text()
    return _answer("stage", offers)


def _answer(doing: str, answer: Any, fifo: str = "") -> Any:
    if fifo:
        Path(fifo).write_text("")
    if doing in JobImages.failing:
        raise JobImages.failing[doing]
    return answer


@pytest.fixture(params=[pytest.param("nobody", marks=as_root), "myself"])
def node(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[stories.StoryNode]:
    user = pwd.getpwnam("nobody") if request.param == "nobody" else pwd.getpwuid(os.getuid())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setattr(job_images, "JobImages", JobImages)
        monkeypatch.setattr(JobImages, "failing", {})
        made = stories.StoryNode(Path(folder), monkeypatch, user.pw_uid, user.pw_gid)
        (made.work_dir / "build_manifest.json").write_text(json.dumps(manifests.built()))
        yield made


def test_a_job_gets_its_images_its_environment_and_a_place_for_its_results(node: stories.StoryNode) -> None:
    assert node.tell(prolog) == exit_status.DONE
    assert (node.verdict(), node.said) == ("ready", [])
    exports = node.exports()
    assert exports["MAD_IMAGE"] == "ci-llama_llama.ubuntu.amd:latest"
    assert (exports["MAD_IMAGE_ID"], exports["NODE_RANK"], exports["NNODES"]) == (IDENTITY, "0", "1")
    assert (exports["MAD_RESULTS_DIR"], exports["MAD_MANIFEST"]) == (node.place.results, node.here.file("manifest.json"))
    status = os.stat(node.place.results)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o700, node.uid, node.gid)
    status = node.here.status()
    assert (status.status, status.results, status.nodes) == ("ready", ("perf_llama.csv",), ("localhost",))
    assert status.collection_dir == str(node.work_dir / f"madengine-{stories.JOB_ID}")
    assert node.phases() == {"manifest": "ok", "publish": "ok", "rendezvous": "ok", "handover": "ok"}
    assert len(node.noted) == 4


def test_the_release_that_runs_is_pinned_for_the_epilog(node: stories.StoryNode) -> None:
    node.tell(prolog)
    assert (node.here.text("release") or "").strip() == prolog.RELEASE


def test_a_second_attempt_begins_anew(node: stories.StoryNode) -> None:
    node.tell(prolog)
    Path(node.place.results, "perf.csv").write_text("stale")
    assert node.tell(prolog, SLURM_JOB_RESTART_COUNT="1") == exit_status.DONE
    assert (node.here.status().attempt, os.listdir(node.place.results)) == (1, [])


@pytest.mark.parametrize(("more", "site"), [
    ({"SLURM_JOB_COMMENT": ""}, {}),
    ({"SLURM_JOB_COMMENT": "madengine=off"}, {}),
    ({}, {"enabled": False}),
])  # fmt: skip
def test_a_job_that_is_not_ours_leaves_no_trace(node: stories.StoryNode, more: Dict[str, str], site: Dict[str, Any]) -> None:
    node.site = Site(**site)
    assert node.tell(prolog, **more) == exit_status.DONE
    assert (node.here.exists(), os.path.exists(node.place.path), node.said, node.noted) == (False, False, [], [])


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> Dict[str, str]:
    """A job of `madengine run` that says nothing itself; alone, where those of several nodes would have to meet."""
    monkeypatch.setattr(prolog.request, "concerns_us", lambda job: True)
    return {"SLURM_JOB_COMMENT": "", "SLURM_JOB_STDOUT": "/x/madengine-llama_%j_%t.out"}


def stands_aside(node: stories.StoryNode, says: str) -> bool:
    """Say whether the job starts as if we were not there, and hears once why."""
    (line,) = (node.here.text("notes") or "").splitlines()
    assert line.startswith("madengine: this job runs without help: ")
    assert says in line
    return (node.verdict(), os.path.exists(node.here.file("exports"))) == ("aside", False)


def test_madengine_run_without_a_manifest_did_not_ask(node: stories.StoryNode, unasked: Dict[str, str]) -> None:
    (node.work_dir / "build_manifest.json").unlink()
    assert node.tell(prolog, **unasked) == exit_status.DONE
    assert stands_aside(node, "no manifest found")
    assert not os.path.exists(node.place.path)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({**manifests.built(), "built_models": {"x": {"name": "mixtral"}}})])
def test_a_manifest_that_nobody_named_fails_no_job(node: stories.StoryNode, unasked: Dict[str, str], text: str) -> None:
    (node.work_dir / "build_manifest.json").write_text(text)
    assert node.tell(prolog, **unasked) == exit_status.DONE
    assert stands_aside(node, "manifest")


def test_a_job_that_did_not_ask_is_not_failed_for_want_of_an_image(node: stories.StoryNode, unasked: Dict[str, str]) -> None:
    JobImages.failing = {"stage": JobFault("image: nobody has it", "build it")}
    assert node.tell(prolog, **unasked) == exit_status.DONE
    assert stands_aside(node, "image: nobody has it")


def test_a_job_that_did_not_ask_is_helped_where_the_manifest_is_its_own(node: stories.StoryNode, unasked: Dict[str, str]) -> None:
    assert node.tell(prolog, **unasked) == exit_status.DONE
    assert (node.verdict(), node.here.text("notes")) == ("ready", None)
    assert node.here.status().collection_dir == f"/x/llama/{stories.JOB_ID}"


@pytest.mark.parametrize(("text", "says"), [
    ("{", "build_manifest.json"),
    ("[]", "build_manifest.json"),
    (None, "build_manifest.json"),
])  # fmt: skip
def test_a_broken_manifest_is_the_job_s_fault_in_one_line(node: stories.StoryNode, text: Any, says: str) -> None:
    path = node.work_dir / "build_manifest.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert node.tell(prolog) == exit_status.DONE
    assert node.verdict().startswith("madengine: job: ")
    assert says in node.verdict()
    assert node.said == [node.verdict()]
    assert node.phases() == {"manifest": "job"}
    assert not os.path.exists(node.place.path)


@pytest.mark.parametrize("comment", ["madengine:nonsense=1", "madengine:image=", "madengine:image=UPPER:1", "madengine:store=relative"])
def test_a_request_that_makes_no_sense_is_the_job_s_fault(node: stories.StoryNode, comment: str) -> None:
    assert node.tell(prolog, SLURM_JOB_COMMENT=comment) == exit_status.DONE
    assert node.verdict().startswith("madengine: job: ")


def test_a_user_whom_this_node_does_not_know_is_no_reason_to_drain_it(node: stories.StoryNode) -> None:
    assert node.tell(prolog, SLURM_JOB_UID=str(UNKNOWN)) == exit_status.DONE
    assert "process: this node does not know the user" in node.verdict()
    assert node.said == [node.verdict()]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """Return the uids that the directory service is asked for by this process."""
    asked: List[int] = []
    look_up = process.of
    monkeypatch.setattr(process, "of", lambda uid, gid: asked.append(uid) or look_up(uid, gid))
    return asked


def test_a_job_costs_one_question_to_a_directory_service_that_may_hang(node: stories.StoryNode, lookups: List[int]) -> None:
    assert node.tell(prolog) == exit_status.DONE
    assert (node.verdict(), lookups) == ("ready", [node.uid])


def test_a_leader_that_looks_after_its_nodes_and_its_job_asks_the_directory_service_no_more(
    node: stories.StoryNode, lookups: List[int], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, at_once in ((barrier, "_PROMPT_SECONDS", 0.0), (watch, "FIRST_SECONDS", 0.0), (barrier, "_LATECOMER_SECONDS", 0.0)):
        monkeypatch.setattr(module, name, at_once)
    monkeypatch.setattr(sbcast, "without", lambda *_: [])
    monkeypatch.setattr(job_life, "over", lambda *_: "CANCELLED")
    at, began, start = peers.address(), [], process.start  # type: ignore[var-annotated]
    monkeypatch.setattr(allocation, "of", lambda environ: dataclasses.replace(ALLOCATION_OF(environ), address=at))
    monkeypatch.setattr(process, "start", lambda user, work, *args, **named: began.append(work) or start(user, work, *args, **named))
    node.site = Site(key_file=key, port_range=(27100, 27399))
    node.tell(prolog, SLURM_JOB_NODELIST="localhost,n2")
    assert "rendezvous: the job is over" in node.verdict()
    assert {sbcast.without, job_life.over} <= set(began)
    assert lookups == [node.uid]


@as_root
def test_a_work_directory_that_the_user_may_not_read_is_the_job_s_fault(node: stories.StoryNode) -> None:
    os.chown(node.work_dir, 0, 0)
    node.work_dir.chmod(0o700)
    if node.uid != 0:
        assert node.tell(prolog) == exit_status.DONE
        assert node.verdict().startswith("madengine: job: ")


@pytest.mark.parametrize(("fault", "drain_on", "status"), [
    (JobFault("image: nobody has it", "build it"), ("docker", "disk", "key"), exit_status.DONE),
    (ShareFault("layout: cannot write", "look at the share"), ("docker", "disk", "key"), exit_status.DONE),
    (NodeFault("engine: no answer", "start docker", part="docker"), ("docker",), exit_status.DRAIN),
    (NodeFault("engine: no answer", "start docker", part="docker"), ("disk",), exit_status.DONE),
    (NodeFault("engine: no answer", "start docker", part="docker"), (), exit_status.DONE),
])  # fmt: skip
def test_only_a_fault_of_the_node_that_the_admin_listed_drains_it(
    node: stories.StoryNode, fault: Exception, drain_on: Any, status: int
) -> None:
    node.site = Site(drain_on=drain_on)
    JobImages.failing = {"stage": fault}
    assert node.tell(prolog) == status
    assert node.verdict() == fault.line()  # type: ignore[attr-defined]
    assert node.here.status().status == "failed"
    assert not os.path.exists(node.here.file("exports"))


def test_a_disk_that_cannot_be_written_is_noticed_before_the_others_load(node: stories.StoryNode) -> None:
    node.site = Site(drain_on=("disk",))
    Path(os.path.dirname(os.path.dirname(node.place.path))).write_text("no directory")
    assert node.tell(prolog) == exit_status.DRAIN
    assert "workspace: cannot write" in node.verdict()
    assert node.phases() == {"manifest": "ok"}


@pytest.mark.parametrize("where", ["child", "story", "handover"])
def test_a_defect_of_ours_lets_the_job_start_and_leaves_its_traceback_in_the_journal(
    node: stories.StoryNode, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a defect")

    if where == "child":
        JobImages.failing = {"stage": ZeroDivisionError("a defect")}
    else:
        monkeypatch.setattr(*{"story": (job_images, "JobImages", broken), "handover": (task_environment, "write", broken)}[where])
    assert node.tell(prolog) == exit_status.DONE
    assert node.verdict() == "starting"
    assert "madengine: defect: the job continues without our help" in node.said[0]
    assert "ZeroDivisionError: a defect" in node.said[0]


@pytest.mark.parametrize(
    "more", [{"SLURM_JOB_ID": ""}, {"SLURMD_NODENAME": "elsewhere"}, {"SLURM_JOB_UID": "x"}, {"SLURM_JOB_NODELIST": "["}]
)
def test_an_environment_that_is_not_slurm_s_is_said_in_the_journal_and_drains_nothing(
    node: stories.StoryNode, more: Dict[str, str]
) -> None:
    assert node.tell(prolog, **more) == exit_status.DONE
    assert len(node.said) == 1
    assert node.said[0].startswith("madengine: job: ")


def test_a_state_that_cannot_be_written_is_said_in_the_journal(node: stories.StoryNode) -> None:
    Path(node.here.base).write_text("no directory")
    assert node.tell(prolog) == exit_status.DONE
    assert "job_state: cannot write" in node.said[0]


def test_what_hooks_conf_says_wrong_is_said(node: stories.StoryNode) -> None:
    node.site = Site(warnings=("config: unknown key (key='Deadlin')",))
    node.tell(prolog)
    assert node.said == ["madengine: config: unknown key (key='Deadlin')"]
    assert node.verdict() == "ready"


def test_nodes_that_cannot_meet_are_left_alone(node: stories.StoryNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prolog.settings, "meets_in_prolog", lambda path: False)
    assert node.tell(prolog, SLURM_JOB_NODELIST="localhost,n2") == exit_status.DONE
    assert (node.here.exists(), len(node.said)) == (False, 1)
    assert node.tell(prolog) == exit_status.DONE  # alone it meets nobody
    assert node.verdict() == "ready"


# Several nodes: each of them a process of this machine.

LEADER = "n1"


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(os.urandom(64))
    path.chmod(0o600)
    return str(path)


def _node(folder: str, name: str, at: str, site: Site, more: Dict[str, str], failing: Dict[str, Exception], queue: Any) -> None:
    """Be one node of the job, and say how it ended."""
    base = Path(folder) / name
    base.mkdir()
    base.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job_images, "JobImages", JobImages)
        patched.setattr(allocation, "of", lambda environ: dataclasses.replace(ALLOCATION_OF(environ), address=at))
        JobImages.failing = failing
        node = stories.StoryNode(base, patched, os.getuid(), os.getgid())
        node.site = site
        if name != "broken":
            (node.work_dir / "build_manifest.json").write_text(json.dumps(manifests.built()))
        began = time.monotonic()
        status = node.tell(prolog, SLURMD_NODENAME=name, **more)
        queue.put((name, status, node.verdict(), time.monotonic() - began, node.phases(), list(node.here.status().unshared_ranks)))


def together(key: str, names: List[str], env: Optional[Dict[str, str]] = None, **failing: Dict[str, Exception]) -> Dict[str, Any]:
    """Let the nodes *names* start a job, and return what each says."""
    forking = multiprocessing.get_context("fork")
    queue = forking.SimpleQueue()
    site, at = Site(deadline_seconds=DEADLINE, key_file=key, port_range=(27100, 27399)), peers.address()
    more = {"SLURM_JOB_NODELIST": ",".join(names), "SLURM_JOB_ID": str(os.getpid() + 10**6), **(env or {})}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(stories, "JOB_ID", int(more["SLURM_JOB_ID"]))
            nodes = [forking.Process(target=_node, args=(folder, name, at, site, more, failing.get(name, {}), queue)) for name in names]
            for each in nodes:
                each.start()
            for each in nodes:
                each.join(2 * DEADLINE)
        assert [each.exitcode for each in nodes] == [0] * len(names)
    found = [queue.get() for _ in names]
    return {name: rest for name, *rest in found}


def test_the_nodes_of_a_job_get_ready_together(key: str) -> None:
    found = together(key, [LEADER, "n2", "n3"])
    assert {(status, verdict) for status, verdict, *_ in found.values()} == {(exit_status.DONE, "ready")}
    assert found[LEADER][3] == {"manifest": "ok", "publish": "ok", "rendezvous": "ok", "release": "ok", "handover": "ok"}
    assert found["n2"][3] == {"manifest": "ok", "wait": "ok", "load": "ok", "rendezvous": "ok", "handover": "ok"}


def test_the_nodes_find_out_who_of_them_is_apart_and_leave_nothing_in_the_work_directory(key: str, tmp_path: Path) -> None:
    names = [LEADER, "n2", "n3"]
    assert {name: end[4] for name, end in together(key, names).items()} == {LEADER: [1, 2], "n2": [1], "n3": [2]}
    (tmp_path / "build_manifest.json").write_text(json.dumps(manifests.built()))
    found = together(key, names, {"SLURM_JOB_WORK_DIR": str(tmp_path)})
    assert {name: end[4] for name, end in found.items()} == {name: [] for name in names}
    assert sorted(os.listdir(tmp_path)) == ["build_manifest.json", "key"]


@pytest.mark.parametrize("early", [{"is_coming": True}, {"identity": "sha256:" + "5f" * 32}, {"manifest": "another"}])
def test_the_nodes_of_a_job_agree_on_what_was_told_early_or_on_what_took_its_place(
    key: str, monkeypatch: pytest.MonkeyPatch, early: Dict[str, Any]
) -> None:
    monkeypatch.setattr(JobImages, "early", early)
    found = together(key, [LEADER, "n2", "n3"])
    assert {(status, verdict) for status, verdict, *_ in found.values()} == {(exit_status.DONE, "ready")}
    assert found[LEADER][3] == {"manifest": "ok", "publish": "ok", "rendezvous": "ok", "release": "ok", "handover": "ok"}


def test_what_was_told_early_is_given_back_where_it_comes_to_nothing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobImages, "early", {"is_coming": True})
    found = together(key, [LEADER, "n2"], **{LEADER: {"stage": ShareFault("layout: full", "look")}})
    assert all("layout: full" in verdict for _, verdict, *_ in found.values())
    assert found[LEADER][3] == {"manifest": "ok", "publish": "share", "release": "ok"}


UNREADABLE = ShareFault("blobs: cannot read a blob", "publish the image again", path="/s")
UNREACHED = ShareFault(lease.ANOTHER_STORE, "give a store that all nodes share", store="/s")


@pytest.mark.parametrize("early", [{"is_coming": True}, {"is_coming": True, "manifest": "another"}])
def test_a_node_that_cannot_read_what_may_be_withdrawn_fails_the_job_only_where_it_is_not(
    key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, early: Dict[str, Any]
) -> None:
    os.mkfifo(tmp_path / "tried")
    monkeypatch.setattr(JobImages, "early", early)
    monkeypatch.setattr(JobImages, "fifo", str(tmp_path / "tried"))
    found = together(key, [LEADER, "n2", "n3"], n2={"load early": UNREADABLE})
    verdicts = {name: end[1] for name, end in found.items()}
    if "manifest" in early:
        assert verdicts == dict.fromkeys(verdicts, "ready")
        assert found["n2"][3]["load"] == "ok"
    else:
        told = f"madengine: share: n2: {UNREADABLE}"
        assert verdicts == {LEADER: told, "n2": f"madengine: share: {UNREADABLE}", "n3": told}
        assert found[LEADER][3] == {"manifest": "ok", "publish": "ok", "rendezvous": "share", "release": "ok"}
        assert found["n2"][3]["load"] == "share"


@pytest.mark.parametrize("fault", [JobFault("loading: refused", "mend"), NodeFault("engine: no answer", "start docker"), UNREACHED])
def test_a_fault_that_no_other_offer_can_heal_ends_the_job_while_the_leader_still_publishes(
    key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception
) -> None:
    os.mkfifo(tmp_path / "nobody")  # who publishes waits there for ever
    monkeypatch.setattr(JobImages, "early", {"is_coming": True, "manifest": "another"})
    monkeypatch.setattr(JobImages, "fifo", str(tmp_path / "nobody"))
    found = together(key, [LEADER, "n2"], n2={"load": fault})
    assert [str(fault) in end[1] for end in found.values()] == [True, True]
    assert found[LEADER][3]["publish"] == ("job" if isinstance(fault, JobFault) else "share")


def test_a_node_that_loaded_another_image_is_in_the_leader_s_timeline(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobImages, "loaded", {"identity": "sha256:" + "5f" * 32})
    found = together(key, [LEADER, "n2"])
    assert "n2: rendezvous: the node loaded another image" in found[LEADER][1]
    assert found[LEADER][3]["rendezvous"] == "share"


DECLINED = ShareFault(transports.DECLINED, "let every node reach the registry", answer="no route")


@pytest.mark.parametrize("nodes", [["n2"], ["n3"], ["n2", "n3"]])
def test_where_a_node_cannot_take_an_image_the_way_it_is_offered_all_take_another(
    key: str, monkeypatch: pytest.MonkeyPatch, nodes: List[str]
) -> None:
    monkeypatch.setattr(JobImages, "more", {"otherwise": True})
    found = together(key, [LEADER, "n2", "n3"], **{node: {"load": DECLINED} for node in nodes})
    assert {(status, verdict) for status, verdict, *_ in found.values()} == {(exit_status.DONE, "ready")}
    assert {found[node][3]["load"] for node in ("n2", "n3")} == {"ok"}


def test_where_there_is_no_other_way_the_node_and_its_reason_are_named(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = together(key, [LEADER, "n2", "n3"], n2={"load": DECLINED})
    assert all(verdict.startswith("madengine: share: ") for _status, verdict, *_ in found.values())
    assert "n2: transport: this node cannot take the image this way (answer='no route')" in found["n3"][1]


def test_another_way_is_offered_once(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobImages, "more", {"otherwise": True})
    found = together(key, [LEADER, "n2", "n3"], n2={"load": DECLINED, "load again": DECLINED})
    assert all("n2: transport: this node cannot take" in found[node][1] for node in (LEADER, "n3"))


def test_a_lease_that_cannot_be_given_back_fails_no_job(key: str) -> None:
    found = together(key, [LEADER, "n2"], **{LEADER: {"release": ShareFault("layout: gone", "look")}})
    assert {verdict for _, verdict, *_ in found.values()} == {"ready"}


def test_leases_are_given_back_also_where_the_nodes_do_not_come_to_an_end_together(key: str) -> None:
    found = together(key, [LEADER, "n2"], n2={"load": ShareFault("layout: a blob is missing", "publish again")})
    assert "a blob is missing" in found[LEADER][1]
    assert found[LEADER][3] == {"manifest": "ok", "publish": "ok", "rendezvous": "share", "release": "ok"}


@pytest.mark.parametrize("names", [[LEADER, "broken"], [LEADER, "n2", "broken"]])
def test_what_only_one_node_lacks_all_nodes_say_at_once_and_name_it(key: str, names: List[str]) -> None:
    found = together(key, names)
    assert {status for status, *_ in found.values()} == {exit_status.DONE}
    assert found["broken"][1].startswith("madengine: job: ")
    for name in names[:-1]:
        _, verdict, seconds, *_ = found[name]
        assert verdict.startswith("madengine: job: broken: ")
        assert "build_manifest.json" in verdict
        assert seconds < DEADLINE / 2


def test_a_node_that_cannot_load_ends_the_others_wait(key: str) -> None:
    found = together(key, [LEADER, "n2"], n2={"load": NodeFault("engine: no answer", "start docker", part="docker")})
    assert (found["n2"][0], found[LEADER][0]) == (exit_status.DRAIN, exit_status.DONE)
    assert found[LEADER][1].startswith("madengine: node: n2: engine: no answer")


UNASKED = {"SLURM_JOB_COMMENT": "", "SLURM_JOB_STDOUT": "/x/madengine-llama_%j.out"}


def test_a_manifest_that_only_some_nodes_see_is_said_at_once_on_those(key: str) -> None:
    found = together(key, ["n1", "broken", "n3"], UNASKED)
    assert {name: (end[0], end[1]) for name, end in found.items()} == dict.fromkeys(found, (exit_status.DONE, "aside"))
    assert all(end[2] < DEADLINE / 2 for end in found.values())


def test_a_leader_that_sees_no_manifest_tells_the_others(key: str) -> None:
    found = together(key, ["broken", "n2"], UNASKED)
    assert {end[1] for end in found.values()} == {"aside"}


def test_a_job_that_is_alone_needs_no_key_of_the_cluster(node: stories.StoryNode) -> None:
    node.site = Site(key_file="/nonexistent/key")
    assert node.tell(prolog) == exit_status.DONE
    assert node.verdict() == "ready"


def test_a_job_of_several_nodes_needs_one(node: stories.StoryNode) -> None:
    node.site = Site(key_file="/nonexistent/key", drain_on=("key",))
    assert node.tell(prolog, SLURM_JOB_NODELIST="localhost,n2") == exit_status.DRAIN
    assert "/nonexistent/key" in node.verdict()


def test_a_job_hears_once_what_of_its_manifest_it_does_not_get(node: stories.StoryNode) -> None:
    written = manifests.built(context={"docker_env_vars": {"UNKNOWN": "${NOBODY_HAS_IT}", "HF_TOKEN": manifests.TOKEN}})
    (node.work_dir / "build_manifest.json").write_text(json.dumps(written))
    assert node.tell(prolog) == exit_status.DONE
    (line,) = (node.here.text("notes") or "").splitlines()
    assert line.startswith("madengine: of the manifest, left out: UNKNOWN; taken out as secrets: HF_TOKEN")
