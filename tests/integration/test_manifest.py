# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unmodified madengine makes of a restored manifest: real containers, started the way its runner starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec
from helpers import containers, manifests

ROOT = Path(__file__).parents[2]
RUNNER = ROOT / "tests/workloads/runner.py"
TOKEN = manifests.TOKEN
FORBIDDEN = {"rmi", "pull", "save", "load", "login", "build", "tag"}
# What the job's script finds in the container, left in the work directory, which is the submit directory.
SCRIPT = """#!/bin/bash
env -0 > seen.env
ls /data /cache > seen.mounts
"""
SHAPES = {
    "build": lambda image: rekeyed(manifests.built(image={"registry_image": image, "registry": image.split("/")[0]}), image),
    "local": manifests.container_image,
    "use-image": manifests.use_image,
    "build-on-compute": manifests.build_on_compute,
    "by hand": manifests.by_hand,
}


def rekeyed(document: Any, image: str) -> Any:
    for section in ("built_images", "built_models"):
        (value,) = document[section].values()
        document[section] = {image: value}
    document["built_images"][image]["docker_image"] = image
    return document


@pytest.fixture
def image() -> Iterator[str]:
    """An image that no registry has, under a name that names one."""
    name = f"registry.example.org:5000/test/probe-{os.getpid()}:1"
    subprocess.run(["docker", "tag", containers.IMAGE, name], check=True)
    yield name
    subprocess.run(["docker", "rmi", name], check=True, capture_output=True)


@pytest.fixture
def submit(tmp_path: Path) -> Path:
    for name in ("data", "cache", "tars", "bin", "submit"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}-is-here").touch()
    (tmp_path / "submit" / "run.sh").write_text(SCRIPT)
    return tmp_path / "submit"


def written(shape: str, image: str, submit: Path) -> Any:
    """A manifest of *shape* with all that a multi-node run needs, as its builder has left it."""
    document = SHAPES[shape](image)
    (model,) = document["built_models"].values()
    model.update(name="probe", scripts="run.sh", args="", additional_docker_run_options=f"-v {submit.parent}/data:/data/ --shm-size 64M")
    document["context"] = manifests.context(
        docker_env_vars={
            "MAD_SECRETS_HFTOKEN": "${MAD_SECRETS_HFTOKEN}",
            "MAD_SECRETS_OTHER": TOKEN,
            "NODE_RANK": "0",
            "NCCL_DEBUG": "INFO",
            "ODD": 'it\'s "a" $HOME = b',
            "STALE": "${NOBODY}",
        },
        docker_mounts={"/data": "/nowhere", "/cache": f"{submit.parent}/cache"},
    )
    document["deployment_config"] = {"env_vars": {"NCCL_IB_HCA": "mlx5_0,mlx5_2", "UCX_TLS": "rc,sm"}}
    return document


def run(submit: Path, path: str, docker: str | None = None) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run the manifest as a worker's task of a two-node job does, and return what was said and how docker was called."""
    log = containers.logging_docker(submit.parent / "bin", docker)
    job = {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "1", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "n01", "NCCL_DEBUG": "WARN"}
    job.update(MAD_DOCKER_BUILDS=str(submit.parent / "tars"), MAD_SECRETS_HFTOKEN=TOKEN, MAD_SECRETS_OTHER=TOKEN)
    environ = {**os.environ, **job, "PATH": f"{submit.parent}/bin:{os.environ['PATH']}"}
    command = [sys.executable, str(RUNNER), path]
    done = subprocess.run(command, cwd=submit, env=environ, capture_output=True, text=True, check=False, timeout=120)
    return done, containers.calls(log)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_restored_manifest_runs_after_one_look_at_the_image_and_nothing_else(shape: str, image: str, submit: Path) -> None:
    path = manifests.write(submit, written(shape, image, submit))
    (submit / "build_manifest.json").write_text(job_spec.text(job_spec.load_for_job(path).documents[0]))
    done, calls = run(submit, path)
    assert done.returncode == 0, done.stderr
    assert [call[:2] for call in calls].count(["image", "inspect"]) == 1
    assert [call for call in calls if call[:2] == ["image", "inspect"]] == [["image", "inspect", image]]
    assert not FORBIDDEN & {call[0] for call in calls}
    assert "barrier" not in done.stderr
    assert os.listdir(submit.parent / "tars") == ["tars-is-here"]


def test_the_container_gets_the_token_the_mounts_and_every_variable_and_nobody_else_sees_the_token(image: str, submit: Path) -> None:
    path = manifests.write(submit, written("build-on-compute", image, submit))
    restored = job_spec.load_for_job(path, runtime={"MAD_SECRETS_HFTOKEN": TOKEN})
    (submit / "build_manifest.json").write_text(job_spec.text(restored.documents[0]))
    done, calls = run(submit, path)
    assert done.returncode == 0, done.stderr
    seen = dict(part.partition("=")[::2] for part in (submit / "seen.env").read_text().split("\0")[:-1])
    wanted = {
        "MAD_SECRETS_HFTOKEN": TOKEN,
        "MAD_SECRETS_OTHER": TOKEN,
        "NODE_RANK": "1",
        "MASTER_ADDR": "n01",
        "NCCL_DEBUG": "INFO",
        "ODD": 'it\'s "a" $HOME = b',
        "NCCL_IB_HCA": "mlx5_0,mlx5_2",
        "UCX_TLS": "rc,sm",
        "MAD_GUEST_OS": "UBUNTU",
    }
    assert {name: seen.get(name) for name in wanted} == wanted
    assert "STALE" not in seen
    assert (submit / "seen.mounts").read_text().split() == ["/cache:", "cache-is-here", "/data:", "data-is-here"]
    assert ["--label", "madengine.job=4711"] in [call[at : at + 2] for call in calls for at in range(len(call))]
    assert TOKEN not in json.dumps(calls)
    assert TOKEN not in done.stderr + done.stdout
    assert TOKEN not in Path(path).read_text()


@pytest.mark.parametrize(
    ("shape", "first"),
    [("build", "login"), ("local", "image"), ("use-image", "image"), ("build-on-compute", "login"), ("by hand", "image")],
)
def test_without_us_the_same_manifests_end_in_a_pull_a_save_or_a_refusal(shape: str, first: str, image: str, submit: Path) -> None:
    fake = submit.parent / "fake"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    path = manifests.write(submit, written(shape, image, submit))
    done, calls = run(submit, path, str(fake))
    assert calls[0][0] == first
    assert done.returncode != 0 or FORBIDDEN & {call[0] for call in calls} or "barrier" in done.stderr or "NODE_RANK=0" in done.stderr
    assert TOKEN in json.dumps(calls)


class ArgumentsOfAllProcesses(threading.Thread):
    """Look at every process's arguments until told to stop; keep those that hold the token."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.found: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        while not self.done.is_set():
            self.looks += 1
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    self._look(f"/proc/{entry}/cmdline")

    def _look(self, path: str) -> None:
        try:
            text = Path(path).read_bytes().decode("utf-8", "replace")
        except OSError:
            return
        if TOKEN in text:
            self.found.add(text)


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - rocm.madengine.manifest_restore:
        src: "{path}"
        backup: true
        environment:
          MAD_SECRETS_HFTOKEN: "{{{{ lookup('ansible.builtin.env', 'MAD_SECRETS_HFTOKEN') }}}}"
          NCCL_DEBUG: a-plain-value-of-mine
      ignore_errors: true
    - rocm.madengine.manifest_info:
        path: "{path}"
      ignore_errors: true
    - rocm.madengine.env_passthrough:
        manifest: "{path}"
        environment:
          MAD_SECRETS_HFTOKEN: "{{{{ lookup('ansible.builtin.env', 'MAD_SECRETS_HFTOKEN') }}}}"
          NCCL_DEBUG: a-plain-value-of-mine
        dest: "{folder}/env"
      ignore_errors: true
"""


@pytest.mark.parametrize("options", [["--check"], []], ids=["check", "run"])
@pytest.mark.parametrize("is_good", [True, False], ids=["good", "bad"])
def test_a_planted_token_is_in_no_output_of_a_play_at_any_verbosity_and_in_no_processs_arguments(
    tmp_path: Path, options: list[str], is_good: bool
) -> None:
    document = manifests.with_token_everywhere()
    if not is_good:
        next(iter(document["built_models"].values()))["additional_docker_run_options"] += f" -e 'A={TOKEN}"
    path = manifests.write(tmp_path, document)
    play = tmp_path / "play.yml"
    play.write_text(PLAY.format(path=path, folder=tmp_path))
    environ = {**os.environ, "MAD_SECRETS_HFTOKEN": TOKEN, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "--diff", *options, str(play)]
    watch = ArgumentsOfAllProcesses()
    watch.start()
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=120)
    watch.done.set()
    watch.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("failed=0" in done.stdout, "ignored=0" in done.stdout) == (True, is_good), done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert "a-plain-value-of-mine" not in done.stdout + done.stderr
    assert (watch.found, watch.looks > 10) == (set(), True)
    if is_good and not options:
        assert TOKEN not in Path(path).read_text() + (tmp_path / "env").read_text()
