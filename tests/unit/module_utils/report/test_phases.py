# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase is what a hook said of it, and has its own colour; a line that is none is no phase."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import phases
from helpers.hooks import REPOSITORY

LIBRARY = REPOSITORY / "collections/ansible_collections/rocm/madengine/plugins/module_utils/_madengine"


def test_each_phase_has_one_colour_in_every_report() -> None:
    colours = phases.colours_of(phases.PHASES)
    assert sorted(colours.values()) == list(range(len(phases.PHASES)))
    strange = phases.colours_of(["load", "x", "y", "publish"])
    assert len(set(strange.values())) == 4
    assert (strange["load"], strange["publish"]) == (colours["load"], colours["publish"])
    many = phases.colours_of([f"p{number}" for number in range(100)])
    assert len(set(many.values())) == phases.COLOURS


def test_every_phase_of_a_hook_is_known() -> None:
    used = set()
    for path in (REPOSITORY / "prolog/prolog.py", REPOSITORY / "epilog/epilog.py", *LIBRARY.glob("hooks/*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "step" and isinstance(call.args[0], ast.Constant):
                used.add(call.args[0].value)
            if path.name == "epilog.py" and isinstance(call, ast.Tuple) and len(call.elts) == 2 and isinstance(call.elts[0], ast.Constant):
                used.add(call.elts[0].value)
    assert {"load", "gather"} <= used
    assert used <= set(phases.PHASES)


@pytest.mark.parametrize(
    "said", [{}, {"time": -1, "seconds": 1}, {"time": 1, "seconds": -1}, {"time": "1", "seconds": 1}, {"time": 1e12, "seconds": 1}, [], 7]
)
def test_what_is_no_phase_is_left_out(tmp_path: Path, said: Any) -> None:
    path = tmp_path / "timeline.jsonl"
    path.write_text(f"{json.dumps(said)}\nnonsense\n" + json.dumps({"phase": "load", "time": 5, "seconds": 2, "bytes": 3}) + "\n")
    assert [(phase["name"], phase["end"]) for phase in phases.timeline(str(path))] == [("load", 7.0)]


def test_a_timeline_that_is_not_there_has_no_phases(tmp_path: Path) -> None:
    assert phases.timeline(str(tmp_path / "none")) == []
