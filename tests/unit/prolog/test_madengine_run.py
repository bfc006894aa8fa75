# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unmodified madengine on a node reads and asks of docker, from the TaskProlog through its own task script.

The task script and madengine are doubles (helpers/madengine_job.py); the TaskProlog, bash, Python and the library are real.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.workspace import Workspace
from helpers import manifests
from helpers.hooks import REPOSITORY, SHELLS, GateNode
from helpers.madengine_job import BASH, Job

IMAGE = "registry.example.org:5000/team/llama:7"
RUN = "20261006120000_a1b2c3"
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "0", "NCCL_DEBUG": "WARN", "MAD_DOCKER_BUILDS": "/shared/builds"}


@pytest.fixture
def node(tmp_path: Path) -> GateNode:
    made = GateNode(tmp_path / "node", next(iter(SHELLS.values())))
    (made.current / "lib").mkdir(parents=True)
    os.symlink(REPOSITORY / "collections/ansible_collections", made.current / "lib/ansible_collections")
    (made.current / "prolog/madengine_run.py").write_text((REPOSITORY / "prolog/madengine_run.py").read_text())
    made.python.symlink_to(sys.executable)
    return made


def helped(node: GateNode, images: Any = (IMAGE,), keep: str = "") -> JobState:
    state = JobState(4711, str(node.root / "run/madengine"))
    state.begin(os.getuid(), os.getgid(), str(node.current))
    Workspace(4711, str(node.root / "var/lib/madengine")).make(os.getuid(), os.getgid())
    for name in ("names", "globs", "without", "when_set", "sources", "fixed"):
        state.keep(name, "", os.getuid(), os.getgid())
    state.keep("exports", "NODE_RANK=0\n", os.getuid(), os.getgid())
    state.keep("keep", keep + "\n", os.getuid(), os.getgid())
    state.ready(images=[{"reference": reference} for reference in images])
    return state


def tasks_environment(node: GateNode, env: Dict[str, str]) -> Dict[bytes, bytes]:
    """What slurmstepd makes of the TaskProlog for a task with *env*."""
    task = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    for line in node.run("prolog/task_prolog", env).stdout.splitlines():
        verb, _, rest = line.partition(b" ")
        name, _, value = rest.partition(b"=")
        task.update({name: value} if verb == b"export" else {})
        if verb == b"unset":
            task.pop(rest, None)
    return task


def ran(node: GateNode, job: Job, **env: str) -> Any:
    """Run the task as srun does, and return what madengine was given; its words are None where it never ran."""
    task = tasks_environment(node, {**SLURM, **job.env, **env})
    subprocess.run([BASH, str(job.task)], env=task, check=True, timeout=60)
    return json.loads(job.log.read_text())


def written(job: Job, **fields: Any) -> Path:
    document = {
        **manifests.build_on_compute(IMAGE),
        "deployment_config": {"slurm": {"nodes": 2}, "env_vars": {}},
        "context": manifests.context(
            docker_env_vars={"NCCL_DEBUG": "INFO", "MAD_SECRETS_HFTOKEN": manifests.TOKEN, "LOST": "${NOBODY}"},
            docker_mounts={"/data": "/shared/data"},
        ),
        **fields,
    }
    manifests.write(job.submit, [{"name": "llama", "multiple_results": "perf_llama.csv"}], "models.json")
    return Path(manifests.write(job.submit, document, "build_manifest.json"))


@pytest.mark.parametrize("run", ["", RUN])
def test_madengine_on_a_node_reads_the_restored_manifest_although_it_copies_the_user_s(node: GateNode, tmp_path: Path, run: str) -> None:
    helped(node)
    job = Job(tmp_path / "job", run=run)
    before = written(job).read_text()
    said = ran(node, job)
    document = said["manifest"]
    assert list(document["built_images"]) == [IMAGE]
    (model,) = document["built_models"].values()
    assert model["multiple_results"] == "perf_llama.csv"
    assert "-v /shared/data:/data" in model["additional_docker_run_options"]
    assert document["context"]["docker_env_vars"]["NCCL_DEBUG"] == "WARN"
    assert "LOST" not in document["context"]["docker_env_vars"]
    assert manifests.TOKEN not in json.dumps(document)
    assert said["env"]["MAD_SECRETS_HFTOKEN"] == manifests.TOKEN
    assert stat.S_IMODE(os.stat(said["path"]).st_mode) == 0o600
    assert said["words"][3:] == ["--timeout", "3600"]
    # The user's files, there and in the workspace, are as they were.
    assert (job.submit / "build_manifest.json").read_text() == before
    # No rmi, no pull, no save: one look.
    assert job.docker == [f"image inspect {IMAGE}"]
    assert "the manifest of this run is restored on this node" in (job.submit / "err_0").read_text()


@pytest.mark.parametrize(("said", "is_used"), [("{}", True), ("/nowhere/python3", False), ("{} -c x;", False), ("", False)])
def test_the_interpreter_is_the_prolog_s_and_else_the_distribution_s(node: GateNode, tmp_path: Path, said: str, is_used: bool) -> None:
    state, job, mine = helped(node), Job(tmp_path / "job"), tmp_path / "python3.11"
    mine.write_text(f'#!/bin/sh\n: >{tmp_path}/used\nexec {sys.executable} "$@"\n')
    mine.chmod(0o755)
    state.keep("python", said.format(mine) + "\n", os.getuid(), os.getgid())
    written(job)
    assert list(ran(node, job)["manifest"]["built_images"]) == [IMAGE]
    assert (tmp_path / "used").exists() == is_used


def test_without_us_madengine_would_have_removed_and_pulled_it(node: GateNode, tmp_path: Path) -> None:
    helped(node, keep="manifest")
    job = Job(tmp_path / "job")
    document = manifests.build_on_compute(IMAGE)
    del document["built_images"]["llama"]["local_image"]
    written(job, built_images=document["built_images"])
    assert ran(node, job)["path"] == "build_manifest_local.json"
    assert [line.split()[0] for line in job.docker] == ["rmi", "pull"]


@pytest.mark.parametrize(("keep", "saves"), [("manifest", 0), ("manifest builds", 1)])
def test_nothing_is_saved_into_our_store_unless_the_user_wants_it(node: GateNode, tmp_path: Path, keep: str, saves: int) -> None:
    helped(node, keep=keep)
    job = Job(tmp_path / "job")
    written(job)
    ran(node, job)
    assert len([line for line in job.docker if line.startswith("save ")]) == saves


def test_a_manifest_whose_image_we_have_not_brought_keeps_the_way_to_it(node: GateNode, tmp_path: Path) -> None:
    helped(node, images=["another:1"])
    job = Job(tmp_path / "job")
    written(job)
    (image,) = ran(node, job)["manifest"]["built_images"].values()
    assert image["registry_image"] == IMAGE


def test_a_token_of_the_task_s_own_is_not_replaced(node: GateNode, tmp_path: Path) -> None:
    helped(node)
    job = Job(tmp_path / "job")
    written(job)
    assert ran(node, job, MAD_SECRETS_HFTOKEN="mine")["env"]["MAD_SECRETS_HFTOKEN"] == "mine"


@pytest.mark.parametrize("text", ["{", '{"built_images": {}}'])
def test_a_manifest_that_cannot_be_restored_runs_as_it_is_and_it_is_said(node: GateNode, tmp_path: Path, text: str) -> None:
    helped(node)
    job = Job(tmp_path / "job")
    (job.submit / "m.json").write_text(text)
    call = ["-c", f"cd {job.submit} && PATH={job.bin}:$PATH && madengine run --manifest-file m.json"]
    done = subprocess.run([BASH, *call], env=tasks_environment(node, {**SLURM, **job.env}), capture_output=True, text=True, check=False)
    assert "madengine: the manifest of this run is as it was: " in done.stderr


@pytest.mark.parametrize("words", ["run --tags llama", "run --manifest-file other.json", "build --manifest-file build_manifest.json"])
def test_a_submission_and_whatever_is_no_run_on_this_node_is_left_alone(node: GateNode, tmp_path: Path, words: str) -> None:
    helped(node)
    job = Job(tmp_path / "job")
    written(job)
    (job.submit / "other.json").write_text((job.submit / "build_manifest.json").read_text())
    probe = job.bin / "madengine"
    probe.write_text('#!/bin/sh\necho "$@"\n')
    call = ["-c", f"cd {job.submit} && PATH={job.bin}:$PATH && madengine {words}"]
    done = subprocess.run([BASH, *call], env=tasks_environment(node, {**SLURM, **job.env}), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (words + "\n", "")


def test_a_node_without_madengine_says_what_a_shell_says(node: GateNode, tmp_path: Path) -> None:
    helped(node)
    job = Job(tmp_path / "job")
    done = subprocess.run(
        [BASH, "-c", "madengine run"], env=tasks_environment(node, {**SLURM, **job.env}), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (127, b"madengine: command not found\n")
