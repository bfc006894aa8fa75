# SPDX-License-Identifier: GPL-3.0-or-later
"""The three workloads of docs/examples on the cluster: real jobs and containers, with the probe in place of the model.

The lab has no GPUs, no InfiniBand and may not raise memlock; stand-ins take their places, and nothing else is changed.
"""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.cluster import NODES, Cluster, Ended

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "examples"
FOLDER = "/shared/home/alice/examples"
TOKEN = "hf_PlantedTokenThatNobodyMaySee0002"
WORKLOADS = {"mlperf-llama31-8b": 2, "primus-llama31-8b": 2, "vllm-disagg-llama31-8b": 3}
# A container's own /sys has no such directory where there is no InfiniBand, and nothing can be made there.
STAND_INS = {"/sys/class/infiniband": "/srv/stand-in/infiniband", " --ulimit memlock=-1": ""}
DEVICES = ["kfd", *(f"dri/renderD{128 + n}" for n in range(8)), "infiniband/rdma_cm", *(f"infiniband/uverbs{n}" for n in range(8))]
# As images for these workloads are in what matters: groups by name, a bash, and rocm/vllm's variable for Ray.
DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc /tmp && echo root:x:0:0::/:/bin/sh > /etc/passwd && printf 'root:x:0:\\nvideo:x:44:\\nrender:x:105:\\n' > /etc/group
RUN printf '#!/bin/sh\\nexec /bin/sh "$@"\\n' > /bin/bash && chmod 755 /bin/bash
ENV RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES=1
"""


@pytest.fixture(scope="module", autouse=True)
def hardware(cluster: Cluster) -> None:
    script = "mkdir -p /srv/stand-in/infiniband/mlx5_0 /dev/dri /dev/infiniband; cd /dev; "
    script += "; ".join(f"[ -e {name} ] || mknod -m 666 {name} c 1 3" for name in DEVICES)
    for node in NODES:
        cluster.run(node, script)


@pytest.fixture(params=WORKLOADS)
def workload(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """Copy the examples for alice, with the stand-ins, and build the workload's image on n1 alone."""
    cluster.run("n1", f"rm -rf {FOLDER}")
    for path in sorted(EXAMPLES.rglob("*")):
        if path.is_file():
            text = path.read_text()
            for real, stand_in in STAND_INS.items():
                text = text.replace(real, stand_in)
            mode = "0755" if path.stat().st_mode & 0o100 else "0644"
            cluster.write(f"{FOLDER}/{path.relative_to(EXAMPLES)}", text, mode=mode)
    cluster.write(f"{FOLDER}/token", f"export MAD_SECRETS_HFTOKEN={TOKEN} DATA_DIR={FOLDER}/data\n", mode="0600")
    cluster.write(f"{FOLDER}/runner.py", (ROOT / "tests/workloads/runner.py").read_text())
    build(cluster, reference(request.param))
    return str(request.param)


def example(workload: str) -> Any:
    return json.loads((EXAMPLES / workload / "build_manifest.json").read_text())


def reference(workload: str) -> str:
    return next(iter(example(workload)["built_images"]))


def build(cluster: Cluster, image: str) -> None:
    cluster.write("/root/workload/Dockerfile", DOCKERFILE, user="root")
    cluster.run("n1", f"cp /bin/busybox /root/workload && docker build -q -t {image} /root/workload")
    for node in ("n2", "n3"):
        cluster.hosts[node].run(f"docker rmi -f {image}")


def submit(cluster: Cluster, *words: str) -> Ended:
    script = f"cd {FOLDER} && . ./token && sbatch --parsable {shlex.join(words)}"
    return cluster.wait(int(cluster.run("c0", f"runuser -u alice -- sh -c {shlex.quote(script)}")))


def everything_written(cluster: Cluster, node: str, job_id: int) -> str:
    """Return what the hooks have said and left on *node* and on the share."""
    places = f"/run/madengine /var/lib/madengine {FOLDER}"
    command = f"journalctl -q -t madengine --no-pager; grep -raF {TOKEN} {places} --exclude=token || true"
    return cluster.run(node, command) + cluster.hosts[node].run(f"grep -raF {TOKEN} /var/log/slurm").stdout


def test_a_workload_finds_all_it_needs_on_every_node(cluster: Cluster, workload: str) -> None:
    started = int(time.time())
    ended = submit(cluster, f"{workload}/job.sh", "./probe", f"{workload}/expected")
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    for rank in range(WORKLOADS[workload]):
        assert f"probe: node {rank}: all " in ended.output, str(ended)
    for node in NODES[: WORKLOADS[workload]]:
        asked = f"docker events --since {started} --until $(date +%s) --filter event=create --filter label=madengine.job={ended.job_id}"
        assert reference(workload) in cluster.run(node, asked)
        assert TOKEN not in everything_written(cluster, node, ended.job_id)
    assert TOKEN not in ended.output
    assert cluster.leftovers(ended.job_id) == {}
    (model,) = example(workload)["built_models"].values()
    collected = cluster.run("n1", f"cat {FOLDER}/madengine-{ended.job_id}/{model['multiple_results']}")
    assert collected == "model,performance,metric\nprobe,1.0,checks\n"


def test_what_a_workload_lacks_is_said_by_node_and_name(cluster: Cluster, workload: str) -> None:
    expected = f"{FOLDER}/{workload}/expected"
    cluster.write(expected, "variable NNODES 9\ngiven NOT_THERE\ndevice /dev/none\nmount /none\nmount /myworkspace ro\n")
    ended = submit(cluster, f"{workload}/job.sh", "./probe", f"{workload}/expected")
    assert ended.state == "FAILED"
    for line in (
        f"probe: node 1: NNODES is '{WORKLOADS[workload]}' (should be '9')",
        "probe: node 1: NOT_THERE is empty or not set",
        "probe: node 1: /dev/none is no device that can be opened",
        "probe: node 1: nothing is mounted on /none",
        "probe: node 1: /myworkspace is mounted writable (should be read-only)",
        "probe: node 1: 5 of 5 checks failed",
    ):
        assert line in ended.output


RESTORE = """
import sys
sys.path.insert(0, sys.argv[2])
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec as manifest
files.write(sys.argv[1], manifest.text(manifest.load_for_job(sys.argv[1]).documents[0]), 0o600)
"""
# What `madengine run` submits, as far as the runner depends on it.
MADENGINE_JOB = """#!/bin/bash
export NPROC_PER_NODE=8 WORLD_SIZE=$((SLURM_NNODES * 8)) HIP_VISIBLE_DEVICES=0,1,2,3,4,5,6,7
export PD_RUN_ID=$SLURM_JOB_ID OUTPUT_DIR=$PWD/run_logs/$SLURM_JOB_ID NCCL_DEBUG=WARN MAD_DOCKER_BUILDS=$PWD/tars
mkdir -p "$OUTPUT_DIR/sync" tars
srun --ntasks-per-node=1 python3 runner.py build_manifest.json
"""


def test_madengines_own_runner_needs_nothing_but_the_restored_manifest(cluster: Cluster, workload: str) -> None:
    written = json.loads(cluster.run("n1", f"cat {FOLDER}/{workload}/build_manifest.json"))
    (model,) = written["built_models"].values()
    model.update(scripts="probe", args="expected")
    path = cluster.write(f"{FOLDER}/build_manifest.json", json.dumps(written))
    # In madengine's containers /dev/shm is the node's, and CSVs lie in the work directory instead of /results.
    lines = cluster.run("n1", f"cat {FOLDER}/{workload}/expected").splitlines()
    kept = [line for line in lines if "/results" not in line and not line.startswith(("csv ", "shm "))]
    cluster.write(f"{FOLDER}/expected", "".join(f"{line}\n" for line in kept))
    cluster.write(f"{FOLDER}/restore.py", RESTORE)
    library = cluster.run("n1", "dirname $(find / -xdev -type d -path '*/ansible_collections' -not -path '/proc/*' | head -n 1)").strip()
    cluster.run("n1", f"runuser -u alice -- python3 {FOLDER}/restore.py {path} {library}")
    cluster.write(f"{FOLDER}/madengine.sh", MADENGINE_JOB)
    ended = submit(cluster, f"-N{WORKLOADS[workload]}", "--comment=madengine", "madengine.sh")
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    for rank in range(WORKLOADS[workload]):
        assert f"probe: node {rank}: all " in ended.output, str(ended)
    for word in ("docker rmi", "docker pull", "docker save", "docker load", "barrier", TOKEN):
        assert word not in ended.output
    assert ended.output.count("docker image inspect") == WORKLOADS[workload]
    assert cluster.run("n1", f"ls {FOLDER}/tars") == ""
