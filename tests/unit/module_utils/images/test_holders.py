# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has an image under a name, and whose is meant: what the manifest says, then the newest, and never without a word."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, plain_archive, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images

OLD = images.dated(images.make(b"base" * 1000, b"middle", Env=["A=b"]), "2001-01-01T00:00:00Z")
NEW = images.dated(images.make(b"base" * 1000, b"middle", b"top", Env=["A=c"]), "2002-01-01T00:00:00Z")
DIGEST, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def leader() -> images.Daemon:
    return images.Daemon()


def publish(daemon: images.Daemon, path: str, name: Any = "a:1", namespace: str = "site", **named: Any) -> Any:
    options = transports.TransportOptions(**named)
    return json.loads(json.dumps(distribute.publish(daemon, path, name, namespace, Deadline(60), options)))  # type: ignore[arg-type]


def put(path: str, image: images.Image, written: float = 0.0, file: str = "a_1.tar", tag: str = "a:1") -> Path:
    """Put an archive into the store's directory as a person does: the old one is replaced."""
    os.makedirs(path, exist_ok=True)
    unfinished = Path(path, "unfinished")
    unfinished.write_bytes(images.saved_25(image, [tag]))
    if written:
        os.utime(unfinished, (written, written))
    unfinished.rename(Path(path, file))
    return Path(path, file)


@pytest.mark.parametrize("has_local", [False, True])
def test_an_archive_that_was_replaced_is_read_again_and_it_is_said(leader: images.Daemon, path: str, has_local: bool) -> None:
    put(path, OLD)
    assert publish(leader, path)["source"] == "archive"
    leader.images = leader.images if has_local else {}
    archive = put(path, NEW)
    offer = publish(leader, path)
    assert (offer["source"], offer["identity"], leader.images["a:1"]) == ("store", NEW.identity.digest, NEW)
    assert f"the archive {archive} has {NEW.identity.digest[:19]}" in offer["decision"]
    assert offer["decision"].endswith(f"that of the archive {archive} runs, it is the newest")
    assert "decision" not in publish(leader, path)


def test_an_archive_is_read_once(leader: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leader.images["a:1"] = NEW
    archive = put(path, OLD)
    offer = publish(leader, path)
    assert (offer["identity"], "the archive" in offer["decision"]) == (NEW.identity.digest, True)
    monkeypatch.setattr(plain_archive, "read", None)
    again = publish(leader, path)
    assert again["identity"] == offer["identity"]
    assert "the archive" in again["decision"]
    archive.unlink()
    assert "decision" not in publish(leader, path)


def test_an_archive_that_was_written_before_the_image_was_made_is_not_read(
    leader: images.Daemon, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader.images["a:1"] = NEW
    put(path, OLD, written=1.0)
    monkeypatch.setattr(plain_archive, "read", None)
    assert "decision" not in publish(leader, path)


def test_an_archive_whose_blobs_were_pruned_is_read_again_where_it_is_meant(leader: images.Daemon, path: str) -> None:
    put(path, NEW)
    publish(leader, path)
    store = ImageStore(path)
    store.remove(Reference.parse("a:1"), "site")
    for blob in Path(path, "blobs", "sha256").iterdir():
        blob.unlink()
    leader.images = {"a:1": OLD}
    assert publish(leader, path)["identity"] == NEW.identity.digest


@pytest.mark.parametrize("damage", ["none", "link", "another"])
def test_an_archive_that_cannot_be_read_stops_no_job_and_is_named(leader: images.Daemon, path: str, damage: str) -> None:
    leader.images["a:1"] = NEW
    archive = put(path, OLD, tag="b:1") if damage == "another" else Path(path, "a_1.tar")
    os.makedirs(path, exist_ok=True)
    if damage == "link":
        archive.symlink_to("/dev/zero")
    elif damage == "none":
        archive.write_bytes(b"x" * 2000)
    offer = publish(leader, path)
    assert (offer["source"], offer["identity"]) == ("local", NEW.identity.digest)
    assert offer["decision"].startswith("the archive of a:1 was passed over: archive: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_an_archive_of_a_stranger_stops_nobody_and_runs_nowhere(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"] = OLD
    os.chown(put(path, NEW), 12345, 12345)
    offer = publish(leader, path)
    assert (offer["identity"], "decision" in offer) == (OLD.identity.digest, False)


def test_the_leaders_image_runs_where_the_site_says_so_and_no_archive_is_read(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"] = OLD
    put(path, NEW)
    assert publish(leader, path, on_conflict="leader")["identity"] == OLD.identity.digest
    with pytest.raises(JobFault, match="several images have this name"):
        publish(leader, path, on_conflict="fail")


def entry(**more: Any) -> Any:
    return {"reference": "a:1", "registry_image": "r.io/team/a:1", "image_digest": DIGEST, **more}


def test_the_image_whose_digest_the_manifest_has_recorded_runs_before_any_newer_one(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"] = NEW
    publish(leader, path)
    leader.images["a:1"], leader.repo_digests["a:1"] = OLD, [f"r.io/team/a@{DIGEST}"]
    offer = publish(leader, path, entry(), on_conflict="fail")
    assert offer["identity"] == OLD.identity.digest
    assert offer["decision"].endswith("that of docker of this node runs, the manifest has recorded its digest")


def test_an_image_that_was_pushed_anew_since_gives_way_to_the_one_that_was_recorded(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"], leader.repo_digests["a:1"] = NEW, [f"r.io/team/a@{OTHER}"]
    leader.registry = {f"r.io/team/a@{DIGEST}": OLD, "r.io/team/a:1": NEW}
    offer = publish(leader, path, entry())
    assert (offer["source"], offer["identity"]) == ("registry", OLD.identity.digest)
    assert "has another digest in its registry than the manifest has recorded: r.io/team/a@sha256:ab" in offer["decision"]
    assert "decision" not in publish(leader, path, entry())


def test_where_the_registry_does_not_give_it_the_nodes_own_runs_and_that_is_said(leader: images.Daemon, path: str) -> None:
    leader.images["a:1"], leader.repo_digests["a:1"] = NEW, [f"r.io/team/a@{OTHER}"]
    offer = publish(leader, path, entry())
    assert (offer["source"], offer["identity"]) == ("local", NEW.identity.digest)
    assert offer["decision"].endswith("registry r.io/team/a does not give it, so that of docker of this node (/nowhere/docker.sock) runs")


@pytest.mark.parametrize("digests", [[], [f"other.io/a@{OTHER}"], ["<none>@<none>"]])
def test_a_digest_of_another_registry_says_nothing(leader: images.Daemon, path: str, digests: Any) -> None:
    leader.images["a:1"], leader.repo_digests["a:1"] = NEW, digests
    assert "decision" not in publish(leader, path, entry())


def test_a_digest_that_the_daemon_has_given_itself_says_nothing(leader: images.Daemon, path: str) -> None:
    # The containerd store: what was loaded under the registry's name has "its" digest, which the registry has never seen.
    leader.images["a:1"], leader.repo_digests["a:1"] = NEW, [f"r.io/team/a@{images.digest(NEW.config)}"]  # the stand-in's Id
    leader.registry = {f"r.io/team/a@{DIGEST}": OLD}
    offer = publish(leader, path, entry())
    assert (offer["source"], "decision" in offer) == ("local", False)


def test_what_nobody_has_is_pulled_by_the_digest_that_the_manifest_has_recorded(leader: images.Daemon, path: str) -> None:
    leader.registry = {f"r.io/team/a@{DIGEST}": OLD, "r.io/team/a:1": NEW}
    assert publish(leader, path, entry())["identity"] == OLD.identity.digest
    other = images.Daemon()
    other.registry = {"r.io/team/a:1": NEW}  # what was recorded is gone there
    assert publish(other, path + "2", entry())["identity"] == NEW.identity.digest


def test_of_several_the_one_that_was_built_from_what_the_manifest_says_runs(leader: images.Daemon, path: str) -> None:
    labels = "mad.build_fingerprint"
    right, wrong = images.make(b"right", Labels={labels: "1"}), images.make(b"wrong", Labels={labels: "2"})
    leader.images["a:1"] = right
    publish(leader, path)
    leader.images["a:1"] = wrong
    wanted = {"reference": "a:1", "dockerfile": "a.Dockerfile", "build_fingerprint": "1", "work_dir": "/nowhere"}
    offer = publish(leader, path, wanted)
    assert (offer["source"], offer["identity"]) == ("store", right.identity.digest)
    assert offer["decision"].endswith("was built from another Dockerfile or other arguments than the manifest's")
