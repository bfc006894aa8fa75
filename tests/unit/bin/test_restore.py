# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""madengine-restore, out of a release as the role installs it, by a user who has no Ansible."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.action import hook_release
from helpers import manifests

TOKEN = manifests.TOKEN


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program in an unpacked release, called by a link as ``current`` is one."""
    folder = tmp_path_factory.mktemp("hooks")
    with tarfile.open(fileobj=io.BytesIO(hook_release.archive())) as tar:
        tar.extractall(folder / "release", filter="data")
    (folder / "current").symlink_to("release")
    return str(folder / "current/bin/madengine-restore")


def run(program: str, where: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *words], cwd=where, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False)


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def options_in(path: Path) -> str:
    (model,) = json.loads(path.read_text())["built_models"].values()
    return str(model["additional_docker_run_options"])


def test_a_manifest_is_restored_in_place_with_what_the_shell_has(program: str, tmp_path: Path) -> None:
    path = Path(
        manifests.write(tmp_path, manifests.built(context={"docker_env_vars": {"NCCL_DEBUG": "INFO", "HF_TOKEN": TOKEN, "X": "${NO}"}}))
    )
    done = run(program, tmp_path, NCCL_DEBUG="WARN", UCX_TLS="rc", MAD_SECRETS_HFTOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(path.read_text())["context"]["docker_env_vars"]["NCCL_DEBUG"] == "WARN"
    assert options_in(path) == "-e HF_TOKEN -e MAD_SECRETS_HFTOKEN -e UCX_TLS --label madengine.job=${SLURM_JOB_ID}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TOKEN not in path.read_text() + done.stdout
    assert "madengine-restore: masked: HF_TOKEN (context.docker_env_vars): a secret" in done.stdout
    assert "madengine-restore: dropped: X (context.docker_env_vars): ${NO} was never expanded" in done.stdout
    assert "madengine-restore: warning: context.docker_env_vars.HF_TOKEN: a secret stands here in clear" in done.stdout
    before = path.stat()
    again = run(program, tmp_path, NCCL_DEBUG="WARN", UCX_TLS="rc", MAD_SECRETS_HFTOKEN=TOKEN)
    assert again.stdout == "madengine-restore: nothing to restore\n"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names_in(tmp_path) == ["build_manifest.json"]


def test_it_does_what_the_module_does(program: str, tmp_path: Path, run_module: Any) -> None:
    from ansible_collections.rocm.madengine.plugins.modules import manifest_restore

    document = manifests.with_token_everywhere()
    manifests.write(tmp_path, document)
    theirs = manifests.write(tmp_path, document, "theirs.json")
    run_module(manifest_restore, src=theirs, environment={"NCCL_DEBUG": "WARN"})
    assert run(program, tmp_path, NCCL_DEBUG="WARN").returncode == 0
    assert (tmp_path / "build_manifest.json").read_bytes() == Path(theirs).read_bytes()


def test_check_and_another_place_leave_the_manifest_alone(program: str, tmp_path: Path) -> None:
    path = Path(manifests.write(tmp_path, manifests.built(), "mine.json"))
    before = path.read_bytes()
    assert "places would be restored" in run(program, tmp_path, "--check", "mine.json").stdout
    assert names_in(tmp_path) == ["mine.json"]
    assert run(program, tmp_path, "--output", "out.json", "mine.json").returncode == 0
    assert (path.read_bytes(), names_in(tmp_path)) == (before, ["mine.json", "out.json"])
    assert run(program, tmp_path, "--output", "again.json", "out.json").stdout == "madengine-restore: nothing to restore\n"
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out.json").read_bytes()


def test_what_cannot_be_restored_or_written_is_one_line_and_leaves_the_file(program: str, tmp_path: Path) -> None:
    path = Path(manifests.write(tmp_path, manifests.built(model={"additional_docker_run_options": f"-e HF_TOKEN={TOKEN} -v '/a:/b"})))
    before = path.read_bytes()
    for words, said in (((), "not closed"), (("none.json",), "cannot read"), (("--output", "none/out.json"), "not closed")):
        done = run(program, tmp_path, *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("madengine: job: ")
        assert said in done.stderr
        assert TOKEN not in done.stderr
    assert path.read_bytes() == before
    path.write_text(json.dumps(manifests.built()))
    done = run(program, tmp_path, "--output", "none/out.json")
    assert (done.returncode, "files: cannot write" in done.stderr, done.stderr.count("\n")) == (1, True, 1)


def test_asking_for_help_touches_nothing(program: str, tmp_path: Path) -> None:
    manifests.write(tmp_path, manifests.built())
    assert "before `madengine run`" in run(program, tmp_path, "--help").stdout.replace("\n", " ")
    assert run(program, tmp_path, "--nonsense").returncode == 2
    assert names_in(tmp_path) == ["build_manifest.json"]
    assert not list(Path(program).resolve().parents[1].rglob("__pycache__"))
