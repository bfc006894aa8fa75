# SPDX-License-Identifier: GPL-3.0-or-later
"""The module hands its arguments to the noun and looks at nothing in check mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.modules import container_diagnostics


def test_check_mode_looks_at_nothing(tmp_path: Path, run_module: Any) -> None:
    code, answer = run_module(container_diagnostics, job_id="1", dest=str(tmp_path / "out"), _ansible_check_mode=True)
    assert (code, answer["changed"]) == (0, True)
    assert list(tmp_path.iterdir()) == []


def test_without_a_daemon_the_task_succeeds_and_says_so(tmp_path: Path, run_module: Any) -> None:
    code, answer = run_module(container_diagnostics, job_id="1", dest=str(tmp_path / "out"), docker_socket=str(tmp_path / "none"))
    assert code == 0
    assert answer["summary"].startswith("no container of this job is left (containers: engine: no answer")
    assert (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "one of the following is required: job_id, container"),
        ({"job_id": "1", "container": "x"}, "mutually exclusive: job_id|container"),
        ({"job_id": "1", "dest": "/proc/version/out", "docker_socket": "/none"}, "diagnostics: cannot write"),
    ],
)
def test_every_mistake_is_one_line(tmp_path: Path, run_module: Any, params: Any, said: str) -> None:
    code, answer = run_module(container_diagnostics, **{"dest": str(tmp_path), **params})
    assert code == 1
    assert said in answer["msg"]
