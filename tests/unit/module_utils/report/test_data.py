# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report shows of a job's time: every phase in a colour of its own, the job's run among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import data, render
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report.phases import COLOURS
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import selection
from helpers import csvs

START = 1_790_000_000.0


def node(base: Path, rank: int, *phases: Any) -> None:
    """Write a node's timeline: (name, begin after the start, seconds), and a result where it is not ok."""
    csvs.node(base, rank)
    lines = [dict(zip(("phase", "time", "seconds", "result"), phase)) for phase in phases]
    text = "".join(json.dumps({**line, "time": START + line["time"]}) + "\n" for line in lines)
    csvs.write(base / f"node_{rank}/timeline.jsonl", text)


def phases(base: Path) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = data.view(str(base))["nodes"][0]["phases"]
    return found


USUAL = [("manifest", 0, 1), ("load", 1, 20), ("rendezvous", 21, 2), ("handover", 23, 1), ("gather", 4000, 2), ("clean", 4002, 1)]


def test_the_jobs_own_run_is_a_phase_between_prolog_and_epilog(tmp_path: Path) -> None:
    node(tmp_path, 0, *USUAL)
    run = next(phase for phase in phases(tmp_path) if phase["name"] == "job")
    assert (run["begin"] - START, run["seconds"]) == (24, 3976)
    assert [phase["name"] for phase in phases(tmp_path)] == ["manifest", "load", "rendezvous", "handover", "job", "gather", "clean"]
    seen = data.view(str(tmp_path))
    assert [fold["label"] for fold in seen["axis"]["breaks"]] == ["1 h 06 min"]
    assert run["left"] + run["width"] <= 100.2
    assert "job" in [item["name"] for item in seen["legend"]]


@pytest.mark.parametrize(
    "lines",
    [USUAL[:4], USUAL[4:], [("manifest", 0, 1, "job"), ("clean", 5, 1)], [("gather", 0, 1), ("manifest", 5, 1)], []],
)
def test_where_there_was_no_run_none_is_drawn(tmp_path: Path, lines: Any) -> None:
    node(tmp_path, 0, *lines)
    assert "job" not in [phase["name"] for phase in phases(tmp_path)]


def test_rows_of_0_ms_are_folded_unless_they_failed(tmp_path: Path) -> None:
    node(tmp_path, 0, ("manifest", 0, 1), ("find", 2, 0.0001), ("stop", 2, 0.0), ("remove", 2, 0.0, "node"), ("clean", 3, 0.0006))
    seen = data.view(str(tmp_path))
    assert (seen["folded"], seen["nodes"][0]["folded"]) == ("find, stop", "find, stop")
    assert [item["name"] for item in seen["phases"]] == ["manifest", "job", "remove", "clean"]
    render.write(str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "below 1 ms: find, stop" in page
    assert "<title>n1: find" not in page


def test_a_report_of_more_phases_than_colours_gives_the_rest_one_of_their_own(tmp_path: Path) -> None:
    node(tmp_path, 0, *((f"p{number}", number, 1) for number in range(30)))
    legend = data.view(str(tmp_path))["legend"]
    assert len({item["colour"] for item in legend}) == len(legend) == COLOURS


def test_every_model_s_result_is_in_the_report(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1, model="first")], name="a.csv")
    csvs.write(tmp_path / "node_0/b.csv", csvs.table(4711, model="second"))
    selection.settle(str(tmp_path), "a.csv", "richest", {"nodes": ["n1"]}, further=["b.csv", "c.csv"])
    render.write(str(tmp_path))
    for name in ("report.html", "report.txt"):
        page = (tmp_path / name).read_text()
        assert "first" in page
        assert "second" in page
        assert "4711" in page
    assert "c.csv: missing" in page or "c.csv" in (tmp_path / "report.html").read_text()


def test_which_of_several_images_ran_is_told_whole_and_by_whom(tmp_path: Path) -> None:
    lines = [f"several images are called a:{number}: {'x' * 200}; that of n1 runs" for number in (1, 2)]
    for rank, said in enumerate((lines[0], lines[1], lines[1], "")):
        csvs.node(tmp_path, rank)
        phase = {"phase": "load", "time": START, "seconds": 1.0, "result": "ok", **({"decision": said} if said else {})}
        csvs.write(tmp_path / f"node_{rank}/timeline.jsonl", json.dumps(phase) + "\n")
    seen = data.view(str(tmp_path))
    assert [item["what"] for item in seen["decisions"]] == lines
    text, page = render.text(seen), render.html(seen)
    for line in lines:
        assert line in text
        assert line in page
    node(tmp_path / "none", 0, *USUAL)
    assert "Several images" not in render.text(data.view(str(tmp_path / "none")))


def test_why_an_image_went_another_way_is_told_whole_and_why_one_was_loaded_is_not(tmp_path: Path) -> None:
    line = f"transport: a node cannot take it this way (way='registry', n2='{'x' * 900}: connection refused')"
    for rank, (name, said) in enumerate((("publish", line), ("load", "the daemon has layers that it did not pull"), ("publish", ""))):
        csvs.node(tmp_path, rank)
        phase = {"phase": name, "time": START, "seconds": 1.0, "result": "ok", **({"reason": said} if said else {})}
        csvs.write(tmp_path / f"node_{rank}/timeline.jsonl", json.dumps(phase) + "\n")
    seen = data.view(str(tmp_path))
    assert [item["what"] for item in seen["detours"]] == [line]
    assert line in render.text(seen)
    assert "connection refused" in render.html(seen)
    assert "did not pull" not in render.text(seen) + render.html(seen)
    node(tmp_path / "none", 0, *USUAL)
    assert "another way" not in (render.text(data.view(str(tmp_path / "none"))) + render.html(data.view(str(tmp_path / "none")))).lower()
