# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of nodes: it names the odd one, and nobody who is well."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import cluster_checks
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight.checks import Check
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight.cluster_checks import Answer
from hypothesis import given
from hypothesis import strategies as st

NODES = ("n1", "n2", "n3", "n4")
GOOD_MET: Mapping[str, Any] = {"missing": [], "unknown": [], "wrong": {}}


def answer(node: str, met: Optional[Mapping[str, Any]] = GOOD_MET, checks: tuple[Check, ...] = (), **facts: Any) -> Answer:
    same = {"key": "aa", "release": "1.0.0+0", "settings": "cc", "docker_version": "26", "docker_store": "classic"}
    clock = {"offset_seconds": 30.0, "uncertainty_seconds": 0.5}  # the controller's clock is the wrong one
    return Answer(checks, {"node": node, "nonce": f"nonce of {node}", "clock": clock, **same, **facts}, met)


def cluster(**odd: Answer) -> Dict[str, Optional[Answer]]:
    return {node: odd.get(node, answer(node)) for node in NODES}


def bad(answers: Mapping[str, Optional[Answer]], skip: tuple[str, ...] = ()) -> List[tuple[str, str, str]]:
    judged = cluster_checks.judge(answers, 2.0, ("slurm", *skip))
    return [(node, check.name, check.status) for node, checks in judged.items() for check in checks if check.status != "ok"]


def test_nodes_that_agree_have_nothing_to_fear() -> None:
    assert bad(cluster()) == []


@pytest.mark.parametrize(
    ("fact", "value", "name", "status"),
    [
        ("key", "bb", "key", "fail"),
        ("settings", "dd", "settings", "fail"),
        ("release", "0.9.0+1", "release", "fail"),
        ("docker_version", "20", "docker", "warn"),
        ("docker_store", "containerd", "docker_store", "warn"),
    ],
)
def test_the_node_that_differs_from_the_most_is_named(fact: str, value: str, name: str, status: str) -> None:
    answers = cluster(n3=answer("n3", **{fact: value}))
    assert bad(answers) == [("n3", name, status)]
    check = next(check for check in cluster_checks.judge(answers, 2.0)["n3"] if check.name == name)
    assert "than 3 of 4 nodes" in check.seen
    assert check.remedy


def test_no_fingerprint_of_a_key_is_shown() -> None:
    shown = str(cluster_checks.judge(cluster(n3=answer("n3", key="5ec2e7")), 2.0))
    assert "5ec2e7" not in shown
    assert "'aa'" not in shown


def test_who_could_not_be_looked_at_is_not_compared() -> None:
    assert bad(cluster(n1=answer("n1", key="", release=""))) == []


def test_a_node_that_has_not_answered_fails_alone() -> None:
    assert bad({**cluster(), "n2": None}) == [("n2", "node", "fail")]


def clock(offset: float, uncertainty: float = 0.1) -> Dict[str, Any]:
    return {"clock": {"offset_seconds": offset, "uncertainty_seconds": uncertainty}}


@pytest.mark.parametrize(("offset", "is_bad"), [(32.0, False), (32.2, True), (28.0, False), (27.8, True), (0.0, True)])
def test_a_clock_is_measured_by_the_others_and_not_by_the_controllers(offset: float, is_bad: bool) -> None:
    assert bad(cluster(n2=answer("n2", **clock(offset)))) == ([("n2", "clock", "fail")] if is_bad else [])


def test_what_the_measurement_may_have_added_is_not_held_against_a_clock() -> None:
    assert bad(cluster(n2=answer("n2", **clock(36.0, 4.1)))) == []
    assert bad(cluster(n2=answer("n2", **clock(36.0, 3.9)))) == [("n2", "clock", "fail")]


def test_the_direction_of_a_wrong_clock_is_said() -> None:
    judged = cluster_checks.judge(cluster(n2=answer("n2", **clock(50)), n3=answer("n3", **clock(10))), 2.0)
    shown = {node: check.seen for node, checks in judged.items() for check in checks if check.status == "fail"}
    assert shown == {"n2": "20.0 s ahead of the others (within 0.1 s)", "n3": "20.0 s behind the others (within 0.1 s)"}


def met(**changes: Any) -> Dict[str, Any]:
    return {**GOOD_MET, **changes}


def test_a_name_that_leads_elsewhere_on_the_others_is_its_own_nodes_fault() -> None:
    lost = met(wrong={"n3": ["10.9.9.9"]})
    answers = cluster(n1=answer("n1", lost), n2=answer("n2", lost), n4=answer("n4", met(unknown=["n3"])))
    assert bad(answers) == [("n3", "names", "fail")]
    assert cluster_checks.judge(answers, 2.0)["n3"][-1].seen == "its name leads to 10.9.9.9, which is not its address, on n[1-2,4]"


def test_the_most_decide_whose_fault_a_name_is_not_all() -> None:
    lost = met(wrong={"n3": ["10.9.9.9"]})
    assert bad(cluster(n1=answer("n1", lost), n2=answer("n2", lost))) == [("n3", "names", "fail")]


def test_a_node_that_alone_cannot_find_the_others_fails_itself() -> None:
    answers = cluster(n4=answer("n4", met(unknown=["n1"], wrong={"n2": ["127.0.1.1"]})))
    assert bad(answers) == [("n4", "names", "fail"), ("n4", "names", "fail")]
    shown = [check.seen for check in cluster_checks.judge(answers, 2.0)["n4"] if check.name == "names"]
    assert shown == ["n1 leads nowhere here", "n2 leads to 127.0.1.1, which is not its address, here"]


def test_a_name_that_slurm_does_not_know_fails() -> None:
    assert bad(cluster(n1=answer("n1", slurm_nodes=["n1", "n2", "n3"]))) == [("n4", "names", "fail")]
    assert bad(cluster(n1=answer("n1", slurm_nodes=list(NODES)))) == []


def notes(groups: List[List[str]]) -> Dict[str, Optional[Answer]]:
    """Return the answers of nodes of which each group has a directory of its own."""
    home = {node: group for group in groups for node in group}
    nodes = sorted(home)
    return {node: answer(node, met(missing=[other for other in nodes if other not in home[node]])) for node in nodes}


def test_the_node_with_another_store_fails_and_is_told_whom_it_does_not_see() -> None:
    answers = notes([["n1", "n2"], ["n3"]])
    assert bad(answers) == [("n3", "store", "fail")]
    assert cluster_checks.judge(answers, 2.0)["n3"][-1] == Check(
        "store", "fail", "it does not see what n[1-2] wrote there", "mount the share on this node"
    )


def test_if_each_node_is_alone_with_its_store_nobody_has_the_share() -> None:
    assert bad(notes([["n1"], ["n2"], ["n3"]])) == [(node, "store", "fail") for node in ("n1", "n2", "n3")]


def test_a_single_node_shares_with_itself() -> None:
    assert bad(notes([["n1"]])) == []


def test_who_could_not_write_is_not_missed_and_who_could_not_look_is_not_judged() -> None:
    answers = notes([["n1", "n2", "n3"]])
    answers["n2"] = answer("n2", met(missing=["n1", "n3"]), nonce="")
    answers["n3"] = answer("n3", None)
    assert bad(answers) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_all_but_the_largest_group_of_a_split_store_fail(homes: List[int]) -> None:
    nodes = [f"n{number}" for number in range(len(homes))]
    groups = [[node for node, home in zip(nodes, homes) if home == which] for which in sorted(set(homes))]
    failing = {node for node, _, _ in bad(notes(groups))}
    largest = max(map(len, groups))
    assert len(nodes) - len(failing) == (largest if largest > 1 or len(nodes) == 1 else 0)


def test_nobody_s_question_to_slurm_is_not_an_ok() -> None:
    def of_slurm(answers: Dict[str, Optional[Answer]]) -> List[tuple[str, str]]:
        return [
            (node, check.status) for node, checks in cluster_checks.judge(answers, 2.0).items() for check in checks if check.name == "slurm"
        ]

    assert of_slurm({"n0": None, **cluster()}) == [("n1", "warn")]
    assert of_slurm(cluster(n2=answer("n2", checks=(Check("slurm", "ok", "fits"),)))) == [("n2", "ok")]
    assert of_slurm({"n0": None}) == []


def test_an_ok_does_not_stand_beside_something_worse_and_what_is_skipped_stands_nowhere() -> None:
    answers = cluster(n1=answer("n1", checks=(Check("key", "ok", "Auth=key"), Check("pigz", "warn", "no", "yes")), key="zz"))
    assert [check.name for check in cluster_checks.judge(answers, 2.0)["n1"] if check.status == "ok"] == ["clock"]
    assert bad(answers, skip=("key", "pigz")) == []


def test_an_answer_is_both_steps_of_a_node_and_nothing_else_is_one() -> None:
    check = {"name": "pigz", "status": "ok", "seen": "here", "remedy": ""}
    late = {"name": "store", "status": "fail", "seen": "hangs", "remedy": "look"}
    look = {"checks": [check], "facts": {"node": "n1"}}
    assert cluster_checks.of(look, {"checks": [late], "met": {"missing": []}}) == Answer(
        (Check("pigz", "ok", "here"), Check("store", "fail", "hangs", "look")), {"node": "n1"}, {"missing": []}
    )
    assert cluster_checks.of(look, {}) == Answer((Check("pigz", "ok", "here"),), {"node": "n1"}, None)
    assert cluster_checks.of({"unreachable": True, "msg": "no route"}, {}) is None


def test_a_node_that_others_cannot_connect_to_is_named_with_them() -> None:
    blocked = {**GOOD_MET, "blocked": {"n3": "10.0.0.3 port 27800: No route to host"}}
    answers = cluster(n1=answer("n1", blocked), n2=answer("n2", blocked))
    assert bad(answers) == [("n3", "ports", "fail")]
    (check,) = [check for check in cluster_checks.judge(answers, 2.0)["n3"] if check.name == "ports"]
    assert ("n[1-2]" in check.seen, "No route to host" in check.seen, "PortRange" in check.remedy) == (True, True, True)


def test_a_node_that_goes_by_its_host_name_is_known_to_slurm() -> None:
    names = ["n1", "node2", "n2", "n3.site.example", "n4"]
    assert bad(cluster(n1=answer("n1", slurm_nodes=names))) == []
