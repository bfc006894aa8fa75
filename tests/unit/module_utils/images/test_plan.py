# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose image goes to all nodes is never guessed, and whoever has not got it is named with the reason."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import plan, sources
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images.plan import Look, Plan, Publication, Report, Row
from hypothesis import given
from hypothesis import strategies as st

DEAD = Look(failure="no route to host")
OLD, NEW = Look("A", created_local="2026-01-02T00:00:00Z"), Look("B", "B", created_local="2026-01-03T01:00:00+02:00")
LOOK = {"local": "", "stored": "A", "layers_local": 0}
MOVED = {"changed": True, "identity": "A", "layers_total": 5, "layers_moved": 2, "bytes_moved": 20_000_000, "seconds": 0.2}
HAD = {"changed": False, "identity": "A", "layers_total": 5, "layers_moved": 0, "bytes_moved": 0, "seconds": 0.1}
LOST = {"failed": True, "msg": "madengine: node: engine:\nno answer"}


@pytest.mark.parametrize(("looks", "source", "pull", "wanted"), [
    ([Look("A"), Look(), DEAD], "", False, Plan("n1", "A")),
    ([Look(), Look("A")], "", False, Plan("n2", "A")),
    ([Look("A", "A"), Look("", "A")], "", False, Plan("", "A")),
    ([Look("", "A"), Look("", "A")], "", False, Plan("", "A")),
    ([Look("", ""), Look("", "A")], "", False, Plan("", "A")),  # n1 has not mounted the share; it is named when it loads
    ([Look("A", "B"), Look("B", "B")], "n1", False, Plan("n1", "A")),
    ([Look("A", "B"), Look("B", "B")], "n2", False, Plan("", "B")),
    ([Look("A", "B"), Look("", "B")], "store", False, Plan("", "B")),
    ([DEAD, Look(), Look()], "", True, Plan("n2", "")),
    ([Look("A"), Look()], "", True, Plan("n1", "A")),
])  # fmt: skip
def test_the_image_is_the_one_that_all_who_have_it_share_or_the_one_that_was_named(
    looks: List[Look], source: str, pull: bool, wanted: Plan
) -> None:
    assert plan.plan("a:1", named(looks), source, pull) == wanted


@pytest.mark.parametrize(("looks", "source", "fault", "said"), [
    ([Look("A"), Look("B")], "", JobFault, r"several images .*n1 has A .no date.; n2 has B .*image_distribute_source"),
    ([Look("A", "B"), Look("A", "B")], "", JobFault, r"several images .*n\[1-2\] has A .no date.; store has B"),
    ([OLD, Look("B", created_local=OLD.created_local)], "", JobFault, "several images"),
    ([OLD, Look("B", created_local="1970-01-01T00:00:00Z")], "", JobFault, "several images"),
    ([Look(), Look()], "", JobFault, "no node has the image, nor has the store"),
    ([Look("A"), Look()], "store", JobFault, "the store does not have the image"),
    ([Look("A"), Look()], "n2", JobFault, r"the source does not have the image .*n2"),
    ([Look("A"), DEAD], "n2", JobFault, "the source does not have the image .*no route to host"),
    ([Look("A")], "n9", JobFault, "none of the play's hosts"),
    ([Look("A", "A"), Look("", "B")], "", ShareFault, "different images in the store"),
    ([DEAD, DEAD], "", NodeFault, "no node answers .*no route to host"),
    ([], "", NodeFault, "no node answers"),
])  # fmt: skip
def test_nothing_is_guessed(looks: List[Look], source: str, fault: Any, said: str) -> None:
    with pytest.raises(fault, match=said):
        plan.plan("a:1", named(looks), source)


@pytest.mark.parametrize(("policy", "wanted"), [("newest", "B"), ("leader", "A")])
def test_of_several_images_one_is_taken_by_a_policy_and_it_is_said(policy: str, wanted: str) -> None:
    chosen = plan.plan("a:1", named([OLD, NEW]), on_conflict=policy)
    assert (chosen.identity, chosen.publisher) == (wanted, "" if wanted == "B" else "n1")
    assert "n1 has A (2026-01-02T00:00:00); n2,store has B (2026-01-03T01:00:00)" in chosen.decision
    assert plan.plan("a:1", named([NEW, NEW]), on_conflict=policy).decision == ""
    with pytest.raises(JobFault, match="several images"):
        plan.plan("a:1", named([OLD, NEW]), on_conflict="fail")


@given(st.lists(st.sampled_from([Look("A"), Look("B"), Look(), DEAD, Look("A", "A"), Look("", "A")])))
def test_without_a_source_no_node_that_answered_has_another_image_than_the_one_that_is_chosen(looks: List[Look]) -> None:
    try:
        chosen = plan.plan("a:1", named(looks))
    except (JobFault, ShareFault, NodeFault):
        return
    assert {look.local or chosen.identity for look in looks if not look.failure} == {chosen.identity}
    assert chosen.publisher == "" or named(looks)[chosen.publisher].local == chosen.identity


def test_a_look_is_an_answer_a_failure_or_nothing() -> None:
    assert Look.of({"local": "A", "stored": ""}) == Look("A", "")
    assert Look.of({}) == Look(failure="no answer")
    assert Look.of({"unreachable": True, "msg": "no\nroute"}) == Look(failure="no route")
    assert Look.of({"failed": True}) == Look(failure="no reason given")


@pytest.mark.parametrize(("look", "load", "check_mode", "wanted"), [
    (LOOK, MOVED, False, Row("n1", 3, 2, 5, 20_000_000, 0.2)),
    (LOOK, {"results": [MOVED]}, False, Row("n1", 3, 2, 5, 20_000_000, 0.2)),
    (LOOK, HAD, False, Row("n1", 5, 0, 5, 0, 0.1)),
    # Only its name or its configuration is new: it did not have it.
    (LOOK, {**HAD, "changed": True}, False, Row("n1", 5, 1, 5, 0, 0.1)),
    (LOOK, LOST, False, Row("n1", failure="madengine: node: engine: no answer")),
    (LOOK, {"results": [LOST]}, False, Row("n1", failure="madengine: node: engine: no answer")),
    (LOST, {"skipped": True}, False, Row("n1", failure="madengine: node: engine: no answer")),
    ({}, {}, False, Row("n1", failure="no answer")),
    (LOOK, {"skipped": True}, False, Row("n1", failure="no answer")),
    (LOOK, {"skipped": True}, True, Row("n1", loaded=-1)),
    ({**LOOK, "local": "A", "layers_local": 5}, {"skipped": True}, True, Row("n1", 5, 0, 5)),
    (LOOK, {k: v for k, v in MOVED.items() if k not in ("bytes_moved", "seconds")}, True, Row("n1", 3, 2, 5)),
])  # fmt: skip
def test_a_row_says_what_became_of_a_node(look: Dict[str, Any], load: Dict[str, Any], check_mode: bool, wanted: Row) -> None:
    assert plan.row("n1", "A", look, load, check_mode=check_mode) == wanted


def test_a_node_that_got_another_image_than_the_one_that_is_meant_has_failed() -> None:
    assert "somebody has published meanwhile" in plan.row("n1", "B", LOOK, MOVED).failure


def test_a_node_that_does_not_see_what_was_published_is_told_to_mount_the_share() -> None:
    fault = sources.nowhere("a:1", ["store /shared"])
    load = {"failed": True, "msg": fault.line(), "fault": fault.to_dict()}
    assert plan.row("n2", "A", LOOK, load, "n1").failure.startswith("does not see what n1 has just put into the store; mount")
    assert plan.row("n2", "A", LOOK, load).failure == fault.line()


def test_the_table_ends_with_those_that_fail() -> None:
    rows = (Row("n1", 5, 0, 5, 0, 0.04), Row("n02", failure="dead"), Row("login-3", 3, 2, 5, 20_000_000, 0.2))
    published = Publication.of("n1", {"identity": "A", "changed": True, "layers_moved": 1, "bytes_moved": 1_500_000_000, "seconds": 2.04})
    assert (
        Report("a:1", rows, published).table()
        == """\
a:1: 1 of 3 nodes fail: n02; 1 of 3 nodes had it, 1 loaded it: 20.0 MB
store: n1 published 1 layer, 1.5 GB, in 2.0 s

node     had     loaded  bytes    seconds
n1       all     -       -        0.0
login-3  3 of 5  2       20.0 MB  0.2
n02      FAILED  dead"""
    )


def test_a_run_with_nothing_to_do_says_so() -> None:
    rows = (Row("n1", 5, 0, 5, 0, 0.1),)
    assert Report("a:1", rows).headline() == "a:1: all 1 nodes had it; nothing was moved to them"
    assert Report("a:1", rows, check_mode=True).headline() == "a:1: all 1 nodes had it; nothing would move"


def test_what_check_mode_tells_is_told_as_such() -> None:
    rows = (Row("n1", 5, 0, 5), Row("n2", loaded=-1))
    published = Publication.of("n1", {"identity": "A", "changed": True, "layers_moved": 5})
    lines = Report("a:1", rows, published, check_mode=True).table().splitlines()
    assert lines[:2] == ["a:1: 1 of 2 nodes had it, 1 would load it", "store: n1 would publish 5 layers"]
    assert lines[-1].split() == ["n2", "?", "all", "it", "lacks", "?", "-"]
    pulled = Publication.of("n1", {"identity": None, "changed": True, "layers_moved": 0})
    assert "store: n1 would publish what it would pull" in Report("a:1", rows, pulled, check_mode=True).table()


def test_who_has_not_published_has_no_part_in_it() -> None:
    assert Publication.of("", {"skipped": True}) == Publication.of("n1", {"skipped": True}) == Publication()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (10**16, "10000.0 TB")]
)
def test_a_size_is_rounded_to_a_tenth_of_a_unit(count: int, text: str) -> None:
    assert plan.size(count) == text


def named(looks: List[Look]) -> Dict[str, Look]:
    return {f"n{number}": look for number, look in enumerate(looks, 1)}
