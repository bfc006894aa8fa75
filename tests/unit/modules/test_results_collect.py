# SPDX-License-Identifier: GPL-3.0-or-later
"""The module chooses as the epilog does, and fails where the playbook wants to hear of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import selection, verdict
from ansible_collections.rocm.madengine.plugins.modules import results_collect
from helpers import csvs


def everything(path: Path) -> Any:
    return sorted((str(file.relative_to(path)), file.read_bytes(), file.stat().st_mtime_ns) for file in path.rglob("*") if file.is_file())


def test_it_publishes_the_richest_and_a_second_run_changes_nothing(tmp_path: Path, run_module: Any) -> None:
    csvs.collection(tmp_path, [csvs.table(""), csvs.table(2)])
    code, answer = run_module(results_collect, src=str(tmp_path), name=csvs.NAME)
    assert (code, answer["changed"], answer["verdict"], answer["rows"]) == (0, True, "ok", 1)
    assert answer["dest"] == str(tmp_path / csvs.NAME)
    assert answer["line"] == "best: node_1/multi.csv rows=1 performance=2 metric=tokens_per_second node=n2"
    assert [(c["path"], c["node"], c["rows"], c["scored"]) for c in answer["candidates"]] == [
        ("node_1/multi.csv", "n2", 1, 1),
        ("node_0/multi.csv", "n1", 1, 0),
    ]
    assert (tmp_path / csvs.NAME).read_text() == csvs.table(2)
    assert json.loads((tmp_path / "selection.json").read_text())["verdict"] == "ok"
    before = everything(tmp_path)
    assert run_module(results_collect, src=str(tmp_path), name=csvs.NAME)[1]["changed"] is False
    assert everything(tmp_path) == before


def test_after_the_epilog_it_changes_nothing(tmp_path: Path, run_module: Any) -> None:
    csvs.collection(tmp_path, [csvs.table(""), csvs.table(2)])
    selection.settle(
        str(tmp_path), csvs.NAME, "richest", {"job_id": "4711", "nodes": ["n1", "n2"], "attempt": 0, "failed": False, "since": 5.5}
    )
    assert run_module(results_collect, src=str(tmp_path), name=csvs.NAME)[1]["changed"] is False


@pytest.mark.parametrize("policy", selection.POLICIES)
def test_what_the_epilog_was_asked_for_need_not_be_said_again(tmp_path: Path, run_module: Any, policy: str) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2)])
    csvs.write(tmp_path / "node_0/perf_other.csv", csvs.table(7, 8, 9))
    selection.settle(str(tmp_path), csvs.NAME, policy, {"job_id": "4711", "nodes": ["n1", "n2"], "attempt": 0})
    answer = run_module(results_collect, src=str(tmp_path))[1]
    assert (answer["changed"], answer["dest"], len(answer["candidates"])) == (False, str(tmp_path / csvs.NAME), 2)
    assert run_module(results_collect, src=str(tmp_path), name="")[1]["selected"]["published"] == "perf_other.csv"


@pytest.mark.parametrize("forged", [{"name": "../x"}, {"name": 7, "policy": []}, {"policy": "none"}, {"name": "a\nb"}])
def test_a_forged_question_is_not_asked(tmp_path: Path, run_module: Any, forged: Any) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    csvs.write(tmp_path / "selection.json", json.dumps({"version": 1, **forged}))
    answer = run_module(results_collect, src=str(tmp_path))[1]
    assert answer["verdict"] in ("ok", "missing")
    assert sorted(path.parent for path in tmp_path.rglob("*.csv") if path.parent not in (tmp_path, tmp_path / "node_0")) == []


@pytest.mark.parametrize("dest", [None, "out.csv", "folder"])
def test_check_mode_foretells_and_writes_nothing(tmp_path: Path, run_module: Any, dest: Any) -> None:
    csvs.collection(tmp_path / "job", [csvs.table(2)])
    (tmp_path / "folder").mkdir()
    params = {"src": str(tmp_path / "job"), "name": csvs.NAME, **({"dest": str(tmp_path / dest)} if dest else {})}
    before = everything(tmp_path)
    code, check_mode = run_module(results_collect, **params, _ansible_check_mode=True, _ansible_diff=True)
    assert (code, everything(tmp_path)) == (0, before)
    done = run_module(results_collect, **params, _ansible_diff=True)[1]
    assert check_mode == {key: done[key] for key in check_mode}  # Ansible adds owner and mode of what exists
    assert done["changed"] is True
    assert done["diff"] == {"before": "", "after": csvs.table(2), "before_header": done["dest"], "after_header": done["dest"]}
    assert Path(done["dest"]).read_text() == csvs.table(2)
    for check in (True, False):
        assert run_module(results_collect, **params, _ansible_check_mode=check)[1]["changed"] is False
    if dest:
        assert not (tmp_path / "job" / "selection.json").exists()


@pytest.mark.parametrize(
    ("contents", "fail_on", "code"),
    [
        ([csvs.table("")], None, 1),
        ([None], None, 1),
        ([csvs.table("")], ["missing"], 1),
        ([csvs.HEADER], ["partial"], 1),
        ([None], [], 1),
        ([csvs.table(1)], ["partial"], 1),
        ([csvs.table(1)], None, 0),
    ],
)
def test_the_verdicts_that_fail_are_the_playbooks_choice(tmp_path: Path, run_module: Any, contents: Any, fail_on: Any, code: int) -> None:
    csvs.collection(tmp_path, contents)
    before = everything(tmp_path)
    params = {} if fail_on is None else {"fail_on": fail_on}
    got, answer = run_module(results_collect, src=str(tmp_path), name=csvs.NAME, nodes=["n1", "n2"], **params)
    assert got == code
    assert answer["verdict"] in verdict.VERDICTS
    if code:
        assert answer["msg"].startswith(f"madengine: job: results: {answer['verdict']}: ")
        assert answer["candidates"] is not None
        assert everything(tmp_path) == before


def test_it_merges(tmp_path: Path, run_module: Any) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2)])
    answer = run_module(results_collect, src=str(tmp_path), name=csvs.NAME, policy="merge")[1]
    assert (tmp_path / csvs.NAME).read_text() == csvs.table(3)
    assert answer["merged"][0]["how"] == "sum"


def test_a_stale_csv_is_not_collected(tmp_path: Path, run_module: Any) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    code, answer = run_module(results_collect, src=str(tmp_path), name=csvs.NAME, newer_than="2999-01-01T00:00:00Z")
    assert (code, answer["verdict"], answer["candidates"][0]["reason"]) == (1, "missing", "older than the job")
    assert run_module(results_collect, src=str(tmp_path), name=csvs.NAME, newer_than="12.5")[0] == 0


def test_of_a_requeued_job_the_last_attempt_counts_also_without_an_epilog(tmp_path: Path, run_module: Any) -> None:
    csvs.collection(tmp_path, {0: csvs.table(1, 2, 3)}, attempt=0)
    csvs.collection(tmp_path, {1: csvs.table(1)}, attempt=1)
    assert run_module(results_collect, src=str(tmp_path), name=csvs.NAME)[1]["selected"]["node"] == "n2"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"src": "/nowhere/at/all"}, "results: no collection directory (src='/nowhere/at/all')"),
        ({"newer_than": "yesterday"}, "results: not a time (time='yesterday')"),
        ({"name": "../perf.csv"}, "results: not the name of a CSV"),
        ({"policy": "best"}, "value of policy must be one of"),
        ({"dest": "/proc/version/x.csv"}, "results: cannot write the choice"),
    ],
)
def test_every_mistake_is_one_line(tmp_path: Path, run_module: Any, params: Any, said: str) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    code, answer = run_module(results_collect, **{"src": str(tmp_path), "name": csvs.NAME, **params})
    assert code == 1
    assert said in answer["msg"]
    assert "\n" not in answer["msg"]


@pytest.mark.parametrize("facts", [None, 5, {"nodes": 5, "since": "x", "attempt": [1], "failed": {}}, {"nodes": [1]}])
def test_forged_facts_are_not_trusted(tmp_path: Path, run_module: Any, facts: Any) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    csvs.write(tmp_path / "selection.json", json.dumps({"version": 1, "facts": facts}))
    assert run_module(results_collect, src=str(tmp_path), name=csvs.NAME)[1]["verdict"] == "ok"
