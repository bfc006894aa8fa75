# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that boot with the bundle's package serve jobs at once, with no playbook and no shared filesystem (MADLAB_BUNDLE=yes)."""

from __future__ import annotations

from helpers.cluster import NODES, Cluster, build_image

SCRIPT = "#!/bin/sh\nsrun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE cat /payload\n"


def test_a_node_that_boots_with_it_brings_a_jobs_image_to_all_nodes(cluster: Cluster) -> None:
    for node in NODES[1:]:
        cluster.hosts[node].run("docker rmi -f lab/baked:v1")
    build_image(cluster, "n1", "lab/baked:v1", payload="baked")
    job_id = cluster.submit(SCRIPT, "-N3", "--output=/home/alice/baked.out", "--comment=madengine:image=lab/baked:v1", folder="/home/alice")
    ended = cluster.wait(job_id)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert cluster.run("n1", "cat /home/alice/baked.out").split() == ["baked"] * 3
    assert cluster.leftovers(job_id) == {}


def test_a_job_that_is_not_ours_is_as_it_was(cluster: Cluster) -> None:
    ended = cluster.wait(cluster.submit("#!/bin/sh\nsrun hostname\n", "-N3", "--output=/home/alice/plain.out", folder="/home/alice"))
    assert ended.state == "COMPLETED", str(ended)
    assert sorted(cluster.run("n1", "cat /home/alice/plain.out").split()) == list(NODES)


def test_an_image_without_the_package_any_more_stays_in_service(cluster: Cluster) -> None:
    cluster.run("n3", "cp -a /opt/madengine-hooks /etc/slurm /etc/madengine /root/ && dpkg --purge rocm-madengine-hooks")
    try:
        assert cluster.hosts["n3"].run("ls /opt/madengine-hooks").stdout.split() in ([], ["releases"])
        ended = cluster.wait(cluster.submit("#!/bin/sh\nhostname\n", "-w", "n3", "--output=/home/alice/gone.out", folder="/home/alice"))
        assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
        assert cluster.run("n3", "cat /home/alice/gone.out").split() == ["n3"]
    finally:
        folders = {"madengine-hooks": "/opt/madengine-hooks", "slurm": "/etc/slurm", "madengine": "/etc/madengine"}
        # The purge takes /opt, too, where nothing else is in it.
        cluster.run("n3", "mkdir -p /opt && " + " && ".join(f"cp -aT /root/{kept} {folder}" for kept, folder in folders.items()))
