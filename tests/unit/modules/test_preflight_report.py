# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight_report: all nodes' answers in, one table out; it fails if it is asked to."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.modules import preflight_report

Run = Callable[..., Tuple[Any, Any]]


def look(node: str, *statuses: str, **facts: Any) -> Dict[str, Any]:
    checks = [{"name": "pigz", "status": status, "seen": "seen", "remedy": "do it" if status != "ok" else ""} for status in statuses]
    checks.append({"name": "slurm", "status": "ok", "seen": "fits", "remedy": ""})
    return {"changed": False, "checks": checks, "facts": {"node": node, **facts}}


@pytest.mark.parametrize(("statuses", "worst"), [(["ok"], "ok"), (["warn"], "warn"), (["fail", "warn"], "fail")])
@pytest.mark.parametrize("fail_on", ["warn", "fail", "never"])
def test_the_task_fails_from_the_status_on_that_was_asked_for(run_module: Run, statuses: List[str], worst: str, fail_on: str) -> None:
    code, result = run_module(preflight_report, node_results={"h1": look("n1", *statuses)}, fail_on=fail_on)
    order = ["ok", "warn", "fail", "never"]
    assert code == int(order.index(worst) >= order.index(fail_on))
    assert result["status"] == worst
    assert result["table"].startswith(result["headline"])
    if code:
        assert result["msg"] == result["headline"]


def test_nodes_are_compared_and_called_by_their_own_names(run_module: Run) -> None:
    looks = {f"host{number}": look(f"n{number}", "ok", key="a" if number != 2 else "b") for number in (1, 2, 3)}
    code, result = run_module(preflight_report, node_results=looks, _ansible_check_mode=True)
    assert (code, result["changed"], result["headline"]) == (0, False, "preflight: 1 of 3 nodes fail: n2")
    assert [(row["check"], row["nodes"], row["status"]) for row in result["rows"] if row["status"] != "ok"] == [("key", ["n2"], "fail")]


def test_a_host_without_an_answer_fails_and_keeps_its_inventory_name(run_module: Run) -> None:
    for silence in ({}, None, {"unreachable": True, "msg": "no route to host"}):
        _code, result = run_module(preflight_report, node_results={"h1": look("n1", "ok"), "h2": silence})
        assert result["headline"] == "preflight: 1 of 2 nodes fail: h2"


def test_hosts_that_give_themselves_the_same_name_are_told_apart(run_module: Run) -> None:
    _code, result = run_module(preflight_report, node_results={"h1": look("node", "ok"), "h2": look("node", "fail")})
    assert result["headline"] == "preflight: 1 of 2 nodes fail: h2"


def test_what_the_nodes_saw_of_each_other_counts(run_module: Run) -> None:
    looks = {node: look(node, nonce=f"nonce of {node}") for node in ("n1", "n2", "n3")}
    answers = {node: {"checks": [], "met": {"missing": [], "unknown": [], "wrong": {"n3": ["127.0.1.1"]}}} for node in ("n1", "n2")}
    _code, result = run_module(preflight_report, node_results=looks, peer_results={**answers, "n3": {}})
    assert "names  n3" in result["table"]
    _code, result = run_module(preflight_report, node_results=looks, peer_results=answers, skip=["names"])
    assert result["status"] == "ok"
