# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal takes whatever it is told, a line at a time, and lets through what the site wants."""

from __future__ import annotations

import syslog
from typing import Any, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import journal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> List[Tuple[int, str]]:
    lines: List[Tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, line: lines.append((level, line)))
    return lines


def test_a_traceback_is_a_line_a_line_and_nothing_is_lost(said: List[Tuple[int, str]]) -> None:
    journal.say("Traceback\n\n  File x\nError: é\n")
    journal.note("fine")
    assert said == [(syslog.LOG_ERR, line) for line in ("Traceback", "  File x", "Error: é")] + [(syslog.LOG_INFO, "fine")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec=None), max_size=30))
def test_no_text_is_too_odd_to_be_said(said: List[Tuple[int, str]], text: str) -> None:
    said.clear()
    journal.say(text)
    for _, line in said:
        assert line.encode("utf-8")
        assert "\0" not in line
        assert "\n" not in line


def test_half_a_surrogate_pair_and_a_nul_do_not_keep_the_real_journal_from_taking_the_rest() -> None:
    journal.note("a test of rocm.madengine: \udcff \0 end")


@pytest.mark.parametrize(("level", "lets_through"), [("error", "error"), ("info", "error info"), ("debug", "error info debug")])
def test_the_level_lets_through_what_is_as_grave(monkeypatch: pytest.MonkeyPatch, level: str, lets_through: str) -> None:
    asked: List[Any] = []
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(syslog, "setlogmask", lambda mask: asked.append(mask))
    journal.open_at(level)
    assert asked[0] == ("madengine", syslog.LOG_PID, syslog.LOG_DAEMON)
    levels = {"error": syslog.LOG_ERR, "info": syslog.LOG_INFO, "debug": syslog.LOG_DEBUG}
    assert [name for name, number in levels.items() if asked[1] & syslog.LOG_MASK(number)] == lets_through.split()
