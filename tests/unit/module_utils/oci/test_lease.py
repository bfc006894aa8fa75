# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease proves a store and names what is in use; whoever forges one gains nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import lease
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.folder import Folder
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(str(tmp_path / "store"))
    made.ensure()
    return made


def test_a_lease_names_its_digests_until_it_is_given_back(store: ImageStore) -> None:
    taken = lease.take(store, [DIGEST, DIGEST])
    assert lease.leased(store, time.time()) == {DIGEST}
    lease.give_back(store, taken.name)
    lease.give_back(store, taken.name)
    assert lease.leased(store, time.time()) == set()


def test_a_lease_is_written_anew_only_where_it_names_more(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write = [], Folder.write  # type: ignore[var-annotated]
    monkeypatch.setattr(Folder, "write", lambda *given: written.append(given[1]) or write(*given))
    taken, other = lease.take(store, [DIGEST]), "sha256:" + "1" * 64
    lease.extend(store, taken, [DIGEST])
    assert written == [taken.name]
    lease.extend(store, taken, [other])
    lease.extend(store, taken, [other, DIGEST])
    assert written == [taken.name] * 2
    assert lease.leased(store, time.time()) == {DIGEST, other}
    nothing = lease.take(store, [])
    assert written[2:] == [nothing.name]  # its number is what proves the store


def test_a_lease_that_could_not_be_written_is_written_the_next_time(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = lease.take(store, [])
    with monkeypatch.context() as broken:
        broken.setattr(Folder, "write", lambda *_given: os.open("/proc/self/nothing", os.O_RDONLY))
        with pytest.raises(ShareFault):
            lease.extend(store, taken, [DIGEST])
    lease.extend(store, taken, [DIGEST])
    assert lease.leased(store, time.time()) == {DIGEST}


def test_a_lease_that_nobody_gave_back_counts_for_nothing_once_it_is_old(store: ImageStore) -> None:
    taken = lease.take(store, [DIGEST])
    later = time.time() + lease.LIFETIME_SECONDS + 60
    assert lease.leased(store, later) == set()
    assert lease.expired(store, later) == [taken.name]
    assert lease.expired(store, time.time()) == []


def test_the_same_store_is_proved_and_another_is_not(store: ImageStore, tmp_path: Path) -> None:
    taken = lease.take(store, [])
    lease.prove(store, taken)
    lease.prove(ImageStore(store.path), taken)
    with pytest.raises(ShareFault, match="not the store of the publishing node"):
        lease.prove(ImageStore(str(tmp_path / "other")), taken)
    with pytest.raises(ShareFault, match="another number"):
        lease.prove(store, lease.Lease(taken.name, "0" * 32))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nonce":1}', "[" * 100000])
def test_a_lease_that_cannot_be_read_proves_and_names_nothing(store: ImageStore, content: str) -> None:
    Path(store.leases, "x").write_text(content)
    with pytest.raises(ShareFault):
        lease.prove(store, lease.Lease("x", "1"))
    assert lease.leased(store, 0) == set()


def test_a_lease_names_digests_only(store: ImageStore) -> None:
    Path(store.leases, "x").write_text(json.dumps({"digests": [DIGEST, "../x", 5]}))
    assert lease.leased(store, time.time()) == {DIGEST}


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "x" * 201])
def test_no_path_is_made_of_what_is_no_leases_name(store: ImageStore, name: str) -> None:
    with pytest.raises(ShareFault, match="not a lease's name"):
        lease.give_back(store, name)


def test_a_store_without_leases_has_none(tmp_path: Path) -> None:
    assert lease.leased(ImageStore(str(tmp_path / "none")), 0) == set()


def test_a_lease_in_a_store_that_cannot_be_written_is_named(store: ImageStore) -> None:
    os.rmdir(store.leases)
    with pytest.raises(ShareFault, match="store: cannot write"):
        lease.take(store, [])


def test_a_lease_that_vanishes_while_it_is_looked_at_is_none(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_names", lambda _store: ["gone"])
    assert lease.leased(store, time.time()) == set()


@pytest.mark.parametrize(("ahead_seconds", "counts"), [(-23 * 3600, True), (-25 * 3600, False), (30, True), (3600, False), (2**31, False)])
def test_a_lease_counts_for_a_day_whatever_date_it_bears(store: ImageStore, ahead_seconds: int, counts: bool) -> None:
    taken, now = lease.take(store, [DIGEST]), time.time()
    os.utime(os.path.join(store.leases, taken.name), (now + ahead_seconds,) * 2)
    assert lease.leased(store, now) == ({DIGEST} if counts else set())
    assert lease.expired(store, now) == ([] if counts else [taken.name])


def test_what_a_job_took_is_given_back_when_it_is_over_and_nobody_elses(store: ImageStore) -> None:
    kept = {lease.take(store, []).name, lease.take(store, [], "47").name, lease.take(store, [], "47110").name}
    lease.take(store, [], "4711")
    lease.take(store, [DIGEST], "4711")
    lease.give_back_all(store, "4711")
    lease.give_back_all(store, "4711")
    assert set(os.listdir(store.leases)) == kept


def test_a_lease_over_which_its_holder_was_killed_goes_with_the_job_and_nobody_elses(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "rename", lambda *_names: time.sleep(3600))
    for job_id in ("7", "77", ""):
        pid = os.fork()
        if pid == 0:
            lease.take(store, [], job_id)
        while not any(f".{pid}." in name for name in os.listdir(store.leases)):
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    lease.give_back_all(store, "7")
    kept = os.listdir(store.leases)
    assert (len(kept), [name for name in kept if "job-7." in name]) == (2, [])


def test_what_a_killed_holder_was_writing_goes_with_its_lease_and_nobody_elses(store: ImageStore) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, lease.take(store, [], "7").name.encode())
        store.blobs.put(iter(lambda: time.sleep(3600) or b"", None))
    name = os.read(reader, 1000).decode()
    while not os.listdir(store.temporary):
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    host = socket.gethostname()
    others = [f"{host}.{pid}1.ab", f"{host}.{pid + 1}.ab", f"x{host}.{pid}.ab"]
    for other in others:
        Path(store.temporary, other).touch()
    lease.give_back_after(store, "not-a-holder")
    assert len(os.listdir(store.temporary)) == 4
    lease.give_back_all(store, "7")
    assert sorted(os.listdir(store.temporary)) == sorted(others)
    assert (os.listdir(store.leases), name.split(".")[0]) == ([], "job-7")
