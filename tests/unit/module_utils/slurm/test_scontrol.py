# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is asked once, for a bounded time, and its silence is no answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import scontrol


def program(folder: Path, text: str) -> str:
    (folder / "scontrol").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "scontrol").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(("conf", "seen"), [("/etc/x.conf", "/etc/x.conf"), ("", "none")])
def test_what_it_prints_comes_back_errors_too_and_it_finds_the_controller_by_the_conf(tmp_path: Path, conf: str, seen: str) -> None:
    path = program(tmp_path, 'echo "$@ ${SLURM_CONF-none}"; echo "Invalid job id specified" >&2; exit 1')
    said = scontrol.show("job", "7", 60, path, conf)
    assert said.splitlines()[0] == f"--oneliner show job 7 {seen}"
    assert "Invalid job id" in said


@pytest.mark.parametrize("text", ["exec sleep 3600", None])
def test_one_that_does_not_answer_or_is_not_there_says_nothing(tmp_path: Path, text: str) -> None:
    path = program(tmp_path, text) if text else str(tmp_path)
    assert scontrol.show("node", "n1", 0.2, path) == ""
