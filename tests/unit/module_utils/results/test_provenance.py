# SPDX-License-Identifier: GPL-3.0-or-later
"""Of what lies in a copied submit directory, only what this job made is its result."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Sequence

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import collect, provenance, selection
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results.provenance import Origins, Wanted
from helpers import csvs

NAME = "perf_llama.csv"
MODEL = {"name": "llama", "multiple_results": NAME, "url": "https://host/group/MAD-private.git", "scripts": "scripts/llama/run.sh"}


class Job:
    """A submit directory, its copy as madengine makes one, and the collection directory of job 20."""

    def __init__(self, base: Path, **model: Any) -> None:
        self.submit, self.workspace, self.home = base / "submit", base / "madengine_job_20_node_0", base / "home"
        self.submit.mkdir()
        self.expected = (provenance.wanted({**MODEL, **model}),)
        self.before: Dict[str, Any] = {}
        self.since = time.time() - 60

    def begins(self) -> None:
        self.before = provenance.snapshot([str(self.submit), str(self.workspace)], provenance.places(self.expected))

    def is_copied(self) -> None:
        shutil.copytree(self.submit, self.workspace, symlinks=True, copy_function=shutil.copy2, dirs_exist_ok=True)

    def gather(self) -> Dict[str, Any]:
        origins = Origins(self.expected, str(self.submit), "slurm_results", json.loads(json.dumps(self.before)))
        facts = {"rank": 0, "node": "n1", "job_id": "20", "attempt": 0, "csv": self.expected[0].csv}
        return collect.gather(collect.sources_in([str(self.workspace)]), str(self.home), facts, self.since, origins=origins)

    def chosen(self) -> Dict[str, Any]:
        self.gather()
        return selection.settle(str(self.home), self.expected[0].csv, "richest", {"job_id": "20", "nodes": ["n1"]})


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize(
    "place",
    [
        f"slurm_results/llama/19/node_0/{NAME}",
        f"slurm_results/llama/19/{NAME}",
        f"slurm_results/{NAME}",
        f"old/{NAME}",
        f"madengine-19/node_0/{NAME}",
        f"madengine-19/{NAME}",
        f"llama/19/node_0/{NAME}",
        f"run_directory/other/{NAME}",
        f"madengine_job_19_node_0/{NAME}",
    ],
)
def test_another_jobs_fresh_number_in_the_copied_directory_is_never_this_jobs(job: Job, place: str) -> None:
    job.begins()
    csvs.write(job.submit / place, csvs.table(555, 556))  # another job ends between this one's prolog and its copy
    job.is_copied()
    csvs.write(job.workspace / "run_directory" / NAME, csvs.table(100))
    assert job.chosen()["best"]["value"] == 100.0
    shutil.rmtree(job.workspace / "run_directory")
    shutil.rmtree(job.home)
    assert (job.chosen()["verdict"], job.chosen()["best"]) == ("missing", None)


@pytest.mark.parametrize(
    "place",
    [
        *("", "run_directory", "workdir", "run_directory/workdir", "MAD-private", "MAD-private/workdir", "MAD-private.git"),
        *("llama", "llama/workdir", "scripts/llama", "run_directory/scripts/llama"),
    ],
)
def test_what_the_job_makes_where_madengine_takes_a_result_from_counts(job: Job, place: str) -> None:
    job.begins()
    job.is_copied()
    csvs.write(job.workspace / place / NAME, csvs.table(100))
    assert job.chosen()["best"]["value"] == 100.0


@pytest.mark.parametrize("place", ["", "run_directory", "scripts/llama"])
def test_what_was_there_before_the_job_does_not_count_unless_it_changed(job: Job, place: str) -> None:
    csvs.write(job.submit / place / NAME, csvs.table(555))  # fresh, by its time
    job.begins()
    job.is_copied()
    answer = job.gather()
    assert "copy of what was in the submit directory" in json.dumps(answer["skipped"])
    assert job.chosen()["verdict"] == "missing"
    (job.workspace / place / NAME).write_text(csvs.table(100))
    assert job.chosen()["best"]["value"] == 100.0


def test_what_an_earlier_attempt_left_in_the_workspace_does_not_count_unless_it_changed(job: Job) -> None:
    path = csvs.write(job.workspace / NAME, csvs.table(555))
    job.begins()
    assert job.chosen()["verdict"] == "missing"
    path.write_text(csvs.table(100))
    assert job.chosen()["best"]["value"] == 100.0


def test_a_copy_of_what_another_job_wrote_after_the_prolog_does_not_count(job: Job) -> None:
    job.begins()
    csvs.write(job.submit / NAME, csvs.table(555))
    job.is_copied()
    assert job.chosen()["verdict"] == "missing"


def test_a_result_that_the_job_itself_copies_back_stays_its_result(job: Job) -> None:
    job.begins()
    job.is_copied()
    csvs.write(job.workspace / NAME, csvs.table(100))
    shutil.copy2(job.workspace / NAME, job.submit / NAME)
    assert job.chosen()["best"]["value"] == 100.0


def test_without_a_name_any_csv_of_the_right_shape_in_those_places_counts(tmp_path: Path) -> None:
    job = Job(tmp_path, multiple_results="")
    job.begins()
    csvs.write(job.workspace / "run_directory/mine.csv", csvs.table(100))
    csvs.write(job.workspace / "run_directory/other.csv", "a,b\n1,2\n")
    csvs.write(job.workspace / "deep/down/theirs.csv", csvs.table(1, 2, 3))
    csvs.write(job.workspace / "perf.csv", csvs.table(9000))
    assert job.chosen()["selected"]["path"] == "node_0/mine.csv"
    assert not (job.home / "node_0/other.csv").exists()


def test_madengine_s_ledgers_come_home_and_are_no_candidates(job: Job) -> None:
    job.begins()
    for name in ("perf.csv", "perf_super.csv", "perf_entry.csv"):
        csvs.write(job.workspace / name, csvs.table(9000))
    csvs.write(job.workspace / NAME, csvs.table(100))
    assert job.chosen()["best"]["value"] == 100.0
    assert {path.name for path in (job.home / "node_0").glob("*.csv")} == {NAME, "perf.csv", "perf_super.csv", "perf_entry.csv"}


@pytest.mark.parametrize("given", ["out/perf.csv", "./out/perf.csv", "  out/perf.csv\n", "out//perf.csv"])
@pytest.mark.parametrize("place", ["", "run_directory", "MAD-private"])
def test_a_name_with_a_directory_is_found_there(tmp_path: Path, given: str, place: str) -> None:
    job = Job(tmp_path, multiple_results=given)
    job.begins()
    csvs.write(job.workspace / place / "out/perf.csv", csvs.table(100))
    assert job.chosen()["best"]["value"] == 100.0


@pytest.mark.parametrize(
    ("given", "csv", "folder"),
    [
        *[("perf.csv", "perf.csv", ""), ("./perf.csv", "perf.csv", ""), (" perf.csv ", "perf.csv", ""), ("a/b/p.csv", "p.csv", "a/b")],
        *[("/myworkspace/out/p.csv", "p.csv", ""), ("../p.csv", "p.csv", ""), ("", "", ""), (None, "", ""), ("out/", "", "")],
        *[("authorized_keys", "", ""), ("..", "", ""), (".csv", "", ""), ("a\nb.csv", "", "")],
    ],
)
def test_a_manifest_s_name_is_settled_before_the_job_starts(given: Any, csv: str, folder: str) -> None:
    found = provenance.wanted({"name": "m", "multiple_results": given})
    assert (found.csv, found.folder) == (csv, folder)


def test_logs_and_artifacts_are_the_users_alone_and_the_result_everybodys(job: Job) -> None:
    job.begins()
    csvs.write(job.workspace / NAME, csvs.table(100))
    csvs.write(job.workspace / "run.live.log", "HF_TOKEN=s3cr3t")
    csvs.write(job.workspace / "rocprof_output/a/b.csv", "x")
    assert "0600" in job.chosen()["artifacts"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (job.home / "node_0").rglob("*") if path.is_file()}
    assert modes == {NAME: 0o644, "node.json": 0o644, "run.live.log": 0o600, "b.csv": 0o600}


def test_the_snapshot_follows_no_link_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.csv").symlink_to("/etc/passwd")
    for number in range(9):
        csvs.write(tmp_path / f"{number}.csv", "x")
    assert provenance.snapshot([str(tmp_path)], [""])[str(tmp_path / "link.csv")][0] == len("/etc/passwd")
    monkeypatch.setattr(provenance, "_MOST_FILES", 3)
    assert len(provenance.snapshot([str(tmp_path)], ["", "missing"])) == 3


@pytest.mark.parametrize("before", [{}, {"x": 5}, {"/x": [1, 2]}, {"/x": "abc"}])
def test_a_note_of_any_content_does_no_harm(tmp_path: Path, before: Any) -> None:
    csvs.write(tmp_path / NAME, "x")
    status = os.lstat(tmp_path / NAME)
    assert Origins((Wanted(csv=NAME),), "", "", before).refusal(str(tmp_path), NAME, status) == ""


def names(*given: str) -> Sequence[str]:
    return given


@pytest.mark.parametrize(
    ("below", "inside", "is_foreign"),
    [
        ("", names("selection.json"), False),
        ("logs", names("node_0"), False),
        ("x/19", names("node_0"), True),
        ("x/19_20261006120000_a1b2c3", names("node_0"), True),
        ("x", names("selection.json"), True),
        ("madengine-19", names(), True),
        ("out", names("madengine-llama_19.out"), True),
        ("slurm_results", names(), True),
    ],
)
def test_output_and_collection_directories_of_others_are_known(below: str, inside: Sequence[str], is_foreign: bool) -> None:
    assert Origins(outputs="slurm_results").is_foreign("/w", below, inside) is is_foreign
