# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline: a line a phase, whatever became of it, and no harm if nobody can take it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, PeerFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.timeline import Timeline, appender
from hypothesis import given
from hypothesis import strategies as st

COMMON = {"job_id": 4711, "node": "n1", "node_rank": 0}


def told(*errors: BaseException, **facts: Any) -> List[Dict[str, Any]]:
    """The lines of a timeline with one phase for each of *errors*, or one that went well."""
    lines: List[str] = []
    log = Timeline(COMMON, [lines.append])
    for error in errors or (None,):
        with contextlib.nullcontext() if error is None else pytest.raises(type(error)), log.step("load", **facts):
            if error is not None:
                raise error
    return [json.loads(line) for line in lines]


def test_a_phase_that_went_well_says_when_where_and_how_long() -> None:
    (line,) = told(image="a:1")
    assert list(line) == ["job_id", "node", "node_rank", "time", "phase", "seconds", "result", "image"]
    assert {**line, "time": 0, "seconds": 0} == {**COMMON, "time": 0, "phase": "load", "seconds": 0, "result": "ok", "image": "a:1"}
    assert line["time"] > 1.7e9
    assert 0 <= line["seconds"] < 60


def test_what_the_phase_learns_is_written_with_it() -> None:
    lines: List[str] = []
    with Timeline({}, [lines.append]).step("load", image="a:1") as facts:
        facts["bytes_moved"] = 7
    assert json.loads(lines[0])["bytes_moved"] == 7


@pytest.mark.parametrize(("error", "result"), [
    (JobFault("a: b", "c"), "job"),
    (ShareFault("a: b", "c"), "share"),
    (NodeFault("a: b", "c", part="disk"), "node"),
    (PeerFault("n2", JobFault("a: b", "c")), "job"),
    (PeerFault("n2", NodeFault("a: b", "c")), "share"),
])  # fmt: skip
def test_a_phase_that_failed_says_whose_fault_it_was_and_passes_it_on(error: Exception, result: str) -> None:
    (line,) = told(error)
    assert (line["result"], line["fault"]) == (result, "a: b; c")
    assert line.get("fault_node") == ("n2" if isinstance(error, PeerFault) else None)


@pytest.mark.parametrize("error", [ValueError("secret"), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_else_ends_a_phase_is_a_defect_and_its_text_is_not_told(error: BaseException) -> None:
    (line,) = told(error)
    assert line["result"] == "defect"
    assert "secret" not in json.dumps(line)


@given(st.dictionaries(st.sampled_from(["time", "seconds", "result", "phase", "job_id", "node", "bytes"]), st.text()))
def test_no_fact_takes_the_place_of_what_the_timeline_itself_says(facts: Dict[str, str]) -> None:
    lines: List[str] = []
    log = Timeline(COMMON, [lines.append])
    with log.step("load") as seen:
        seen.update(facts)
    line = json.loads(lines[0])
    assert {key: line[key] for key in COMMON} == COMMON
    assert (line["phase"], line["result"]) == ("load", "ok")
    assert log.seconds("load") == line["seconds"]
    assert line.get("bytes") == facts.get("bytes")


def test_a_sink_that_fails_costs_its_line_and_nothing_else() -> None:
    def broken(_text: str) -> None:
        raise OSError("no space left on device")

    lines: List[str] = []
    log = Timeline(COMMON, [broken, lines.append])
    with log.step("load"):
        pass
    fault = JobFault("image: nobody has it", "build it")
    with pytest.raises(JobFault) as raised, log.step("load"):
        raise fault
    assert raised.value is fault
    assert [json.loads(line)["result"] for line in lines] == ["ok", "job"]


def test_the_seconds_of_a_phase_add_up_and_one_that_never_ran_took_none() -> None:
    log = Timeline({}, [])
    for _ in range(3):
        with log.step("load"):
            pass
    assert log.seconds("load") == sum(line["seconds"] for line in log.lines)
    assert log.seconds("publish") == 0


def test_an_appender_adds_lines_and_never_half_of_one(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    texts = [letter * 20_000 for letter in "abcd"]  # more than any buffer holds
    threads = [threading.Thread(target=lambda text=text: [appender(str(path))(text) for _ in range(20)]) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.read_text().splitlines()) == sorted(texts * 20)


def test_an_appender_makes_a_file_that_everybody_may_read_and_follows_no_link(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        appender(str(tmp_path / "new"))("line \udc80")
    finally:
        os.umask(before)
    assert os.stat(tmp_path / "new").st_mode & 0o777 == 0o644
    (tmp_path / "target").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic link"):
        appender(str(tmp_path / "link"))("line")
    assert (tmp_path / "target").read_text() == ""
