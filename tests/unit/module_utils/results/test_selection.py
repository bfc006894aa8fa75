# SPDX-License-Identifier: GPL-3.0-or-later
"""The job's result is the richest CSV of its own run, whichever node brings it and in whatever order they come."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import (
    candidates,
    csv_score,
    merge,
    metric_kinds,
    publish,
    selection,
    selection_json,
    verdict,
)
from helpers import csvs
from hypothesis import given, settings
from hypothesis import strategies as st

FACTS = {"job_id": "4711", "attempt": 0, "nodes": ["n1", "n2", "n3"], "failed": False, "exit_code": "0:0"}


def settle(path: Path, name: str = csvs.NAME, policy: str = "richest", **facts: Any) -> Dict[str, Any]:
    return selection.settle(str(path), name, policy, {**FACTS, **facts})


def state(path: Path) -> Dict[str, Any]:
    return {entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in path.iterdir() if entry.is_file()}


def test_the_last_node_alone_knows_the_throughput_and_is_chosen(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(""), csvs.table(""), csvs.table(123.4)])
    chosen = settle(tmp_path)
    assert (tmp_path / csvs.NAME).read_text() == csvs.table(123.4)
    assert chosen == json.loads((tmp_path / "selection.json").read_text())
    assert chosen["verdict"] == "ok"
    assert chosen["selected"]["path"] == "node_2/multi.csv"
    assert chosen["lacking"] == []
    assert [(c["node"], c["scored"]) for c in chosen["candidates"]] == [("n3", 1), ("n1", 0), ("n2", 0)]
    assert selection_json.from_dict(chosen).line() == "best: node_2/multi.csv rows=1 performance=123.4 metric=tokens_per_second node=n3"


@pytest.mark.parametrize(
    ("contents", "path"),
    [
        ([csvs.table(1), csvs.table(1, 2)], "node_1/multi.csv"),
        ([csvs.table(1, 2, "nan"), csvs.table(1, 2)], "node_0/multi.csv"),
        ([csvs.table("nan", "nan", "nan"), csvs.table(1)], "node_1/multi.csv"),
        ([csvs.table(1), csvs.table(9)], "node_0/multi.csv"),
        ([csvs.table(""), csvs.table("", "")], "node_1/multi.csv"),
        ([None, csvs.table(1)], "node_1/multi.csv"),
        ([b"\x00\x01\x02", csvs.table("")], "node_1/multi.csv"),
        ([*[csvs.table("")] * 2, csvs.table(5), *[csvs.table("")] * 7, csvs.table(5)], "node_2/multi.csv"),
    ],
)
def test_rows_that_count_then_rows_then_the_lowest_rank_decide(tmp_path: Path, contents: List[Any], path: str) -> None:
    chosen = settle(csvs.collection(tmp_path, contents), nodes=None)
    assert chosen["selected"]["path"] == path


def test_of_equal_candidates_the_one_whose_name_counts_lower_comes_first() -> None:
    later, earlier = (candidates.Candidate(f"node_0/perf_{number}.csv", "n0", 0, 100, 0) for number in (10, 9))
    assert min([later, earlier], key=candidates.Candidate.order) is earlier


def test_rank_10_comes_after_rank_2() -> None:
    assert sorted(["perf_rank10.csv", "perf_rank2.csv", "perf.csv"], key=candidates.natural) == [
        "perf.csv",
        "perf_rank2.csv",
        "perf_rank10.csv",
    ]


def test_nodes_come_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    for rank in (10, 2, 0):
        csvs.node(tmp_path, rank)
    for stranger in ("node_01", "node_-1", "node_x", "node_", "node_1.old"):
        (tmp_path / stranger).mkdir()
    assert [node.rank for node in candidates.nodes_in(str(tmp_path))] == [0, 2, 10]


# (contents by rank, facts, policy, verdict, part of the reason)
VERDICTS: Dict[str, Any] = {
    "all is well": ([csvs.table(1)] * 3, {}, "richest", "ok", "node_0/multi.csv: 1 of 1 rows count, the most of 3 candidates"),
    "an empty CSV on one node is no failure": ([csvs.HEADER, csvs.table(1), csvs.table(2)], {}, "richest", "partial", "1 nodes lack data"),
    "a node was lost": ([csvs.table(1), csvs.table(2)], {}, "richest", "partial", "1 nodes lack data"),
    "nodes without rows that count are no lack": ([csvs.table(""), csvs.table(1), csvs.table("")], {}, "richest", "ok", "node_1"),
    "but a share that does not count is": ([csvs.table(""), csvs.table(1), csvs.table(2)], {}, "merge", "partial", "1 rows merged"),
    "nobody has a number": ([csvs.table("")] * 3, {}, "richest", "empty", "0 of 1 rows count"),
    "nobody has a row": ([csvs.HEADER, "", b"\x00"], {}, "richest", "empty", "none of 3 candidates has a row"),
    "nobody has a file": ([None, None, None], {}, "richest", "missing", "no node left a CSV"),
    "the job failed": ([csvs.table(1)] * 3, {"failed": True}, "richest", "job_failed", "node_0"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_verdict_is_given_once_for_the_job(tmp_path: Path, case: str) -> None:
    contents, facts, policy, expected, reason = VERDICTS[case]
    chosen = settle(csvs.collection(tmp_path, contents), policy=policy, **facts)
    assert chosen["verdict"] == expected in verdict.VERDICTS
    assert reason in chosen["reason"]
    assert (tmp_path / csvs.NAME).exists() == (chosen["selected"] is not None)


def test_one_node_that_heard_of_the_failure_is_enough(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)] * 3)
    csvs.node(tmp_path, 1, failed=True)
    assert settle(tmp_path)["verdict"] == "job_failed"


def test_who_lacks_data_is_named_with_the_reason(tmp_path: Path) -> None:
    csvs.collection(tmp_path, {0: csvs.table(1), 1: None})
    assert settle(tmp_path)["lacking"] == [
        {"node": "n2", "rank": 1, "reason": "no CSV"},
        {"node": "n3", "rank": 2, "reason": "nothing came from this node"},
    ]


def test_without_a_result_the_line_says_why(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [None])
    assert selection_json.from_dict(settle(tmp_path)).line() == "best: none, missing: no node left a CSV"
    assert selection_json.from_dict({}).line() == "best: none, missing: no selection.json"


def test_images_are_compared_between_nodes(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)] * 2, image_id="sha256:aa")
    assert settle(tmp_path)["images"]["n1"] == {"image": "llama:1", "image_id": "sha256:aa"}
    assert settle(tmp_path)["images_agree"] is True
    csvs.node(tmp_path, 1, image_id="sha256:bb")
    assert settle(tmp_path)["images_agree"] is False


def test_merge_publishes_one_table_and_says_how(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2), csvs.table(4)])
    chosen = settle(tmp_path, policy="merge")
    assert (tmp_path / csvs.NAME).read_text() == csvs.table(7)
    assert chosen["merged"] == [
        {
            "model": "llama",
            "metric": "tokens_per_second",
            "identity": {},
            "how": "sum",
            "kind": "throughput",
            "nodes": 3,
            "lacking": [],
            "performance": "7",
            "value": 7.0,
        }
    ]
    assert selection_json.from_dict(chosen).line() == "best: multi.csv rows=1 performance=7 metric=tokens_per_second node=all"


def test_merge_takes_one_csv_of_each_node(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2)])
    csvs.write(tmp_path / "node_0" / "multi_rank5.csv", csvs.table(10))
    assert settle(tmp_path, policy="merge")["best"]["value"] == 3.0


def test_the_shown_row_is_a_throughput_if_there_is_one(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.HEADER + "m,8,latency\nm,100,tokens_per_second\n"])
    assert settle(tmp_path)["best"]["metric"] == "tokens_per_second"


def test_without_a_name_every_csv_is_a_candidate_and_keeps_its_name(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table("")], name="a.csv")
    csvs.write(tmp_path / "node_0" / "b.csv", csvs.table(2))
    assert settle(tmp_path, name="")["selected"]["published"] == "b.csv"
    assert (tmp_path / "b.csv").read_text() == csvs.table(2)
    csvs.write(tmp_path / "node_0" / "c.csv", csvs.table(2, 3))
    assert settle(tmp_path, name="")["selected"]["published"] == "c.csv"
    assert not (tmp_path / "b.csv").exists()


def test_a_stale_csv_is_never_the_result(tmp_path: Path) -> None:
    now = csvs.write(tmp_path / "clock", "").stat().st_mtime
    csvs.collection(tmp_path, [csvs.table("")])
    csvs.write(tmp_path / "node_1" / csvs.NAME, csvs.table(99, 98), age_seconds=3600)
    chosen = settle(tmp_path, since=now - 60)
    assert chosen["verdict"] == "empty"
    assert [(c["path"], c["reason"]) for c in chosen["candidates"]][1] == ("node_1/multi.csv", "older than the job")
    assert settle(tmp_path, newer_than=now - 7200)["best"]["value"] == 99.0


def test_what_a_node_found_fresh_by_its_own_clock_is_fresh(tmp_path: Path) -> None:
    csvs.node(tmp_path, 0, files=[{"name": csvs.NAME}])
    path = csvs.write(tmp_path / "node_0" / csvs.NAME, csvs.table(1), age_seconds=3600)
    now = path.stat().st_mtime + 3600
    assert settle(tmp_path, since=now)["best"]["value"] == 1.0
    assert settle(tmp_path, newer_than=now)["verdict"] == "missing"


@pytest.mark.parametrize("strange", [{"attempt": 1}, {"job_id": "4712"}])
def test_what_another_job_or_attempt_left_does_not_count(tmp_path: Path, strange: Dict[str, Any]) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2, 3, 4)])
    csvs.node(tmp_path, 1, **strange)
    chosen = settle(tmp_path)
    assert chosen["selected"]["node"] == "n1"
    assert "not of" in chosen["candidates"][1]["reason"]


def test_a_rank_that_the_job_does_not_have_does_not_count(tmp_path: Path) -> None:
    csvs.collection(tmp_path, {0: csvs.table(1), 7: csvs.table(1, 2)})
    assert settle(tmp_path)["selected"]["node"] == "n1"


def test_a_result_that_counts_no_more_is_taken_away(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    settle(tmp_path)
    csvs.node(tmp_path, 0, attempt=1)
    csvs.write(tmp_path / "node_0" / csvs.NAME, csvs.HEADER)
    assert settle(tmp_path, attempt=1)["verdict"] == "empty"
    assert not (tmp_path / csvs.NAME).exists()


def test_again_changes_nothing(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2), None])
    first = settle(tmp_path)
    before = state(tmp_path)
    assert settle(tmp_path) == first
    assert state(tmp_path) == before


def test_nodes_whose_clocks_differ_agree_that_the_work_is_done(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    settle(tmp_path, since=1000.0)
    before = state(tmp_path)
    settle(tmp_path, since=1003.5)
    assert state(tmp_path) == before


def test_a_result_that_somebody_removed_or_changed_comes_back(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    settle(tmp_path)
    (tmp_path / csvs.NAME).unlink()
    settle(tmp_path)
    assert (tmp_path / csvs.NAME).read_text() == csvs.table(1)


def test_files_that_have_not_changed_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csvs.collection(tmp_path, [csvs.table(1, 2), csvs.table(""), csvs.table(4)])
    settle(tmp_path)
    read: List[str] = []
    real = candidates.score_of

    def score_of(path: str) -> csv_score.Score:
        read.append(os.path.basename(os.path.dirname(path)))
        return real(path)

    monkeypatch.setattr(candidates, "score_of", score_of)
    csvs.write(tmp_path / "node_1" / csvs.NAME, csvs.table(1, 2, 3))
    assert settle(tmp_path)["selected"]["path"] == "node_1/multi.csv"
    assert read == ["node_1"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["", "nan", "1", "2", "1,2", "1,nan"]), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_arrival_never_changes_the_choice(tmp_path_factory: pytest.TempPathFactory, shares: List[str], order: Any) -> None:
    contents = [csvs.table(*share.split(",")) for share in shares]
    at_once = csvs.collection(tmp_path_factory.mktemp("at_once"), contents)
    one_by_one = tmp_path_factory.mktemp("one_by_one")
    for rank in order.sample(range(len(contents)), len(contents)):
        csvs.collection(one_by_one, {rank: contents[rank]})
        last = settle(one_by_one)
    for part in ("verdict", "selected", "best", "lacking"):
        assert last[part] == settle(at_once)[part]
    assert (at_once / csvs.NAME).read_bytes() == (one_by_one / csvs.NAME).read_bytes()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(0, 7),
)
def test_a_poorer_candidate_never_changes_the_choice(present: List[Any], another: Any, rank: int) -> None:
    def made(number: int, counts: Any) -> candidates.Candidate:
        rows, counted = counts[0] + counts[1], counts[0]
        return candidates.Candidate(f"node_{number}/x", "n", number, 0, 0, score=csv_score.Score(rows, counted, ""))

    crowd = [made(number, counts) for number, counts in enumerate(present)]
    newcomer = made(rank, another)
    best = selection.choose(crowd)
    with_newcomer = selection.choose(random.sample([*crowd, newcomer], len(crowd) + 1))
    expected: Optional[candidates.Candidate] = newcomer if newcomer.score.rows else None
    if best is not None and (not newcomer.score.rows or best.order() <= newcomer.order()):
        expected = best
    assert with_newcomer == expected


def _epilog(path: str, rank: int, content: str) -> None:
    csvs.collection(Path(path), {rank: content})
    selection.settle(path, csvs.NAME, "richest", {**FACTS, "nodes": None})


def test_twenty_epilogs_at_once_leave_the_right_answer(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    crowd = [context.Process(target=_epilog, args=(str(tmp_path), rank, csvs.table(*range(rank % 13)))) for rank in range(20)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert [process.exitcode for process in crowd] == [0] * 20
    chosen = selection_json.read(str(tmp_path)).to_dict()
    assert chosen["selected"]["path"] == "node_12/multi.csv"
    assert len(chosen["candidates"]) == 20
    assert (tmp_path / csvs.NAME).read_text() == csvs.table(*range(12))
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == [csvs.NAME, "selection.json"]


def _epilog_that_dies(path: str, at: str) -> None:
    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    owner = {"_withdraw": publish, "put": publish, "write": selection_json}.get(at, selection)
    setattr(owner, at, die)
    selection.settle(path, csvs.NAME, "richest", FACTS)


@pytest.mark.parametrize("at", ["nodes_in", "scored", "publish", "_withdraw", "write", "put"])
def test_an_epilog_killed_at_any_step_is_made_good_by_the_next(tmp_path: Path, at: str) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2, 3)])
    process = multiprocessing.get_context("fork").Process(target=_epilog_that_dies, args=(str(tmp_path), at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    chosen = selection.settle(str(tmp_path), csvs.NAME, "richest", FACTS, 0.3)
    assert chosen["selected"]["path"] == "node_1/multi.csv"
    assert (tmp_path / csvs.NAME).read_text() == csvs.table(2, 3)


def test_a_slow_holder_that_publishes_what_it_saw_before_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    real, late = selection.publish, [csvs.table(2, 3)]

    def slow(choice: publish.Choice, folder: str) -> bool:
        if late:  # between ranking and publishing another node comes
            csvs.collection(tmp_path, {1: late.pop()})
        return real(choice, folder)

    monkeypatch.setattr(selection, "publish", slow)
    assert settle(tmp_path)["selected"]["path"] == "node_1/multi.csv"


@pytest.mark.parametrize("look", range(4))
def test_a_node_that_comes_after_any_look_at_the_directory_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    real, looks = selection.found, iter(range(100))

    def found(*args: Any) -> Any:
        present = real(*args)
        if next(looks) == look:
            csvs.collection(tmp_path, {1: csvs.table(2, 3)})
        return present

    monkeypatch.setattr(selection, "found", found)
    settle(tmp_path)  # as the first node's epilog
    monkeypatch.undo()
    assert settle(tmp_path)["selected"]["path"] == "node_1/multi.csv"  # as the second's


def test_links_and_devices_are_no_candidates(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    precious = csvs.write(tmp_path / "elsewhere" / csvs.NAME, csvs.table(1, 2, 3))
    (tmp_path / "node_1").mkdir()
    (tmp_path / "node_1" / csvs.NAME).symlink_to(precious)
    (tmp_path / "node_2").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "node_0" / "multi_rank1.csv")
    chosen = settle(tmp_path)
    assert [c["path"] for c in chosen["candidates"]] == ["node_0/multi.csv"]


@pytest.mark.parametrize("junk", [b"", b"[1]", b"{", b"\xff\x00", b'{"files": 3, "node": {"a": [1]}, "attempt": [0]}', b"[" * 100_000])
def test_a_node_document_of_any_content_does_no_harm(tmp_path: Path, junk: bytes) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    csvs.write(tmp_path / "node_0" / "node.json", junk)
    chosen = settle(tmp_path)
    assert chosen["verdict"] in ("partial", "missing")
    assert all(name.isprintable() for name in chosen["images"])


@pytest.mark.parametrize(
    "junk",
    [b"", b"[]", b'{"version": 1, "candidates": 5, "selected": 7}', b'{"version": 1, "candidates": [{"path": "node_0/multi.csv"}, 3]}'],
)
def test_an_earlier_selection_of_any_content_does_no_harm(tmp_path: Path, junk: bytes) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    csvs.write(tmp_path / "selection.json", junk)
    assert settle(tmp_path)["best"]["value"] == 1.0


def test_a_forged_selection_cannot_have_other_files_removed(tmp_path: Path) -> None:
    csvs.collection(tmp_path / "job", [csvs.HEADER])
    precious = csvs.write(tmp_path / "precious", "kept")
    forged = {"version": 1, "job_id": "4711", "selected": {"published": "../precious"}}
    csvs.write(tmp_path / "job" / "selection.json", json.dumps(forged))
    settle(tmp_path / "job")
    assert precious.read_text() == "kept"


def test_a_csv_that_cannot_be_read_is_worth_nothing_and_says_so(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in candidates.score_of(str(tmp_path / "missing")).reason


@pytest.mark.parametrize(
    "name", ["../x.csv", "a/b.csv", ".", "..", ".hidden", "selection.json", "a\nb.csv", "a\0b", "authorized_keys", "perf.csv.sh"]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobFault, match="not the name of a CSV"):
        settle(tmp_path, name=name)


def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFault, match="use richest or merge"):
        settle(tmp_path, policy="best")


def test_more_candidates_than_any_job_means_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_MOST_CANDIDATES", 2)
    with pytest.raises(JobFault, match="too many candidates"):
        settle(csvs.collection(tmp_path, [csvs.table(1)] * 3))


def test_a_directory_that_cannot_be_written_is_a_fault_of_the_share(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    (tmp_path / csvs.NAME).mkdir()
    with pytest.raises(ShareFault, match="cannot write the choice"):
        settle(tmp_path)
    assert (tmp_path / "node_0" / csvs.NAME).read_text() == csvs.table(1)


def test_a_candidate_that_vanishes_is_not_published_half(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    choice = selection.select(str(tmp_path), csvs.NAME, "richest", FACTS)
    shutil.rmtree(tmp_path / "node_0")
    with pytest.raises(JobFault):
        selection.publish(choice, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_kinds_of_metric_have_each_a_rule() -> None:
    names = "tok/s", "latency", "vram", "loss", "num_prompts", "mfu"
    assert {metric_kinds.kind(name) for name in names} == set(merge._RULES)


FAILED = "model,performance,metric,status\n" + "".join(f"{model},0.00,total_token_throughput_tok_s,FAILURE\n" for model in "abc")
MEASURED = "model,performance,metric,status\na,1234.5,total_token_throughput_tok_s,SUCCESS\nb,20,median_tpot_ms,SUCCESS\n"


def test_rows_that_say_that_they_failed_do_not_count_and_the_reason_says_so(tmp_path: Path) -> None:
    chosen = settle(csvs.collection(tmp_path, [FAILED, MEASURED], name="perf.csv"), name="perf.csv")
    assert chosen["selected"]["node"] == "n2"
    assert [item["reason"] for item in chosen["candidates"]] == [
        "2 of 2 rows hold a finite performance",
        "0 of 3 rows hold a finite performance (3 failed)",
    ]
    assert (chosen["best"]["performance"], chosen["best"]["metric"]) == ("1234.5", "total_token_throughput_tok_s")


@pytest.mark.parametrize(
    "zeros", [csvs.table(0, "0.0", 0), csvs.HEADER + "m,0,tok/s\nm,12,latency_ms\nm,7,num_prompts\n", csvs.table(-1, "-1.0", 0)]
)
def test_the_zeros_of_a_failed_benchmark_do_not_beat_a_number(tmp_path: Path, zeros: str) -> None:
    chosen = settle(csvs.collection(tmp_path, [zeros, csvs.table(5)]))
    assert (chosen["selected"]["node"], chosen["best"]["value"]) == ("n2", 5.0)
    assert "no throughput is above 0" in chosen["candidates"][1]["reason"]
    assert settle(tmp_path, exit_code="1:0")["selected"]["node"] == "n2"  # also where the scores are known from before


def test_a_row_that_failed_among_good_ones_does_not_count_and_takes_the_others_not_with_it(tmp_path: Path) -> None:
    chosen = settle(csvs.collection(tmp_path, [FAILED, MEASURED + "c,0.00,p99_ttft_ms,FAILURE\n"], name="perf.csv"), name="perf.csv")
    assert (chosen["selected"]["node"], chosen["selected"]["scored"], chosen["best"]["performance"]) == ("n2", 2, "1234.5")


@pytest.mark.parametrize("zeros", [csvs.table(0, 0, 300), csvs.HEADER + "m,0,ttft_ms\nm,0,tpot_ms\nm,0,x\n"])
def test_zeros_among_the_numbers_and_other_zeros_than_throughputs_do_not_beat_a_number_either(tmp_path: Path, zeros: str) -> None:
    csvs.collection(tmp_path, [zeros, csvs.table(100, 200)])
    for _time in range(2):  # again, with the scores known from before
        assert settle(tmp_path)["selected"]["node"] == "n2"
        csvs.node(tmp_path, 2)


@pytest.mark.parametrize("ledger", ["perf.csv", "perf_super.csv", "perf_entry.csv", "perf_entry_super.csv", "workdir__perf.csv"])
@pytest.mark.parametrize("name", ["named", ""])
def test_madengine_s_ledgers_are_history_and_never_the_result(tmp_path: Path, ledger: str, name: str) -> None:
    old = "".join(f"m{number},{9000 - number},tok/s,SUCCESS\n" for number in range(5))
    csvs.collection(tmp_path, ["model,performance,metric,status\n" + old + "new,,tok/s,FAILURE\n"], name=ledger)
    chosen = settle(tmp_path, name=ledger.replace("workdir__", "") if name else "")
    assert (chosen["verdict"], chosen["best"]) == ("missing", None)
    assert "ledger" in chosen["candidates"][0]["reason"]
    csvs.write(tmp_path / "node_0/mine.csv", csvs.table(7))
    assert settle(tmp_path, name="")["best"]["value"] == 7.0


def test_what_a_node_says_is_no_result_is_none(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(555), csvs.table(100)])
    csvs.node(tmp_path, 0, files=[{"name": csvs.NAME, "is_result": False, "why": "not where madengine takes a result from"}])
    chosen = settle(tmp_path)
    assert chosen["best"]["value"] == 100.0
    assert chosen["candidates"][1]["reason"] == "not where madengine takes a result from"


def test_without_a_rate_the_line_says_that_there_is_none(tmp_path: Path) -> None:
    rows = "m,3,failed_requests\nm,99999,total_input_tokens\nm,12,mean_ttft_ms\nm,70,peak_memory_gb\n"
    chosen = settle(csvs.collection(tmp_path, [csvs.HEADER + rows]))
    assert (chosen["verdict"], chosen["best"]) == ("partial", None)
    assert selection_json.from_dict(chosen).line() == "best: none is a rate or a throughput, see node_0/multi.csv rows=4 node=n1"


@pytest.mark.parametrize("policy", selection.POLICIES)
def test_the_headline_of_a_merged_table_is_a_rate_too(tmp_path: Path, policy: str) -> None:
    rows = csvs.HEADER + "m,3,failed_requests\nm,5,tok/s/gpu\nm,40,tok/s\n"
    chosen = settle(csvs.collection(tmp_path, [rows, rows]), policy=policy)
    assert (chosen["best"]["metric"], chosen["best"]["value"]) == ("tok/s", 80.0 if policy == "merge" else 40.0)


def test_each_model_of_a_manifest_has_its_own_csv_and_the_first_names_the_best(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1, model="a"), csvs.table(2, 3, model="a")], name="a.csv")
    csvs.write(tmp_path / "node_0/b.csv", csvs.table(70, model="b"))
    facts = {**FACTS, "nodes": ["n1", "n2"]}
    chosen = selection.settle(str(tmp_path), "a.csv", "richest", facts, further=["b.csv", "a.csv", ""])
    assert [(each["name"], each["best"]["value"]) for each in chosen["further"]] == [("b.csv", 70.0)]
    assert (chosen["best"]["model"], chosen["best"]["value"]) == ("a", 2.0)
    assert ((tmp_path / "a.csv").read_text(), (tmp_path / "b.csv").read_text()) == (csvs.table(2, 3, model="a"), csvs.table(70, model="b"))
    assert selection.further(str(tmp_path)) == ["b.csv"]
    before = state(tmp_path)
    assert selection.settle(str(tmp_path), "a.csv", "richest", facts, further=["b.csv"]) == chosen
    assert state(tmp_path) == before
    csvs.write(tmp_path / "node_1/b.csv", csvs.table(71, 72, model="b"))  # it alone is news
    assert selection.settle(str(tmp_path), "a.csv", "richest", facts, further=["b.csv"])["further"][0]["best"]["value"] == 71.0


def test_each_further_model_s_csv_is_where_madengine_s_own_collector_looks_for_it(tmp_path: Path) -> None:
    home, beside = tmp_path / "llama/4711", {"b.csv": str(tmp_path / "qwen/4711"), "c.csv": str(tmp_path / "phi/4711")}
    csvs.collection(home, [csvs.table(1)], name="a.csv")
    csvs.write(home / "node_0/b.csv", csvs.table(70, model="b"))
    for value in (70, 71):
        csvs.write(home / "node_0/b.csv", csvs.table(value, model="b", metric="tok/s" * (value - 69)))
        chosen = selection.settle(str(home), "a.csv", "richest", {**FACTS, "nodes": ["n1"]}, 60.0, ["b.csv", "c.csv"], beside)
        assert (tmp_path / "qwen/4711/b.csv").read_text() == (home / "b.csv").read_text() == (home / "node_0/b.csv").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "qwen"]
    assert (chosen["best"]["value"], chosen["further"][0]["best"]["value"]) == (1.0, 71.0)


def test_a_node_outside_the_run_lacks_nothing(tmp_path: Path) -> None:
    chosen = settle(csvs.collection(tmp_path, {1: csvs.table(2)}), outside=[0])
    assert (chosen["verdict"], [each["rank"] for each in chosen["lacking"]]) == ("partial", [2])
    chosen = settle(tmp_path, outside=[0, 2])
    assert (chosen["verdict"], chosen["lacking"], chosen["facts"]["outside"]) == ("ok", [], [0, 2])


def test_a_row_that_no_node_has_a_number_for_is_said_to_be_left_out(tmp_path: Path) -> None:
    table = "model,performance,metric,con\nm,1,tok/s,1\nm,,tok/s,8\n"
    chosen = settle(csvs.collection(tmp_path, [table, table.replace(",,", ",nan,")]), policy="merge", nodes=["n1", "n2"])
    assert chosen["left_out"] == [{"model": "m", "metric": "tok/s", "identity": {"con": "8"}, "reason": "blank"}]
    assert "1 rows have no number on any node" in chosen["reason"]
    assert [each["reason"] for each in chosen["candidates"]] == [
        "1 of 2 rows holds a finite performance (1 blank)",
        "1 of 2 rows holds a finite performance (1 without a number)",
    ]


def test_a_model_without_a_number_makes_the_job_s_result_partial(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)], name="a.csv")
    chosen = selection.settle(str(tmp_path), "a.csv", "richest", {**FACTS, "nodes": ["n1"]}, further=["b.csv"])
    assert (chosen["verdict"], chosen["further"][0]["verdict"]) == ("partial", "missing")
    assert "b.csv: missing" in chosen["reason"]
    assert selection_json.from_dict(chosen).has_number()
