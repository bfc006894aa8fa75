# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make test` runs is all there is: a test that no step runs is green for ever."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS = (ROOT / "scripts/test").read_text(encoding="utf-8")


def test_every_folder_of_cluster_tests_is_run_by_a_step() -> None:
    scenarios = {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")} - set(re.findall(r"--exclude (\w+)", STEPS))
    folders = {path.parent.name for path in (ROOT / "tests/cluster").glob("*/test_*.py")}
    assert [name for name in sorted(folders) if name not in scenarios and not re.search(rf"tests/cluster/{name}\b", STEPS)] == []
    assert re.search(r"molecule test --all\b", STEPS)


def test_every_function_of_the_script_is_called() -> None:
    code = re.sub(r"(?m)^ *#.*|#[^'\"\n]*$", "", STEPS)
    names = re.findall(r"(?m)^(\w+)\(\) ", code)
    assert len(names) > 5
    assert [name for name in names if len(re.findall(rf"\b{name}\b(?!\(\))", code)) == 0] == []
