# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real sockets, real processes: members' epilogs bring their bundles to the first node's, in time, late or never."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, PeerFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import addresses
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import bundle, upload, upload_protocol
from helpers import csvs, peers

PORTS = (27800, 27807)
FIRST = addresses.candidates(PORTS, 4711, at_end=True)[0]
KEPT = {"rank": 1, "files": [["node.json", "e30="]], "left": [], "folder": "/kept"}


@pytest.fixture
def at() -> str:
    return peers.address()


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    csvs.collection(tmp_path / "leader", {0: csvs.table("")})
    return tmp_path / "leader"


def stored(collection: Path) -> upload.Store:
    return lambda rank, brought: process.start(peers.me(), bundle.unpack, str(collection), brought, rank)


def brought(folder: Path, rank: int, text: str) -> Dict[str, Any]:
    csvs.collection(folder / f"member{rank}", {rank: text})
    return bundle.pack(str(folder / f"member{rank}/node_{rank}"), rank, [csvs.NAME])


class Member:
    """A member's epilog, in a process of its own."""

    def __init__(self, at: str, rank: int, brings: Dict[str, Any], wait: float = 5.0, key: Any = peers.KEY, nodes: int = 3) -> None:
        def story() -> Any:
            start = time.monotonic()
            try:
                upload.deliver(peers.allocation(f"n{rank}", nodes, at), key, brings, wait, ports=PORTS)
            except Fault as fault:
                return {"line": fault.line(), "seconds": time.monotonic() - start, "at": time.monotonic()}
            return {"line": "", "seconds": time.monotonic() - start, "at": time.monotonic()}

        self._child = process.start(peers.me(), story)

    def end(self) -> Dict[str, Any]:
        found = self._child.result(Deadline(20))
        assert isinstance(found, dict)
        return found

    def kill(self) -> None:
        self._child.kill()


def collect(at: str, store: Any, awaited: Any = (1, 2), wait: float = 5.0, nodes: int = 3, **more: Any) -> Dict[int, bool]:
    return upload.collect(peers.allocation("n0", nodes, at), peers.KEY, awaited, store, wait, ports=PORTS, **more)


def never(rank: int, brought: Any) -> process.Child:
    raise AssertionError("nothing comes")


def test_what_the_members_have_comes_to_the_first_node_and_it_waits_no_longer_than_that(at: str, collection: Path, tmp_path: Path) -> None:
    members = [Member(at, rank, brought(tmp_path, rank, csvs.table(rank))) for rank in (1, 2)]
    start = time.monotonic()
    assert collect(at, stored(collection), wait=60.0) == {1: True, 2: True}
    assert time.monotonic() - start < 30.0  # half the wait
    assert [member.end()["line"] for member in members] == ["", ""]
    assert [(collection / f"node_{rank}" / csvs.NAME).read_text() for rank in (1, 2)] == [csvs.table(1), csvs.table(2)]


def test_whoever_comes_first_waits_for_the_other(at: str, collection: Path, tmp_path: Path) -> None:
    early = Member(at, 1, brought(tmp_path, 1, csvs.table(1)))
    late: List[Member] = []

    def store(rank: int, bundle_: Any) -> process.Child:
        if rank == 1:
            late.append(Member(at, 2, brought(tmp_path, 2, csvs.table(2))))  # comes when the first one's is there
        return stored(collection)(rank, bundle_)

    assert collect(at, store) == {1: True, 2: True}
    assert [early.end()["line"], late[0].end()["line"]] == ["", ""]


def test_a_member_that_never_comes_costs_the_wait_and_the_others_nothing(at: str, collection: Path, tmp_path: Path) -> None:
    member = Member(at, 2, brought(tmp_path, 2, csvs.table(2)))
    start = time.monotonic()
    assert collect(at, stored(collection), wait=1.0) == {2: True}
    end = time.monotonic()
    assert end - start >= 1.0
    assert member.end()["at"] < end


def test_a_member_without_a_leader_gives_up_after_the_wait_and_says_whom_it_looked_for(at: str) -> None:
    start = time.monotonic()
    with pytest.raises(PeerFault, match="the leader did not answer") as caught:
        upload.deliver(peers.allocation("n1", 3, at), peers.KEY, KEPT, 0.5, ports=PORTS)
    assert time.monotonic() - start >= 0.5
    assert caught.value.line().startswith("madengine: share: n0: rendezvous: the leader did not answer")
    assert "epilog" in caught.value.line()


def test_nobody_is_waited_for_who_is_not_awaited(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("no socket is needed"))
    assert collect(at, never, awaited=()) == {}


def test_what_the_leader_cannot_store_is_told_to_its_owner_alone(at: str, collection: Path, tmp_path: Path) -> None:
    (collection / "node_1").write_text("no directory")
    members = [Member(at, rank, brought(tmp_path, rank, csvs.table(rank))) for rank in (1, 2)]
    assert collect(at, stored(collection)) == {1: False, 2: True}
    lines = [member.end()["line"] for member in members]
    assert lines[0].startswith("madengine: share: n0: bundle: cannot write")
    assert lines[1] == ""


def test_a_leader_that_has_no_place_says_so_at_once(at: str) -> None:
    members = [Member(at, rank, KEPT) for rank in (1, 2)]
    start = time.monotonic()
    refusal = ShareFault("job_end: the first node has no place for results", "read its log")
    assert collect(at, never, wait=60.0, refusal=refusal) == {1: False, 2: False}
    assert time.monotonic() - start < 30.0  # half the wait
    for member in members:
        assert member.end()["line"] == "madengine: share: n0: job_end: the first node has no place for results; read its log"


@pytest.mark.parametrize("brings", [
    {"files": 7},
    {"files": [["../../etc/cron.d/x.csv", "eA=="], ["node.json", "e30="]]},
    {"files": [["node.json", "e30="], ["deep/x.csv", "eA=="]]},
    {"files": [["node.json", "W10="]]},
    {"files": [["node.json", "e30="]] + [[f"{number}.csv", ""] for number in range(60)]},
    {"files": [["node.json", "e30="], ["x.csv", "%"]]},
])  # fmt: skip
def test_a_bundle_that_a_user_has_prepared_is_refused_and_leads_nowhere(at: str, collection: Path, brings: Dict[str, Any]) -> None:
    member = Member(at, 1, brings, nodes=2)
    assert collect(at, stored(collection), awaited=(1,), nodes=2) == {1: False}
    assert "bundle: not a node's results" in member.end()["line"]
    assert sorted(os.listdir(collection)) == ["node_0"]


def test_a_bundle_that_is_too_large_is_not_sent(at: str) -> None:
    with pytest.raises(JobFault, match="too large"):
        upload.deliver(peers.allocation("n1", 3, at), peers.KEY, {"files": "x" * bundle.LONGEST_TEXT}, 60.0, ports=PORTS)


def test_the_largest_bundles_of_many_nodes_come_a_few_at_a_time(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_protocol, "_ROOM", 100_000)
    held: List[int] = []
    tell = upload_protocol.UploadServerEnd.send_now

    def counted(end: upload_protocol.UploadServerEnd) -> None:
        tell(end)
        held.append(sum(each.size for each in end._upload._ends.values() if each.has_turn))

    monkeypatch.setattr(upload_protocol.UploadServerEnd, "send_now", counted)
    members = [Member(at, rank, {"text": "x" * 60_000}, nodes=5) for rank in range(1, 5)]
    got: List[int] = []

    def store(rank: int, bundle_: Any) -> process.Child:
        got.append(len(bundle_["text"]))
        return process.start(peers.me(), int)

    assert collect(at, store, awaited=(1, 2, 3, 4), nodes=5) == dict.fromkeys((1, 2, 3, 4), True)
    assert got == [60_000] * 4
    assert max(held) <= 100_000
    assert [member.end()["line"] for member in members] == [""] * 4


def test_a_bundle_that_is_larger_than_the_room_comes_alone(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_protocol, "_ROOM", 1000)
    member = Member(at, 1, {"text": '\\"' * 20_000}, nodes=2)  # the longest that characters become in JSON
    assert collect(at, lambda rank, bundle_: process.start(peers.me(), int), awaited=(1,), nodes=2) == {1: True}
    assert member.end()["line"] == ""


# What goes wrong on the way.


def test_a_member_that_is_killed_while_it_brings_is_not_there(at: str, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members: List[Member] = []
    monkeypatch.setattr(upload_protocol.UploadServerEnd, "send_now", lambda end: members[0].kill())  # its turn never comes
    members.append(Member(at, 1, KEPT, nodes=2))
    assert collect(at, stored(collection), awaited=(1,), nodes=2, wait=1.0) == {}
    assert not (collection / "node_1").exists()


def test_a_member_that_comes_again_replaces_its_first_connection(at: str, collection: Path, tmp_path: Path) -> None:
    first = upload_protocol.UploadServerEnd.send_now
    members: List[Member] = []

    def deaf_once(end: upload_protocol.UploadServerEnd) -> None:
        if len(members) == 1:
            members.append(Member(at, 1, brought(tmp_path, 1, csvs.table(1)), nodes=2))
        else:
            first(end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload_protocol.UploadServerEnd, "send_now", deaf_once)
        members.append(Member(at, 1, KEPT, nodes=2))
        assert collect(at, stored(collection), awaited=(1,), nodes=2) == {1: True}
    assert "came a second time" in members[0].end()["line"]
    assert members[1].end()["line"] == ""


def test_a_leader_that_dies_is_missed_at_once(at: str) -> None:
    def lead() -> None:
        collect(at, lambda rank, bundle_: os._exit(1), awaited=(1,), nodes=2)

    leader = process.start(peers.me(), lead)
    with pytest.raises(PeerFault, match="the leader vanished"):
        upload.deliver(peers.allocation("n1", 2, at), peers.KEY, KEPT, 5.0, ports=PORTS)
    with pytest.raises(RuntimeError):
        leader.result()


def test_storing_that_hangs_ends_with_the_time_and_leaves_no_process(at: str, tmp_path: Path) -> None:
    def hang(rank: int, _: Any) -> process.Child:
        return process.start(peers.me(), lambda: (tmp_path / "pid").write_text(str(os.getpid())) and time.sleep(60))

    member = Member(at, 1, KEPT, nodes=2)
    assert collect(at, hang, awaited=(1,), nodes=2, wait=0.5) == {1: False}
    assert "the time is up" in member.end()["line"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# Strangers.


def test_another_key_another_attempt_or_a_prolog_of_the_same_job_delivers_nothing(at: str, collection: Path) -> None:
    strangers = [
        Member(at, 1, KEPT, wait=3.0, key=peers.OTHER_KEY),
        peers.start(peers.allocation("n2", 3, at), peers.follow, ports=PORTS, grace_seconds=3.0),
    ]
    ghost = process.start(peers.me(), partial(_ghost, at))
    assert collect(at, stored(collection), wait=4.0) == {}
    assert "refused_our_key" in strangers[0].end()["line"]
    assert "fault" in strangers[1].outcome()
    assert "did not answer" in ghost.result(Deadline(10))
    assert sorted(os.listdir(collection)) == ["node_0"]


def _ghost(at: str) -> Optional[str]:
    try:
        upload.deliver(peers.allocation("n1", 3, at, attempt=1), peers.KEY, KEPT, 3.0, ports=PORTS)
    except Fault as fault:
        return fault.line()
    return None


@contextlib.contextmanager
def knocking(at: str, manners: Callable[[socket.socket], None]) -> Iterator[None]:
    """Have a stranger in a process of its own knock at the leader's door until it opens, and behave like that."""
    child = process.start(peers.me(), lambda: manners(peers.knock(at, FIRST)))
    try:
        yield
    finally:
        child.kill()


def flood(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(b"x" * 65536)


def idle(sock: socket.socket) -> None:
    others = [socket.create_connection(sock.getpeername()) for _ in range(200)]
    time.sleep(10)
    del others


def nonsense(sock: socket.socket) -> None:
    for text in (b'{"line":"JOIN","rank":1}\n', b"[" * 8000 + b"\n", b'{"line":"BUNDLE","size":5}\n', b"\0\n"):
        with contextlib.suppress(OSError):
            socket.create_connection(sock.getpeername()).sendall(text)
    time.sleep(10)


@pytest.mark.parametrize("manners", [flood, idle, nonsense])
def test_strangers_at_the_door_cost_nobody_anything(at: str, collection: Path, tmp_path: Path, manners: Any) -> None:
    with knocking(at, manners):
        members = [Member(at, rank, brought(tmp_path, rank, csvs.table(rank))) for rank in (1, 2)]
        start = time.monotonic()
        assert collect(at, stored(collection), wait=60.0) == {1: True, 2: True}
        assert time.monotonic() - start < 30.0  # half the wait
    assert [member.end()["line"] for member in members] == ["", ""]


def test_a_stranger_who_holds_the_first_port_costs_a_moment(at: str, collection: Path, tmp_path: Path) -> None:
    with peers.listening(at, FIRST, peers.silent):
        members = [Member(at, rank, brought(tmp_path, rank, csvs.table(rank))) for rank in (1, 2)]
        assert collect(at, stored(collection), wait=60.0) == {1: True, 2: True}
    assert max(member.end()["seconds"] for member in members) < 30.0  # half the wait


def test_epilogs_knock_elsewhere_than_prologs(at: str) -> None:
    assert addresses.candidates(PORTS, 4711)[0] != FIRST
    assert set(addresses.candidates(PORTS, 4711)) == set(addresses.candidates(PORTS, 4711, at_end=True))


def test_a_delivery_leaves_no_descriptor_behind(at: str, collection: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    member = Member(at, 1, brought(tmp_path, 1, csvs.table(1)), nodes=2)
    collect(at, stored(collection), awaited=(1,), nodes=2)
    member.end()
    with contextlib.suppress(PeerFault):
        upload.deliver(peers.allocation("n1", 3, at), peers.KEY, KEPT, 0.1, ports=PORTS)
    assert len(os.listdir("/proc/self/fd")) == before


# The state machine, without a socket.


def meeting_of_two() -> Any:
    place = upload_protocol.UploadState(peers.allocation("n0", 3), peers.KEY, FIRST, lambda: 9.0, (1, 2))
    end = upload_protocol.UploadServerEnd(place)
    member = upload_protocol.UploadClientEnd(peers.allocation("n1", 3), peers.KEY, FIRST, json.dumps(KEPT))
    return place, end, member


def talk(end: Any, member: Any) -> None:
    """Let the two say all that they have to say."""
    while end.outgoing or member.outgoing:
        for one, other in ((end, member), (member, end)):
            data = bytes(one.outgoing)
            one.outgoing.clear()
            other.receive(data)


def test_a_bundle_is_whole_only_when_every_part_has_come() -> None:
    place, end, member = meeting_of_two()
    talk(end, member)
    assert (member.is_welcome, end.is_present, place.is_busy) == (True, False, False)
    member.choose()
    talk(end, member)
    assert (end.is_whole, place.next(), member.is_taken) == (True, end, False)
    assert json.loads(end.text()) == KEPT
    place.settle(end)
    talk(end, member)
    assert (member.is_taken, member.fault, place.awaited, place.delivered) == (True, None, {2}, {1: True})
    assert "UploadClientEnd over" in repr(member)
    assert "UploadServerEnd over rank=1" in repr(end)
    assert "awaited=[2]" in repr(place)


def test_whoever_is_still_there_at_the_end_is_told_why_it_is_over() -> None:
    place, end, member = meeting_of_two()
    talk(end, member)
    member.choose()
    end.receive(bytes(member.outgoing))
    member.outgoing.clear()
    place.close(ShareFault("upload: the time is up", "raise ResultsWait"))
    talk(end, member)
    assert (end.is_over, place.is_busy, member.is_taken) == (True, False, False)
    assert str(member.fault) == "upload: the time is up; raise ResultsWait"


@pytest.mark.parametrize(("name", "fields"), [
    ("BUNDLE", {"size": 0}),
    ("BUNDLE", {"size": bundle.LONGEST_TEXT + 1}),
    ("BUNDLE", {"size": True}),
    ("BUNDLE", {}),
    ("PART", {"text": "x"}),
    ("LOADED", {}),
])  # fmt: skip
def test_a_proven_member_s_line_out_of_turn_ends_its_connection(name: str, fields: Dict[str, Any]) -> None:
    place, end, member = meeting_of_two()
    talk(end, member)
    member.say(name, **fields)
    talk(end, member)
    assert (end.is_over, place.is_busy, place.awaited) == (True, False, {1, 2})


@pytest.mark.parametrize("text", ["x" * 3601, "", 7, "x" * 6])
def test_more_than_was_announced_is_nonsense(text: Any) -> None:
    place, end, member = meeting_of_two()
    talk(end, member)
    for name, fields in (("BUNDLE", {"size": 5}), ("PART", {"text": text})):
        assert not end.is_over
        member.say(name, **fields)
        end.receive(bytes(member.outgoing))
        member.outgoing.clear()
    assert (end.is_over, place.is_busy) == (True, False)


@pytest.mark.parametrize("name", ["TAKEN", "PART", "GO", "ABORT"])
def test_a_leader_that_talks_nonsense_is_as_if_it_had_vanished(name: str) -> None:
    _, end, member = meeting_of_two()
    talk(end, member)
    member.choose()
    end.say(name)
    member.receive(bytes(end.outgoing))
    assert (member.is_over, member.is_taken) == (True, False)
    assert "the leader vanished" in str(member.fault)


def test_a_stranger_s_end_is_no_fault() -> None:
    member = meeting_of_two()[2]
    member.lost()
    assert (member.is_over, member.fault) == (True, None)


def test_what_is_no_json_is_no_bundle() -> None:
    for text in ("{", "[]", "[" * 100_000):
        with pytest.raises(JobFault, match="no bundle"):
            upload._parsed(text)
