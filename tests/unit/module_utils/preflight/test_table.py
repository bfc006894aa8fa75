# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: readable for three nodes and for three hundred."""

from __future__ import annotations

from typing import Dict, List

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import table
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight.checks import Check

DOCKER = Check("docker", "fail", "docker: no answer", "start docker on this node")
PIGZ = Check("pigz", "warn", "no unpigz", "install the package pigz")
THREE = ("n1", "n2", "n3")


def report(checks: Dict[str, List[Check]]) -> str:
    return table.table(table.rows(checks), list(checks))


def test_three_nodes_of_which_one_is_broken() -> None:
    good = [Check("docker", "ok", "Docker 26"), Check("docker_store", "ok", "classic"), PIGZ]
    assert report({"n1": [*good, Check("slurm", "ok", "fits")], "n2": [DOCKER, PIGZ], "n3": good}) == (
        "preflight: 1 of 3 nodes fail: n2 (1 warning)\n"
        "\n"
        "FAIL  docker  n2      docker: no answer\n"
        "                      -> start docker on this node\n"
        "warn  pigz    n[1-3]  no unpigz\n"
        "                      -> install the package pigz\n"
        "\n"
        "ok    docker_store, slurm\n"
        "?     docker_store: not looked at on n2"
    )


def test_nodes_that_are_ready_take_two_lines() -> None:
    assert report({node: [Check("docker", "ok", "Docker 26")] for node in THREE}) == "preflight: all 3 nodes are ready\nok    docker"
    assert report({"n1": [Check("docker", "ok", "Docker 26")]}) == "preflight: the node is ready\nok    docker"


def test_three_hundred_nodes_with_the_same_finding_are_one_row() -> None:
    nodes = [f"n{number:03}" for number in range(1, 301)]
    checks = {node: [PIGZ, Check("docker_space", "warn", f"{int(node[1:]) / 10} GiB free", "free space")] for node in nodes}
    for node, each in checks.items():
        each.append(DOCKER if node == "n150" else Check("docker", "ok", "Docker 26"))
    lines = report(checks).splitlines()
    assert len(lines) == 8
    assert lines[2] == "FAIL  docker        n150        docker: no answer"
    assert lines[4] == "warn  docker_space  n[001-300]  n001: 0.1 GiB free; n002: 0.2 GiB free; and 298 like these"
    assert lines[6] == "warn  pigz          n[001-300]  no unpigz"


def test_findings_that_differ_in_more_than_numbers_are_rows_of_their_own() -> None:
    rows = table.rows({"n1": [Check("names", "fail", "a leads nowhere", "x")], "n2": [Check("names", "fail", "b leads nowhere", "x")]})
    assert [(row.nodes, row.seen) for row in rows] == [(("n1",), "a leads nowhere"), (("n2",), "b leads nowhere")]


def test_what_fails_comes_first_and_then_the_order_of_the_checks() -> None:
    rows = table.rows({"n1": [PIGZ, Check("other", "fail", "", ""), Check("madengine", "fail", "", ""), DOCKER, Check("key", "ok", "")]})
    assert [row.check for row in rows] == ["docker", "madengine", "other", "pigz", "key"]
    assert table.status(rows) == "fail"


def test_what_one_node_asks_for_all_stands_under_the_cluster() -> None:
    rows = table.rows({"n1": [Check("slurm", "fail", "PrologFlags=", "change it")], "n2": []})
    assert rows[0].to_dict() == {"check": "slurm", "status": "fail", "nodes": ["cluster"], "seen": "PrologFlags=", "remedy": "change it"}
    assert table.headline(rows, ["n1", "n2"]) == "preflight: SLURM's settings do not fit, for any node"


def test_a_silent_node_is_not_listed_again_for_each_check_that_it_has_not_answered() -> None:
    text = report({"n1": [Check("key", "ok", "")], "n2": [Check("node", "fail", "no answer", "look")]})
    assert "?" not in text


def test_many_nodes_without_a_pattern_do_not_break_the_table() -> None:
    nodes = [f"gpu-{letter}" for letter in "abcdefghijklmnop"]
    line = report({node: [DOCKER] for node in nodes}).splitlines()[2]
    assert "gpu-a,gpu-b" in line
    assert "… (16 nodes)" in line


def test_warnings_alone_leave_the_nodes_ready() -> None:
    checks = {"n1": [PIGZ, Check("docker_space", "warn", "4 GiB", "free space")]}
    assert table.headline(table.rows(checks), ["n1"]) == "preflight: the node is ready (2 warnings)"
