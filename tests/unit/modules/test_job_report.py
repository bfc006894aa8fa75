# SPDX-License-Identifier: GPL-3.0-or-later
"""The module writes the report once, foretells it in check mode, and says every mistake in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.modules import job_report
from helpers import jobs


def test_it_writes_once_and_check_mode_writes_nothing(tmp_path: Path, run_module: Any) -> None:
    jobs.finished(tmp_path / "job")
    (tmp_path / "www").mkdir()
    params = {"src": str(tmp_path / "job"), "dest": str(tmp_path / "www")}
    assert run_module(job_report, **params, _ansible_check_mode=True)[1]["changed"] is True
    assert list((tmp_path / "www").iterdir()) == []
    code, answer = run_module(job_report, **params)
    assert (code, answer["changed"], answer["verdict"]) == (0, True, "ok")
    assert answer["files"] == [str(tmp_path / "www" / name) for name in ("report.html", "report.txt")]
    assert (tmp_path / "www" / "report.txt").read_text() == answer["text"]
    assert not (tmp_path / "job" / "report.html").exists()
    for check in (True, False):
        assert run_module(job_report, **params, _ansible_check_mode=check)[1]["changed"] is False


def test_one_format_alone_can_be_asked_for(tmp_path: Path, run_module: Any) -> None:
    jobs.finished(tmp_path)
    answer = run_module(job_report, src=str(tmp_path), formats=["text"])[1]
    assert answer["files"] == [str(tmp_path / "report.txt")]
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"src": "/nowhere/at/all"}, "results: no collection directory"),
        ({"dest": "/nowhere/at/all"}, "report: cannot write"),
        ({"formats": ["pdf"]}, "value of formats must be one or more of: html, text"),
    ],
)
def test_every_mistake_is_one_line(tmp_path: Path, run_module: Any, params: Any, said: str) -> None:
    jobs.finished(tmp_path)
    code, answer = run_module(job_report, **{"src": str(tmp_path), **params})
    assert code == 1
    assert said in answer["msg"]
