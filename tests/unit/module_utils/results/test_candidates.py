# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be a job's result is told from what its user has put beside it, whatever that is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import candidates, collect, selection
from helpers import csvs

FACTS = {"job_id": "4711", "attempt": 0, "nodes": ["n1", "n2"]}


def found(base: Path, name: str = csvs.NAME, **facts: Any) -> List[candidates.Candidate]:
    return candidates.found(str(base), name, {**FACTS, **facts}, candidates.nodes_in(str(base)))


@pytest.mark.parametrize(
    ("file", "named", "unnamed"),
    [("multi.csv", True, True), ("multi_rank3.csv", True, True), ("workdir__multi.csv", True, True), ("2__multi.csv", True, True),
     ("multi_old.csv", False, True), ("MULTI.csv", False, True), ("multi.csv.bak", False, False), ("multi.csv~", False, False),
     (".multi.csv", False, False), ("multi_rankx.csv", False, True), ("xmulti.csv", False, True)],
)  # fmt: skip
def test_a_file_is_a_candidate_by_its_name(tmp_path: Path, file: str, named: bool, unnamed: bool) -> None:
    csvs.node(tmp_path, 0, job_id="4711", attempt=0)
    csvs.write(tmp_path / "node_0" / file, csvs.table(1))
    assert [bool(found(tmp_path)), bool(found(tmp_path, ""))] == [named, unnamed]


@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe", "directory"])
def test_what_is_no_regular_file_is_no_candidate(tmp_path: Path, kind: str) -> None:
    path, secret = csvs.node(tmp_path, 0) / csvs.NAME, csvs.write(tmp_path / "elsewhere" / csvs.NAME, csvs.table(9))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(secret if kind == "link" else secret.parent)
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("node", "facts", "refusal"),
    [
        ({"job_id": "19", "attempt": 0}, {}, "of job 19, not of job 4711"),
        ({"job_id": 4711, "attempt": 1}, {}, "of attempt 1, not of attempt 0"),
        ({"job_id": "4711", "attempt": 0}, {"nodes": []}, ""),
        ({"job_id": "4711", "attempt": 0}, {"nodes": ["n1"]}, ""),
        ({}, {}, ""),
    ],
)
def test_what_another_job_or_attempt_has_left_is_refused_and_says_so(tmp_path: Path, node: Any, facts: Any, refusal: str) -> None:
    csvs.write(csvs.node(tmp_path, 0, **node) / csvs.NAME, csvs.table(1))
    (candidate,) = found(tmp_path, **facts)
    assert candidate.refusal == refusal
    (scored,) = candidates.scored(str(tmp_path), [candidate])
    assert (scored.score.scored, scored.score.reason) == ((0, refusal) if refusal else (1, "1 of 1 rows holds a finite performance"))


def test_a_rank_that_the_job_does_not_have_is_refused(tmp_path: Path) -> None:
    csvs.write(csvs.node(tmp_path, 2, job_id="4711") / csvs.NAME, csvs.table(1))
    assert [each.refusal for each in found(tmp_path)] == ["the job has no such node"]


def test_what_is_known_of_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csvs.write(csvs.node(tmp_path, 0) / csvs.NAME, csvs.table(1, ""))
    first = candidates.scored(str(tmp_path), found(tmp_path))
    monkeypatch.setattr(candidates, "score_of", lambda path: pytest.fail(f"{path} was read again"))
    again = candidates.scored(str(tmp_path), found(tmp_path), [each.to_dict() for each in first])
    assert [each.to_dict() for each in again] == [each.to_dict() for each in first]


@pytest.mark.parametrize("junk", [{"rows": True}, {"scored": "1"}, {"is_usable": 1}, {"size_bytes": 0}, "no object"])
def test_what_is_known_in_another_form_than_ours_is_not_believed(tmp_path: Path, junk: Any) -> None:
    csvs.write(csvs.node(tmp_path, 0) / csvs.NAME, csvs.table(1))
    (candidate,) = candidates.scored(str(tmp_path), found(tmp_path))
    forged = {**candidate.to_dict(), "rows": 999, "scored": 999, **junk} if isinstance(junk, dict) else junk
    assert candidates.scored(str(tmp_path), found(tmp_path), [forged])[0].score.scored == 1


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("1970-01-01T00:01:00Z", 60.0), ("1970-01-01T01:00:00+01:00", 0.0)])
def test_a_time_is_seconds_or_a_date(text: str, seconds: float) -> None:
    assert candidates.moment(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "nan", "12:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(JobFault, match="not a time"):
        candidates.moment(text)


JOB: Dict[str, Any] = {"job_id": 4711, "attempt": 0, "nodes": ["n1", "n2"], "exit_code": "0:0", "failed": False}


def a_node(collection: Path, rank: int, text: str = "") -> Path:
    folder = collection / f"node_{rank}"
    folder.mkdir()
    (folder / "perf.csv").write_text(csvs.table(100))
    (folder / "node.json").write_text(text or json.dumps({"node": f"n{rank + 1}", "job_id": 4711, "attempt": 0, "rank": rank}))
    return folder


def test_directories_of_nodes_that_the_job_does_not_have_are_not_read_and_the_number_of_them_is_said(tmp_path: Path) -> None:
    for rank in (0, 1):
        a_node(tmp_path, rank)
    large = tmp_path / "large.json"
    large.write_text(json.dumps({"node": "x" * candidates.LARGEST_FACTS}))
    for rank in range(2, 500):
        (tmp_path / f"node_{rank}").mkdir()
        os.link(large, tmp_path / f"node_{rank}" / "node.json")
    nodes = candidates.nodes_in(str(tmp_path), 2)
    assert [each.rank for each in nodes] == [*range(2 + 100)]
    assert {str(each.facts) for each in nodes[2:]} == {"{}"}
    assert {each.refusal for each in nodes[2:-1]} == {"the job has no such node"}
    assert nodes[-1].refusal == "the job has no such node, nor 398 more that were left out"
    assert [each.refusal for each in candidates.nodes_in(str(tmp_path))[2:]] == ["its node.json has more than 1048576 bytes"] * 498


def test_a_node_whose_facts_are_too_large_does_not_count_and_the_reason_is_in_the_selection(tmp_path: Path) -> None:
    a_node(tmp_path, 0)
    folder = a_node(tmp_path, 1, json.dumps({"node": "n2", "padding": "x" * candidates.LARGEST_FACTS}))
    document = selection.settle(str(tmp_path), "perf.csv", "richest", JOB)
    assert [(each["path"], each["is_usable"], each["reason"]) for each in document["candidates"]][1:] == [
        ("node_1/perf.csv", False, "its node.json has more than 1048576 bytes")
    ]
    os.truncate(folder / "node.json", 0)
    os.truncate(folder / "node.json", 1 << 40)  # sparse: a terabyte that takes no room
    assert candidates.nodes_in(str(tmp_path), 2)[1].refusal == "its node.json has more than 1048576 bytes"


def test_what_a_node_has_gathered_is_never_more_than_is_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "perf.csv").write_text(csvs.table(100))
    for number in range(1999):
        (run / (f"{number}".zfill(190) + "_env.csv")).touch()
    facts = {"rank": 0, "node": "n1", "job_id": 4711, "attempt": 0, "csv": "perf.csv", "padding": "y" * 300_000}
    done = collect.gather([str(run)], str(tmp_path / "home"), facts, 1.0)
    path = tmp_path / "home" / "node_0" / "node.json"
    assert path.stat().st_size <= candidates.LARGEST_FACTS
    assert json.loads(path.read_text()) == {key: value for key, value in done.items() if key != "folder"}
    assert [item["name"] for item in done["files"]] == ["perf.csv"]
    assert done["files_left_out"] == 1999
    assert len(list((tmp_path / "home" / "node_0").iterdir())) == 2001
    many = {"skipped": [], "files": [{"name": "x" * 1000, "is_result": True}] * 2000}
    assert len(candidates.text_of(candidates.shortened(many))) <= candidates.LARGEST_FACTS


def test_hard_links_are_one_file_and_a_sparse_one_is_as_large_as_it_reads(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "perf_0.csv").write_text(csvs.table(100))
    for number in range(1, 300):
        os.link(run / "perf_0.csv", run / f"perf_{number}.csv")
    (run / "perf_sparse.csv").touch()
    os.truncate(run / "perf_sparse.csv", 1 << 42)
    done = collect.gather([str(run)], str(tmp_path / "home"), {"rank": 0, "csv": ""}, 1.0)
    assert [item["name"] for item in done["files"]] == ["perf_0.csv"]
    assert [item["reason"] for item in done["skipped"]] == ["larger than 268435456 bytes"]


def test_a_sparse_csv_of_terabytes_is_not_read(tmp_path: Path) -> None:
    a_node(tmp_path, 0)
    os.truncate(a_node(tmp_path, 1) / "perf.csv", 1 << 42)
    document = selection.settle(str(tmp_path), "perf.csv", "richest", JOB)
    assert [(each["path"], each["reason"]) for each in document["candidates"]][1:] == [("node_1/perf.csv", "larger than 268435456 bytes")]
