# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""distribution_plan and distribution_report: all nodes' results in, one decision and one table out."""

from __future__ import annotations

from typing import Any

from ansible_collections.rocm.madengine.plugins.modules import distribution_plan, distribution_report

LOOKS = {
    "n1": {"local": "A", "stored": "", "layers_local": 2},
    "n2": {"local": "", "stored": "", "layers_local": 0},
    "n3": {"failed": True, "msg": "dead"},
}


def test_the_plan_leaves_out_who_did_not_answer(run_module: Any) -> None:
    code, plan = run_module(distribution_plan, image="a:1", node_results={**LOOKS, "n4": None})
    assert (code, plan["changed"], plan["publisher"], plan["identity"]) == (0, False, "n1", "A")


def test_a_plan_that_would_be_a_guess_fails_in_one_line(run_module: Any) -> None:
    code, plan = run_module(distribution_plan, image="a:1", node_results={**LOOKS, "n2": {"local": "B", "stored": ""}})
    assert (code, plan["fault"]["seen"]) == (1, {"image": "a:1", "holders": "n1 has A (no date); n2 has B (no date)"})


def test_the_report_has_a_row_for_every_host_and_a_reason_for_every_failure(run_module: Any) -> None:
    had = {"changed": False, "identity": "A", "layers_total": 2, "layers_moved": 0, "bytes_moved": 0, "seconds": 0.1}
    loaded = {**had, "changed": True, "layers_moved": 1, "bytes_moved": 1000}
    published = {"identity": "A", "changed": True, "layers_moved": 2, "bytes_moved": 2000, "seconds": 0.1}
    code, report = run_module(
        distribution_report,
        image="a:1",
        node_results=LOOKS,
        loads={"n1": had, "n2": {"results": [loaded]}, "n3": {"skipped": True}},
        publisher="n1",
        published=published,
    )
    assert (code, report["changed"], report["failures"]) == (0, False, {"n3": "dead"})
    assert [(row["node"], row["had"], row["loaded"], row["bytes"]) for row in report["rows"]] == [
        ("n1", 2, 0, 0),
        ("n2", 1, 1, 1000),
        ("n3", 0, 0, 0),
    ]
    assert report["table"].startswith(report["headline"] + "\nstore: n1 published 2 layers")
