# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster whose nodes share no filesystem at all (MADLAB_SHARED=no): SLURM's own broadcast brings the image."""

from __future__ import annotations

from helpers.cluster import NODES, Cluster, build_image

SCRIPT = "#!/bin/sh\nsrun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE cat /payload\n"


def served(cluster: Cluster, reference: str) -> str:
    """Run a job of three nodes with *reference*; return what its containers printed."""
    output = f"/home/alice/{reference.split('/')[1].replace(':', '-')}.out"
    cluster.run("n1", f"rm -f {output}")
    # The job's output lies on its first node; the controller does not see it.
    job_id = cluster.submit(SCRIPT, "-N3", f"--output={output}", f"--comment=madengine:image={reference}", folder="/home/alice")
    ended = cluster.wait(job_id)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert cluster.leftovers(job_id) == {}
    return cluster.run("n1", f"cat {output}")


def moved(cluster: Cluster, node: str) -> str:
    """Return how many layers the last job has moved to *node*."""
    return cluster.run(
        node, "journalctl -q -t madengine --no-pager -o cat | grep -E '\"(load|publish)\"' | tail -n 1 | grep -o 'layers_moved\": [0-9]*'"
    ).split()[-1]


def test_an_image_reaches_nodes_that_share_nothing_and_the_second_time_only_its_new_layer(cluster: Cluster) -> None:
    for node in NODES[1:]:
        cluster.hosts[node].run("docker rmi -f lab/apart:v1 lab/apart:v2")
    build_image(cluster, "n1", "lab/apart:v1", payload="first")
    assert served(cluster, "lab/apart:v1").split() == ["first"] * 3
    build_image(cluster, "n1", "lab/apart:v2", payload="second")
    assert served(cluster, "lab/apart:v2").split() == ["second"] * 3
    assert [moved(cluster, node) for node in NODES] == ["1"] * 3
    assert served(cluster, "lab/apart:v2").split() == ["second"] * 3
    assert cluster.run("n2", "ls /var/tmp | grep madengine || true") == ""
