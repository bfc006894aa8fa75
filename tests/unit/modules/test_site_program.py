# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site_program: what slurm.conf named goes on beside the hooks, and what would run itself for ever is refused."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.modules import site_program

Run = Callable[..., Tuple[Any, Any]]


@pytest.fixture
def asked(tmp_path: Path) -> Dict[str, Any]:
    """A program of the site's, and a directory of ours."""
    (tmp_path / "ours").mkdir()
    program = tmp_path / "prolog.sh"
    program.write_text(f"#!/bin/sh\necho site >> {tmp_path}/log\n")
    program.chmod(0o755)
    return {"key": "Prolog", "program": str(program), "hooks": [str(tmp_path / "ours")], "path": str(tmp_path / "ours/90-site")}


def test_it_is_written_once_and_runs_the_program(run_module: Run, asked: Dict[str, Any], tmp_path: Path) -> None:
    path = Path(asked["path"])
    code, check_mode = run_module(site_program, **asked, _ansible_check_mode=True)
    assert (code, check_mode["changed"], path.exists()) == (0, True, False)
    code, done = run_module(site_program, **asked)
    assert (code, done) == (0, check_mode)
    assert (done["programs"], done["diff"]["after"], stat.S_IMODE(path.stat().st_mode)) == ([asked["program"]], path.read_text(), 0o755)
    assert run_module(site_program, **asked)[1]["changed"] is False
    subprocess.run([path], check=True)
    assert (tmp_path / "log").read_text() == "site\n"
    path.chmod(0o644)
    assert run_module(site_program, **asked)[1]["changed"] is True
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_program_that_leads_back_is_refused_and_nothing_is_written(run_module: Run, asked: Dict[str, Any], tmp_path: Path) -> None:
    Path(asked["program"]).write_text(f"#!/bin/sh\nexec run-parts {tmp_path}/ours\n")
    for path in (asked.pop("path"), None):
        code, result = run_module(site_program, **asked, path=path)
        assert code == 1
        assert result["msg"].startswith("madengine: job: site_program: it leads back to the hooks, and would run itself for ever (program=")
    assert list((tmp_path / "ours").iterdir()) == []


@pytest.mark.parametrize(("program", "said"), [("prolog.sh", "not a full path"), ("/no/such/program", "SLURM cannot start it here")])
def test_what_cannot_be_kept_is_refused(run_module: Run, asked: Dict[str, Any], program: str, said: str) -> None:
    code, result = run_module(site_program, **{**asked, "program": program})
    assert (code, said in result["msg"], Path(asked["path"]).exists()) == (1, True, False)


def test_what_slurm_keeps_by_itself_is_only_looked_at(run_module: Run, asked: Dict[str, Any]) -> None:
    del asked["path"]
    code, result = run_module(site_program, **{**asked, "program": "/no/such/program"})
    assert (code, result["changed"], "programs" in result) == (0, False, False)
