# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of the coverage: it counts branches of the folder that is asked for, and is never content with nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Dict

import pytest
from helpers.hooks import REPOSITORY


def run(files: Dict[str, Dict[str, int]]) -> subprocess.CompletedProcess[str]:
    report = json.dumps({"files": {path: {"summary": summary} for path, summary in files.items()}})
    script = REPOSITORY / "scripts/branches.py"
    return subprocess.run([sys.executable, script, "lib/", "90"], input=report, capture_output=True, text=True, check=False)


def summary(taken: int, there: int) -> Dict[str, int]:
    return {"covered_branches": taken, "num_branches": there, "covered_lines": 1000, "num_statements": 1000}


@pytest.mark.parametrize(("taken", "status"), [(18, 0), (17, 1), (20, 0), (0, 1)])
def test_nine_branches_in_ten_are_enough_however_many_lines_were_run(taken: int, status: int) -> None:
    assert run({"lib/a.py": summary(taken, 20), "lib/none.py": summary(0, 0)}).returncode == status


def test_files_of_other_folders_neither_help_nor_harm() -> None:
    assert run({"lib/a.py": summary(1, 10), "modules/b.py": summary(1000, 1000)}).returncode == 1
    assert run({"lib/a.py": summary(10, 10), "modules/b.py": summary(0, 1000)}).returncode == 0


def test_a_report_without_the_folder_fails() -> None:
    assert run({"modules/b.py": summary(10, 10)}).returncode == 1
    assert run({}).returncode == 1


def test_the_file_that_needs_tests_most_is_named_first() -> None:
    answer = run({"lib/a.py": summary(9, 10), "lib/b.py": summary(1, 10)})
    assert "branches: 10 of 20 taken in 2 files: 50.0 % (at least 90 %); least: b.py 10 %, a.py 90 %" in answer.stdout
