# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What madengine leaves on a node is known by its name and its owner, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import madengine_dirs

RUN = "20261006120000_a1b2c3"


def made(base: Path, *names: str) -> str:
    for name in names:
        (base / name / "deep").mkdir(parents=True)
        (base / name / "deep/credential.json").write_text("{}")
    return str(base)


def test_the_job_s_own_go_and_all_others_stay(tmp_path: Path) -> None:
    mine = ["madengine_job_7_node_1", "madengine_job_7", f"madengine_job_7_{RUN}_node_1"]
    others = [
        "madengine_job_7_node_0",
        "madengine_job_77_node_1",
        "madengine_node_1",
        "madengine_job_7_node_1.old",
        f"madengine_job_8_{RUN}_node_1",
    ]
    folder = made(tmp_path / "tmp", *mine, *others)
    assert [os.path.basename(path) for path in madengine_dirs.of_job(7, 1, os.geteuid(), folder)] == sorted(mine)
    assert madengine_dirs.remove(7, 1, folder=folder) == []
    assert sorted(os.listdir(folder)) == sorted(others)


def test_that_of_a_run_on_some_of_the_nodes_goes_too_by_the_rank_that_it_has_there(tmp_path: Path) -> None:
    folder = made(tmp_path / "tmp", f"madengine_job_7_{RUN}_node_0")
    assert madengine_dirs.remove(7, 2, folder=folder) == []
    assert os.listdir(folder) == []


@pytest.mark.parametrize(("folder", "goes"), [("slurm.7", True), ("alice/7.0", True), ("scratch", False), ("slurm.77", False)])
def test_a_name_that_tells_no_job_counts_only_in_a_directory_that_does(tmp_path: Path, folder: str, goes: bool) -> None:
    path = made(tmp_path / folder, "madengine_node_1")
    assert [os.path.basename(found) for found in madengine_dirs.of_job(7, 1, os.geteuid(), path)] == (["madengine_node_1"] if goes else [])


def test_a_link_another_s_directory_and_a_folder_that_is_gone_are_none(tmp_path: Path) -> None:
    folder = made(tmp_path / "tmp", "elsewhere")
    (tmp_path / "tmp/madengine_job_7_node_1").symlink_to(tmp_path / "tmp/elsewhere")
    assert madengine_dirs.of_job(7, 1, os.geteuid(), folder) == []
    made(tmp_path / "tmp", "madengine_job_7")
    assert madengine_dirs.of_job(7, 1, os.geteuid() + 1, folder) == []
    assert madengine_dirs.of_job(7, 1, os.geteuid(), "/nowhere/at/all") == []
    assert (tmp_path / "tmp/elsewhere/deep/credential.json").exists()
