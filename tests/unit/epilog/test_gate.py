# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of the epilog: a job's end belongs to the release that saw its start, and only a decision drains a node."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import exit_status
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from helpers.hooks import GateNode

GATE = "epilog/50-madengine"
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_COMMENT": "madengine", "SLURM_SCRIPT_CONTEXT": "epilog_slurmd", "SLURMD_NODENAME": "n1"}


def release(node: GateNode, name: str) -> Path:
    """Install a release of the hooks beside the current one; its epilog says which one it is."""
    path = node.root / "opt/madengine-hooks/releases" / name
    (path / "epilog").mkdir(parents=True)
    (path / "epilog/epilog.py").write_text(f"print({name!r})")
    return path


@pytest.fixture
def begun(node: GateNode) -> GateNode:
    """A node with a job under way that started under release 1, while release 2 is current."""
    node.python.symlink_to(sys.executable)
    (node.current / "epilog/epilog.py").write_text("print('2')")
    state = JobState(4711, str(node.root / "run/madengine"))
    state.begin(os.getuid(), os.getgid(), str(release(node, "1")))
    return node


def said(node: GateNode, env: Dict[str, str]) -> bytes:
    done = node.run(GATE, env)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout


def test_a_job_ends_under_the_release_that_it_started_under(begun: GateNode) -> None:
    assert said(begun, SLURM) == b"1\n"


def test_a_release_that_is_gone_is_replaced_by_the_current_one(begun: GateNode) -> None:
    (begun.root / "opt/madengine-hooks/releases/1/epilog/epilog.py").unlink()
    assert said(begun, SLURM) == b"2\n"
    (begun.job() / "release").write_text("")
    assert said(begun, SLURM) == b"2\n"


@pytest.mark.parametrize("env", [{}, {"SLURM_JOB_ID": ""}, {**SLURM, "SLURM_JOB_ID": "4712"}, {**SLURM, "SLURM_JOB_ID": "471"}])
def test_a_job_without_a_state_is_none_of_ours_whatever_its_comment_says(begun: GateNode, env: Dict[str, str]) -> None:
    assert said(begun, env) == b""


def test_the_file_disabled_switches_it_off_at_once(begun: GateNode) -> None:
    (begun.root / "etc/madengine/disabled").touch()
    assert said(begun, SLURM) == b""


@pytest.mark.parametrize(("program", "expected"), [
    (f"import sys; sys.exit({exit_status.DRAIN})", 1),
    ("import sys; sys.exit(1)", 0),
    ("raise RuntimeError('boom')", 0),
    ("this is no Python", 0),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 0),
])  # fmt: skip
def test_only_a_decision_drains_the_node(begun: GateNode, program: str, expected: int) -> None:
    (begun.root / "opt/madengine-hooks/releases/1/epilog/epilog.py").write_text(program)
    assert begun.run(GATE, SLURM).returncode == expected


def test_a_node_without_python_ends_the_job_all_the_same(begun: GateNode) -> None:
    begun.python.unlink()
    assert begun.run(GATE, SLURM).returncode == 0


def test_no_variable_changes_what_the_gate_starts(begun: GateNode, tmp_path: Path) -> None:
    for name in ("python3", "["):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hit\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "rc").write_text(f"touch {tmp_path}/hit\n")
    env = dict.fromkeys(("MADENGINE_HOOKS", "PATH", "PYTHONPATH", "HOME", "release", "job"), str(tmp_path))
    env.update(dict.fromkeys(("ENV", "BASH_ENV"), str(tmp_path / "rc")))
    assert said(begun, {**SLURM, **env}) == b"1\n"
    assert said(begun, {**SLURM, **env, "SLURM_JOB_ID": "4712"}) == b""
    assert not (tmp_path / "hit").exists()


def test_the_no_op_does_nothing_well(node: GateNode) -> None:
    done = node.run("epilog/00-noop")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
