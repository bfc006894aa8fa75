# SPDX-License-Identifier: GPL-3.0-or-later
"""What fails while an image is on its way, with real daemons: nothing half is left, and the next job heals."""

from __future__ import annotations

import json
from typing import Any, List

import pytest
from helpers.cluster import DOCKERFILE, NODES, SCRIPT, Cluster, manifest, the_line

STORE = "/shared/madengine"
SMALL = "/run/small"


def project(cluster: Cluster, name: str, reference: str, **model: Any) -> str:
    """Return a submit directory with a manifest for *reference*."""
    folder = f"/shared/home/alice/{name}"
    cluster.run("n1", f"rm -rf {folder}")
    cluster.write(f"{folder}/build_manifest.json", manifest(reference, **model))
    return folder


def layers_of(cluster: Cluster, reference: str) -> List[str]:
    return sorted({cluster.run(node, f"docker image inspect -f '{{{{.RootFS.Layers}}}}' {reference}") for node in NODES})


def stored_as(reference: str) -> str:
    """Return how the store calls an image's directory."""
    return reference.replace("/", "%2F").replace(":", "%3A")


def grow(cluster: Cluster, reference: str, mib: int) -> None:
    """Add a layer of noise to n1's image."""
    script = f"docker run --name grow {reference} dd if=/dev/urandom of=/noise bs=1M count={mib} && docker commit grow {reference}"
    cluster.run("n1", f"{script} && docker rm grow")


def test_a_node_whose_disk_is_full_fails_the_job_with_its_name_and_one_that_cannot_pull_loads(cluster: Cluster, image: str) -> None:
    folder = project(cluster, "disk", image)
    grow(cluster, image, 80)
    options = f"--data-root {SMALL} --exec-root /run/small-exec --pidfile /run/small.pid -H unix:///run/small.sock"
    cluster.run("n3", f"mkdir -p {SMALL} && mount -t tmpfs -o size=64m none {SMALL}")
    # A network of its own: without a bridge, dockerd takes the one away that is there.
    cluster.run("n3", f"systemd-run --unit=small --property=PrivateNetwork=yes dockerd {options} --bridge none --iptables=false -G docker")
    try:
        cluster.until("n3", "docker -H unix:///run/small.sock info >/dev/null 2>&1")
        with cluster.setting("DockerSocket=/run/small.sock", "n3"):
            ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder))
        assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
        assert the_line(ended.output).startswith("madengine: node: n3: ")
        assert "too little space" in the_line(ended.output)  # looked at before a byte moves
        cluster.wait_idle()
        assert cluster.run("n3", "docker -H unix:///run/small.sock images -q") == ""
        cluster.run("n3", f"mount -o remount,size=1g {SMALL}")
        with cluster.setting("DockerSocket=/run/small.sock", "n3"):
            job_id = cluster.submit("#!/bin/sh\nsrun true\n", "-N3", "--comment=madengine", folder=folder)
            ended = cluster.wait(job_id)
        # This daemon has a network of its own, so it cannot pull from the node's loopback.
        assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
        loads = cluster.run("n1", f"grep -h '\"load\"' {folder}/madengine-{job_id}/node_*/timeline.jsonl")
        assert "does not come to this node's loopback" in loads
    finally:
        cluster.run("n3", f"systemctl stop small; umount {SMALL}")
    ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder))
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"


def test_a_daemon_that_dies_in_the_middle_of_a_load_leaves_nothing_half_and_the_next_job_heals(cluster: Cluster, image: str) -> None:
    folder = project(cluster, "restart", image)
    cluster.hold_docker("n3")
    job_id = cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder)
    cluster.until_phase("n3", job_id, "wait")  # its load has begun, and its daemon is as deaf as if it were busy with it
    cluster.run("n3", "systemctl kill --signal=KILL docker")
    ended = cluster.wait(job_id)
    assert ended.state in ("COMPLETED", "FAILED"), f"{ended}\n{cluster.evidence()}"
    if ended.state == "FAILED":
        assert "n3: engine: " in the_line(ended.output)
    cluster.wait_idle()
    ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder))
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert len(layers_of(cluster, image)) == 1


def killed_in_mid_layer(cluster: Cluster, folder: str, layer: str, says: str) -> int:
    """Return the job whose first node's publisher, or its hook, was killed while it wrote *layer* and the others waited for that."""
    with cluster.holding_reads("n1", layer, after=2) as is_held:
        job_id = cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder)
        is_held()
        for node in ("n2", "n3"):
            cluster.until(node, "ss -Htnp state established dst 127.0.0.1 | grep -q dockerd")
        size_bytes, path = cluster.run("n1", f"stat -c '%s %n' {STORE}/tmp/n1.*").split()
        assert 0 < int(size_bytes) < 8 << 20
        publisher = path.split(".")[1]
        cluster.run("n1", "kill -9 " + (publisher if says == "process" else f"$(ps -o ppid= -p {publisher})"))
        cluster.until("n1", f"! kill -0 {publisher} 2>/dev/null")  # it goes with its hook
    ended = cluster.wait(job_id)
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    assert the_line(ended.output).startswith(f"madengine: share: {says}: it was killed")
    return job_id


def test_a_leader_killed_in_mid_layer_leaves_nothing_half_and_the_next_job_heals(cluster: Cluster, image: str) -> None:
    grow(cluster, image, 8)
    folder = project(cluster, "halfway", image)
    cluster.run("n1", f"rm -rf {STORE}/images/*/{stored_as(image)}")  # of an earlier run
    noise = cluster.run("n1", f"docker image inspect -f '{{{{.GraphDriver.Data.UpperDir}}}}' {image}").strip() + "/noise"
    for says in ("process", "hook"):
        job_id = killed_in_mid_layer(cluster, folder, noise, says)
        cluster.wait_idle()
        assert cluster.leftovers(job_id) == {}
        assert cluster.run("n1", f"ls -A {STORE}/tmp {STORE}/leases | grep -v : | grep . | wc -l").strip() == "0"
        assert cluster.run("n1", f"ls -d {STORE}/images/*/{stored_as(image)} 2>/dev/null | wc -l").strip() == "0"
        for node in ("n2", "n3"):
            assert not [name for name in cluster.images(node) if name == image or name.startswith("127.0.0.1")]
    ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder))
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert len(layers_of(cluster, image)) == 1


def test_two_leaders_that_publish_one_image_at_once_both_succeed(cluster: Cluster, image: str) -> None:
    grow(cluster, image, 60)
    cluster.run("n1", f"docker save {image} -o /shared/two.tar")
    cluster.run("n2", "docker load -qi /shared/two.tar")
    folder = project(cluster, "two", image)
    jobs = [cluster.submit(SCRIPT, f"--nodelist={nodes}", "-N2", "--comment=madengine", folder=folder) for nodes in ("n1,n3", "n2,n3")]
    for job_id in jobs:
        ended = cluster.wait(job_id)
        assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert len(layers_of(cluster, image)) == 1
    assert cluster.run("n1", f"ls -A {STORE}/tmp {STORE}/leases | grep -v : | grep . | wc -l").strip() == "0"


def test_an_image_that_nobody_has_is_built_once_from_the_manifest_s_dockerfile(cluster: Cluster, image: str) -> None:
    reference = image.replace(":v1", ":built")
    folder = project(cluster, "build", reference)
    cluster.write(f"{folder}/docker/tiny.Dockerfile", DOCKERFILE)
    cluster.write(f"{folder}/docker/payload", "built\n")
    cluster.run("n1", f"cp /bin/busybox {folder}/docker/")
    with cluster.setting("AllowBuild=no"):
        ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder))
        assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
        assert "nobody has it" in the_line(ended.output)
    ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder))
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert len(layers_of(cluster, reference)) == 1
    assert cluster.run("n3", f"docker run --rm {reference}") == "built\n"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_site_may_have_its_layers_packed(cluster: Cluster, image: str, kind: str) -> None:
    with cluster.setting(f"Compression={kind}"):
        ended = cluster.wait(cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=project(cluster, "packed", image)))
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    [index] = cluster.run("n1", f"cat {STORE}/images/*/{stored_as(image)}/index.json").split("\x00")
    digest = json.loads(index)["manifests"][0]["digest"]
    stored = json.loads(cluster.run("n1", f"cat {STORE}/blobs/sha256/{digest[7:]}"))
    assert stored["layers"][-1]["mediaType"].endswith(f"+{kind}")  # the others were in the store before, and stay as they are
    assert len(layers_of(cluster, image)) == 1
