# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job of one node from its prolog to its epilog, against the real daemon, as a user who is in Docker's group."""

from __future__ import annotations

import grp
import hashlib
import io
import json
import os
import pwd
import secrets
import stat
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.action import hook_release
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config, exit_status, release
from helpers import csvs, manifests, stories
from helpers.hooks import REPOSITORY

RUNNING = "debian:trixie"
prolog, epilog = stories.imported("prolog"), stories.imported("epilog")


def docker(*args: str, data: bytes = b"") -> str:
    done = subprocess.run(["docker", *args], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture
def image() -> Iterator[str]:
    """A tiny image that this machine alone has."""
    name = f"madengine-test/{secrets.token_hex(6)}:1"
    payload = io.BytesIO()
    with tarfile.open(fileobj=payload, mode="w") as tar:
        for member, text in {"Dockerfile": b"FROM scratch\nCOPY payload /payload\n", "payload": name.encode()}.items():
            info = tarfile.TarInfo(member)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    docker("build", "-q", "-t", name, "-", data=payload.getvalue())
    yield name
    docker("image", "rm", "-f", name)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A job's id; what the test itself leaves in Docker goes."""
    job_id = f"9{secrets.randbelow(10**8):08}"
    monkeypatch.setattr(stories, "JOB_ID", int(job_id))
    yield job_id
    left = docker("ps", "-aq", "--filter", f"label=test={job_id}").split()
    if left:
        docker("rm", "-f", "-v", *left)


@pytest.fixture
def node(job: str, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[stories.StoryNode]:
    if os.geteuid() != 0:
        pytest.skip("a prolog is root's")
    nobody = pwd.getpwnam("nobody")
    socket = os.stat(config.Site().docker_socket)
    assert stat.S_ISSOCK(socket.st_mode)
    assert grp.getgrgid(socket.st_gid)
    known = process.of

    def of(uid: int, gid: int) -> process.Account:
        """The account as it would be, had an admin put it into the socket's group."""
        found = known(uid, gid)
        return replace(found, groups=(*found.groups, socket.st_gid))

    monkeypatch.setattr(process, "of", of)
    engine.preload()  # the user may be unable to read this interpreter
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = stories.StoryNode(Path(folder), monkeypatch, nobody.pw_uid, nobody.pw_gid)
        made.work_dir.chmod(0o755)
        manifest = manifests.use_image(image)
        manifest["built_models"]["llama"]["multiple_results"] = csvs.NAME
        (made.work_dir / "build_manifest.json").write_text(json.dumps(manifest))
        yield made


def created(job: str, image: str, *options: str) -> str:
    return docker("create", "--label", f"test={job}", "--network", "none", *options, image, "/nothing")


def test_a_job_starts_with_its_image_and_ends_without_a_trace_and_others_live_on(node: stories.StoryNode, job: str, image: str) -> None:
    assert (node.tell(prolog), node.verdict(), node.said) == (exit_status.DONE, "ready", [])
    exports = node.exports()
    assert (exports["MAD_IMAGE"], exports["NODE_RANK"], exports["NNODES"]) == (image, "0", "1")
    modes = {name: os.stat(node.here.file(name)) for name in os.listdir(node.here.path)}
    private = {
        "exports",
        "names",
        "globs",
        "without",
        "when_set",
        "sources",
        "fixed",
        "keep",
        "python",
        "leader",
        "manifest.json",
        "origins.json",
    }
    assert {name for name, status in modes.items() if stat.S_IMODE(status.st_mode) == 0o400 and status.st_uid == node.uid} == private
    assert {stat.S_IMODE(modes[name].st_mode) for name in ("status.json", "verdict", "release", "timeline.jsonl")} == {0o644}
    task = os.stat(node.place.task)
    assert (stat.S_IMODE(task.st_mode), task.st_uid) == (0o700, node.uid)

    mine = [created(job, image, "--label", f"madengine.job={job}"), created(job, image, "--env", f"SLURM_JOB_ID={job}")]
    # An unrestored manifest: nothing but the workspace that madengine has mounted tells whose it is.
    mine.append(created(job, image, "-v", f"{node.work_dir}/madengine_job_{job}_node_0:/myworkspace"))
    mine.append(
        docker("run", "-d", "--rm", "--label", f"test={job}", "-e", f"SLURM_JOB_ID={job}", "--network", "none", RUNNING, "sleep", "300")
    )
    others = [created(job, image), created(job, image, "--env", f"SLURM_JOB_ID={job}0"), created(job, image, "--label", "madengine.job=1")]
    others.append(docker("run", "-d", "--label", f"test={job}", "--network", "none", RUNNING, "sleep", "300"))
    path = csvs.write(Path(node.place.results, csvs.NAME), csvs.table(12.5))
    os.chown(path, node.uid, node.gid)

    assert (node.tell(epilog, SLURM_JOB_EXIT_CODE2="0:0"), node.said) == (exit_status.DONE, [])
    left = docker("ps", "-aq", "--no-trunc", "--filter", f"label=test={job}").split()
    assert sorted(left) == sorted(others)
    assert json.loads(docker("inspect", others[-1]))[0]["State"]["Running"] is True
    assert docker("image", "inspect", "--format", "{{.Id}}", image)
    assert (node.here.exists(), os.path.lexists(node.place.path)) == (False, False)
    collection = node.work_dir / f"madengine-{job}"
    selection = json.loads((collection / "selection.json").read_text())
    assert selection["verdict"] == "ok"
    assert (collection / csvs.NAME).read_text() == csvs.table(12.5)
    assert {each.stat().st_uid for each in collection.rglob("*")} == {node.uid}


def test_an_image_that_nobody_has_fails_the_job_and_not_the_node(node: stories.StoryNode, job: str) -> None:
    assert node.tell(prolog, SLURM_JOB_COMMENT=f"madengine:image=localhost:1/nothing-{job}:1") == exit_status.DONE
    assert node.verdict().startswith("madengine: job: ")
    assert f"nothing-{job}" in node.verdict()
    assert (node.said, node.here.status().status) == ([node.verdict()], "failed")
    assert node.tell(epilog) == exit_status.DONE
    assert (node.here.exists(), os.path.lexists(node.place.path), len(node.said)) == (False, False, 1)


def test_a_user_without_docker_access_fails_his_job_and_not_the_node(node: stories.StoryNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "of", lambda uid, gid: process.Account("nobody", uid, gid, (gid,), "/"))
    assert node.tell(prolog) == exit_status.DONE
    assert node.verdict().startswith("madengine: job: engine: no Docker access")


def test_a_daemon_that_is_not_there_drains_the_node(node: stories.StoryNode) -> None:
    node.site = config.Site(docker_socket="/nonexistent/docker.sock")
    assert node.tell(prolog) == exit_status.DRAIN
    assert node.verdict().startswith("madengine: node: engine: no answer")
    assert [line for line in node.said if line.endswith("; this node leaves service")]


def ansible(folder: Path, arguments: str) -> Dict[str, Any]:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_NOCOLOR": "1"}
    environment.update(ANSIBLE_LOCAL_TEMP=str(folder / "local"), ANSIBLE_REMOTE_TEMP=str(folder / "remote"))
    program = Path(sys.executable).with_name("ansible")
    command: List[str] = [sys.executable, str(program), "localhost", "-m", "rocm.madengine.hook_release", "-a", arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.partition("=>")[2])
    assert isinstance(result, dict)
    return result


def test_a_task_transfers_the_release_installs_it_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    asked = json.dumps({"root": str(tmp_path / "hooks")})
    name = release.name_of(hook_release.version(), hashlib.sha256(hook_release.archive()).hexdigest())
    result = ansible(tmp_path, asked)
    assert (result["changed"], result["current"]) == (True, name)
    assert os.path.samefile(tmp_path / "hooks/current", tmp_path / "hooks/releases" / name)
    assert [path for path in (tmp_path / "remote").rglob("*") if path.is_file()] == []
    assert ansible(tmp_path, asked)["changed"] is False
