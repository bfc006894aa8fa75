# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by digest on a cluster whose Docker has the containerd store: they need no registry to reach all nodes."""

from __future__ import annotations

from helpers.cluster import NODES, Cluster, build_image


def test_an_image_by_digest_reaches_all_nodes_though_its_registry_does_not_answer(cluster: Cluster) -> None:
    build_image(cluster, "n1", "127.0.0.1:9/lab/pinned:1", payload="pinned")  # nobody listens there
    name = cluster.run("n1", "docker image inspect -f '{{index .RepoDigests 0}}' 127.0.0.1:9/lab/pinned:1").strip()
    script = "#!/bin/sh\nsrun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE cat /payload\n"
    try:
        ended = cluster.job(script, "-N3", f"--comment=madengine:image={name}")
        assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
        assert ended.output.split().count("pinned") == 3, ended.output
        for node in NODES[1:]:
            assert cluster.run(node, f"docker image inspect -f '{{{{.Id}}}} {{{{.RepoDigests}}}}' {name}").split() == [
                name[-71:],
                f"[{name}]",
            ]
            assert "127.0.0.1:9/lab/pinned:1" not in cluster.images(node)
    finally:
        for node in NODES:
            cluster.hosts[node].run(f"docker rmi -f 127.0.0.1:9/lab/pinned:1 {name}")
