# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol without a network: the leader's state machine and its members', joined by a wire that misbehaves.

The laws hold in any order of events and however the wire cuts, joins, swaps, doubles, drops or changes what is said:
nobody is released before all have loaded, nobody hears of other images than those that were published, and one fault
reaches all who are there.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, PeerFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import barrier_faults, barrier_protocol, framing
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers.barrier_protocol import LeaderEnd, LeaderState, MemberEnd
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation
from helpers import peers
from hypothesis import given, settings
from hypothesis import strategies as st

PORT = 27800
OFFERS = [{"identity": "sha256:1"}, {"identity": "sha256:2"}]
IDS = [offer["identity"] for offer in OFFERS]


def allocation(node: str = "n0", nodes: int = 4) -> Allocation:
    return Allocation("c", 7, 0, tuple(f"n{rank}" for rank in range(nodes)), node)


def a_leader(nodes: int = 4, key: Any = peers.KEY) -> LeaderState:
    return LeaderState(allocation("n0", nodes), key, PORT, lambda: 60.0)


class Wire:
    """One connection between a leader's new end and a member; each direction is bytes under way."""

    def __init__(self, leader: LeaderState, rank: int, nodes: int = 4, key: Any = peers.KEY, port: int = PORT) -> None:
        self.end, self.member = LeaderEnd(leader), MemberEnd(allocation(f"n{rank}", nodes), key, port)
        self.down, self.up = bytearray(), bytearray()
        self.loaded = False
        self.has_loaded = 0

    def load(self) -> None:
        """What the network does by itself: take what is to be sent."""
        self.down += self.end.outgoing
        self.up += self.member.outgoing
        del self.end.outgoing[:], self.member.outgoing[:]

    def deliver(self, goes_up: bool, size: Optional[int] = None) -> bool:
        """Deliver some bytes; say whether there were any."""
        self.load()
        queue = self.up if goes_up else self.down
        data = bytes(queue[:size])
        del queue[: len(data)]
        if data:
            (self.end if goes_up else self.member).receive(data)
        if self.member.is_welcome:
            self.member.choose(["sha256:a", f"sha256:{self.member!r}"])
        return bool(data)

    def cut(self) -> None:
        self.end.lost()
        self.member.lost()
        del self.up[:], self.down[:]

    def work(self) -> None:
        """Do as a member does: load what was published, once."""
        if self.member.offers is not None and not self.loaded and not self.member.is_over:
            self.loaded = True
            self.member.loaded([offer["identity"] for offer in self.member.offers])


def settle(wires: List[Wire], do_work: bool = True) -> None:
    """Deliver until nothing is under way, and hang up what is over."""
    while any([one.deliver(up) for one in wires for up in (False, True)]):  # noqa: C419 - all of them, each round
        for one in wires:
            if do_work:
                one.work()


def rendezvous(nodes: int = 4) -> Any:
    leader = a_leader(nodes)
    wires = [Wire(leader, rank, nodes) for rank in range(1, nodes)]
    settle(wires)
    return leader, wires


# The laws.


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whenever_offers_are_withdrawn_all_load_the_last_ones_and_nobody_goes_with_others(data: st.DataObject) -> None:
    leader = a_leader()
    wires = [Wire(leader, rank) for rank in (1, 2, 3)]
    generations = [[{"identity": f"{number}-{index}"} for index in range(number % 3)] for number in range(4)]
    publish_at = sorted(data.draw(st.lists(st.integers(0, 60), min_size=4, max_size=4)))
    for step in range(61):
        for number, at in enumerate(publish_at):
            if at == step:
                leader.publish(generations[number])
        one = data.draw(st.sampled_from(wires))
        one.deliver(data.draw(st.booleans()), data.draw(st.integers(1, 400)))
        if one.member.offers is not None and one.member.generation != one.has_loaded:
            one.has_loaded = one.member.generation
            one.member.loaded([offer["identity"] for offer in one.member.offers])
        assert all(each.member.offers is None or each.member.offers in generations for each in wires)
    while any([one.deliver(up) for one in wires for up in (False, True)]):  # noqa: C419 - all of them, each round
        for one in wires:
            if one.member.offers is not None and one.member.generation != one.has_loaded:
                one.has_loaded = one.member.generation
                one.member.loaded([offer["identity"] for offer in one.member.offers])
    assert leader.have_all_answered()
    assert leader.first_mismatch(None) is None
    assert [one.member.offers for one in wires] == [generations[-1]] * 3
    leader.go()
    settle(wires, do_work=False)
    assert [(one.member.is_released, one.member.fault) for one in wires] == [(True, None)] * 3


@pytest.mark.parametrize("name", ["HAVE", "LOADED", "FAILED", "join", ""])
def test_the_first_line_is_a_join_or_nothing_also_from_one_who_has_the_key(name: str) -> None:
    leader = a_leader(2)
    one = Wire(leader, 1, 2)
    say = one.member.say
    one.member.say = lambda _name, **fields: say(name, **fields)  # type: ignore[method-assign]
    settle([one])
    assert one.end.is_over
    assert not one.member.is_welcome
    assert leader.members() == []


def test_an_offer_that_is_older_than_the_last_one_is_a_bad_line() -> None:
    leader, wires = rendezvous(2)
    leader.publish(OFFERS)
    settle(wires, do_work=False)
    wires[0].end.show(OFFERS, 0)
    settle(wires, do_work=False)
    assert isinstance(wires[0].member.fault, PeerFault)


def test_what_was_loaded_of_a_generation_that_never_was_is_a_bad_line() -> None:
    leader, wires = rendezvous(2)
    leader.publish(OFFERS)
    settle(wires, do_work=False)
    wires[0].member.generation = 2
    wires[0].member.loaded(["x"])
    settle(wires, do_work=False)
    assert leader.fault is not None
    assert not leader.have_all_answered()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_in_any_order_and_however_cut_all_load_what_was_published_and_then_go(data: st.DataObject) -> None:
    leader = a_leader()
    wires = [Wire(leader, rank) for rank in (1, 2, 3)]
    publish_at = data.draw(st.integers(0, 30))
    for step in range(data.draw(st.integers(0, 60))):
        if step == publish_at:
            leader.publish(OFFERS)
        one = data.draw(st.sampled_from(wires))
        one.deliver(data.draw(st.booleans()), data.draw(st.integers(1, 400)))
        one.work()
        assert not leader.have_all_answered() or all(one.loaded for one in wires)
        assert all(one.member.offers in (None, OFFERS) for one in wires)
    if leader._offers is None:
        leader.publish(OFFERS)
    settle(wires)
    assert leader.have_all_answered()
    assert leader.first_mismatch(IDS) is None
    assert not any(one.member.is_released for one in wires)
    leader.go()
    settle(wires)
    assert all(one.member.is_released and one.member.fault is None for one in wires)


TAMPERINGS: Dict[str, Callable[[List[bytes], int], List[bytes]]] = {
    "swap": lambda lines, at: [*lines[:at], *reversed(lines[at : at + 2]), *lines[at + 2 :]],
    "double": lambda lines, at: [*lines[: at + 1], lines[at], *lines[at + 1 :]],
    "drop": lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    "truncate": lambda lines, at: [*lines[:at], lines[at][: len(lines[at]) // 2] + b"\n", *lines[at + 1 :]],
    "change": lambda lines, at: [*lines[:at], lines[at].replace(b"1", b"3"), *lines[at + 1 :]],
    "join": lambda lines, at: [*lines[:at], lines[at].rstrip(b"\n"), *lines[at + 1 :]],
    "forge": lambda lines, at: [*lines[:at], b'{"line":"GO","n":%d,"mac":"%s"}\n' % (at, b"0" * 64), *lines[at:]],
    "garbage": lambda lines, at: [*lines[:at], b"\xff\x00\n", *lines[at:]],
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(TAMPERINGS)), st.booleans(), st.integers(0, 5), st.integers(0, 3), st.booleans())
def test_whatever_the_wire_does_to_one_connection_nobody_is_released_for_nothing(
    tampering: str, goes_up: bool, when: int, at: int, publishes_first: bool
) -> None:
    leader = a_leader()
    wires = [Wire(leader, rank) for rank in (1, 2, 3)]
    victim = wires[1]
    if publishes_first:
        leader.publish(OFFERS)
    for step in range(12):
        victim.load()
        queue = victim.up if goes_up else victim.down
        lines = bytes(queue).splitlines(keepends=True)
        if step >= when and lines:
            queue[:] = b"".join(TAMPERINGS[tampering](lines, at % len(lines)))
            when = 99
        for one in wires:
            one.deliver(False)
            one.deliver(True)
            one.work()
        if step == 5 and not publishes_first:
            leader.publish(OFFERS)
        for one in wires:  # what a connection that is over means for its other end
            if one.end.is_over and not one.end.outgoing and not one.down:
                one.member.lost()
            if one.member.is_over and not one.member.outgoing and not one.up:
                one.end.lost()
    assert all(one.member.offers in (None, OFFERS) for one in wires)
    assert not any(one.member.is_released for one in wires)
    if leader.have_all_answered():
        assert leader.fault is None
        assert all(one.loaded for one in wires)
        leader.go()
        settle(wires)
    else:
        assert leader.fault is None or leader.fault.node == "n2"
        leader.abort(PeerFault("n0", ShareFault("test: time is up", "x")))
        settle(wires)
        assert all(one.member.fault is not None for one in wires if one is not victim)


@settings(deadline=None)
@given(st.integers(1, 3), st.sampled_from(["before", "after"]), st.sampled_from(["says", "vanishes"]))
def test_one_fault_reaches_all_who_are_there_and_all_who_come_later(rank: int, when: str, how: str) -> None:
    leader = a_leader()
    wires = [Wire(leader, number) for number in (1, 2, 3)]
    late = [one for number, one in enumerate(wires, 1) if number == rank % 3 + 1]
    early = [one for one in wires if one not in late]
    settle(early)
    if when == "after":
        leader.publish(OFFERS)
        settle(early, do_work=False)
    failing = wires[rank - 1]
    if how == "says":
        failing.member.failed(NodeFault("engine: dead", "start it", part="docker", node="evil", cause="x"))
    else:
        failing.cut()
    settle(wires)
    others = [one.member.fault for one in wires if one is not failing]
    assert all(isinstance(fault, PeerFault) and fault.node == f"n{rank}" for fault in others)
    assert leader.fault is not None
    assert {str(fault) for fault in others} == {str(leader.fault)}
    assert not any(one.member.is_released for one in wires)


def test_only_the_first_fault_counts_and_none_after_go() -> None:
    leader, wires = rendezvous()
    leader.publish(OFFERS)
    settle(wires)
    first = PeerFault("n1", JobFault("a: b", "c"))
    leader.abort(first)
    leader.abort(PeerFault("n2", JobFault("d: e", "f")))
    assert leader.fault is first
    leader, wires = rendezvous()
    leader.publish(OFFERS)
    settle(wires)
    leader.go()
    wires[0].cut()
    leader.abort(first)
    assert leader.fault is None


# Cases.


def test_the_lines_of_a_meeting_are_those_of_the_table() -> None:
    leader, said = a_leader(2), []
    one = Wire(leader, 1, 2)
    leader.publish([{"identity": "x"}])
    for _ in range(8):
        for goes_up in (False, True):
            one.load()
            said += [json.loads(line) for line in bytes(one.up if goes_up else one.down).splitlines()]
            one.deliver(goes_up)
        one.work()
        if leader.have_all_answered() and not leader.is_over:
            leader.go()
    assert [document["line"] for document in said] == ["CHALLENGE", "JOIN", "WELCOME", "HAVE", "IMAGE", "LOADED", "GO"]
    assert [document["n"] for document in said[1:]] == [0, 0, 1, 1, 2, 2]
    assert said[2]["left"] == 60.0
    assert repr(leader) == "<LeaderState present=[1] loaded=[1] fault=None is_over=True>"
    assert repr(one.member) == "<MemberEnd over images=1/1 is_released=True fault=None>"
    assert repr(one.end) == "<LeaderEnd over rank=1 images=1>"


def test_the_secret_is_in_no_line_and_in_no_message() -> None:
    leader, wires = rendezvous()
    wires[0].member.failed(JobFault("x: y", "z"))
    wires[0].load()
    seen = bytes(wires[0].up) + str(leader).encode() + repr(wires[0].member).encode() + repr(peers.KEY).encode()
    assert b"secret" not in seen


@pytest.mark.parametrize("step", ["JOIN", "HAVE", "LOADED", "FAILED", "WELCOME", "IMAGE", "GO", "ABORT", "", None, ["JOIN"], 5])
def test_a_proven_member_s_line_out_of_turn_ends_its_connection_only(step: Any) -> None:
    leader = a_leader()
    one = Wire(leader, 1)
    one.deliver(False)
    one.deliver(True)  # proven, and has not chosen
    assert one.end._channel is not None
    if step != "HAVE":
        fields = {"index": 0, "of": 0, "layers": [], "fault": JobFault("a: b", "c").to_dict()}
        one.end.receive(one.member._channel.sign(step, **fields))  # type: ignore[union-attr]
        assert one.end.is_over
    assert leader.fault is None
    assert leader.missing() == ["n1", "n2", "n3"]
    assert not leader._loaded


def test_what_the_leader_once_said_welcomes_nobody_the_second_time() -> None:
    # A fake leader that recorded a whole conversation knows the true leader's nonce, but not the member's next one.
    one, said = Wire(a_leader(2), 1, 2), b""
    for _ in range(4):
        one.load()
        said += bytes(one.down)
        one.deliver(False)
        one.deliver(True)
    assert b"WELCOME" in said
    again = MemberEnd(allocation("n1", 2), peers.KEY, PORT)
    again.receive(said)
    assert again.is_over
    assert not again.is_welcome
    assert again.fault is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("LOADED", {"index": 1, "of": 2, "identity": "x"}),
        ("LOADED", {"index": 0, "of": -1}),
        ("LOADED", {"index": 0, "of": 10**9}),
        ("LOADED", {"index": "0", "of": 1}),
        ("LOADED", {}),
        ("FAILED", {"fault": "x"}),
        ("FAILED", {"fault": {"kind": "else"}}),
        ("FAILED", {"fault": {"kind": "job", "seen": []}}),
        ("HAVE", {"layers": []}),
        ("JOIN", {}),
        ("GO", {}),
    ],
)
def test_nonsense_of_a_member_who_is_there_is_as_if_it_had_vanished(name: str, fields: Any) -> None:
    leader, wires = rendezvous()
    wires[0].end.receive(wires[0].member._channel.sign(name, **fields))
    assert wires[0].end.is_over
    assert leader.fault is not None
    assert leader.fault.node == "n1"


def test_more_images_than_announced_are_nonsense() -> None:
    leader, wires = rendezvous()
    for index, of in ((0, 2), (1, 1)):
        wires[0].end.receive(wires[0].member._channel.sign("LOADED", index=index, of=of, identity="x"))
    assert leader.fault is not None
    assert not leader._loaded


def test_a_fault_s_values_may_be_called_anything_and_be_of_any_length() -> None:
    _, wires = rendezvous()
    seen = dict.fromkeys(("what", "remedy", "self", "node", "kind", "part"), "😀" * 5000)
    fault = JobFault("x" * 20000, "y" * 20000)
    fault.seen = seen
    wires[0].member.failed(fault)
    settle(wires)
    told = wires[1].member.fault
    assert told is not None
    assert told.node == "n1"
    assert set(told.seen) == set(seen)
    assert told.what.startswith("xxx")


def test_another_key_another_port_or_another_size_does_not_get_in() -> None:
    leader = a_leader()
    strange = [Wire(leader, 1, key=peers.OTHER_KEY), Wire(leader, 1, port=PORT + 1), Wire(leader, 1, nodes=5)]
    settle(strange)
    assert all(one.end.is_over for one in strange)
    assert leader.refused == 3
    assert len(leader.missing()) == 3
    for one in strange:
        one.member.lost()
        assert one.member.was_refused


def test_a_member_who_proved_itself_on_two_connections_counts_on_the_one_that_it_chose() -> None:
    leader = a_leader(2)
    first, second = Wire(leader, 1, 2), Wire(leader, 1, 2)
    for one in (first, second):
        one.member.choose = lambda layers=(), one=one: None  # type: ignore[method-assign]
        settle([one])
        assert one.member.is_welcome
    MemberEnd.choose(second.member, [])
    first.cut()
    settle([second])
    assert leader.fault is None
    assert leader.members() == [second.end]


def test_the_newer_of_two_proven_connections_wins_and_the_older_learns_why() -> None:
    leader = a_leader(2)
    older, newer = Wire(leader, 1, 2), Wire(leader, 1, 2)
    leader.publish(OFFERS)
    settle([older])
    assert leader.have_all_answered()
    settle([newer], do_work=False)
    assert not leader.have_all_answered()  # what the older one has loaded does not count for the newer
    settle([older, newer])
    assert older.member.fault is not None
    assert older.member.fault.what == "rendezvous: this node came a second time"
    assert leader.have_all_answered()
    assert leader.fault is None


def test_who_declines_has_answered_until_something_else_is_offered() -> None:
    leader, (one, other) = rendezvous(3)
    leader.publish(OFFERS)
    settle([one, other], do_work=False)
    one.member.declined(ShareFault("test: no route", "nothing"))
    other.member.loaded(IDS)
    settle([one, other], do_work=False)
    assert leader.have_all_answered()
    assert [(each.node, each.what) for each in leader.declined()] == [("n1", "test: no route")]
    leader.publish(OFFERS)
    settle([one, other], do_work=False)
    one.member.generation = 1  # a word of the older offers that was on its way
    one.member.declined(ShareFault("test: no route", "nothing"))
    one.member.generation = 2
    settle([one, other], do_work=False)
    assert (leader.declined(), leader.have_all_answered()) == ([], False)
    for each in (one, other):
        each.member.loaded(IDS)
    settle([one, other], do_work=False)
    assert (leader.declined(), leader.have_all_answered()) == ([], True)
    leader.go()
    settle([one, other], do_work=False)
    assert [each.member.is_released for each in (one, other)] == [True, True]


def test_the_odd_one_is_named() -> None:
    leader = a_leader()
    wires = [Wire(leader, rank) for rank in (1, 2, 3)]
    leader.publish(OFFERS)
    settle(wires, do_work=False)
    for rank, one in enumerate(wires, 1):
        one.member.loaded(IDS if rank != 2 else ["sha256:1", "sha256:9"])
    settle(wires, do_work=False)
    for wanted in (IDS, None):
        odd = leader.first_mismatch(wanted)
        assert odd is not None
        assert (odd.node, odd.seen["loaded"]) == ("n2", '"sha256:1", "sha256:9"')
    assert leader.first_mismatch(["sha256:1"]) is not None


@pytest.mark.parametrize("offers", [OFFERS, ["a", "b"], [{"where": "/x"}, {"identity": "sha256:2"}]])
def test_without_the_leader_s_word_its_offers_count_and_without_them_the_first_member(offers: Any) -> None:
    leader = a_leader(3)
    wires = [Wire(leader, rank, 3) for rank in (1, 2)]
    leader.publish(offers)
    settle(wires, do_work=False)
    wires[0].member.loaded(["sha256:8", "sha256:9"])
    wires[1].member.loaded(IDS)
    settle(wires, do_work=False)
    odd = leader.first_mismatch(None)
    assert odd is not None
    assert odd.node == ("n1" if offers == OFFERS else "n2")


def test_layers_of_all_are_what_everybody_has_and_odd_ones_are_left_out() -> None:
    leader = a_leader()
    ends = [LeaderEnd(leader) for _ in range(3)]
    for rank, layers in enumerate((["a", "b", "c"], ["b", "c", 5, None], ["c", "b", "z"]), 1):
        ends[rank - 1].rank, ends[rank - 1].layers = rank, leader.mask(layers)
        leader.arrived(ends[rank - 1])
    assert leader.common() == {"b", "c"}


def test_the_number_of_layers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier_protocol, "_MOST_LAYERS", 2)
    leader = a_leader()
    assert leader.mask(["a", "b", "c"]) == 3
    assert leader.mask(["c", "a"]) == 1


def test_at_the_end_of_time_those_who_are_missing_are_named_as_slurm_names_them() -> None:
    leader = a_leader(40)
    fault = barrier_faults.late(leader, 12.34)
    assert fault.seen == {"waited_seconds": 12.3, "never_arrived": "n[1-39]"}
    assert fault.remedy == "read the prolog log of n1, or raise Deadline"


def test_whoever_is_behind_is_named_only_if_there_was_something_to_load() -> None:
    leader, _ = rendezvous(2)
    assert barrier_faults.late(leader, 1.0).remedy.startswith("read the prolog log of n0")
    leader.publish(OFFERS)
    assert barrier_faults.late(leader, 1.0).seen["not_loaded"] == "n1"


# The member's end.


def welcome(choose: bool = True) -> Wire:
    one = Wire(a_leader(2), 1, 2)
    if not choose:
        one.member.choose = lambda layers=(): None  # type: ignore[method-assign]
    settle([one], do_work=False)
    return one


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"SSH-2.0-OpenSSH_9.2p1\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        framing.plain("CHALLENGE", v=2, nonce="x"),
        framing.plain("CHALLENGE", v=1),
        framing.plain("CHALLENGE", v=1, nonce=""),
        framing.plain("CHALLENGE", v=1, nonce="x" * 65),
        framing.plain("WELCOME", left=5),
        framing.plain("GO"),
        b"\x00" * 9000,
    ],
)
def test_a_stranger_s_greeting_ends_the_visit_without_a_fault(line: bytes) -> None:
    member = MemberEnd(allocation("n1"), peers.KEY, PORT)
    member.receive(line)
    assert (member.is_over, member.fault, member.was_refused, bytes(member.outgoing)) == (True, None, False, b"")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("GO", {}),
        ("WELCOME", {"left": 5}),
        ("JOIN", {}),
        ("IMAGE", {"index": 1, "of": 2}),
        ("IMAGE", {"index": 0, "of": 1000}),
        ("IMAGE", {"index": 0}),
        ("ABORT", {}),
        ("ABORT", {"fault": {"kind": "x"}}),
    ],
)
def test_a_leader_that_talks_nonsense_is_as_if_it_had_vanished(name: str, fields: Any) -> None:
    one = welcome()
    one.member.receive(one.end._channel.sign(name, **fields))  # type: ignore[union-attr]
    assert one.member.is_over
    assert not one.member.is_released
    assert one.member.fault is not None
    assert one.member.fault.what == "rendezvous: the leader vanished"


def test_images_of_two_series_are_not_mixed() -> None:
    for second in ({"index": 1, "of": 3}, {"index": 2, "of": 2}, {"index": 0, "of": 2}):
        one = welcome()
        one.member.receive(one.end._channel.sign("IMAGE", index=0, of=2, offer="a"))  # type: ignore[union-attr]
        assert one.member.offers is None
        one.member.receive(one.end._channel.sign("IMAGE", **second, offer="b"))  # type: ignore[union-attr]
        assert one.member.fault is not None


def test_nothing_comes_after_the_last_image() -> None:
    one = welcome()
    for index in (0, 1):
        one.member.receive(one.end._channel.sign("IMAGE", index=index, of=1, offer="a"))  # type: ignore[union-attr]
    assert one.member.is_over


@pytest.mark.parametrize("left", [None, -1, "5", True])
def test_a_welcome_without_a_time_is_none(left: Any) -> None:
    leader = a_leader(2)
    leader.left = lambda: left
    one = Wire(leader, 1, 2)
    settle([one])
    assert one.member.is_over
    assert one.member.fault is None


def test_an_abort_without_a_node_is_the_leader_s() -> None:
    one = welcome()
    one.member.receive(one.end._channel.sign("ABORT", fault=JobFault("x: y", "z").to_dict()))  # type: ignore[union-attr]
    assert one.member.fault is not None
    assert one.member.fault.node == "n0"


def test_who_was_not_welcome_has_nobody_to_tell() -> None:
    member = MemberEnd(allocation("n1"), peers.KEY, PORT)
    member.failed(JobFault("x: y", "z"))
    assert (member.is_over, bytes(member.outgoing)) == (True, b"")


def test_many_layers_go_into_many_lines_and_no_more_than_the_limit() -> None:
    one = welcome(choose=False)
    odd = ["x" * 91, "\U0001f600" * 80, "\0" * 80, '"' * 80]
    MemberEnd.choose(one.member, [*odd, *(f"sha256:{number:064x}" for number in range(5000))])
    lines = bytes(one.member.outgoing).splitlines(keepends=True)
    assert max(len(line) for line in lines) <= framing.LONGEST_LINE
    assert sum(len(json.loads(line)["layers"]) for line in lines) == 4096
    assert [json.loads(line)["more"] for line in lines] == [True] * (len(lines) - 1) + [False]


def test_a_line_after_the_end_is_not_even_read() -> None:
    one = welcome()
    one.member.receive(one.end._channel.sign("ABORT", fault=PeerFault("n3", JobFault("x: y", "z")).to_dict()) + b"garbage\n")  # type: ignore[union-attr]
    assert one.member.fault is not None
    assert one.member.fault.node == "n3"
