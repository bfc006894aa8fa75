# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: one line for a person, one dictionary for another node, and no input that turns them into a defect."""

from __future__ import annotations

import json
import re
from typing import Any, Type

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import errors
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault, PeerFault, ShareFault
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
SEEN = st.dictionaries(st.sampled_from(["what", "remedy", "self", "node", "cause", "part", "kind", "path", "é"]), TEXTS, max_size=5)


def a_fault(kind: Type[Fault], what: str, remedy: str, seen: Any) -> Fault:
    fault = kind(what, remedy)
    fault.seen = seen
    return fault


@settings(deadline=None)
@given(st.sampled_from([JobFault, ShareFault, NodeFault]), TEXTS, TEXTS, SEEN, st.booleans())
def test_a_fault_arrives_as_it_was_sent(kind: Type[Fault], what: str, remedy: str, seen: Any, is_peer_s: bool) -> None:
    fault = a_fault(kind, what, remedy, seen)
    if isinstance(fault, NodeFault):
        fault.part = "disk"
    if is_peer_s:
        fault = PeerFault("n1", fault)
    sent = fault.to_dict()
    again = errors.from_dict(json.loads(json.dumps(sent)))
    assert type(again) is type(fault)
    assert again.line() == fault.line()
    assert again.kind == fault.kind
    assert again.to_dict() == sent


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["kind", "what", "remedy", "seen", "part", "node"]), JSON | st.sampled_from(["job", "share", "node"]))
)
def test_whatever_a_peer_sends_is_a_fault_or_refused_and_its_line_is_one_line(document: Any) -> None:
    try:
        fault = errors.from_dict(document)
    except ValueError:
        return
    assert fault.line().isprintable()
    assert len(fault.line()) < 20000
    json.dumps(fault.to_dict())
    errors.from_dict(fault.to_dict())


def test_the_line_says_whose_fault_what_the_values_and_the_next_step() -> None:
    fault = JobFault("image: no tag or digest", "write rocm/vllm:<tag> in the build manifest", image="rocm/vllm", size_bytes=5)
    assert fault.line() == (
        "madengine: job: image: no tag or digest (image='rocm/vllm', size_bytes=5); write rocm/vllm:<tag> in the build manifest"
    )
    assert ShareFault("a: b", "c").line() == "madengine: share: a: b; c"
    assert NodeFault("a: b", "c", part="disk").line() == "madengine: node: a: b; c"


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31mb", "a\u202eb", "a\ud800b", "\0", "a\u2028b"])
def test_a_user_s_text_cannot_write_lines_or_colours_of_its_own(text: str) -> None:
    fault = JobFault(f"x: {text}", text, value=text)
    assert fault.line().isprintable()
    fault.line().encode()


def test_a_long_value_is_cut_between_its_beginning_and_its_end_where_the_cause_is() -> None:
    fault = JobFault("a: b", "c", value="resolve: " + "x" * 100_000 + ": connection refused")
    for told in (fault, errors.from_dict(fault.to_dict())):
        assert len(told.line()) < 400
        assert re.search("value='resolve: x[x…]+x: connection refused'", told.line())


def test_a_peer_s_broken_node_is_no_fault_of_this_one() -> None:
    peer = PeerFault("n3", NodeFault("engine: dead", "start it", part="docker"))
    assert peer.kind == "share"
    assert not isinstance(peer, NodeFault)
    assert peer.line() == "madengine: node: n3: engine: dead; start it"
    assert PeerFault("n3", JobFault("a: b", "c")).kind == "job"


def test_a_peer_s_fault_that_is_passed_on_keeps_the_node_that_told_of_it() -> None:
    told = PeerFault("n2", PeerFault("n1", JobFault("a: b", "c")))
    assert (told.node, told.kind, told.to_dict()["kind"]) == ("n2", "job", "job")


@pytest.mark.parametrize("document", [{}, {"kind": "x"}, {"kind": "job", "seen": [1]}, {"kind": None}, {"kind": "peer"}])
def test_what_describes_no_fault_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="not a fault"):
        errors.from_dict(document)


def test_what_another_node_says_is_cut_to_size() -> None:
    seen = {f"name{index}" * 20: "v" * 1000 for index in range(100)}
    document = {"kind": "node", "what": "w" * 5000, "remedy": "r" * 5000, "seen": seen, "part": "p" * 99, "node": "n" * 999}
    fault = errors.from_dict(document)
    assert isinstance(fault, PeerFault)
    assert len(json.dumps(fault.to_dict())) < 8000


def test_a_peer_that_is_called_by_a_control_character_is_shown_in_one_line() -> None:
    assert PeerFault("n\x1f\n2", JobFault("a: b", "c")).line() == "madengine: job: n  2: a: b; c"
