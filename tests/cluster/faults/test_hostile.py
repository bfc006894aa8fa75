# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mallory, who may not use Docker, tries what a user can; bob's job runs bob's image, and every node stays in service.

A filesystem that answers nobody needs /dev/fuse, which the lab's nodes have not: test_process, test_watchdog and test_workspace mount it.
"""

from __future__ import annotations

import shlex
from typing import Iterator, List

import pytest
from helpers.cluster import NODES, Cluster, manifest, the_line

STORE = "/shared/madengine"
HOME = "/shared/home/mallory"
SCRIPT = """#!/bin/sh
srun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE cat /payload
touch running
timeout 60 sh -c 'until [ -e go ]; do sleep 0.1; done'
"""
FLOOD = """
import socket, time
end = time.monotonic() + 60
while time.monotonic() < end:
    for port in range(288, 308):
        with socket.socket() as peer:
            peer.setblocking(False)
            peer.connect_ex(("n1", port))
"""


def as_mallory(cluster: Cluster, node: str, command: str) -> str:
    return cluster.run(node, f"runuser -u mallory -- sh -c {shlex.quote(command)}")


@pytest.fixture
def mallory(cluster: Cluster) -> Iterator[str]:
    """An account without Docker on every node, with a home on the share; nothing of hers is left afterwards."""
    for node in ("c0", *NODES):
        cluster.run(node, f"useradd --uid 2003 --user-group --shell /bin/bash --no-create-home --home {HOME} mallory")
    cluster.run("c0", f"install -d -o mallory -g mallory {HOME}")
    try:
        yield "mallory"
    finally:
        cluster.run("n1", f"rm -rf {HOME} $(find {STORE} -user mallory)")
        for node in ("c0", *NODES):
            cluster.run(node, "pkill -KILL -u mallory; userdel -f mallory")


def project(cluster: Cluster, user: str, image: str, name: str, *empty: str) -> str:
    folder = f"/shared/home/{user}/{name}"
    cluster.run("n1", f"rm -rf {folder}")
    for each in empty:
        cluster.write(f"{folder}/{each}", "", user=user)
    cluster.write(f"{folder}/build_manifest.json", manifest(image), user=user)
    return folder


def diff_ids(cluster: Cluster, image: str) -> List[str]:
    text = cluster.run("n1", f"docker image inspect --format '{{{{range .RootFS.Layers}}}}{{{{println .}}}}{{{{end}}}}' {image}")
    return text.split()


def test_a_hostile_user_costs_bob_no_image_no_node_and_no_job(cluster: Cluster, mallory: str, image: str) -> None:
    # Another's namespace, made first: bob's image goes another way, and stays bob's.
    cluster.run("n1", f"rm -rf {STORE}/images/2001")
    as_mallory(cluster, "n1", f"mkdir {STORE}/images/2001")
    squatted = project(cluster, "bob", image, "squatted", "go")
    ended = cluster.job(SCRIPT, "-N3", "--comment=madengine", user="bob", folder=squatted)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert ended.output.splitlines().count(image) == 3
    assert f"job-{ended.job_id}." not in cluster.run("n1", f"ls {STORE}/leases")  # nothing is left of the way that was begun
    as_mallory(cluster, "n1", f"rmdir {STORE}/images/2001")
    for node in NODES[1:]:
        cluster.run(node, f"docker rmi -f {image}")

    # A job of hers whose files have no end fails, and takes no node with it.
    as_mallory(cluster, "n1", f"mkdir {HOME}/.docker && ln -s /dev/zero {HOME}/.docker/config.json && ln -s /dev/zero {HOME}/.netrc")
    endless = cluster.job(SCRIPT, "-N1", "-wn3", "--comment=madengine", user=mallory, folder=project(cluster, mallory, image, "endless"))
    assert endless.state == "FAILED", f"{endless}\n{cluster.evidence()}"
    assert the_line(endless.output).startswith("madengine: job: ")

    # Other bytes under the digests that bob's image will publish, and connections to the leader's ports all the time.
    for digest in diff_ids(cluster, image):
        as_mallory(
            cluster, "n1", f"[ -e {STORE}/blobs/sha256/{digest[7:]} ] || head -c 4096 /dev/urandom >{STORE}/blobs/sha256/{digest[7:]}"
        )
    cluster.run("n2", f"runuser -u mallory -- setsid nice -n 19 python3 -c {shlex.quote(FLOOD)} >/dev/null 2>&1 & true")
    folder = project(cluster, "bob", image, "own")
    job_id = cluster.submit(SCRIPT, "-N3", "--comment=madengine", user="bob", folder=folder)
    cluster.until("n1", f"[ -e {folder}/running ]")

    # Nothing of /run is hers to fill; and what is mounted on the results is neither entered nor in the way.
    for node in NODES:
        assert as_mallory(cluster, node, "find /run/madengine -writable ! -type l 2>/dev/null || true") == ""
    cluster.run("n2", f"mount -t tmpfs -o size=1m none /var/lib/madengine/jobs/{job_id}/results")
    cluster.write(f"{folder}/go", "", user="bob")
    ran = cluster.wait(job_id)
    assert ran.state == "COMPLETED", f"{ran}\n{cluster.evidence()}"
    assert ran.output.splitlines().count(image) == 3
    cluster.wait_idle()
    assert [cluster.leftovers(each) for each in (ended.job_id, endless.job_id, job_id)] == [{}, {}, {}]
    assert cluster.run("n2", "grep -c madengine/jobs /proc/mounts || true").strip() == "0"
