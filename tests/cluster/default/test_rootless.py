# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users with a rootless Docker of their own, as Docker ships it: its network is slirp4netns, where the node's loopback is out of reach."""

from __future__ import annotations

import json
from typing import Iterator, Tuple

import pytest
from helpers.cluster import Cluster, manifest, the_line

FOLDER = "/shared/home/alice/rootless"
HAVE = ("n1", "n2")
SOCKET = "/run/user/2000/docker.sock"  # alice's
# What a session of hers would do. The lab's nodes have no PAM for one, and systemd's own unit for the folder ends when nobody is there.
START = """
install -d -m 0755 /run/user
install -d -m 0700 -o alice -g alice /run/user/2000
[ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200 && chmod 0666 /dev/net/tun; }
install -d -o alice -g alice /tmp/rootless
systemd-run --quiet --collect --unit=rootless --uid=alice --gid=alice --setenv=HOME=/tmp/rootless --setenv=XDG_RUNTIME_DIR=/run/user/2000 \
    --setenv=PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/share/docker.io/contrib/dockerd-rootless.sh --data-root=/tmp/rootless/data
"""
STOP = "systemctl stop rootless.service; rm -rf /tmp/rootless /run/user/2000"
SCRIPT = """\
#!/bin/sh
export DOCKER_HOST=unix:///run/user/$(id -u)/docker.sock
srun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE cat /payload
"""


@pytest.fixture
def rootless(cluster: Cluster) -> Iterator[Tuple[str, ...]]:
    """Let alice have a Docker of her own on two nodes, and the hooks look for one on all."""
    with cluster.setting("DockerSocket=/run/user/%U/docker.sock"):
        try:
            for node in HAVE:
                cluster.run(node, START)
            for node in HAVE:
                cluster.until(node, f"docker -H unix://{SOCKET} info >/dev/null 2>&1")
            yield HAVE
        finally:
            for node in HAVE:
                cluster.run(node, STOP)


def test_a_job_runs_on_its_users_rootless_docker_and_fails_alone_where_there_is_none(
    cluster: Cluster, rootless: Tuple[str, ...], image: str
) -> None:
    cluster.run("n1", f"docker save {image} | su alice -c 'docker -H unix://{SOCKET} load'")
    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))

    missing = cluster.job(SCRIPT, "-N3", "--comment=madengine", folder=FOLDER)
    assert missing.state == "FAILED", f"{missing}\n{cluster.evidence()}"
    assert "start your own Docker on every node of the job" in the_line(missing.output)

    ended = cluster.job(SCRIPT, f"--nodelist={','.join(rootless)}", "--comment=madengine", folder=FOLDER)
    assert (ended.state, ended.output.splitlines()) == ("COMPLETED", [image] * 2), f"{ended}\n{cluster.evidence()}"
    load = json.loads(cluster.run("n1", f"grep '\"load\"' {FOLDER}/madengine-{ended.job_id}/node_1/timeline.jsonl"))
    # The layers could not be pulled from the node's loopback, so the daemon was handed an archive, and why is told.
    assert load["method"] == "load"
    assert load["reason"].startswith("the daemon does not come to this node's loopback: ")
    assert image not in cluster.images("n2")  # nothing went to the node's own Docker
    assert cluster.leftovers(ended.job_id) == {}
