# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containerd store's images lie with the node's containerd, wherever that has been moved to (MADLAB_STORE=containerd)."""

from __future__ import annotations

import contextlib
from typing import Iterator

from helpers.cluster import SCRIPT, Cluster

CONFIG, SMALL = "/etc/containerd/config.toml", "/run/small"


@contextlib.contextmanager
def small_containerd(cluster: Cluster, node: str) -> Iterator[None]:
    """Let containerd of *node* keep its files on a disk that has less room than a load has to leave free."""
    stop = "systemctl stop docker.socket docker containerd"
    cluster.run(node, f"mkdir -p {SMALL} && mount -t tmpfs -o size=60m none {SMALL}")
    cluster.run(node, f"cp -p {CONFIG} /root/ && {stop} && sed -i '1i root = \"{SMALL}/containerd\"' {CONFIG} && systemctl start docker")
    try:
        yield
    finally:
        cluster.run(node, f"{stop}; cp -p /root/config.toml {CONFIG}; umount --lazy {SMALL}; systemctl start docker")


def test_room_is_looked_for_before_a_byte_moves_where_containerd_keeps_its_files(cluster: Cluster, image: str) -> None:
    request = f"--comment=madengine:image={image}"
    with small_containerd(cluster, "n3"):
        job_id = cluster.submit(SCRIPT, "-N3", "--output=/var/tmp/space.out", request, folder="/var/tmp")
        assert cluster.wait(job_id).state == "FAILED", cluster.evidence()
        cluster.wait_idle()
        assert f"n3: files: too little space (path='{SMALL}/containerd'" in cluster.run("n1", "cat /var/tmp/space.out")
        assert cluster.run("n3", "docker images -q") == ""
    ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--output=/var/tmp/space.out", request, folder="/var/tmp"))
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
