# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell is read as what its writer meant, or not at all."""

from __future__ import annotations

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import cells
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(-1e12, 1e12), st.integers(0, 3))
def test_a_number_with_commas_between_thousands_is_the_number_without(value: float, digits: int) -> None:
    text = f"{value:,.{digits}f}"
    expected = float(text.replace(",", ""))
    assert cells.figure(text) == (expected, False)
    assert cells.figure(f" {text} %") == (expected, True)


@pytest.mark.parametrize(
    "text",
    ["", "-", "n/a", "nan", "inf", "1e999", "1_000", "14,44", "1,4444", ",444", "1,444,", "0,500", "00,500", "1,444e3", "1'444", "1 444",
     "$1", "0x10", "12 tok/s", "%", "50%%", "%50", "\u0661\u0662", "1.234,5"],
)  # fmt: skip
def test_what_may_mean_two_numbers_or_none_is_none(text: str) -> None:
    assert cells.figure(text) is None


@pytest.mark.parametrize(
    "status",
    ["FAILURE", " Failure ", "failed", "ERROR", "Timed out", "TIMEOUT", "Cancelled", "OOM", "skipped", "Not run", "incomplete", "exception",
     "Segfault", "terminated", "INVALID", "completed with errors", "2 failures", "unsuccessful", "did not finish", "NOK", "False", "no",
     "exit code 137", "exited (1)", "rc=1", "server failed", "[FAILED]", "status: failed", "NODE_FAIL", "OUT_OF_MEMORY", "ValueError: x",
     "completed_with_errors", "completed (2 failures)", "success: false", "\u274c", "\u274c FAILED", "SIGKILL", "signal 9", "non-zero exit",
     "-1", "137", "500", "partial", "soft-fail", "no data", "error: oom"],
)  # fmt: skip
def test_a_status_that_tells_of_a_failure_is_one(status: str) -> None:
    assert cells.has_failed(status)


@pytest.mark.parametrize(
    "status",
    ["", "SUCCESS", "ok", "PASS", "completed", "no error", "0 errors", "finished without errors", "1", "0", "valid", "200", "failed: 0",
     "errors=0", "COMPLETED (0 failures)", "0 failed", "exit code 0", "rc=0", "\u2705 passed", "without any errors", "n/a", "running"],
)  # fmt: skip
def test_a_status_that_tells_of_none_is_none(status: str) -> None:
    assert not cells.has_failed(status)


@pytest.mark.parametrize(
    ("column", "cell", "has_failed"),
    [("Status", "FAILED", True), (" run_status ", "error", True), ("result", "fail", True), ("state", "CANCELLED", True),
     ("success", "False", True), ("is_ok", "0", True), ("passed", "yes", False), ("success", "1", False), ("outcome", "ok", False),
     ("exit_code", "1", True), ("returncode", "0", False), ("rc", "-9", True), ("exit_status", "failed", True), ("is_failed", "1", True),
     ("failed", "True", True), ("failed", "3", False), ("timed_out", "no", False), ("error", "HIP out of memory", True),
     ("error", "", False),
     ("error", "None", False), ("relative_error", "0.03", False), ("error_message", "no error", False), ("failure_reason", "OOM", True),
     ("exception", "ValueError", True), ("status_code", "404", True), ("status_code", "200", False), ("test_result", "FAIL", True)],
)  # fmt: skip
def test_the_columns_that_tell_how_a_row_came_about_are_known(column: str, cell: str, has_failed: bool) -> None:
    assert cells.tells_outcome(column)
    assert cells.has_failed(cell, column) is has_failed


@pytest.mark.parametrize("column", ["failed_requests", "errors_total", "error_rate", "completed", "metric", "real_estate", "success_rate"])
def test_what_counts_failures_tells_no_outcome(column: str) -> None:
    assert not cells.tells_outcome(column)
