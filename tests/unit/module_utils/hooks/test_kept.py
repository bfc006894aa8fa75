# SPDX-License-Identifier: GPL-3.0-or-later
"""What could not be gathered fills no disk: so much of each user's stays, and so much in all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import kept
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.workspace import Workspace

UNIT = 1 << 16


def job(base: Path, number: int, units: int, uid: int = 0) -> str:
    folder = base / str(number)
    (folder / "results/deep").mkdir(parents=True)
    (folder / "results/deep/data").write_bytes(b"x" * UNIT * units)
    if uid:
        os.chown(folder / "results", uid, uid)
    os.utime(folder, (1e9 + number, 1e9 + number))
    return str(folder)


def names(paths: list[str]) -> list[str]:
    return [os.path.basename(path) for path in paths]


def test_the_oldest_goes_first_where_there_is_too_much(tmp_path: Path) -> None:
    paths = [job(tmp_path, number, 1) for number in (3, 1, 2)]
    assert names(kept.surplus(paths, 10 * UNIT, 10 * UNIT)) == []
    assert names(kept.surplus(paths, int(2.9 * UNIT), 10 * UNIT)) == ["1"]
    assert names(kept.surplus(paths, 10 * UNIT, int(1.9 * UNIT))) == ["1", "2"]
    assert names(kept.surplus(paths, 0, 0)) == ["1", "2", "3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
def test_one_user_s_plenty_costs_no_other_user_anything(tmp_path: Path) -> None:
    paths = [job(tmp_path, 1, 1, 2000), *(job(tmp_path, number, 1, 3000) for number in range(2, 9))]
    assert names(kept.surplus(paths, int(2.9 * UNIT), 100 * UNIT)) == ["2", "3", "4", "5", "6"]


def test_what_is_on_the_disk_counts_and_not_what_a_file_declares(tmp_path: Path) -> None:
    folder = job(tmp_path, 1, 1)
    with open(Path(folder, "results/sparse"), "wb") as stream:
        stream.truncate(1 << 40)
    Path(folder, "results/link").symlink_to("/")
    os.utime(folder, (4e9, 4e9))
    newer = job(tmp_path, 2, 1)
    assert kept.size_of(folder) < 2 * UNIT
    assert names(kept.surplus([folder, newer], int(2.9 * UNIT), 9 * UNIT)) == []


def test_a_tree_without_end_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST_ENTRIES", 2)
    assert names(kept.surplus([job(tmp_path, 1, 1)])) == ["1"]


def test_a_prolog_sweeps_what_is_too_much_and_spares_who_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept.surplus, "__defaults__", (0, 0))
    for number in (1, 2):
        job(tmp_path / "jobs", number, 1)
    Workspace(3, str(tmp_path)).sweep(lambda job_id: job_id == 2, now=lambda: 1e9)
    assert os.listdir(tmp_path / "jobs") == ["2"]
