# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""task_prolog: what check mode says is what happens, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.site_files import NOTHING
from ansible_collections.rocm.madengine.plugins.modules import task_prolog

Run = Callable[..., Tuple[Any, Any]]
OURS = "#!/bin/sh\n_job=/run/madengine/jobs/$SLURM_JOB_ID\n"
THEIRS = "#!/bin/sh\necho print hello\n"


def both(run_module: Run, folder: Path, **params: Any) -> Dict[str, Any]:
    """Run in check mode, which changes nothing, and then truly; both say the same."""
    places = {"path": str(folder / "task_prolog"), "site": str(folder / "site")}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    check_mode = run_module(task_prolog, _ansible_check_mode=True, **places, **params)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run_module(task_prolog, **places, **params) == check_mode
    assert check_mode[0] == 0, check_mode
    return dict(check_mode[1])


@pytest.mark.parametrize(("before", "kept", "after"), [(None, False, NOTHING), ("#!/bin/sh\n", False, NOTHING), (THEIRS, True, THEIRS)])
def test_ours_takes_the_place_and_gives_it_back(run_module: Run, tmp_path: Path, before: Optional[str], kept: bool, after: str) -> None:
    path = tmp_path / "task_prolog"
    if before is not None:
        path.write_text(before)
    first = both(run_module, tmp_path, content=OURS)
    assert (first["changed"], first["kept"], path.read_text()) == (True, kept, OURS)
    assert (first["diff"]["before"], first["diff"]["after"]) == (before or "", OURS)
    assert both(run_module, tmp_path, content=OURS)["changed"] is False
    back = both(run_module, tmp_path, state="absent")
    assert (back["changed"], back["kept"], path.read_text()) == (True, kept, after)
    assert both(run_module, tmp_path, state="absent")["changed"] is False
    assert [file.name for file in tmp_path.iterdir()] == ["task_prolog"]


def test_a_place_that_cannot_be_written_is_one_line(run_module: Run, tmp_path: Path) -> None:
    (tmp_path / "task_prolog").mkdir()
    code, result = run_module(task_prolog, path=str(tmp_path / "task_prolog"), site=str(tmp_path / "site"), content=OURS)
    assert (code, result["msg"].partition(" (")[0]) == (1, "madengine: node: task_prolog: cannot write")
