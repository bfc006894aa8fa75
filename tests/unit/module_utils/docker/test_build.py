# SPDX-License-Identifier: GPL-3.0-or-later
"""A build is one argument list by madengine's rules; no secret is in it, and its failure is one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import build


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    for folder in ("docker", "scripts/ctx", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("docker/model.Dockerfile", "docker/Primus_pretrain.Dockerfile"):
        (tmp_path / name).write_text("FROM scratch\n")
    return tmp_path


def recipe(work_dir: Path, **named: Any) -> build.Recipe:
    return build.Recipe.of({"dockerfile": "docker/model.Dockerfile", "work_dir": str(work_dir), **named})


START = ["docker", "build", "--network=host", "--tag", "a:1", "--file"]


def test_the_context_follows_madengines_rules(work_dir: Path) -> None:
    label = ["--label", f"{build.LABEL}={build.fingerprint(recipe(work_dir))}"]
    assert build.command(recipe(work_dir), "a:1") == [*START, "docker/model.Dockerfile", *label, "./docker"]
    assert build.command(recipe(work_dir, context="scripts/ctx"), "a:1")[-1] == "scripts/ctx"
    primus = recipe(work_dir, dockerfile="docker/Primus_pretrain.Dockerfile")
    label = ["--label", f"{build.LABEL}={build.fingerprint(primus)}"]
    assert build.command(primus, "a:1") == [*START, "docker/Primus_pretrain.Dockerfile", *label, "."]


def test_primus_is_looked_for_in_the_dockerfile_s_name_and_not_in_its_path(work_dir: Path) -> None:
    (work_dir / "primus-team").mkdir()
    (work_dir / "primus-team/model.Dockerfile").write_text("FROM scratch\n")
    assert build.command(recipe(work_dir, dockerfile="primus-team/model.Dockerfile"), "a:1")[-1] == "./docker"


@pytest.mark.parametrize("context", ["", "none"])
def test_a_context_that_is_not_there_is_the_dockerfile_s_own_directory(work_dir: Path, context: str) -> None:
    (work_dir / "models/llama").mkdir(parents=True)
    for name in ("models/llama/Dockerfile", "Dockerfile"):
        (work_dir / name).write_text("FROM scratch\n")
    os.rmdir(work_dir / "scripts/ctx")
    for path in (work_dir / "docker").iterdir():
        path.unlink()
    os.rmdir(work_dir / "docker")
    assert build.command(recipe(work_dir, dockerfile="models/llama/Dockerfile", context=context), "a:1")[-1] == "models/llama"
    assert build.command(recipe(work_dir, dockerfile="Dockerfile", context=context), "a:1")[-1] == "."


def test_an_image_is_stale_when_the_dockerfile_or_an_argument_is_another_and_never_for_a_secret(work_dir: Path) -> None:
    first = recipe(work_dir, build_args={"RCCL": "a"}, secret_build_args=["MAD_SECRETS_T"])
    labels = {build.LABEL: build.fingerprint(first)}
    assert not build.is_stale(first, labels)
    assert build.is_stale(recipe(work_dir, build_args={"RCCL": "b"}, secret_build_args=["MAD_SECRETS_T"]), labels)
    (work_dir / "docker/model.Dockerfile").write_text("FROM scratch\nENV A=1\n")
    assert build.is_stale(first, labels)
    (work_dir / "docker/model.Dockerfile").unlink()
    assert not build.is_stale(first, labels)


def test_what_carries_no_label_or_madengine_s_own_is_judged_by_what_is_recorded_of_it(work_dir: Path) -> None:
    plain, recorded = recipe(work_dir), recipe(work_dir, build_fingerprint="f1")
    for labels in ({}, {build.UPSTREAM_LABEL: "f1"}, {"other": "x"}):
        assert not build.is_stale(plain, labels)
        assert not build.is_stale(recorded, labels)
    assert build.is_stale(recorded, {build.UPSTREAM_LABEL: "f0"})
    assert not build.is_stale(plain, {build.UPSTREAM_LABEL: "f0"})


def test_the_tools_are_a_context_where_they_exist(work_dir: Path) -> None:
    (work_dir / "docker" / "common").mkdir()
    assert build.command(recipe(work_dir), "a:1")[-3:] == ["--build-context", "tools=docker/common", "./docker"]


def test_values_stay_whole_and_secrets_go_by_name_alone(work_dir: Path) -> None:
    words = build.command(recipe(work_dir, build_args={"A": "x y;$(rm) 'q'", "B": ""}, secret_build_args=["MAD_SECRETS_T"]), "a:1")
    assert words[9:15] == ["--build-arg", "A=x y;$(rm) 'q'", "--build-arg", "B=", "--build-arg", "MAD_SECRETS_T"]


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"dockerfile": "docker/none"}, "no such Dockerfile"),
        ({"dockerfile": "--output=/etc"}, "no such Dockerfile"),
        ({"context": "-"}, "no such build context"),
        ({"context": "https://example.org/x.git"}, "no such build context"),
        ({"build_args": {"A B": "1"}}, "not a build argument's name"),
        ({"secret_build_args": ["--x"]}, "not a build argument's name"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_runs(work_dir: Path, change: Any, fact: str) -> None:
    with pytest.raises(JobFault, match=fact):
        build.command(recipe(work_dir, **change), "a:1")


def docker(work_dir: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a command called docker where a build looks for it."""
    (work_dir / "bin" / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (work_dir / "bin" / "docker").chmod(0o755)
    monkeypatch.setattr(process, "PATH", f"{work_dir}/bin:/usr/bin:/bin")


def test_the_command_runs_in_the_manifests_directory_with_nothing_of_ours(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAD_SECRETS_X", "token")
    docker(work_dir, monkeypatch, 'pwd > seen; echo "$DOCKER_HOST" >> seen; printf "%s\\n" "$@" >> seen; env >> seen')
    build.run(recipe(work_dir), "a:1", "/run/docker.sock", Deadline(10))
    seen = (work_dir / "seen").read_text()
    assert seen.splitlines()[:4] == [str(work_dir), "unix:///run/docker.sock", "build", "--network=host"]
    assert "token" not in seen


def test_a_failed_build_shows_the_end_of_its_output_in_one_line(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(work_dir, monkeypatch, "seq 100000; echo 'step 3: no such package' >&2; exit 3")
    with pytest.raises(JobFault) as caught:
        build.run(recipe(work_dir), "a:1", "unix:///s", Deadline(10))
    assert caught.value.seen["output"] == "99999 | 100000 | step 3: no such package"
    assert "\n" not in caught.value.line()


def test_a_build_that_takes_too_long_or_has_no_docker_is_no_fault_of_the_job(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(work_dir, monkeypatch, "exec sleep 30")
    monkeypatch.setattr(build, "max", lambda *_: 0.2, raising=False)
    with pytest.raises(ShareFault, match="the time is up"):
        build.run(recipe(work_dir), "a:1", "/s", Deadline(0.2))
    os.unlink(work_dir / "bin" / "docker")
    monkeypatch.setattr(process, "PATH", str(work_dir / "bin"))
    with pytest.raises(NodeFault, match="no docker command"):
        build.run(recipe(work_dir), "a:1", "/s", Deadline(10))


def test_dockers_client_finds_the_users_logins_and_nothing_else_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home/.docker/cli-plugins").mkdir(parents=True)
    logins = {"auths": {"r.example": {"auth": "YTpi"}}}
    (tmp_path / "home/.docker/config.json").write_text(json.dumps({**logins, "proxies": {"default": {}}, "aliases": {"builder": "evil"}}))
    (tmp_path / "home/.docker/cli-plugins/docker-buildx").write_text("#!/bin/sh\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(
        f'#!/bin/sh\ncp "$DOCKER_CONFIG/config.json" {tmp_path}/seen\nls -A "$HOME" > {tmp_path}/home.seen\n'
    )
    (tmp_path / "bin/docker").chmod(0o755)
    (tmp_path / "docker").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setattr(process, "PATH", f"{tmp_path}/bin:{process.PATH}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{process.PATH}")
    build.run(build.Recipe(str(tmp_path), "Dockerfile"), "x:1", "/run/docker.sock", Deadline(30))
    assert json.loads((tmp_path / "seen").read_text()) == logins
    assert (tmp_path / "home.seen").read_text() == "config.json\n"
