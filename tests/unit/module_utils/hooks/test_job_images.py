# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook starts children that are the user; what the site does not allow starts none."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault, PeerFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_images
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, site_images, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import lease
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from helpers import dockerinfo, images

IMAGE = images.make(b"base")


@pytest.fixture
def user() -> process.Account:
    entry = pwd.getpwuid(os.getuid())
    return process.of(entry.pw_uid, entry.pw_gid)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> images.Daemon:
    made = images.Daemon()
    monkeypatch.setattr(job_images.engine, "Engine", lambda socket: made)
    return made


def staged(user: process.Account, store: str, **site: Any) -> job_images.JobImages:
    return job_images.JobImages(Site(**site), store, user, Deadline(60))


def test_what_the_leader_publishes_the_others_load_each_in_a_child(user: process.Account, daemon: images.Daemon, tmp_path: Path) -> None:
    daemon.images = {"a:1": IMAGE, "b:1": IMAGE}
    here = staged(user, str(tmp_path / "store"))
    offers = here.stage(["a:1", "docker.io/library/a:1", "b:1"], alone=False).result()
    assert [(offer["reference"], offer["identity"]) for offer in offers] == [(name, IMAGE.identity.digest) for name in ("a:1", "b:1")]
    assert (tmp_path / "store" / "images" / str(user.uid)).is_dir()
    done = here.load(offers).result()
    assert [each["method"] for each in done] == ["none", "none"]
    here.release(offers).result()
    assert os.listdir(tmp_path / "store" / "leases") == []


def test_the_sites_store_is_used_where_the_job_names_none(user: process.Account, daemon: images.Daemon, tmp_path: Path) -> None:
    daemon.images = {"a:1": IMAGE}
    [offer] = staged(user, "", image_store=str(tmp_path / "site")).stage(["a:1"], alone=False).result()
    assert offer["where"] == str(tmp_path / "site")
    [offer] = staged(user, "").stage(["a:1"], alone=False).result()
    assert offer["transport"] == "none"


def test_an_image_that_the_site_does_not_allow_is_neither_published_nor_loaded(user: process.Account, daemon: images.Daemon) -> None:
    here = staged(user, "", allow_images=("rocm/*",))
    hidden = {"reference": "rocm/a:1", "registry_image": "evil/a:1"}
    for start in (
        lambda: here.stage(["evil/a:1"], alone=False),
        lambda: here.stage([hidden], alone=True),
        lambda: here.load([{"reference": "evil/a:1"}]),
    ):
        with pytest.raises(JobFault, match="not allowed on this cluster"):
            start()


@pytest.mark.parametrize(("pattern", "is_by_digest"), [("r.io/t/a:1", False), ("r.io/t/*", True)])
def test_a_digest_that_the_manifest_has_recorded_gets_nobody_past_a_pattern_with_a_tag(
    user: process.Account, daemon: images.Daemon, pattern: str, is_by_digest: bool
) -> None:
    digest, other = "sha256:" + "ab" * 32, images.make(b"other")
    daemon.registry = {f"r.io/t/a@{digest}": other, "r.io/t/a:1": IMAGE}
    entry = {"reference": "a:1", "registry_image": "r.io/t/a:1", "image_digest": digest}
    here = staged(user, "", allow_images=("a", pattern))
    [found] = here.stage([entry], alone=True).result()
    assert found["identity"] == (other if is_by_digest else IMAGE).identity.digest


def test_who_cannot_take_an_offer_is_named_and_the_way_alone_that_has_another_behind_it() -> None:
    offers = [{"transport": "registry", "otherwise": True}, {"transport": "shared"}]
    faults = [PeerFault(f"n{number}", ShareFault("test: no way", "nothing", answer=f"no route {number}")) for number in range(2, 8)]
    faults.insert(1, PeerFault("n9", ShareFault("test: no way", "nothing")))
    why = {"n2": "no route 2", "n9": "test: no way; nothing", "n3": "no route 3"}
    assert job_images.declined(offers, faults) == {"registry": why}
    assert job_images.declined(offers[1:], faults) == {}


@pytest.mark.parametrize(("fault", "of_the_way", "on_its_way"), [
    (ShareFault(transports.DECLINED, "nothing"), True, True),
    (ShareFault("blobs: digest differs", "nothing"), False, True),
    (ShareFault(lease.ANOTHER_STORE, "nothing"), False, False),
    (JobFault("loading: another image", "nothing"), False, False),
    (NodeFault("engine: no answer", "nothing"), False, False),
    (PeerFault("n3", ShareFault("blobs: digest differs", "nothing")), False, False),
])  # fmt: skip
def test_a_node_waits_for_another_offer_where_one_may_come_and_can_help(fault: Fault, of_the_way: bool, on_its_way: bool) -> None:
    whole: Dict[str, Any] = {"transport": "shared"}
    other, coming = {"transport": "registry", "otherwise": True}, {**whole, "is_coming": True}
    assert not job_images.may_decline([whole], fault)
    assert job_images.may_decline([other, whole], fault) == job_images.has_another_way([other, whole], fault) == of_the_way
    assert job_images.may_decline([whole, coming], fault) == on_its_way
    assert not job_images.has_another_way([whole, coming], fault)


def test_a_job_of_one_node_publishes_nothing(user: process.Account, daemon: images.Daemon, tmp_path: Path) -> None:
    daemon.images = {"a:1": IMAGE}
    [found] = staged(user, str(tmp_path / "store")).stage(["a:1", "docker.io/a:1"], alone=True).result()
    assert found == {"reference": "a:1", "identity": IMAGE.identity.digest, "source": "local", "method": "none"}
    assert staged(user, "").stage(["a:1"], alone=True).result() == [found]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JobFault, match="nobody has it"):
        staged(user, str(tmp_path / "store")).stage(["x:1"], alone=True).result()


def test_a_fault_in_the_child_comes_out_of_it(user: process.Account, daemon: images.Daemon) -> None:
    with pytest.raises(JobFault, match="nobody has it"):
        staged(user, "").stage(["a:1"], alone=False).result()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_s_own_docker_is_asked_by_that_user_alone(tmp_path: Path) -> None:
    one = process.named("nobody")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, f"{one.uid}.sock")
        with dockerinfo.refusing(path, one.uid) as askers:
            here = job_images.JobImages(Site(docker_socket=f"{folder}/%U.sock"), "", one, Deadline(60), "sbcast", "1", nodes=2)
            for do in (here.have, here.stage(["a:1"], alone=False).result):
                with pytest.raises(Fault):
                    do()
        assert askers == {one.uid}


def test_the_totals_are_sums() -> None:
    one = {"method": "save", "bytes_total": 10, "bytes_moved": 5, "layers_total": 2, "layers_moved": 1}
    two = {"method": "none", "bytes_total": 1, "bytes_moved": 0, "layers_total": 1, "layers_moved": 0}
    assert job_images.totals([one, two, one]) == {
        "images": 3, "method": "save,none", "bytes_total": 21, "bytes_moved": 10, "layers_total": 5, "layers_moved": 2,
    }  # fmt: skip
    assert job_images.totals([])["images"] == 0
    told = [{**one, "reason": "no pull"}, {**two, "instead_of": "shared: full"}, {**one, "reason": "no pull", "decision": "the newest"}]
    assert job_images.totals(told)["reason"] == "no pull; shared: full"
    assert job_images.totals(told)["decision"] == "the newest"


def test_the_user_is_told_which_of_several_images_runs(user: process.Account, daemon: images.Daemon, tmp_path: Path) -> None:
    old, new = images.make(b"old"), images.make(b"new")
    for daemon.images["a:1"] in (new, old):
        offers = staged(user, str(tmp_path / "store")).stage(["a:1"], alone=False).result()
    [line] = job_images.decisions(offers)
    assert line.startswith("madengine: several images are called a:1: docker of this node has")
    assert line.endswith("runs, it is the newest")
    assert offers[0]["identity"] == new.identity.digest
    assert job_images.decisions([{}]) == []


def test_what_a_member_has_decided_stands_behind_what_the_first_node_has() -> None:
    offers = [{"reference": "a:1", "decision": "the newest"}, {"reference": "b:1"}, {"reference": "c:1"}]
    loaded = [{"decision": "not ours"}, {"decision": "not ours"}]
    assert job_images.decided(offers, loaded) == [
        {"reference": "a:1", "decision": "the newest; not ours"},
        {"reference": "b:1", "decision": "not ours"},
        {"reference": "c:1"},
    ]


def test_the_default_registry_is_asked_unless_the_site_says_no(user: process.Account, daemon: images.Daemon) -> None:
    daemon.registry = {"a:1": IMAGE}
    with pytest.raises(JobFault, match="nobody has it"):
        staged(user, "", default_registry=False).stage(["a:1"], alone=True).result()
    [found] = staged(user, "").stage(["a:1"], alone=True).result()
    assert (found["source"], found["identity"]) == ("hub", IMAGE.identity.digest)


def test_a_dockerfile_is_used_only_where_the_site_allows_it_and_the_manifest_lies_somewhere(
    user: process.Account, daemon: images.Daemon, tmp_path: Path
) -> None:
    wanted = {"reference": "ci-a", "dockerfile": "none.Dockerfile"}
    for work_dir, site, fact in (
        (str(tmp_path), {}, "no such Dockerfile"),
        (str(tmp_path), {"allow_build": False}, "nobody has it"),
        ("", {}, "nobody has it"),
    ):
        here = job_images.JobImages(Site(**site), "", user, Deadline(60), work_dir=work_dir)
        with pytest.raises(JobFault, match=fact):
            here.stage([wanted], alone=True).result()


SERVICE = {"docker_access": "service"}


def test_where_a_service_account_does_the_work_nothing_that_a_user_has_written_is_a_source(
    user: process.Account, daemon: images.Daemon, tmp_path: Path
) -> None:
    service = {**SERVICE, "image_store": str(tmp_path / "site")}
    with pytest.raises(JobFault, match="no store of a job's own"):
        staged(user, str(tmp_path / "mine"), **service).stage(["a:1"], alone=True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a_1.tar").write_bytes(daemon._save(IMAGE, ["a:1"]))
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    daemon.registry = {"a:1": IMAGE, "reg.example/evil:1": IMAGE}
    here = job_images.JobImages(Site(**service), "", user, Deadline(60), work_dir=str(tmp_path))
    for recipe in ({"dockerfile": "Dockerfile"}, {"registry_image": "reg.example/evil:1"}, {}):
        with pytest.raises(JobFault, match="none that the site has distributed"):
            here.stage([{"reference": "a:1", **recipe}], alone=True).result()
    assert daemon.images == {}
    [done] = staged(user, "", image_store=str(tmp_path / "site")).stage(["a:1"], alone=True).result()
    assert done["source"] == "archive"


def test_where_a_service_account_does_the_work_the_site_s_image_takes_the_name_of_any_other(
    user: process.Account, daemon: images.Daemon, tmp_path: Path
) -> None:
    older = images.make(b"what the site has distributed")
    daemon.images = {"a:1": older}
    distribute.publish(daemon, str(tmp_path), "a:1", "site", Deadline(60))
    here = staged(user, "", **SERVICE, image_store=str(tmp_path))
    [offer] = here.stage(["a:1"], alone=False).result()
    assert (offer["source"], offer["identity"]) == ("local", older.identity.digest)
    daemon.images = {"a:1": images.make(b"a newer one, that another job has given this name")}
    distribute.publish(daemon, str(tmp_path), "a:1", str(user.uid), Deadline(60))
    [offer] = here.stage(["a:1"], alone=False).result()
    assert (offer["source"], offer["identity"]) == ("store", older.identity.digest)


def test_where_a_service_account_does_the_work_the_daemon_s_image_counts_if_root_has_written_it_down(
    user: process.Account, daemon: images.Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_images, "RECORD", str(tmp_path / "record"))
    daemon.images = {"a:1": IMAGE}
    here = staged(user, "", **SERVICE)
    with pytest.raises(JobFault, match="none that the site has distributed"):
        here.stage(["a:1"], alone=True).result()
    site_images.note(Reference.parse("a:1"), IMAGE.identity.digest)
    site_images.note(Reference.parse("b:1"), images.make(b"another").identity.digest)
    [done] = here.stage(["a:1"], alone=True).result()
    assert (done["source"], done["identity"]) == ("local", IMAGE.identity.digest)
    daemon.images = {"a:1": images.make(b"another")}
    with pytest.raises(JobFault, match="none that the site has distributed"):
        here.stage(["a:1"], alone=True).result()
    for text in ("", "[]", '{"a:1": 5}', "{"):
        (tmp_path / "record").write_text(text)
        assert site_images.recorded() == {}


def test_where_a_service_account_does_the_work_a_digest_is_proof_enough(user: process.Account, daemon: images.Daemon) -> None:
    name = f"reg.example/a@{IMAGE.diff_ids[0]}"
    here = staged(user, "", **SERVICE)
    with pytest.raises(JobFault, match="its registry does not give it"):
        here.stage([name], alone=True).result()
    daemon.registry = {name: IMAGE}
    [done] = here.stage([name], alone=True).result()
    assert (done["source"], done["identity"]) == ("registry", IMAGE.identity.digest)
    daemon.images, daemon.registry = dict(daemon.registry), {}
    [done] = here.stage([name], alone=True).result()
    assert done["source"] == "local"
