# SPDX-License-Identifier: GPL-3.0-or-later
"""What a prolog notes of a job's results is what its epilog knows of them, and a lost note is no fault."""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401 (the child that is the user may be unable to read this interpreter)
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import origins
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.request import Request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest.job_spec import JobSpec
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results.provenance import Origins
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation
from helpers import csvs

MODEL: Dict[str, Any] = {"name": "llama", "multiple_results": " ./out/perf_llama.csv", "url": "", "scripts": "", "benign": ["harmless"]}


class Node:
    """A node whose job *stdout* lies in a directory of the job's user."""

    def __init__(self, base: Path) -> None:
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
        self.state, self.work_dir = JobState(7, str(base / "run")), base / "work"
        (self.state_dir).mkdir(parents=True)
        self.work_dir.mkdir()

    @property
    def state_dir(self) -> Path:
        return Path(self.state.path)

    def note(self, *models: Dict[str, Any], results: str = "", seconds: float = 20.0, dirs: Tuple[str, ...] = ()) -> origins.Note:
        job = Allocation(
            "lab", 7, 0, ("n1",), "n1", uid=self.user.pw_uid, gid=self.user.pw_gid, work_dir=str(self.work_dir),
            stdout=str(self.work_dir / "slurm_results/madengine-llama_7.out"),
        )  # fmt: skip
        user, spec = process.of(job.uid, job.gid), JobSpec(models=models, results_dirs=dirs)
        origins.note(self.state, job, user, Request("", results=results), spec, Deadline(seconds))
        return origins.read(self.state.file(origins.NOTE))


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        os.chmod(folder, 0o755)
        yield Node(Path(folder))


def test_what_is_noted_is_known_again_and_is_the_users_alone(node: Node) -> None:
    path = csvs.write(node.work_dir / "out/perf_llama.csv", csvs.table(555))
    known = node.note(MODEL)
    assert known.benign == ("harmless",)
    assert (known.origins.work_dir, known.origins.outputs) == (str(node.work_dir), "slurm_results")
    assert [(each.csv, each.folder) for each in known.origins.expected] == [("perf_llama.csv", "out")]
    assert list(known.origins.before) == [str(path)]
    status = os.stat(node.state.file(origins.NOTE))
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o400, node.user.pw_uid)


@pytest.mark.parametrize(
    ("models", "results", "csvs_of"),
    [
        ([], "", [""]),
        ([], "mine.csv", ["mine.csv"]),
        ([MODEL], "mine.csv", ["mine.csv"]),
        ([MODEL, {**MODEL, "multiple_results": "b.csv"}], "", ["perf_llama.csv", "b.csv"]),
        ([MODEL, {**MODEL, "multiple_results": "b.csv"}], "mine.csv", ["mine.csv", "b.csv"]),
    ],
)
def test_the_request_s_name_is_the_first_model_s_and_the_order_is_the_manifest_s(models: Any, results: str, csvs_of: Any) -> None:
    assert [each.csv for each in origins.expected(models, Request("", results=results))] == csvs_of


def test_a_share_that_hangs_costs_the_note_and_not_the_job(node: Node) -> None:
    known = node.note(MODEL, seconds=0.0)
    assert dict(known.origins.before) == {}
    assert known.origins.expected[0].csv == "perf_llama.csv"


def test_where_a_job_script_puts_its_results_is_noted_and_what_is_there_already(node: Node) -> None:
    old = csvs.write(node.work_dir / "results/perf_old.csv", csvs.table(555))
    known = node.note({**MODEL, "multiple_results": ""}, dirs=("results",))
    assert list(known.origins.before) == [str(old)]
    assert [each["path"] for each in known.sources() if isinstance(each, dict)] == [str(node.work_dir / "results")]


@pytest.mark.parametrize("place", [".", "", "..", "../other", "/etc", "link", "results/../../other"])
def test_a_directory_of_results_outside_the_work_directory_is_not_looked_in(node: Node, place: str) -> None:
    csvs.write(node.work_dir.parent / "other/perf_x.csv", csvs.table(555))
    (node.work_dir / "link").symlink_to(node.work_dir.parent / "other")
    assert node.note(MODEL, dirs=(place,)).sources() == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"expected": 5}', '{"expected": [{"x": 1}]}', "\0"])
def test_a_note_that_is_lost_or_forged_is_no_fault(tmp_path: Path, text: Optional[str]) -> None:
    if text is not None:
        (tmp_path / "note").write_text(text)
    assert origins.read(str(tmp_path / "note")) == origins.Note(Origins())
