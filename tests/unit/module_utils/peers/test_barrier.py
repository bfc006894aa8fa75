# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real sockets on the loopback, real processes: what a job's nodes live through together.

The second half is the list of what such a barrier suffers from when it is written without care; each test says what the
careless one would do.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import resource
import selectors
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List
from unittest import mock

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, PeerFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import (
    addresses,
    barrier,
    client,
    framing,
    reserved,
    server,
    session,
    watch,
)
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.barrier_protocol import MemberEnd
from helpers import peers

TEN = tuple(f"n{rank}" for rank in range(10))
THREE = TEN[:3]


@pytest.fixture
def at() -> str:
    return peers.address()


@contextlib.contextmanager
def leading(at: str, nodes: int = 2, within: float = 10.0, **options: Any) -> Iterator[Any]:
    """Be the leader in this process, for tests that look at its inside."""
    options = {"ports": peers.PORTS, **options}
    # How it ends is not these tests' business, nor who comes after the end.
    with mock.patch.object(barrier, "_LATECOMER_SECONDS", 0.0), contextlib.suppress(PeerFault, ShareFault):
        with peers.meet(peers.allocation("n0", nodes, at), within=within, **options) as joined:
            yield joined
            joined._tell(ShareFault("test: over", "nothing"))


def turn(joined: Any, until: Any, within: float = 5.0) -> None:
    limit = time.monotonic() + within
    while not until():
        assert time.monotonic() < limit
        joined._turn(min(joined._tidy(), 0.05))


# Order, agreement, shared fate.


def test_ten_processes_go_together_once_the_last_has_loaded(at: str) -> None:
    def last(joined: Any) -> Any:
        offers = joined.images()
        time.sleep(0.3)
        loaded_at = time.monotonic()
        joined.loaded(["sha256:1"])
        return loaded_at, offers

    out = peers.run({"n7": last, "*": peers.both}, TEN, at)
    loaded_at, offers = out["n7"]["value"]
    assert offers == [{"identity": "sha256:1", "where": "/store"}] == out["n1"]["value"]
    assert out["n0"]["value"] == "go"
    assert all(end["at"] >= loaded_at for end in out.values())
    assert max(end["at"] for end in out.values()) - loaded_at < peers.HALF


def test_the_order_in_which_the_nodes_come_does_not_matter(at: str) -> None:
    jobs = [peers.allocation(f"n{rank}", 3, at) for rank in (2, 1, 0)]  # the leader last
    out = [peers.start(job, peers.both).outcome for job in jobs]
    assert [end()["value"] for end in out] == [[{"identity": "sha256:1", "where": "/store"}]] * 2 + ["go"]


def test_several_images_keep_their_order_and_none_is_taken_for_another(at: str) -> None:
    offers = [{"identity": f"sha256:{index}", "image": f"i{index}"} for index in range(20)]

    def story(joined: Any) -> Any:
        if joined.is_leader:
            joined.publish(offers)
        got = offers if joined.is_leader else joined.images()
        joined.agree([offer["identity"] for offer in got])
        return got

    assert [end["value"] for end in peers.run({"*": story}, THREE, at).values()] == [offers] * 3


def test_a_job_without_images_meets_too(at: str) -> None:
    def story(joined: Any) -> Any:
        if joined.is_leader:
            joined.publish([])
            return joined.finish([])
        return joined.loaded(joined.images())

    assert [end.get("fault") for end in peers.run({"*": story}, THREE, at).values()] == [None] * 3


def test_images_in_another_order_are_another_answer(at: str) -> None:
    def wrong(joined: Any) -> Any:
        return joined.loaded([offer["identity"] for offer in reversed(joined.images())])

    def story(joined: Any) -> Any:
        if not joined.is_leader:
            return joined.loaded([offer["identity"] for offer in joined.images()])
        joined.publish([{"identity": "a"}, {"identity": "b"}])
        return joined.finish(["a", "b"])

    out = peers.run({"n2": wrong, "*": story}, THREE, at)
    assert all(end["fault"]["node"] == "n2" for end in out.values())
    assert out["n1"]["fault"]["seen"] == {"wanted": '"a", "b"', "loaded": '"b", "a"'}


def test_a_member_s_fault_is_known_to_all_at_once_with_its_node_kind_and_reason(at: str) -> None:
    def broken(joined: Any) -> Any:
        joined.images()
        raise NodeFault("layout: too little space", "free space", part="disk", free_gib=4.1)

    out = peers.run({"n4": broken, "*": peers.both}, TEN, at)
    assert out["n4"]["type"] == "NodeFault"
    others = [end for name, end in out.items() if name != "n4"]
    assert {end["line"] for end in others} == {"madengine: node: n4: layout: too little space (free_gib='4.1'); free space"}
    assert max(end["at"] for end in others) - out["n4"]["at"] < peers.HALF


def test_the_leader_s_fault_reaches_all_even_those_who_come_later(at: str) -> None:
    def broken(joined: Any) -> Any:
        raise JobFault("manifest: no such file", "write one", path="/x")

    first = peers.start(peers.allocation("n0", 3, at), broken)
    others = [peers.start(peers.allocation(name, 3, at), peers.both) for name in ("n1", "n2")]
    assert [other.outcome()["line"] for other in others] == ["madengine: job: n0: manifest: no such file (path='/x'); write one"] * 2
    assert first.outcome()["type"] == "JobFault"


def test_a_defect_of_one_hook_ends_the_wait_of_all_others(at: str) -> None:
    def broken(joined: Any) -> Any:
        raise ZeroDivisionError("secret words")

    out = peers.run({"n1": broken, "*": peers.both}, THREE, at)
    assert "ZeroDivisionError" in out["n1"]["defect"]
    assert out["n2"]["line"] == out["n0"]["line"]
    assert out["n0"]["fault"]["node"] == "n1"
    assert "secret words" not in out["n0"]["line"]


def test_who_leaves_early_without_a_word_ends_the_meeting(at: str) -> None:
    out = peers.run({"n1": lambda joined: joined.images(), "*": peers.both}, THREE, at)
    assert {out[name]["fault"]["node"] for name in ("n0", "n2")} == {"n1"}


def test_a_member_that_dies_after_it_came_ends_the_meeting_at_once(at: str) -> None:
    def dying(joined: Any) -> Any:
        joined.images()
        os.kill(os.getpid(), signal.SIGKILL)

    out = peers.run({"n1": dying, "*": peers.both}, THREE, at)
    assert out["n1"].get("died")
    assert {out[name]["fault"]["what"] for name in ("n0", "n2")} == {"rendezvous: the node vanished after it had come"}
    assert max(end["at"] for end in out.values()) - out["n1"]["at"] < peers.HALF


def test_a_leader_that_dies_is_missed_at_once(at: str) -> None:
    def dying(joined: Any) -> Any:
        joined.common()
        os.kill(os.getpid(), signal.SIGKILL)

    out = peers.run({"n0": dying, "*": peers.both}, THREE, at)
    assert {out[name]["fault"]["what"] for name in ("n1", "n2")} == {"rendezvous: the leader vanished"}
    assert max(out[name]["seconds"] for name in ("n1", "n2")) < peers.HALF


def test_a_leader_that_never_comes_is_given_up_after_the_grace(at: str) -> None:
    out = peers.start(peers.allocation("n1", 3, at), peers.follow, grace_seconds=0.4).outcome()
    assert out["fault"]["what"] == "rendezvous: the leader did not answer"
    assert out["fault"]["node"] == "n0"
    assert 0.4 <= out["seconds"] < 0.4 + peers.HALF


def test_a_leader_s_name_that_nobody_knows_is_said(at: str) -> None:
    who = peers.allocation("n1", 3, "no-such-host.invalid")
    out = peers.start(who, peers.follow, grace_seconds=0.2).outcome()
    assert out["fault"]["seen"]["name"].startswith("no-such-host.invalid: ")


def test_at_the_deadline_the_missing_are_named_and_those_who_are_behind(at: str) -> None:
    def slow(joined: Any) -> Any:
        joined.images()
        return joined._serve(lambda: False)

    jobs = [peers.allocation(f"n{rank}", 4, at) for rank in range(4)]
    started = [
        peers.start(jobs[0], peers.lead, within=3.0),
        peers.start(jobs[1], slow),
        peers.start(jobs[2], peers.follow),
    ]  # n3 never comes
    leader_end, *others = [node.outcome() for node in started]
    assert leader_end["type"] == "ShareFault"
    assert leader_end["fault"]["seen"].items() >= {"never_arrived": "n3", "not_loaded": "n1"}.items()
    assert all(end["fault"]["seen"]["never_arrived"] == "n3" and end["fault"]["node"] == "n0" for end in others)


def test_one_deadline_counts_for_all_whatever_a_member_s_own_clock_says(at: str) -> None:
    # Deadlines that start per rank let the first give up while the last still works.
    def slow(joined: Any) -> Any:
        return joined.run_child(process.start(peers.me(), _sleep, 2.5)) or joined.agree(["x"])

    def lead(joined: Any) -> Any:
        joined.publish([{"identity": "x"}])
        return joined.finish(["x"])

    jobs = [peers.allocation(f"n{rank}", 2, at) for rank in range(2)]
    started = [peers.start(jobs[0], lead, within=8), peers.start(jobs[1], lambda joined: joined.images() and slow(joined), within=2.0)]
    assert [node.outcome().get("fault") for node in started] == [None, None]


def test_a_job_of_one_node_meets_nobody_and_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", _forbidden)
    with peers.meet(peers.allocation("n0", 1), within=5) as joined:
        assert joined.is_leader
        assert joined.run_child(process.start(peers.me(), _echo, "x")) == "x"
        assert joined.common() == []
        joined.publish([{"identity": "x"}])
        joined.agree(["x"])


def test_a_job_of_one_node_has_a_deadline_too() -> None:
    with pytest.raises(ShareFault, match="the time is up"), peers.meet(peers.allocation("n0", 1), within=0.1) as joined:
        joined.run_child(process.start(peers.me(), _sleep, 60))


def test_the_leader_learns_which_layers_all_have(at: str) -> None:
    def story(joined: Any) -> Any:
        common = joined.common() if joined.is_leader else None
        peers.both(joined)
        return common

    layers = {name: [f"sha256:{'0' * 60}{index:04}" for index in range(1000) if index % (rank + 2)] for rank, name in enumerate(THREE)}
    jobs = [peers.allocation(name, 3, at) for name in THREE]
    out = [peers.start(job, story, have=layers[job.node]) for job in jobs]
    assert out[0].outcome()["value"] == sorted({*layers["n1"]} & {*layers["n2"]})
    assert [end.outcome().get("fault") for end in out[1:]] == [None, None]


def until_loaded(joined: Any, doing: Any = None) -> Any:
    """Load what is offered, as often as it takes; return all that was offered to this node."""
    seen = []
    while True:
        seen.append(_identities(joined.images()))
        with contextlib.suppress(session.Withdrawn):
            if doing is not None and len(seen) == 1:
                joined.run_child(process.start(peers.me(), *doing))
            joined.loaded(seen[-1])
            return seen


def _load_for_ever(path: str) -> None:
    Path(path).touch()
    time.sleep(3600)


def test_members_drop_what_is_withdrawn_and_load_what_is_offered_instead(at: str, tmp_path: Path) -> None:
    # n1 waits for the others when the offer goes, n2 is in the middle of a load that would never end.
    def lead(joined: Any) -> Any:
        joined.publish([{"identity": "old"}])
        joined.run_child(process.start(peers.me(), _wait_for, [str(tmp_path / "loading")]))
        joined._serve(lambda: bool(joined._state._loaded))
        joined.publish([{"identity": "new"}, {"identity": "newer"}])
        joined.finish()
        return "go"

    slow = functools.partial(until_loaded, doing=(_load_for_ever, str(tmp_path / "loading")))
    out = peers.run({"n0": lead, "n2": slow, "*": until_loaded}, THREE, at)
    assert out["n0"].get("value") == "go", out
    assert out["n1"]["value"] == out["n2"]["value"] == [["old"], ["new", "newer"]]


def _tell_and_wait_for(tell: Any, offers: Any, path: str) -> Any:
    tell(offers)
    _wait_for([path])
    return offers


def test_members_load_what_the_leaders_child_tells_of_while_it_is_at_work(at: str, tmp_path: Path) -> None:
    def lead(joined: Any) -> Any:
        offers = [{"identity": "x"}]
        child = process.start_telling(peers.me(), _tell_and_wait_for, offers, str(tmp_path / "loaded"))
        joined.run_child(child, joined.publish)
        joined.finish()
        return "go"

    with following(at, lead) as joined:
        assert _identities(joined.images()) == ["x"]
        (tmp_path / "loaded").touch()
        joined.loaded(["x"])
    assert joined.leader_node.ended["value"] == "go"


def test_a_member_says_nothing_of_what_is_withdrawn_by_then(at: str, tmp_path: Path) -> None:
    def lead(joined: Any) -> Any:
        joined.publish([{"identity": "old"}])
        joined.run_child(process.start(peers.me(), _wait_for, [str(tmp_path / "loaded")]))
        joined.publish([{"identity": "new"}])
        joined.finish()
        return "go"

    with following(at, lead) as joined:
        assert _identities(joined.images()) == ["old"]
        (tmp_path / "loaded").touch()
        turn(joined, lambda: joined._end.generation == 2)
        with pytest.raises(session.Withdrawn):
            joined.loaded(["old"])
        joined.loaded(_identities(joined.images()))
    assert joined.leader_node.ended["value"] == "go"


CANNOT = ShareFault("lease: not the store of the publishing node", "give a store that all nodes share", store="/s")


def has_declined(joined: Any) -> None:
    joined._serve(lambda: bool(joined._state.declined()))


def or_decline(joined: Any) -> Any:
    """Load what is offered, but for what is old; return all that was offered to this node."""
    seen = []
    while True:
        seen.append(_identities(joined.images()))
        with contextlib.suppress(session.Withdrawn):
            if seen[-1] == ["old"]:
                joined.decline(CANNOT)
            joined.loaded(seen[-1])
            return seen


def test_who_cannot_load_what_may_still_be_withdrawn_waits_for_the_leader_s_next_word(at: str) -> None:
    def lead(joined: Any) -> Any:
        joined.publish([{"identity": "old"}])
        has_declined(joined)
        joined.publish([{"identity": "new"}])
        joined.finish()
        return "go"

    out = peers.run({"n0": lead, "n1": or_decline, "*": until_loaded}, THREE, at)
    assert out["n0"].get("value") == "go", out
    assert out["n1"]["value"] == [["old"], ["new"]]
    assert out["n2"]["value"][-1] == ["new"]


@pytest.mark.parametrize("is_at_work", [False, True])
def test_where_the_offer_stands_nobody_waits_for_those_who_are_still_loading(at: str, tmp_path: Path, is_at_work: bool) -> None:
    # n1 cannot load what n2 would load for ever; the leader knows it before it says that its offer stands, or hears it afterwards.
    def lead(joined: Any) -> Any:
        joined.publish([{"identity": "old"}])
        if is_at_work:
            has_declined(joined)
        return joined.finish()

    slow = functools.partial(until_loaded, doing=(_load_for_ever, str(tmp_path / "loading")))
    out = peers.run({"n0": lead, "n1": or_decline, "*": slow}, THREE, at, within=3600)
    assert {out[name]["line"] for name in ("n0", "n2")} == {f"madengine: share: n1: {CANNOT}"}
    assert out["n1"]["line"] == f"madengine: share: {CANNOT}"  # its own fault, and not a peer's


def test_where_another_offer_can_help_all_are_heard_before_it_is_made(at: str, tmp_path: Path) -> None:
    def lead(joined: Any) -> Any:
        joined.publish([{"identity": "old"}])
        return [fault.node for fault in joined.declined(lambda fault: (tmp_path / "one has declined").touch() or True)]

    def later(joined: Any) -> Any:
        joined.images()
        joined.run_child(process.start(peers.me(), _wait_for, [str(tmp_path / "one has declined")]))
        joined.decline(CANNOT)

    out = peers.run({"n0": lead, "n1": or_decline, "*": later}, THREE, at)
    assert out["n0"].get("value") == ["n1", "n2"], out


def test_at_the_deadline_it_is_said_who_could_not_load_and_why(at: str) -> None:
    def lead(joined: Any) -> Any:
        joined.publish([{"identity": "old"}])
        has_declined(joined)
        joined._limit = Deadline(0)
        joined._serve(lambda: False)

    out = peers.run({"n0": lead, "n1": or_decline, "*": until_loaded}, THREE, at)
    assert out["n0"]["fault"]["what"] == "rendezvous: the time is up"
    assert out["n0"]["fault"]["seen"]["cannot_load"] == f"n1: {CANNOT}"


def test_words_of_the_other_part_are_a_defect(at: str) -> None:
    with leading(at) as joined:
        for word in (joined.images, lambda: joined.loaded([])):
            with pytest.raises(TypeError, match="only a member"):
                word()


def test_an_image_s_description_that_does_not_fit_into_a_line_is_the_job_s_fault(at: str) -> None:
    with leading(at) as joined:
        with pytest.raises(JobFault, match="too long"):
            joined.publish([{"identity": "x" * framing.LONGEST_LINE}])


def test_more_images_than_a_meeting_holds_are_the_job_s_fault() -> None:
    with peers.meet(peers.allocation("n0", 1), within=5) as joined:
        joined.publish([{}] * 256)
        with pytest.raises(JobFault, match="too many images"):
            joined.publish([{}] * 257)


# The work of a child beside the joined.


def test_the_child_s_answer_and_the_child_s_fault_come_out(at: str) -> None:
    with leading(at) as joined:
        assert joined.run_child(process.start(peers.me(), _echo, {"a": [1]})) == {"a": [1]}
        with pytest.raises(NodeFault, match="docker is dead"):
            joined.run_child(process.start(peers.me(), _docker_dead))


def test_a_child_whose_answer_has_no_end_is_a_defect_and_no_loop(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LONGEST_ANSWER", 1 << 16)
    with leading(at) as joined, pytest.raises(RuntimeError, match="without an answer"):
        joined.run_child(process.start(peers.me(), _echo, "x" * (1 << 20)))


def test_members_are_let_in_while_the_leader_s_child_works(at: str, tmp_path: Path) -> None:
    # The child ends only after the members are in, so a leader that waits for its child first waits for ever.
    def lead(joined: Any) -> Any:
        joined.run_child(process.start(peers.me(), _wait_for, [str(tmp_path / name) for name in ("n1", "n2")]))
        return [len(joined._state.missing()), peers.lead(joined)]

    def follow(joined: Any) -> Any:
        (tmp_path / joined.allocation.node).touch()
        return peers.follow(joined)

    assert peers.run({"n0": lead, "*": follow}, THREE, at)["n0"]["value"] == [0, "go"]


def test_the_child_dies_when_the_meeting_is_aborted(at: str) -> None:
    def working(joined: Any) -> Any:
        child = process.start(peers.me(), _sleep, 60)
        try:
            joined.run_child(child)
        finally:
            with pytest.raises(ProcessLookupError):
                os.kill(child.pid, 0)

    def broken(joined: Any) -> Any:
        raise JobFault("image: nobody has it", "build it")

    out = peers.run({"n1": broken, "*": working}, THREE, at)
    assert {out[name]["fault"]["node"] for name in ("n0", "n2")} == {"n1"}
    assert max(end["seconds"] for end in out.values()) < peers.HALF


# A member, seen from the inside.


@contextlib.contextmanager
def following(at: str, lead: Any = peers.lead, within: float = 10.0, **options: Any) -> Iterator[Any]:
    """Be the only member in this process; the leader is another one."""
    leader_node = peers.start(peers.allocation("n0", 2, at), lead, within=within)
    options = {"ports": peers.PORTS, "grace_seconds": 5.0, **options}
    try:
        with peers.meet(peers.allocation("n1", 2, at), within=10, **options) as joined:
            joined.leader_node = leader_node
            yield joined
    finally:
        leader_node.kill(signal.SIGCONT)
        leader_node.ended = leader_node.outcome()


def test_a_member_loads_in_a_child_and_leaves_when_all_have(at: str) -> None:
    with following(at, have=["sha256:1"]) as joined:
        assert not joined.is_leader
        offers = joined.images()
        joined.agree(joined.run_child(process.start(peers.me(), _identities, offers)))
    assert joined.leader_node.ended["value"] == "go"


def test_a_member_s_child_dies_with_the_meeting(at: str) -> None:
    def lead(joined: Any) -> Any:
        joined.common()
        raise JobFault("image: the build failed", "mend it")

    child = process.start(peers.me(), _sleep, 60)
    with pytest.raises(PeerFault, match="the build failed") as raised, following(at, lead) as joined:
        joined.run_child(child)
    assert raised.value.node == "n0"
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_member_that_leaves_by_a_fault_tells_the_leader(at: str) -> None:
    with pytest.raises(NodeFault), following(at) as joined:
        joined.run_child(process.start(peers.me(), _docker_dead))
    assert joined.leader_node.ended["line"] == "madengine: node: n1: engine: docker is dead; start docker"


def test_a_leader_that_hangs_is_given_up_soon_after_the_deadline(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MARGIN_SECONDS", 0.1)
    with following(at, within=3.0) as joined:
        joined.leader_node.kill(signal.SIGSTOP)
        with pytest.raises(ShareFault, match="no word from the leader in time"):
            joined._serve(lambda: False)


def test_a_member_waits_for_a_leader_that_comes_later_and_for_a_name_that_is_known_later(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [OSError(-3, "Temporary failure in name resolution"), [], [(socket.AF_INET, at)]]

    here, really = os.getpid(), client.addresses.resolve

    def resolve(name: str) -> Any:
        if os.getpid() != here:  # the leader's process knows its own name
            return really(name)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(client.addresses, "resolve", resolve)
    with following(at) as joined:
        joined.agree([offer["identity"] for offer in joined.images()])
    assert len(answers) == 1


def test_strangers_at_all_ports_win_nothing_and_the_member_says_whom_it_looked_for(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HANDSHAKE_SECONDS", 0.5)
    first = peers.first_port(peers.allocation())
    # The grace is over when a stranger's refusal has been counted, however busy the machine.
    counted: List[int] = []
    monkeypatch.setattr(client.Client, "_hang_up", _then(client.Client._hang_up, lambda member: counted.append(member._refused)))
    monkeypatch.setattr(Deadline, "has_passed", lambda self: any(counted))

    def fake(guest: socket.socket) -> None:
        guest.sendall(framing.plain("CHALLENGE", v=1, nonce=framing.nonce()))
        peers.line(guest)

    with peers.listening(at, first, peers.silent), peers.listening(at, peers.first_ports(peers.allocation())[1], fake):
        who = peers.meet(peers.allocation("n1", 2, at), within=3600, ports=peers.PORTS, grace_seconds=3600)
        with pytest.raises(PeerFault, match="the leader did not answer") as raised, who:
            raise AssertionError("nobody is there")
    assert int(str(raised.value.seen["refused_our_key"])) >= 1


def _then(work: Callable[..., None], tell: Callable[[Any], None]) -> Callable[..., None]:
    """Return *work* of an object, after which *tell* is told of the object."""

    def both(self: Any, *arguments: Any) -> None:
        work(self, *arguments)
        tell(self)

    return both


def test_a_party_is_an_allocation_that_this_node_is_part_of() -> None:
    for nodes in (("n1", "n2"), ("n0", "n1", "n0")):
        with pytest.raises(JobFault, match="this node is not one of the job's"):
            barrier.Allocation("c", 1, 0, nodes, "n0")


def give_up(who: Any, error: Exception, **options: Any) -> None:
    """Leave the barrier by *error* before this node has joined, in a process of its own."""
    with barrier.Barrier(who, lambda: peers.KEY, Deadline(10), ports=peers.PORTS, **options):
        raise error


@pytest.mark.parametrize("quitter", ["n0", "n1"])
def test_a_node_that_gives_up_before_it_has_joined_tells_the_others_why(at: str, quitter: str) -> None:
    nodes = {name: peers.allocation(name, 2, at) for name in ("n0", "n1")}
    other = next(name for name in nodes if name != quitter)
    waiting = peers.start(nodes[other], peers.both)
    fault = JobFault("manifest: broken", "mend it")
    quitting = process.start(peers.me(), give_up, nodes[quitter], fault)
    with pytest.raises(JobFault, match="manifest: broken"):
        quitting.result(Deadline(15))
    assert waiting.outcome()["line"].startswith(f"madengine: job: {quitter}: manifest: broken")


def test_a_node_that_gives_up_keeps_its_own_fault_where_nobody_can_be_told(at: str) -> None:
    def no_key() -> Any:
        raise NodeFault("credential: no key", "place it", part="key")

    with pytest.raises(JobFault, match="manifest: broken"):
        with barrier.Barrier(peers.allocation("n1", 2, at), no_key, Deadline(10), ports=peers.PORTS):
            raise JobFault("manifest: broken", "mend it")


def test_a_node_that_found_nobody_does_not_look_again(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier.Barrier, "abort", _forbidden)
    with pytest.raises(PeerFault, match="the leader did not answer"):
        with peers.meet(peers.allocation("n1", 2, at), ports=peers.PORTS, grace_seconds=0.1):
            raise AssertionError("nobody is there")


def test_a_block_that_ends_well_without_having_joined_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", _forbidden)
    with barrier.Barrier(peers.allocation("n1"), lambda: peers.KEY, Deadline(10)):
        pass


# What a careless barrier suffers from.


def test_a_spoofed_loaded_releases_nobody(at: str) -> None:
    # The careless one counts READY lines, whoever sends them.
    with leading(at, nodes=2) as joined:
        joined.publish([{"identity": "x"}])
        for words in (
            b"READY 1\n",
            b'{"line":"LOADED","index":0,"of":1,"identity":"x","n":0}\n',
            b'{"line":"JOIN","rank":1,"nonce":"00","n":0,"mac":"' + b"0" * 64 + b'"}\n',
        ):
            stranger = peers.knock(at, joined.port)
            stranger.sendall(words)
            turn(joined, functools.partial(peers.has_hung_up, stranger))
        assert not joined._state.have_all_answered()
        assert joined._state.missing() == ["n1"]


def test_a_fake_leader_wins_nothing_and_makes_nobody_wait(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The careless one believes the first port that says GO.
    # Members listen to it first, to the end: they dial again because it was no leader, not because a clock says so.
    monkeypatch.setattr(client, "_STAGGER_SECONDS", 3600.0)
    monkeypatch.setattr(client, "HANDSHAKE_SECONDS", 3600.0)

    def fake(guest: socket.socket) -> bytes:
        guest.sendall(framing.plain("CHALLENGE", v=1, nonce=framing.nonce()))
        join = peers.line(guest) or b""
        with contextlib.suppress(ConnectionError):  # the first of them is enough for a member to hang up
            for name in ("WELCOME", "IMAGE", "GO"):
                guest.sendall(framing.plain(name, left=5, index=0, of=0, n=0, mac="0" * 64))
        return join

    first = peers.first_port(peers.allocation())
    with peers.listening(at, first, fake) as stranger:
        out = peers.run({"*": peers.both}, THREE, at, grace_seconds=15.0)
        join = json.loads(stranger.said().splitlines()[0])
    assert [end.get("value") for end in out.values()][1:] == [[{"identity": "sha256:1", "where": "/store"}]] * 2
    assert join["line"] == "JOIN"
    assert set(join) == {"line", "job", "attempt", "rank", "node", "nonce", "n", "mac"}


def test_a_go_between_on_another_port_joins_ends_that_do_not_understand_each_other(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the port in the key, a user's process on the leader's node could sit in the middle and hang up at will.
    monkeypatch.setattr(client, "_STAGGER_SECONDS", 3.0)
    first, second = peers.first_ports(peers.allocation())

    def between(guest: socket.socket) -> bytes:
        there = peers.knock(at, second)
        guest.sendall(peers.line(there) or b"")
        there.sendall(peers.line(guest) or b"")
        return b"answer: " + (peers.line(there) or b"none")

    with peers.listening(at, first, between) as stranger:
        out = peers.run({"*": peers.both}, THREE, at)
        assert b"answer: none" in stranger.said()
    assert [end.get("fault") for end in out.values()] == [None] * 3


def test_connect_and_reset_kills_nothing(at: str) -> None:
    # The careless one dies of the ConnectionResetError of a port scan.
    leader_node = peers.start(peers.allocation("n0", 2, at), peers.lead)
    port = peers.first_port(peers.allocation())
    for _ in range(200):
        scan = peers.knock(at, port)
        scan.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        scan.close()
    member = peers.start(peers.allocation("n1", 2, at), peers.follow)
    assert [node.outcome().get("fault") for node in (leader_node, member)] == [None, None]


def test_a_connection_that_is_reset_before_it_is_taken_is_passed_over(at: str) -> None:
    listener = mock.Mock()
    listener.accept.side_effect = [ConnectionAbortedError(), ConnectionResetError(), BlockingIOError()]
    with leading(at) as joined:
        joined._accepter(listener)(0)
    assert listener.accept.call_count == 3


def test_silent_services_on_the_first_ports_cost_a_moment_each(at: str) -> None:
    # The careless one waits for the full timeout of the first port.
    with contextlib.ExitStack() as stack:
        for port in peers.first_ports(peers.allocation()):
            stack.enter_context(peers.listening(at, port, peers.silent))
        out = peers.run({"*": peers.both}, THREE, at)
    assert [end.get("fault") for end in out.values()] == [None] * 3
    assert max(end["seconds"] for end in out.values()) < peers.HALF


def test_five_hundred_idle_connections_cost_nobody_a_moment(at: str) -> None:
    # The careless one reads from one connection after the other, 2 s each.
    leader_node = peers.start(peers.allocation("n0", 2, at), peers.lead)
    port = peers.first_port(peers.allocation())
    idle = [peers.knock(at, port) for _ in range(500)]
    member = peers.start(peers.allocation("n1", 2, at), peers.follow)
    out = member.outcome()
    assert out["value"]
    assert out["seconds"] < peers.HALF
    assert leader_node.outcome()["value"] == "go"
    for sock in idle:
        sock.close()


def test_when_strangers_are_many_the_oldest_goes_and_never_a_member(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with leading(at) as joined:
        joined._most_strangers = 4
        member = peers.start(peers.allocation("n1", 2, at), peers.follow)
        turn(joined, joined._state.has_all)
        strangers: List[socket.socket] = []
        for _ in range(8):
            strangers.append(peers.knock(at, joined.port))
        turn(joined, lambda: [peers.has_hung_up(one) for one in strangers] == [True] * 4 + [False] * 4)
        assert joined._state.missing() == []
        peers.lead(joined)
        assert member.outcome()["value"]
        for stranger in strangers:
            stranger.close()


def test_a_slow_writer_has_its_few_seconds_and_no_more(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.2)
    with leading(at) as joined:
        slow = peers.knock(at, joined.port)
        for byte in b'{"line":':
            slow.send(bytes([byte]))
            joined._turn(min(joined._tidy(), 0.05))
        turn(joined, lambda: peers.has_hung_up(slow))


HOSTILE = [
    b"\x00\xff\xfe garbage\n",
    b"A" * 9000,
    b"[" * 8000 + b"\n",
    b'{"a":' * 1500 + b"\n",
    b'{"rank":' + b"9" * 8000 + b"}\n",
    b'{"rank":NaN}\n',
    b'{"line":"JOIN","rank":-1,"nonce":"x"}\n',
    b'{"line":"JOIN","rank":0,"nonce":"x"}\n',
    b'{"line":"JOIN","rank":2,"nonce":"x"}\n',
    b'{"line":"JOIN","rank":1.0,"nonce":"x"}\n',
    b'{"line":"JOIN","rank":true,"nonce":"x"}\n',
    b'{"line":"JOIN","rank":"1","nonce":"x"}\n',
    b'{"line":"JOIN","rank":[1],"nonce":"x"}\n',
    b'{"line":"JOIN","rank":1,"nonce":{"x":1}}\n',
    b'{"line":"JOIN","rank":1,"nonce":"' + b"\\ud800" * 60 + b'"}\n',
    b'"JOIN"\n',
    b"null\n",
    b"\n",
    b'{"line":"JOIN","rank":1,"nonce":"x","mac":"\xc3\xa9"}\n',
]


def test_hostile_lines_cost_their_sender_the_connection_and_nobody_else_anything(at: str) -> None:
    # The careless one does int(rank) and dies of the ValueError.
    with leading(at) as joined:
        member = peers.start(peers.allocation("n1", 2, at), peers.follow)
        for words in HOSTILE:
            stranger = peers.knock(at, joined.port)
            stranger.sendall(words)
            turn(joined, functools.partial(peers.has_hung_up, stranger))
        turn(joined, joined._state.has_all)
        peers.lead(joined)
        assert member.outcome()["value"]


def test_a_recorded_conversation_is_worthless_the_second_time(at: str) -> None:
    # With a token that follows from the job id, or a proof that is not fresh, the record would open the door.
    first = peers.first_port(peers.allocation())
    recorded = MemberEnd(peers.allocation("n1", 2, at), peers.KEY, first)
    recorded.receive(framing.plain("CHALLENGE", v=1, nonce=framing.nonce()))
    assert b'"line":"JOIN"' in recorded.outgoing
    with leading(at, ports=(first, first)) as joined:
        stranger = peers.knock(at, joined.port)
        stranger.sendall(recorded.outgoing)
        turn(joined, lambda: peers.has_hung_up(stranger))
        assert joined._state.refused == 1
        assert joined._state.missing() == ["n1"]


@pytest.mark.parametrize(
    "ghost",
    [
        peers.allocation("n1", 2, attempt=1),
        peers.allocation("n1", 2, job_id=4719),
        peers.allocation("n1", 2, cluster="d"),
        peers.allocation("n1", 3),
    ],
    ids=["requeued", "other job on the same port", "other cluster", "other node list"],
)
def test_a_ghost_of_another_attempt_job_or_cluster_does_not_get_in(at: str, ghost: Any) -> None:
    who = barrier.Allocation(ghost.cluster, ghost.job_id, ghost.attempt, ghost.nodes, "n1", at)
    assert peers.first_port(who) == peers.first_port(peers.allocation())
    with leading(at) as joined:
        knocking = peers.start(who, peers.follow, grace_seconds=2.5)
        turn(joined, lambda: joined._state.refused + joined._state.other_jobs >= 1)
        is_ours = (ghost.job_id, ghost.attempt) == (4711, 0)
        assert (joined._state.refused > 0, joined._state.other_jobs > 0) == (is_ours, not is_ours)
        out = knocking.outcome()
        assert out["fault"]["what"] == "rendezvous: the leader did not answer"
        assert int(out["fault"]["seen"]["refused_our_key"]) >= 1
        assert joined._state.missing() == ["n1"]


def test_nodes_that_do_not_come_are_named_after_a_grace_and_not_at_the_deadline(at: str) -> None:
    # Without hooks on n2 and n3, or where another prolog failed there, the job is over for SLURM: nobody holds a node for it.
    nodes = ("n0", "n1", "n2", "n3")
    jobs = barrier.Allocation("c", 4711, 0, nodes, "n0", at), barrier.Allocation("c", 4711, 0, nodes, "n1", at)
    lead, member = (peers.start(job, peers.both, within=3600, grace_seconds=2.0) for job in jobs)
    fault = lead.outcome()["fault"]
    assert fault["what"] == "rendezvous: not all nodes came"
    assert (fault["seen"]["never_arrived"], fault["seen"]["no_answer_from"]) == ("n[2-3]", "n[2-3]")
    assert "ArrivalGrace" in fault["remedy"]
    assert member.outcome()["line"].startswith("madengine: share: n0: rendezvous: not all nodes came (")


def _bare(*nodes: str) -> Any:
    return lambda: process.start(peers.me(), list, nodes)


def _looks_once_n1_has_come(session: Any) -> Any:
    """Lead; n2 is looked at when n1 is there, however busy the machine."""
    if session.is_leader:
        session._prompt = Deadline(3600)
        session._serve(lambda: session._state.missing() == ["n2"])
        session._prompt = Deadline(0)
    return peers.both(session)


def _two_of_three(at: str, **options: Any) -> Any:
    jobs = [barrier.Allocation("c", 4711, 0, ("n0", "n1", "n2"), node, at) for node in ("n0", "n1")]
    started = [peers.start(job, _looks_once_n1_has_come, **options) for job in jobs]
    return [each.outcome() for each in started]


def test_a_node_that_cannot_come_for_it_has_no_hooks_is_named_without_waiting_for_the_grace(at: str) -> None:
    lead, member = _two_of_three(at, within=3600, grace_seconds=3600, bare=_bare("n2"))
    fault = lead["fault"]
    assert (fault["what"], fault["seen"]["without_hooks"]) == ("rendezvous: a node has no hooks", "n2")
    assert member["line"].startswith("madengine: share: n0: rendezvous: a node has no hooks (without_hooks='n2'); apply ")


def test_who_is_late_is_told_that_another_node_has_no_hooks(at: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "looked")

    def story(session: Any) -> Any:
        if session.is_leader:
            session._prompt = Deadline(0)
            session._serve(lambda: session._hooks.answer == ["n2"])
            (tmp_path / "looked").write_text("n1 may come")
        return peers.both(session)

    jobs = [barrier.Allocation("c", 4711, 0, ("n0", "n1", "n2"), node, at) for node in ("n0", "n1")]
    lead = peers.start(jobs[0], story, within=3600, grace_seconds=3600, bare=_bare("n2"))
    assert (tmp_path / "looked").read_text() == "n1 may come"
    member = peers.start(jobs[1], peers.both, within=3600, grace_seconds=3600)
    assert lead.outcome()["fault"]["seen"]["without_hooks"] == "n2"
    assert "n0: rendezvous: a node has no hooks" in member.outcome()["line"]


def _no_answer() -> None:
    raise ShareFault("test: nobody can be asked", "nothing")


@pytest.mark.parametrize("bare", [
    _bare(),
    _bare("n1"),  # who is there has what it needs
    _bare("n0", "n2"),  # the leader has hooks: whoever says otherwise cannot see
    lambda: process.start(peers.me(), _no_answer),
    _no_answer,
])  # fmt: skip
def test_a_node_that_may_have_hooks_is_waited_for_until_the_time_is_up(at: str, bare: Any) -> None:
    lead, _member = _two_of_three(at, within=2.5, grace_seconds=3600, bare=bare)
    assert lead["fault"]["what"] == "rendezvous: the time is up"


def _states(*states: str) -> Any:
    """Return what asks after the job: it is in each of *states* in turn, and then in the last."""
    left = list(states)
    return lambda: process.start(peers.me(), str, left.pop(0) if len(left) > 1 else left[0])


def test_a_job_that_is_over_for_slurm_holds_no_node(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another prolog has failed on n2: SLURM has requeued the job, and waits for the prologs of the others.
    monkeypatch.setattr(watch, "FIRST_SECONDS", 0.1)
    jobs = [barrier.Allocation("c", 4711, 0, ("n0", "n1", "n2"), node, at) for node in ("n0", "n1")]
    over = _states("", "", "COMPLETING")
    lead, member = (peers.start(job, peers.both, within=3600, grace_seconds=3600, over=over) for job in jobs)
    fault = lead.outcome()["fault"]
    assert (fault["kind"], fault["what"]) == ("job", "rendezvous: the job is over")
    assert fault["seen"] == {"state": "COMPLETING", "never_arrived": "n2"}
    assert member.outcome()["line"].startswith("madengine: job: n0: rendezvous: the job is over (state='COMPLETING', never_arrived='n2'); ")


def test_a_leader_that_works_hears_that_the_job_is_over_too(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_SECONDS", 0.1)

    def story(session: Any) -> Any:
        return session.run_child(process.start(peers.me(), time.sleep, 3600)) if session.is_leader else session.images()

    out = peers.run({"*": story}, THREE, at, within=3600, over=_states("CANCELLED"))
    assert [end["fault"]["what"] for end in out.values()] == ["rendezvous: the job is over"] * 3


@pytest.mark.parametrize("over", [_states(""), lambda: process.start(peers.me(), _no_answer), _no_answer])
def test_no_answer_is_no_reason_to_give_up(at: str, monkeypatch: pytest.MonkeyPatch, over: Any) -> None:
    monkeypatch.setattr(watch, "FIRST_SECONDS", 0.01)

    def story(session: Any) -> Any:
        if session.is_leader:
            asked = []
            begin = session._job._begin
            session._job._begin = lambda: asked.append(1) or begin()
            session._serve(lambda: len(asked) > 2)
        return peers.both(session)

    out = peers.run({"*": story}, THREE, at, over=over)
    assert [(end.get("fault"), end.get("defect")) for end in out.values()] == [(None, None)] * 3


def test_the_pauses_grow_and_no_two_jobs_keep_the_same() -> None:
    asked: List[float] = []
    now = [0.0]
    with mock.patch.object(watch, "Deadline", lambda seconds: Deadline(seconds, lambda: now[0])):
        with selectors.DefaultSelector() as selector:
            questions = [watch.Watch(selector, lambda: asked.append(now[0]) or _no_answer()) for _job in range(100)]  # type: ignore[func-returns-value]
            for second in range(600):
                now[0] = float(second)
                for each in questions:
                    each.look()
    assert min(asked) >= watch.FIRST_SECONDS / 2
    assert 8 * 100 < len(asked) < 20 * 100
    assert max(asked.count(second) for second in set(asked)) < 60


def test_nobody_is_looked_at_where_all_come_at_once(at: str) -> None:
    def story(session: Any) -> Any:
        if session.is_leader:
            session._prompt = Deadline(3600)
            session._serve(session._state.has_all)
            session._prompt = Deadline(0)
        return peers.both(session)

    out = peers.run({"*": story}, THREE, at, bare=lambda: pytest.fail("looked"))
    assert [end.get("defect") for end in out.values()] == [None] * 3


def test_a_machine_that_refuses_is_told_from_one_that_does_not_answer(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda name: [(socket.AF_INET, {"up": at, "off": "127.0.0.1"}[name])])
    monkeypatch.setattr(addresses, "_ANSWER_SECONDS", 0.05)
    with socket.socket() as silent:
        reserved.admit_no_users(silent)
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(addresses, "_UNUSED_PORT", silent.getsockname()[1])
        assert (addresses.answers("up"), addresses.answers("off")) == (True, False)


def test_once_all_have_come_a_long_load_is_no_matter_of_the_grace(at: str) -> None:
    def slow(joined: Any) -> Any:
        joined.images()
        joined.run_child(process.start(peers.me(), _sleep, 6.5))
        joined.loaded(["sha256:1"])
        return "loaded"

    out = peers.run({"n2": slow, "*": peers.both}, THREE, at, grace_seconds=6.0)
    assert out["n2"].get("value") == "loaded", out


def _late_with_a_reason() -> None:
    time.sleep(4.2)
    raise ShareFault("pull: no progress", "look at the registry", registry="r.example:5000")


def test_a_child_that_is_at_work_when_the_time_is_up_says_why_and_all_nodes_say_the_same(at: str) -> None:
    def pull(joined: Any) -> Any:
        return joined.run_child(process.start(peers.me(), _late_with_a_reason))

    out = peers.run({"n0": pull, "*": peers.both}, THREE, at, within=4.0)
    assert out["n0"]["fault"]["what"] == "pull: no progress"
    for name in ("n1", "n2"):
        assert out[name]["line"].startswith("madengine: share: n0: pull: no progress (registry='r.example:5000')")


def test_a_child_that_says_nothing_when_the_time_is_up_is_ended(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_LAST_WORD_SECONDS", 0.05)
    with pytest.raises(ShareFault, match="the time is up"), peers.meet(peers.allocation("n0", 1), within=0.1) as joined:
        joined.run_child(process.start(peers.me(), _sleep, 3600))


def test_a_member_that_finds_nobody_asks_later_and_later_and_never_at_one_instant_with_others(at: str) -> None:
    member = barrier.Member(peers.allocation("n1", 2, at), peers.KEY, Deadline(10), [], peers.PORTS, 5.0)
    pauses = []
    for _ in range(200):
        member._dial_next(0.0)  # no target is left in this round
        pauses.append(member._next)
    for pause, backoff in zip(pauses, [0.05, 0.1, 0.2, 0.4, 0.8, *[1.0] * 195]):
        assert 0.5 * backoff <= pause <= 1.5 * backoff
    assert len(set(pauses[5:])) > 50


def test_nodes_whose_names_lead_nowhere_meet_where_slurm_says_they_are(at: str) -> None:
    nodes = ("no-such-name-0", "no-such-name-1")
    jobs = [barrier.Allocation("c", 4711, 0, nodes, node, addresses={nodes[0]: at, nodes[1]: "127.0.0.1"}) for node in nodes]
    started = [peers.start(job, peers.both) for job in jobs]
    assert [node.outcome().get("fault") for node in started] == [None, None]


def test_another_key_does_not_get_in_and_both_sides_say_so(at: str) -> None:
    jobs = [peers.allocation(f"n{rank}", 2, at) for rank in range(2)]
    here = peers.start(jobs[0], peers.lead, within=3.0)
    there = peers.start(jobs[1], peers.follow, key=peers.OTHER_KEY, grace_seconds=2.0)
    assert "compare the cluster keys" in there.outcome()["line"]
    seen = here.outcome()["fault"]["seen"]
    assert seen["never_arrived"] == "n1"
    assert int(seen["refused_for_their_key"]) >= 1


def test_a_rank_that_comes_twice_counts_once_and_the_newer_one_stays(at: str) -> None:
    with leading(at) as joined:
        older = peers.start(peers.allocation("n1", 2, at), peers.follow)
        turn(joined, joined._state.has_all)
        first = joined._state.members()[0]
        newer = peers.start(peers.allocation("n1", 2, at), peers.follow)
        turn(joined, lambda: joined._state.members()[0] is not first)
        peers.lead(joined)
        assert newer.outcome()["value"]
        assert older.outcome()["fault"]["what"] == "rendezvous: this node came a second time"


def test_two_jobs_on_the_same_node_and_the_same_first_port_do_not_meet_each_other(at: str) -> None:
    jobs = [barrier.Allocation("c", job_id, 0, ("n0", "n1"), node, at) for job_id in (4711, 4719) for node in ("n0", "n1")]
    assert len({peers.first_port(job) for job in jobs}) == 1
    out = [peers.start(job, peers.both) for job in jobs]
    assert [node.outcome().get("fault") for node in out] == [None] * 4


def test_a_member_finds_the_leader_on_ipv6(at: str) -> None:
    jobs = [barrier.Allocation("c", 4711, 0, ("n0", "n1"), node, "::1") for node in ("n0", "n1")]
    out = [peers.start(job, peers.both) for job in jobs]
    assert [node.outcome().get("fault") for node in out] == [None] * 2


# The machine underneath.


def test_a_peer_without_power_is_noticed_by_the_kernel_and_a_busy_one_is_not_disturbed(at: str) -> None:
    with leading(at) as joined:
        with peers.knock(at, joined.port):
            turn(joined, lambda: bool(joined._connections))
        listener = joined._listeners[0]
        assert listener.getsockname()[0] == at  # not 0.0.0.0
        sock = next(iter(joined._connections.values()))._socket
        idle, every, count = (
            sock.getsockopt(socket.IPPROTO_TCP, option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert idle + every * count == 30
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_a_member_that_is_stopped_for_a_while_is_not_taken_for_dead(at: str) -> None:
    with leading(at) as joined:
        member = peers.start(peers.allocation("n1", 2, at), peers.follow)
        turn(joined, joined._state.has_all)
        member.kill(signal.SIGSTOP)
        joined.publish([{"identity": "sha256:1"}])
        until = time.monotonic() + 0.3
        turn(joined, lambda: time.monotonic() > until)
        assert joined._state.fault is None
        member.kill(signal.SIGCONT)
        joined.finish(["sha256:1"])
        assert member.outcome()["value"]


def test_a_full_table_of_descriptors_ends_no_meeting(at: str) -> None:
    def lead(joined: Any) -> Any:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 6, hard))
        turn(joined, joined._state.has_all)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return peers.lead(joined)

    leader_node = peers.start(peers.allocation("n0", 2, at), lead)
    idle = [peers.knock(at, peers.first_port(peers.allocation())) for _ in range(30)]
    member = peers.start(peers.allocation("n1", 2, at), peers.follow)
    assert [node.outcome().get("fault") for node in (leader_node, member)] == [None, None]
    for sock in idle:
        sock.close()


def test_when_nobody_can_be_sent_away_the_leader_listens_again_a_moment_later(at: str) -> None:
    with leading(at) as joined:
        joined._make_room()
        assert joined._deaf_until is not None
        member = peers.start(peers.allocation("n1", 2, at), peers.follow)
        turn(joined, joined._state.has_all)
        peers.lead(joined)
        assert member.outcome()["value"]


def test_room_for_all_members_is_made_and_given_back(at: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with leading(at, nodes=100):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 100 + 256
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_meeting_leaves_no_descriptor_and_no_process_behind(at: str) -> None:
    gc.collect()  # what other tests have dropped is gone before it is counted
    before = sorted(os.listdir("/proc/self/fd"))
    with leading(at) as joined:
        stranger = peers.knock(at, joined.port)
        with pytest.raises(NodeFault):
            joined.run_child(process.start(peers.me(), _docker_dead))
        stranger.close()
    with (
        pytest.raises(PeerFault),
        peers.meet(peers.allocation("n1", 2, at), within=5, ports=peers.PORTS, grace_seconds=0.1),
    ):
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _echo(value: Any) -> Any:
    return value


def _identities(offers: Any) -> Any:
    return [offer["identity"] for offer in offers]


def _wait_for(paths: List[str]) -> None:
    while not all(os.path.exists(path) for path in paths):
        time.sleep(0.01)
    time.sleep(0.1)  # what the members sent before is on its way to the leader


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _docker_dead() -> None:
    raise NodeFault("engine: docker is dead", "start docker", part="docker")


def _forbidden(*_args: Any, **_options: Any) -> Any:
    raise AssertionError("no socket is needed")
