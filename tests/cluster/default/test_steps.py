# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task sees of its step, and what a job's output says once, on a real cluster."""

from __future__ import annotations

from typing import Dict

import pytest
from helpers.cluster import Cluster

IMAGE = "lab/steps:1"
SHOW = 'echo "$SLURM_STEP_ID $SLURMD_NODENAME $NNODES $NODE_RANK $MASTER_ADDR $MASTER_PORT ${MAD_DOCKER_BUILDS-none}"'
SCRIPT = f"""#!/bin/bash
export MAD_DOCKER_BUILDS=/shared/builds
srun bash -c '{SHOW}'
srun -N2 -n2 -w n2,n3 bash -c '{SHOW}' &
srun -N1 -n1 -w n1 bash -c '{SHOW}' &
wait
type madengine
"""


@pytest.fixture
def image(cluster: Cluster) -> None:
    cluster.write("/root/steps/Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\n", user="root")
    cluster.run("n1", f"cp /bin/busybox /root/steps && docker build -q -t {IMAGE} /root/steps")


@pytest.mark.usefixtures("image")
def test_steps_side_by_side_meet_each_at_its_own_first_node_and_port(cluster: Cluster) -> None:
    ended = cluster.job(SCRIPT, "--nodes=3", "--ntasks-per-node=1", f"--comment=madengine:image={IMAGE}")
    assert ended.state == "COMPLETED", str(ended)
    said = [line.split() for line in ended.output.splitlines() if line[:1].isdigit()]
    by_place: Dict[tuple[int, str], list[str]] = {(int(words[2]), words[1]): words for words in said}
    assert {place: words[3] for place, words in by_place.items()} == {
        (3, "n1"): "0", (3, "n2"): "1", (3, "n3"): "2", (2, "n2"): "0", (2, "n3"): "1", (1, "n1"): "0",
    }  # fmt: skip
    assert {nodes: {words[4] for (count, _), words in by_place.items() if count == nodes} for nodes in (1, 2, 3)} == {
        1: {"n1"}, 2: {"n2"}, 3: {"n1"},
    }  # fmt: skip
    ports = [{words[5] for (count, _), words in by_place.items() if count == nodes} for nodes in (1, 2, 3)]
    assert [len(each) for each in ports] == [1, 1, 1]
    assert len(set.union(*ports)) == 3
    assert {words[6] for words in said} == {"none"}
    assert "madengine is a function" in ended.output


def test_a_comment_that_is_no_request_is_named_once_and_the_job_runs(cluster: Cluster) -> None:
    ended = cluster.job("#!/bin/sh\nsrun --ntasks-per-node=1 true && echo ran\n", "--nodes=2", "--comment=madengine,image=a:1")
    assert (ended.state, ended.output.count("its comment is no request"), "ran" in ended.output) == ("COMPLETED", 1, True)
    assert cluster.leftovers(ended.job_id) == {}


def test_a_job_of_madengine_s_that_cannot_be_helped_runs_and_hears_why_once(cluster: Cluster) -> None:
    out = "/shared/home/alice/slurm_results/madengine-mixtral_%j_%t"
    cluster.run("n1", "install -d -o alice -g alice /shared/home/alice/slurm_results")
    script = "#!/bin/sh\nsrun --ntasks-per-node=1 true && echo ran\n"
    ended = cluster.job(script, "--nodes=2", f"--output={out}.out", f"--error={out}.err", folder="/shared/home/alice/slurm_results")
    path = out.replace("%j", str(ended.job_id)).replace("%t", "0")
    for name in (path + ".out", path + ".err"):
        assert cluster.run("n1", f"cat {name}").count("no manifest found") == 1, name
    assert (ended.state, cluster.leftovers(ended.job_id)) == ("COMPLETED", {})
