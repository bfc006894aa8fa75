# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job left is brought home: this run's, within limits, and nothing that a link or a name could lead to."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import collect
from helpers import csvs

FACTS = {"rank": 2, "node": "n3", "job_id": "4711", "attempt": 0, "csv": csvs.NAME, "image_id": "sha256:aa"}
LONG_AGO = 1.0


def gather(tmp_path: Path, *sources: Any, since: float = LONG_AGO, limits: Any = None, **facts: Any) -> Dict[str, Any]:
    chosen = [str(tmp_path / source) if isinstance(source, str) else source for source in sources or ("run",)]
    return collect.gather(chosen, str(tmp_path / "home"), {**FACTS, **facts}, since, limits)


def home(tmp_path: Path) -> Dict[str, bytes]:
    base = tmp_path / "home" / "node_2"
    found = {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}
    found.pop("node.json")
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (csvs.NAME, True),
        ("multi_rank3.csv", True),
        ("multi_results_a.csv", True),
        ("perf.csv", True),
        ("perf_x.csv", True),
        ("perf-x.csv", True),
        ("benchmark_8_CONCURRENCY.log", True),
        ("llama.live.log", True),
        ("node_env.csv", True),
        ("gpu_info_power.csv", True),
        ("library_trace.csv", True),
        ("results.json", True),
        ("model.safetensors", False),
        ("train.log", False),
        ("rank0_profiler_output.csv", True),
        ("kernels_output.csv", True),
        ("hip_trace.csv", True),
        ("other.csv", False),
        ("xperf.csv", False),
    ],
)
def test_what_is_worth_keeping_is_kept(tmp_path: Path, name: str, wanted: bool) -> None:
    csvs.write(tmp_path / "run" / "deep" / "down" / name, "x")
    gather(tmp_path)
    assert home(tmp_path) == ({name: b"x"} if wanted else {})
    assert collect.is_wanted(name, csvs.NAME) is wanted


def test_the_nodes_document_says_what_was_taken_and_what_was_not_and_why(tmp_path: Path) -> None:
    fresh = csvs.write(tmp_path / "run" / csvs.NAME, csvs.table(1))
    os.utime(fresh, (1e9, 1.5e9))
    answer = gather(tmp_path, since=1.4e9)
    assert json.loads(json.dumps(answer)) == {
        **json.loads((tmp_path / "home/node_2/node.json").read_text()),
        "folder": str(tmp_path / "home/node_2"),
    }
    assert answer["node"] == "n3"
    assert answer["image_id"] == "sha256:aa"
    assert answer["files"][0] == {
        "name": csvs.NAME,
        "path": str(fresh),
        "size_bytes": len(csvs.table(1)),
        "mtime": 1.5e9,
        "is_result": True,
    }
    assert (tmp_path / "home/node_2" / csvs.NAME).stat().st_mtime == 1.5e9


def test_what_is_older_than_the_job_stays_behind(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run" / csvs.NAME, csvs.table(1), age_seconds=100)
    csvs.write(tmp_path / "run" / "perf.csv", "new")
    answer = gather(tmp_path, since=time.time() - 50)
    assert home(tmp_path) == {"perf.csv": b"new"}
    assert answer["skipped"] == [{"path": str(tmp_path / "run" / csvs.NAME), "reason": "older than the job"}]


def test_a_directory_of_results_comes_whole_and_in_order(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run/results_1/a/data.bin", "1")
    csvs.write(tmp_path / "run/results_1/b/data.bin", "2")
    gather(tmp_path)
    assert home(tmp_path) == {"results_1/a/data.bin": b"1", "results_1/b/data.bin": b"2"}


def test_a_source_made_for_results_comes_whole(tmp_path: Path) -> None:
    csvs.write(tmp_path / "given/any.thing", "1")
    csvs.write(tmp_path / "given/sub/any.thing", "2")
    gather(tmp_path, {"path": str(tmp_path / "given"), "all": True})
    assert home(tmp_path) == {"any.thing": b"1", "sub/any.thing": b"2"}


def test_files_of_one_name_are_kept_apart_and_the_first_source_keeps_the_name(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run_directory" / csvs.NAME, "1")
    csvs.write(tmp_path / "run_directory/workdir" / csvs.NAME, "2")
    csvs.write(tmp_path / "other/workdir" / csvs.NAME, "3")
    gather(tmp_path, "run_directory", "other", "missing")
    assert home(tmp_path) == {csvs.NAME: b"1", "workdir__multi.csv": b"2", "2__multi.csv": b"3"}


def test_links_devices_and_fifos_are_not_followed(tmp_path: Path) -> None:
    csvs.write(tmp_path / "secret/perf.csv", "secret")
    run = tmp_path / "run"
    run.mkdir()
    (run / "perf_link.csv").symlink_to(tmp_path / "secret/perf.csv")
    (run / "results").symlink_to(tmp_path / "secret")
    os.mkfifo(run / "perf_fifo.csv")
    answer = gather(tmp_path)
    assert home(tmp_path) == {}
    assert {Path(item["path"]).name for item in answer["skipped"]} == {"perf_link.csv", "results", "perf_fifo.csv"}


def test_a_directory_of_another_user_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csvs.write(tmp_path / "run" / csvs.NAME, csvs.table(999))
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: os.stat_result([*real(path)[:4], 4242, *real(path)[5:]]))
    assert gather(tmp_path)["skipped"] == [{"path": str(tmp_path / "run"), "reason": "no directory of the job's user"}]


def test_sources_that_overlap_give_each_file_once(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run/run_directory" / csvs.NAME, "1")
    gather(tmp_path, "run/run_directory", "run")
    assert home(tmp_path) == {csvs.NAME: b"1"}


def test_hostile_names_become_plain_ones(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run" / "perf_\x1b[31m\n\u202e.csv", "1")
    csvs.write(Path(os.fsdecode(os.fsencode(tmp_path / "run") + b"/perf_\xff.csv")), "2")
    gather(tmp_path)
    assert sorted(home(tmp_path)) == ["perf__.csv", "perf__[31m__.csv"]


def test_a_result_cannot_replace_the_nodes_document(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run/results/node.json", "1")
    csvs.write(tmp_path / "given/node.json", "forged")
    gather(tmp_path, "run", {"path": str(tmp_path / "given"), "all": True})
    assert json.loads((tmp_path / "home/node_2/node.json").read_text())["node"] == "n3"
    assert home(tmp_path) == {"results/node.json": b"1", "2__node.json": b"forged"}


# (limits, what comes, a part of the reason)
CAPS: Dict[str, Any] = {
    "a file": ({"file_bytes": 50}, {csvs.NAME, "perf_0.csv"}, "larger than 50 bytes"),
    "all files": ({"total_bytes": 60}, {csvs.NAME, "perf_0.csv"}, "more than 60 bytes in all"),
    "their number": ({"files": 1}, {csvs.NAME}, "more than 1 files"),
    "what is looked at": ({"entries": 2}, {csvs.NAME, "perf_0.csv"}, "too many files"),
}


@pytest.mark.parametrize("case", CAPS)
def test_limits_hold_and_the_results_come_first(tmp_path: Path, case: str) -> None:
    limits, expected, reason = CAPS[case]
    csvs.write(tmp_path / "run" / csvs.NAME, "x" * 45)
    csvs.write(tmp_path / "run" / "perf_0.csv", "x" * 5)
    csvs.write(tmp_path / "run" / "perf_1.csv", "x" * 100)
    answer = gather(tmp_path, limits=limits)
    assert set(home(tmp_path)) == expected
    assert reason in answer["skipped"][-1]["reason"]


def test_no_time_means_no_more_files_and_is_said(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run" / csvs.NAME, "x")
    assert "too slow" in gather(tmp_path, limits={"seconds": 0})["skipped"][0]["reason"]


def test_of_a_log_that_is_too_long_the_end_is_kept(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run/x.live.log", "a" * 100 + "the end")
    answer = gather(tmp_path, limits={"file_bytes": 7})
    assert home(tmp_path) == {"x.live.log": b"the end"}
    assert answer["files"][0]["from_byte"] == 100


def test_again_changes_nothing(tmp_path: Path) -> None:
    csvs.write(tmp_path / "run" / csvs.NAME, csvs.table(1))
    first = gather(tmp_path)
    assert gather(tmp_path) == first


def test_what_madengine_itself_has_put_there_stays(tmp_path: Path) -> None:
    csvs.write(tmp_path / "home/node_2/its_own.log", "kept")
    gather(tmp_path)
    assert home(tmp_path) == {"its_own.log": b"kept"}


def test_an_earlier_attempt_is_set_aside_and_kept(tmp_path: Path) -> None:
    for attempt, value in ((0, 1), (1, 2), (0, 3), (1, 4)):
        csvs.write(tmp_path / "run" / csvs.NAME, csvs.table(value))
        gather(tmp_path, attempt=attempt)
    assert home(tmp_path) == {csvs.NAME: csvs.table(4).encode()}
    kept = sorted(
        (str(path.relative_to(tmp_path / "home")), path.read_text()) for path in (tmp_path / "home").glob("attempt_*/*/" + csvs.NAME)
    )
    assert kept == [
        ("attempt_0/node_2.1/multi.csv", csvs.table(3)),
        ("attempt_0/node_2/multi.csv", csvs.table(1)),
        ("attempt_1/node_2/multi.csv", csvs.table(2)),
    ]


def test_a_full_share_is_said_and_the_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = csvs.write(tmp_path / "run" / csvs.NAME, csvs.table(1))

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "new", full)
    with pytest.raises(ShareFault) as caught:
        gather(tmp_path)
    assert f"they stay on this node in {tmp_path / 'run'}" in str(caught.value)
    assert "No space left" in str(caught.value)
    assert source.read_text() == csvs.table(1)


def test_a_collection_directory_that_cannot_be_made_is_a_fault_of_the_share(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ShareFault, match="cannot write the collection directory"):
        gather(tmp_path)


def test_what_cannot_be_read_is_left_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csvs.write(tmp_path / "run" / csvs.NAME, "x")
    csvs.write(tmp_path / "run" / "perf.csv", "y")
    real = files.opened

    def opened(path: str) -> Any:
        if path.endswith("perf.csv"):
            os.unlink(path)
        return real(path)

    monkeypatch.setattr(files, "opened", opened)
    answer = gather(tmp_path)
    assert answer["skipped"] == [{"path": str(tmp_path / "run/perf.csv"), "reason": "No such file or directory"}]
    assert home(tmp_path) == {csvs.NAME: b"x"}


def test_madengines_workspaces_are_known() -> None:
    roots = collect.workspaces(7, 1, 2, ("/scratch",))
    assert roots == ["/scratch/madengine_node_1", "/scratch/madengine_job_7_node_1"]
    assert collect.sources_in(roots[1:]) == [
        {"path": "/scratch/madengine_job_7_node_1/run_directory", "root": "/scratch/madengine_job_7_node_1"},
        {"path": "/scratch/madengine_job_7_node_1", "root": "/scratch/madengine_job_7_node_1"},
    ]
    assert "/tmp/madengine_job_7" in collect.workspaces(7, 0, 1)


def test_a_ledger_is_none_of_the_results_also_where_nothing_is_named(tmp_path: Path) -> None:
    csvs.write(tmp_path / "given/perf.csv", csvs.table(9000))
    csvs.write(tmp_path / "given/mine.csv", csvs.table(1))
    answer = gather(tmp_path, {"path": str(tmp_path / "given"), "all": True}, csv="")
    told = {item["name"]: (item["is_result"], item.get("why")) for item in answer["files"]}
    assert told == {"mine.csv": (True, None), "perf.csv": (False, "madengine's own ledger")}
