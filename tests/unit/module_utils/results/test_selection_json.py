# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written is read, field for field; what another hand has written is no value of another type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import render
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import selection, selection_json
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results.selection_json import FILE, VERSION, Selection
from helpers import csvs
from hypothesis import given
from hypothesis import strategies as st

FIELDS = (
    *("version", "job_id", "attempt", "exit_code", "name", "policy", "verdict", "lacking", "selected", "best", "merged"),
    *("left_out", "candidates", "further", "elsewhere", "artifacts", "images", "images_agree", "facts", "basis", "reason"),
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda leaf: st.lists(leaf) | st.dictionaries(st.text(), leaf)
)
FACTS: Dict[str, Any] = {"job_id": "4711", "attempt": 2, "nodes": ["n1", "n2"], "failed": False, "exit_code": "1:0", "since": 1.5}


@pytest.mark.parametrize("policy", selection.POLICIES)
@pytest.mark.parametrize("tables", [[], [csvs.HEADER], [csvs.table(1), csvs.table(2, 3)]])
def test_the_file_is_the_fields_in_their_order_and_reading_loses_none(tmp_path: Path, policy: str, tables: List[str]) -> None:
    csvs.collection(tmp_path, tables)
    selection.settle(str(tmp_path), csvs.NAME, policy, FACTS, further=["other.csv"])
    text = (tmp_path / FILE).read_text()
    chosen = selection_json.read(str(tmp_path))
    assert tuple(json.loads(text)) == FIELDS
    assert json.dumps(chosen.to_dict(), indent=1) + "\n" == text
    assert selection.recalled(str(tmp_path)) == {**FACTS, "newer_than": None, "outside": None}


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    chosen = Selection(version=VERSION, verdict="missing")
    assert (selection_json.is_written(chosen, str(tmp_path)), selection_json.write(chosen, str(tmp_path))) == (False, True)
    assert (selection_json.is_written(chosen, str(tmp_path)), selection_json.write(chosen, str(tmp_path))) == (True, False)
    csvs.write(tmp_path / FILE, json.dumps({**chosen.to_dict(), "more": 1}))
    assert not selection_json.is_written(chosen, str(tmp_path))


@pytest.mark.parametrize("content", [None, "", "[]", '{"verdict": "ok"}', '{"version": 2, "verdict": "ok"}'])
def test_a_document_of_another_kind_is_none_of_ours(tmp_path: Path, content: Any) -> None:
    if content is not None:
        csvs.write(tmp_path / FILE, content)
    assert selection_json.read(str(tmp_path)) == Selection()
    assert not Selection().has_number()
    assert Selection().line() == "best: none, missing: no selection.json"


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK))
def test_a_field_of_another_type_reads_as_if_it_were_not_there(forged: Dict[str, Any]) -> None:
    chosen = selection_json.from_dict(forged)
    for name, value in Selection().to_dict().items():
        kind = {"attempt": int, "selected": dict, "best": dict}.get(name, type(value))
        assert getattr(chosen, name) is None or isinstance(getattr(chosen, name), kind)
    assert all(isinstance(row, dict) for row in (*chosen.candidates, *chosen.further, *chosen.lacking, *chosen.merged))
    assert isinstance(chosen.line(), str)
    assert chosen.has_number() in (True, False)


@pytest.mark.parametrize("nodes", [5, "n1", {"n1": 1}, ["n1", 2], True])
def test_nodes_that_are_no_list_of_names_are_not_waited_for(tmp_path: Path, nodes: Any) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    csvs.write(tmp_path / FILE, json.dumps({"version": 1, "facts": {"nodes": nodes, "job_id": "4711"}}))
    assert selection_json.read(str(tmp_path)).facts == {"job_id": "4711"}
    assert render.write_if_last(str(tmp_path))
