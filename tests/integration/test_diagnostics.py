# SPDX-License-Identifier: GPL-3.0-or-later
"""Real containers on the real daemon: those of one job are looked at, a bystander's is not touched."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import diagnostics

IMAGE = "debian:trixie"
SECRET = "s3cr3t-value-of-a-token"


def docker(*args: str) -> str:
    return subprocess.run(["docker", *args], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def engine() -> Iterator[Engine]:
    daemon = Engine()
    yield daemon
    daemon.close()


@pytest.fixture
def job() -> Iterator[str]:
    job_id = f"9{secrets.randbelow(10**8)}"
    yield job_id
    left = docker("ps", "-aq", "--filter", f"label=test={job_id}").split()
    if left:
        docker("rm", "-f", "-v", *left)


def run(job: str, script: str, *options: str, waits: bool = True) -> str:
    started = docker("run", "-d", "--label", f"test={job}", "--network", "none", *options, IMAGE, "bash", "-c", script)
    if waits:
        docker("wait", started)
    return started


def test_the_jobs_containers_are_found_by_label_and_by_environment_and_no_others(job: str, engine: Engine, tmp_path: Path) -> None:
    script = "mkdir -p /run_logs/4711; echo 'server: bind failed' > /run_logs/4711/server.log"
    script += f"; echo token {SECRET}; echo 'RuntimeError: no GPU' >&2; exit 3"
    run(job, script, "--label", f"madengine.job={job}", "--name", f"a{job}", "-e", f"HF_TOKEN={SECRET}")
    run(job, "exit 0", "-e", f"SLURM_JOB_ID={job}", "--name", f"b{job}")
    bystander = run(job, "echo bystander; sleep 300", "-e", f"SLURM_JOB_ID={job}0", "--name", f"c{job}", waits=False)
    answer = diagnostics.diagnose(engine, str(tmp_path / "out"), job_id=job)
    assert {each["name"]: each["exit_code"] for each in answer["containers"]} == {f"a{job}": 3, f"b{job}": 0}
    assert f"a{job}: exit code 3: RuntimeError: no GPU" in answer["summary"]
    assert (tmp_path / f"out/a{job}/logs/run_logs_4711_server.log").read_text() == "server: bind failed\n"
    assert SECRET not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert json.loads(docker("inspect", bystander))[0]["State"]["Running"] is True


def test_a_running_containers_processes_and_sockets_are_seen(job: str, engine: Engine, tmp_path: Path) -> None:
    perl = (
        "perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(29500, INADDR_LOOPBACK)); listen(S, 5);"
        ' $| = 1; print "up\\n"; sleep 300\''
    )
    started = run(job, perl, "--label", f"madengine.job={job}", "--name", f"a{job}", waits=False)
    logs: Any = subprocess.Popen(["docker", "logs", "-f", started], stdout=subprocess.PIPE, text=True)
    assert logs.stdout.readline() == "up\n"
    logs.terminate()
    logs.communicate()
    answer = diagnostics.diagnose(engine, str(tmp_path / "out"), container=f"a{job}")
    assert answer["containers"][0]["status"] == "running"
    assert "perl" in (tmp_path / f"out/a{job}/processes.txt").read_text()
    assert "127.0.0.1:29500" in (tmp_path / f"out/a{job}/sockets.txt").read_text()
    assert answer["notes"] == []


def test_out_of_memory_is_seen(job: str, engine: Engine, tmp_path: Path) -> None:
    run(job, "tail /dev/zero", "--memory", "32m", "--memory-swap", "32m", "--label", f"madengine.job={job}")
    described = diagnostics.diagnose(engine, str(tmp_path / "out"), job_id=job)["containers"][0]
    # Docker's own flag is not set on every machine; the kernel's log is the other witness, where it can be read.
    assert described["oom_killed"] is True
    assert described["exit_code"] == 137
