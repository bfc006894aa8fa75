# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken of a job's files stays within its limits, and its names within the target."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import haul
from helpers import csvs
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.text(min_size=1, max_size=30).filter(lambda part: "/" not in part and "\0" not in part), min_size=1, max_size=4))
def test_no_name_leads_out_of_the_target(parts: list[str]) -> None:
    for keeps_folders in (True, False):
        name = haul.free("/".join(parts), keeps_folders, {})
        assert os.path.normpath(name) == name
        assert not name.startswith(("/", "../"))
        assert name.isprintable()
        assert name != "node.json"


def test_a_file_that_grows_is_cut_at_the_limit(tmp_path: Path) -> None:
    path = csvs.write(tmp_path / "run/perf.csv", "x" * 10)
    found = haul.Found(str(path), "perf.csv", 5, 1.0, True)
    (tmp_path / "home").mkdir()
    assert haul.copy(found, str(tmp_path / "home/perf.csv"), 0, 7) == 7
