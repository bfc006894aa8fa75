# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Callable

from ansible_collections.rocm.madengine.plugins.modules import env_passthrough
from helpers import manifests

Run = Callable[..., Any]
TOKEN = manifests.TOKEN
RUNTIME = {"NCCL_DEBUG": "a value", "HOME": "/home/alice", "HF_HOME": "/scratch", "MAD_SECRETS_X": TOKEN, "UCX_X": "a\nb"}


def test_names_are_chosen_and_nothing_is_written_unasked(run_module: Run, tmp_path: Path) -> None:
    code, result = run_module(env_passthrough, environment=RUNTIME)
    assert (code, result["changed"]) == (0, False)
    assert result["names"] == ["HF_HOME", "MAD_SECRETS_X", "NCCL_DEBUG", "UCX_X"]
    assert result["docker_args"] == ["--env", "HF_HOME", "--env", "MAD_SECRETS_X", "--env", "NCCL_DEBUG", "--env", "UCX_X"]
    assert result["refused"] == [{"name": "UCX_X", "reason": "a newline cannot be in an env file"}]
    assert "env_file" not in result


def test_the_env_file_is_for_its_owner_alone_and_the_second_run_changes_nothing(run_module: Run, tmp_path: Path) -> None:
    dest = str(tmp_path / "env")
    asked = {"environment": RUNTIME, "names": ["HOME"], "without": ["@caches"], "dest": dest}
    _, checked = run_module(env_passthrough, **asked, _ansible_check_mode=True)
    assert (checked["changed"], os.listdir(tmp_path)) == (True, [])
    _, result = run_module(env_passthrough, **asked)
    assert (result["changed"], result["env_file"]) == (True, dest)
    assert Path(dest).read_text() == "HOME=/home/alice\nMAD_SECRETS_X\nNCCL_DEBUG=a value\n"
    assert stat.S_IMODE(os.stat(dest).st_mode) == 0o600
    assert run_module(env_passthrough, **asked)[1]["changed"] is False
    os.chmod(dest, 0o644)
    assert run_module(env_passthrough, **asked)[1]["changed"] is True
    assert stat.S_IMODE(os.stat(dest).st_mode) == 0o600


def test_the_diff_names_names_alone(run_module: Run, tmp_path: Path) -> None:
    dest = tmp_path / "env"
    dest.write_text("OLD=secret\nNCCL_DEBUG=old\n")
    _, result = run_module(env_passthrough, environment={"NCCL_DEBUG": "new"}, dest=str(dest), _ansible_diff=True)
    assert (result["diff"]["before"], result["diff"]["after"]) == ("OLD\nNCCL_DEBUG\n", "NCCL_DEBUG\n")


def test_no_value_is_in_anything_that_the_module_says(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    asked = {"manifest": path, "environment": RUNTIME, "dest": str(tmp_path / "env"), "_ansible_diff": True, "_ansible_verbosity": 3}
    text = json.dumps(run_module(env_passthrough, **asked)[1])
    assert not [value for value in (TOKEN, "a value", "/home/alice") if value in text]
    assert TOKEN not in (tmp_path / "env").read_text()


def test_a_manifest_fills_the_gaps_and_only_what_is_set_here_passes_by_name(run_module: Run, tmp_path: Path) -> None:
    variables = {"NCCL_DEBUG": "INFO", "MY_FLAG": "1", "HF_TOKEN": TOKEN, "NODE_RANK": "0", "X": "${NONE}"}
    path = manifests.write(tmp_path, manifests.built(context={"docker_env_vars": variables, "guest_os": ""}))
    dest = str(tmp_path / "env")
    _, result = run_module(env_passthrough, manifest=path, environment={"NCCL_DEBUG": "WARN"}, dest=dest)
    assert Path(dest).read_text() == "HF_TOKEN\nMY_FLAG=1\nNCCL_DEBUG=WARN\n"
    assert result["docker_args"] == ["--env", "HF_TOKEN", "--env", "NCCL_DEBUG"]


def test_a_word_that_is_none_and_a_manifest_that_is_none_are_failures_in_one_line(run_module: Run, tmp_path: Path) -> None:
    for asked in ({"names": ["A B"]}, {"names": ["*"]}, {"without": ["@none"]}, {"manifest": manifests.write(tmp_path, "[]")}):
        code, result = run_module(env_passthrough, **asked)
        assert code == 1
        assert result["msg"].startswith("madengine: job: ")
        assert "\n" not in result["msg"]
