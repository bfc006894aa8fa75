# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unmodified madengine (its double) inside an allocation: two runs on two parts of it, with a manifest that nobody has restored."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from helpers import madengine_job
from helpers.cluster import NODES, Cluster, container

FOLDER, PROGRAMS = "/shared/home/alice/runs", "/shared/home/alice/venv/bin"
IMAGE, TOKEN = "lab/two-runs:1", "hf_PlantedTokenThatNobodyMaySee0003"
FIRST, SECOND = "20261006120000_a1b2c3", "20261006120500_0f0f0f"
DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc && echo root:x:0:0::/:/bin/sh > /etc/passwd
RUN printf '#!/bin/sh\\nexec /bin/sh "$@"\\n' > /bin/bash && chmod 755 /bin/bash
"""
# Without the mount, or the name of its result, this ends without a number.
MODEL = 'printf "model,performance,metric\\ntiny,$((MODEL_NAME + NODE_RANK + $(cat /data/value))),tokens/s\\n" > "$MAD_OUTPUT_CSV"\n'
PROGRAM = f"""\
#!/bin/sh
[ "$1" = run ] || {{ echo madengine 2.2; exit 0; }}
exec python3 {FOLDER}/runner.py "$3"
"""
MANIFEST = {
    "built_images": {"tiny": {"docker_image": IMAGE, "registry_image": IMAGE, "dockerfile": "docker/tiny.Dockerfile"}},
    "built_models": {"tiny": {"name": "tiny", "scripts": "run.sh", "n_gpus": "0"}},
    "context": {"docker_env_vars": {"MAD_SECRETS_HFTOKEN": TOKEN}, "docker_mounts": {"/data": f"{FOLDER}/data"}},
    "deployment_config": {"slurm": {"nodes": 2}},
}


@pytest.fixture
def submitted(cluster: Cluster) -> None:
    cluster.run("n1", f"rm -rf {FOLDER} {PROGRAMS}")
    cluster.write("/root/runs/Dockerfile", DOCKERFILE, user="root")
    cluster.run("n1", f"cp /bin/busybox /root/runs && docker build -q -t {IMAGE} /root/runs")
    runner = Path(__file__).parents[2] / "workloads/runner.py"
    files = {"build_manifest.json": json.dumps(MANIFEST), "runner.py": runner.read_text(), "run.sh": MODEL, "data/value": "7\n"}
    files["models.json"] = json.dumps([{"name": "tiny", "multiple_results": "perf_tiny.csv"}])
    files.update({f"task_{run}.sh": madengine_job.task(FOLDER, PROGRAMS, "/tmp", f"_{run}") for run in (FIRST, SECOND)})
    for name, text in files.items():
        cluster.write(f"{FOLDER}/{name}", text)
    cluster.write(f"{PROGRAMS}/madengine", PROGRAM, mode="0755")


@pytest.mark.usefixtures("submitted")
def test_two_runs_of_unmodified_madengine_on_two_parts_of_an_allocation_are_two_results(cluster: Cluster) -> None:
    step = f"MODEL_NAME={{}} srun -N2 -n2 -w {{}} bash {FOLDER}/task_{{}}.sh && cat err_0 err_1"
    script = " && ".join([step.format(100, "n1,n2", FIRST), step.format(500, "n2,n3", SECOND), "echo job=$SLURM_JOB_ID"])
    command = ["docker", "exec", "-u", "alice", "-w", FOLDER, container("c0"), "salloc", "-N3", "--comment=madengine", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr + cluster.evidence()
    job_id = int(done.stdout.rpartition("job=")[2])
    cluster.until("c0", f"! squeue --noheader --jobs {job_id} | grep -q .")  # it has no output file to wait with
    # The prolog brought the image, and the restored manifest is what madengine reads: it looks once and takes what is there.
    said = done.stdout + done.stderr
    assert (said.count("docker image inspect"), said.count("the manifest of this run is restored on this node")) == (4, 4)
    assert [word for word in ("docker rmi", "docker pull", "docker save", TOKEN) if word in said] == []
    for run, best, nodes, outside in ((FIRST, 107.0, {"n1", "n2"}, [2]), (SECOND, 507.0, {"n2", "n3"}, [0])):
        folder = f"{FOLDER}/slurm_results/tiny/{job_id}_{run}"  # where madengine's own collector looks
        chosen = cluster.json(f"{folder}/selection.json")
        values = {cluster.json(f"{folder}/{each['path'].partition('/')[0]}/node.json")["node"] for each in chosen["candidates"]}
        assert (chosen["verdict"], chosen["lacking"], chosen["facts"]["outside"], values) == ("ok", [], outside, nodes)
        assert chosen["best"]["value"] == best  # of equals the lowest rank's
        assert f"tiny,{best + 1:.0f}," in cluster.run("n1", f"cat {folder}/node_*/perf_tiny.csv")
        assert "Nodes outside this run: " in cluster.run("n1", f"cat {folder}/report.txt")
    assert cluster.leftovers(job_id) == {}
    assert {node: cluster.run(node, "ls /tmp | grep madengine_ || true") for node in NODES} == dict.fromkeys(NODES, "")
