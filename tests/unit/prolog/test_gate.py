# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of the prolog: who passes, what it costs nobody, and that only a decision drains a node."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import exit_status, request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import allocation
from helpers.hooks import REPOSITORY, GateNode

GATE = "prolog/50-madengine"
# What slurmd of 24.11 gives a prolog: neither PATH nor HOME.
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_UID": "2000",
    "SLURM_JOB_GID": "2000",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_JOB_NODELIST": "n[1-3]",
    "SLURM_JOB_STDOUT": "/home/alice/slurm-%j.out",
    "SLURMD_NODENAME": "n1",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
}
OURS = {**SLURM, "SLURM_JOB_COMMENT": "madengine"}


def has_started(node: GateNode, env: Dict[str, str], status: int = 0) -> bool:
    """Run the gate with a Python that only leaves a mark and ends with *status*; say whether it was started."""
    mark = node.root / "mark"
    mark.unlink(missing_ok=True)
    node.python.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{mark}\nenv >>{mark}\nexit {status}\n")
    node.python.chmod(0o755)
    done = node.run(GATE, env)
    assert done.returncode == (1 if mark.exists() and status == 75 else 0), done
    assert (done.stdout, done.stderr) == (b"", b"")
    return mark.exists()


@pytest.mark.parametrize("env", [
    {"SLURM_JOB_COMMENT": "madengine"},
    {"SLURM_JOB_COMMENT": "madengine:manifest=a b,$(id)"},
    {"SLURM_JOB_EXTRA": "madengine:"},
    {"SLURM_JOB_COMMENT": "a note", "SLURM_JOB_EXTRA": "madengine"},
    {"SLURM_JOB_STDOUT": "/out/madengine-llama_%j.out"},
    {"SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_COMMENT": "madengine"},
])  # fmt: skip
def test_a_job_that_is_ours_gets_the_isolated_python_of_the_system(node: GateNode, env: Dict[str, str]) -> None:
    assert has_started(node, {**SLURM, **env})
    said = (node.root / "mark").read_text().splitlines()
    assert said[:2] == ["-I", str(node.current / "prolog/prolog.py")]
    assert said[2].endswith("/50-madengine")  # where SLURM found the gate here, it is looked for on nodes that do not come
    assert {f"{name}={value}" for name, value in {**SLURM, **env}.items()} <= set(said)
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in said


@pytest.mark.parametrize("env", [
    {},
    {"SLURM_JOB_COMMENT": "hello"},
    {"SLURM_JOB_COMMENT": "madengines"},
    {"SLURM_JOB_COMMENT": " madengine"},
    {"SLURM_JOB_COMMENT": "x/madengine:y"},
    {"SLURM_JOB_COMMENT": "x/madengine/y"},
    {"SLURM_JOB_EXTRA": "see https://x/madengine-docs"},
    {"SLURM_JOB_COMMENT": "madengine=off"},
    {"SLURM_JOB_COMMENT": "madengine", "SLURM_JOB_EXTRA": "madengine=off"},
    {"SLURM_JOB_COMMENT": "madengine=off", "SLURM_JOB_STDOUT": "/out/madengine-llama.out"},
    {"SLURM_JOB_STDOUT": "/out/madengine-llama.out", "SLURM_JOB_NUM_NODES": "1"},
    {"SLURM_JOB_STDOUT": "/out/madengine-llama.out", "SLURM_JOB_NUM_NODES": ""},
    {"SLURM_JOB_STDOUT": "/madengine-runs/slurm.out"},
    {"SLURM_JOB_STDOUT": ""},
    {"ours": "yes", "OURS": "yes", "SLURM_JOB_COMMENT": ""},
])  # fmt: skip
def test_a_job_that_is_not_ours_never_starts_python(node: GateNode, env: Dict[str, str]) -> None:
    assert not has_started(node, {**SLURM, **env})


def test_an_environment_without_anything_is_let_go(node: GateNode) -> None:
    assert not has_started(node, {})


def test_the_gate_and_the_library_agree_on_whose_job_it_is(node: GateNode) -> None:
    words = ["", "madengine", "madengine:image=a:1", "madengine=off", "madengine-x", "x/madengine:y", "note"]
    stdouts = ["", "/x/slurm-%j.out", "/x/madengine-a.out", "/madengine-x/a.out"]
    for comment, extra, stdout, (nodes, number) in itertools.product(
        words, ["", "madengine", "madengine=off"], stdouts[1:], [("n1", "1"), ("n[1-2]", "2")]
    ):
        env = {**SLURM, "SLURM_JOB_COMMENT": comment, "SLURM_JOB_EXTRA": extra, "SLURM_JOB_STDOUT": stdout}
        env.update(SLURM_JOB_NODELIST=nodes, SLURM_JOB_NUM_NODES=number)
        assert has_started(node, env) is request.concerns_us(allocation.of(env)), env


def test_the_file_disabled_switches_it_off_at_once(node: GateNode) -> None:
    assert has_started(node, OURS)
    (node.root / "etc/madengine/disabled").touch()
    assert not has_started(node, OURS)


@pytest.mark.parametrize(("status", "expected"), [(exit_status.DRAIN, 1), (0, 0), (1, 0), (2, 0), (74, 0), (76, 0), (255, 0)])
def test_only_the_status_for_it_drains_the_node(node: GateNode, status: int, expected: int) -> None:
    node.python.write_text(f"#!/bin/sh\nexit {status}\n")
    node.python.chmod(0o755)
    assert node.run(GATE, OURS).returncode == expected


@pytest.mark.parametrize(("program", "expected"), [
    ("import sys; sys.exit(75)", 1),
    ("import sys; sys.exit(0)", 0),
    ("raise RuntimeError('boom')", 0),
    ("this is no Python", 0),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 0),
    ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 0),
    ("import os; os.abort()", 0),
    ("import sys; sys.exit('75')", 0),
    (None, 0),
])  # fmt: skip
def test_a_hook_that_is_broken_starts_the_job_without_our_help(node: GateNode, program: str, expected: int) -> None:
    node.python.symlink_to(sys.executable)
    if program is not None:
        (node.current / "prolog/prolog.py").write_text(program)
    assert node.run(GATE, OURS).returncode == expected


def test_a_node_without_python_or_with_one_that_cannot_run_starts_the_job(node: GateNode) -> None:
    assert node.run(GATE, OURS).returncode == 0
    node.python.write_text("#!/nonexistent\n")
    assert node.run(GATE, OURS).returncode == 0
    node.python.chmod(0o755)
    assert node.run(GATE, OURS).returncode == 0


def test_no_variable_changes_what_the_gate_starts(node: GateNode, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("python3", "[", "printf", "env", "prolog.py"):
        (evil / name).write_text(f"#!/bin/sh\ntouch {evil}/hit\n")
        (evil / name).chmod(0o755)
    (evil / "rc").write_text(f"touch {evil}/hit\n")
    (node.current / "prolog/prolog.py").write_text("import sys; sys.exit(75)")
    node.python.symlink_to(sys.executable)
    env = dict.fromkeys(("MADENGINE_HOOKS", "PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "CDPATH"), str(evil))
    env.update(dict.fromkeys(("ENV", "BASH_ENV", "PYTHONSTARTUP"), str(evil / "rc")), IFS="/", PS4=f"$(touch {evil}/hit)")
    assert node.run(GATE, {**OURS, **env}).returncode == 1
    assert not (evil / "hit").exists()
    assert "MADENGINE" not in (REPOSITORY / GATE).read_text()


def test_nothing_in_a_user_s_words_is_executed(node: GateNode, tmp_path: Path) -> None:
    hit = tmp_path / "hit"
    for words in (f"$(touch {hit})", f"`touch {hit}`", f"madengine:$(touch {hit})", f"'; touch {hit}; '", "*", "-n", "(", "a]b", "\\"):
        has_started(node, {**SLURM, "SLURM_JOB_COMMENT": words, "SLURM_JOB_EXTRA": words, "SLURM_JOB_STDOUT": "/x/madengine-" + words})
    for number in (f"a[$(touch {hit})]", "x", "-1", "9" * 30, "(", "3 -o 1"):
        env = {**SLURM, "SLURM_JOB_STDOUT": "/x/madengine-a", "SLURM_JOB_NUM_NODES": number}
        assert node.run(GATE, env).returncode == 0
    assert not hit.exists()


def test_the_no_op_does_nothing_well(node: GateNode) -> None:
    done = node.run("prolog/00-noop")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(("line", "is_taken"), [
    ("Python={other}", True), ("python = {other} # newer", True), ("PYTHON={other}#newer", True), ("  Python={other}", True),
    ("Deadline=20\nPython={other}\nLogLevel=info", True), ("Python\t=\t{other}", True),
    ("# Python={other}", False), ("Pythons={other}", False), ("Python={other}.gone", False), ("Python=", False), ("", False),
])  # fmt: skip
def test_the_site_s_interpreter_runs_the_hooks_and_one_that_is_not_there_costs_no_job_our_help(
    node: GateNode, line: str, is_taken: bool
) -> None:
    other = node.root / "opt/python3.11"
    other.write_text(f"#!/bin/sh\necho other >{node.root}/other\n")
    other.chmod(0o755)
    (node.root / "etc/madengine/hooks.conf").write_text(line.format(other=other) + "\n")
    assert has_started(node, OURS) is not is_taken
    assert (node.root / "other").exists() is is_taken


def notes(node: GateNode) -> List[str]:
    path = node.root / "run/madengine/jobs/4711/notes"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("comment", [
    "madengine,image=a:1", "Madengine:image=a:1", "MADENGINE", "madengine image=a:1", "madengine;image=a:1", " madengine", "madengine=on",
    "'madengine'", '"madengine:image=a:1"', "\tmadengine", "`madengine`",
    "--comment=madengine:image=a:1", 'comment="madengine"', "extra=madengine",
    '\\\\"madengine\\\\"', "madengine|image=a:1", "madengine+image=a:1", "madengine&image=a:1", "madengine(image=a:1)",
    "{madengine: image}",
    "=madengine", ":madengine", "\u201cmadengine\u201d", "madengine\u00a0:image=a:1", "madengine\uff1aimage=a:1",
    "\ufeffmadengine:image=a:1",
    "madengin:image=a:1", "mad-engine:image=a:1", "MAD_ENGINE,manifest=a.json", "madegine image=a:1", "madengine_manifest=a.json",
    "mad:store=/a,image=a:1",
])  # fmt: skip
def test_what_was_meant_as_a_request_is_named_for_the_job_s_output(node: GateNode, comment: str) -> None:
    for env in ({"SLURM_JOB_COMMENT": comment}, {"SLURM_JOB_COMMENT": "a note", "SLURM_JOB_EXTRA": comment}):
        shutil.rmtree(node.root / "run/madengine", ignore_errors=True)
        assert not has_started(node, {**SLURM, **env})
        (line,) = notes(node)
        assert line.startswith("madengine: this job runs without help: its comment is no request; write --comment=madengine")
        assert "(comment='" in line
        assert line.rpartition("(comment='")[2].lower().startswith("mad")


@pytest.mark.parametrize("comment", [
    "", "madengines", "madengine-nightly", "see madengine", "madengine/docs", "a,madengine", "mad",
    "mad:images=2", "mad myimage=a", "madrid", "mad:image", "a mad-engine:image=a", "mod:image=a",
    "_", "comment=", "madengine_2", "madengine.yml", "comment=a", "\u201c", "-" * 1000,
])  # fmt: skip
def test_any_other_comment_leaves_nothing(node: GateNode, comment: str) -> None:
    assert not has_started(node, {**SLURM, "SLURM_JOB_COMMENT": comment})
    assert not (node.root / "run/madengine").exists() or notes(node) == []


def test_a_comment_without_end_costs_root_no_more_than_a_short_one() -> None:
    for sign in ("-", "comment=", "\u201c"):
        env = {**SLURM, "SLURM_JOB_COMMENT": sign * (8000 // len(sign.encode())), "SLURM_JOB_EXTRA": sign * 8}
        traced = subprocess.run(["sh", "-x", REPOSITORY / GATE], env=env, capture_output=True, check=True)
        assert traced.stderr.count(b"\n") < 200  # steps, a line each


def test_a_comment_of_several_lines_is_one_line_there(node: GateNode) -> None:
    has_started(node, {**SLURM, "SLURM_JOB_COMMENT": "madengine,x\nexport LD_PRELOAD=/evil\x1b[2J"})
    assert len(notes(node)) == 1
    assert "LD_PRELOAD" not in notes(node)[0]


def test_the_epilog_s_gate_takes_the_line_away_again(node: GateNode) -> None:
    has_started(node, {**SLURM, "SLURM_JOB_COMMENT": "madengine,x"})
    assert notes(node)
    assert node.run("epilog/50-madengine", SLURM).returncode == 0
    assert not (node.root / "run/madengine/jobs/4711").exists()
