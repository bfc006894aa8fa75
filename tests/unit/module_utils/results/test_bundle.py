# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's candidates reach the leader whole, within limits, and nowhere but in their place."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import bundle, selection
from helpers import csvs
from hypothesis import given
from hypothesis import strategies as st


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FACTS = ["node.json", encoded("{}")]


def test_candidates_travel_and_the_leader_chooses_among_them(tmp_path: Path) -> None:
    csvs.collection(tmp_path / "member", {2: csvs.table(5)})
    csvs.write(tmp_path / "member/node_2/timeline.jsonl", "{}\n")
    csvs.write(tmp_path / "member/node_2/other.log", "stays")
    csvs.collection(tmp_path / "leader", {0: csvs.table("")})
    packed = json.loads(json.dumps(bundle.pack(str(tmp_path / "member/node_2"), 2, [csvs.NAME])))
    assert packed["left"] == []
    for _ in range(2):
        assert bundle.unpack(str(tmp_path / "leader"), packed, 2)[-1] == "node.json"
    assert sorted(path.name for path in (tmp_path / "leader/node_2").iterdir()) == [csvs.NAME, "node.json", "timeline.jsonl"]
    chosen = selection.settle(str(tmp_path / "leader"), csvs.NAME, "richest", {})
    assert chosen["selected"]["node"] == "n3"
    assert (tmp_path / "leader" / csvs.NAME).read_text() == csvs.table(5)


def test_what_does_not_fit_stays_and_is_named(tmp_path: Path) -> None:
    csvs.collection(tmp_path, {0: "x" * 5000})
    csvs.write(tmp_path / "node_0/multi_rank1.csv", csvs.table(1))
    packed = bundle.pack(str(tmp_path / "node_0"), 0, [csvs.NAME], 1000)
    assert packed["left"] == [csvs.NAME]
    assert packed["folder"] == str(tmp_path / "node_0")
    assert [name for name, _ in packed["files"]] == ["node.json", "multi_rank1.csv"]
    for number in range(60):
        csvs.write(tmp_path / f"node_0/multi_rank{number}.csv", "x")
    assert len(bundle.pack(str(tmp_path / "node_0"), 0, [csvs.NAME])["files"]) == 50


def test_without_the_nodes_document_there_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(JobFault, match="cannot read"):
        bundle.pack(str(tmp_path), 0, [""])


@pytest.mark.parametrize(
    "files",
    [
        None,
        5,
        [5],
        [["node.json"]],
        [["node.json", 5]],
        [],
        [["node.json", "?"]],
        [["node.json", encoded("[1]")]],
        [["node.json", encoded("[" * 100_000)]],
        [FACTS, ["../x.csv", encoded("x")]],
        [FACTS, ["a/x.csv", encoded("x")]],
        [FACTS, [".x.csv", encoded("x")]],
        [FACTS, ["x\n.csv", encoded("x")]],
        [FACTS, ["x.sh", encoded("x")]],
        [FACTS, ["x.csv", encoded("x" * (5 << 20))]],
        [FACTS] * 51,
    ],
)
def test_what_is_no_bundle_is_refused_and_nothing_is_written(tmp_path: Path, files: Any) -> None:
    with pytest.raises(JobFault, match="not a node's results"):
        bundle.unpack(str(tmp_path), {"rank": 1, "files": files}, 1)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=9)), max_size=4))
def test_no_name_leads_out_of_the_nodes_directory(tmp_path_factory: pytest.TempPathFactory, contents: Any) -> None:
    base = tmp_path_factory.mktemp("x")
    files = [FACTS, *([name, base64.b64encode(data).decode()] for name, data in contents)]
    try:
        bundle.unpack(str(base / "job"), {"files": files}, 1)
    except JobFault:
        return
    assert {path.parent for path in base.rglob("*") if path.is_file()} == {base / "job/node_1"}


def test_a_directory_that_cannot_be_written_is_a_fault_of_the_share(tmp_path: Path) -> None:
    csvs.write(tmp_path / "node_1", "a file")
    with pytest.raises(ShareFault, match="cannot write"):
        bundle.unpack(str(tmp_path), {"files": [FACTS]}, 1)


def test_what_is_there_already_is_not_missing_and_what_another_attempt_left_is(tmp_path: Path) -> None:
    csvs.node(tmp_path, 1, job_id="7", attempt=1)
    csvs.node(tmp_path, 2, job_id="7", attempt=0)
    facts = {"job_id": "7", "attempt": 1, "node": "n1"}
    assert bundle.missing(str(tmp_path), [1, 2, 3], facts) == [2, 3]


def test_what_an_earlier_attempt_left_is_set_aside(tmp_path: Path) -> None:
    for attempt in (0, 1):
        csvs.node(tmp_path / "member", 1, job_id="7", attempt=attempt)
        csvs.write(tmp_path / f"member/node_1/multi_results_{attempt}.csv", csvs.table(attempt))
        bundle.unpack(str(tmp_path / "leader"), bundle.pack(str(tmp_path / "member/node_1"), 1, [f"multi_results_{attempt}.csv"]), 1)
    assert sorted(path.name for path in (tmp_path / "leader/node_1").iterdir()) == ["multi_results_1.csv", "node.json"]
    assert sorted(path.name for path in (tmp_path / "leader/attempt_0/node_1").iterdir()) == ["multi_results_0.csv", "node.json"]


def test_the_largest_bundle_goes_into_what_a_delivery_takes(tmp_path: Path) -> None:
    csvs.node(tmp_path, 0)
    long = "\u00e9" * 98
    for number in range(bundle._MOST_FILES + 200):
        csvs.write(tmp_path / f"node_0/{number:03}{long}.csv", "x" * (bundle.LARGEST_BYTES // 50))
    packed = bundle.pack(str(tmp_path / "node_0"), 0, [""])
    assert len(packed["left"]) == 100
    assert bundle.LARGEST_BYTES < len(json.dumps(packed)) < bundle.LONGEST_TEXT
