# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job does with a real registry: it is asked and believed by digest, and where it fails SLURM's broadcast brings the image."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any, Dict, Iterator, Tuple

import pytest
from helpers import registry as lab
from helpers.cluster import NODES, SCRIPT, Cluster, Ended, the_line
from helpers.registry import Registry

OUTPUT = "/home/alice/registry.out"  # lies on the job's first node; the controller does not see it
CONFIG = "/home/alice/.docker/config.json"


@pytest.fixture(scope="module")
def registry(cluster: Cluster) -> Iterator[Registry]:
    with lab.served(cluster) as made:
        yield made


@pytest.fixture
def name() -> str:
    """Return the name, without a tag, of an image that no daemon and no registry has from an earlier run."""
    return f"lab/{uuid.uuid4().hex[:8]}"


def run(cluster: Cluster, *images: str) -> Tuple[Ended, str]:
    """Run a job of three nodes with *images*; return it and its output."""
    cluster.run("n1", f"rm -f {OUTPUT}")
    comment = f"--comment=madengine:image={'+'.join(images)}"
    ended = cluster.wait(cluster.submit(SCRIPT, "-N3", f"--output={OUTPUT}", comment, folder="/home/alice"))
    assert cluster.leftovers(ended.job_id) == {}
    return ended, cluster.run("n1", f"cat {OUTPUT}")


def ways(cluster: Cluster, *images: str) -> Dict[str, Dict[str, Any]]:
    """Run a job that has to succeed, with the same images on all nodes; return node → what its timeline says of them."""
    ended, output = run(cluster, *images)
    assert (ended.state, output) == ("COMPLETED", "ran\n"), f"{ended}\n{output}\n{cluster.evidence()}"
    for image in images:
        # The containerd store's id is of the manifest, and a registry's is another than ours.
        known = {cluster.run(node, f"docker image inspect -f '{{{{json .RootFS.Layers}}}}' {image}") for node in NODES}
        assert len(known) == 1, (image, known)
    return {node: said_of_images(cluster, node, ended.job_id) for node in NODES}


def said_of_images(cluster: Cluster, node: str, job_id: int) -> Dict[str, Any]:
    """Return the last phase that brought images to the job, or gave them to the others."""
    lines = cluster.run(node, "journalctl -q -t madengine --no-pager -o cat | grep -E '\"(load|publish)\"'").splitlines()
    phases: list[Dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [phase for phase in phases if phase["job_id"] == job_id and phase["result"] == "ok"][-1]


def came_by_broadcast(said: Dict[str, Dict[str, Any]]) -> list[bool]:
    """Say of each member whether its daemon got layers of us; what it pulls from a registry, nobody counts."""
    return [said[node]["layers_moved"] > 0 for node in NODES[1:]]


def test_what_a_registry_alone_has_comes_from_there_to_all_nodes_by_digest_and_by_tag(
    cluster: Cluster, registry: Registry, name: str
) -> None:
    digest = registry.push(f"{name}:1", "named")
    registry.push(f"{name}-more:1", "mirrored")
    # The last one names no registry, so it is the default one's, and comes through the daemons' mirror.
    of_registry = f"c0:{lab.OPEN}/{name}"
    said = ways(cluster, f"{of_registry}@{digest}", f"{of_registry}:1@{digest}", f"{of_registry}:1", f"{name}-more:1")
    assert (said["n1"]["method"], came_by_broadcast(said)) == ("registry", [False, False])
    assert cluster.run("n3", f"docker run --rm --pull never {name}-more:1") == "mirrored\n"


def test_where_the_site_says_so_nobody_asks_the_default_registry(cluster: Cluster, registry: Registry, name: str) -> None:
    registry.push(f"{name}:1", "unasked")  # it would come, as above
    with cluster.setting("DefaultRegistry=no"):
        ended, output = run(cluster, f"{name}:1")
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    assert "nobody has it" in the_line(output)
    assert re.search("looked_in='docker of this node [^;]*'", the_line(output)), output


def test_a_registry_that_is_gone_is_replaced_by_the_broadcast_and_the_timeline_says_so(
    cluster: Cluster, registry: Registry, name: str
) -> None:
    images = [f"c0:{lab.OPEN}/{name}:1"]
    digest = registry.push(f"{name}:1", "gone")
    if cluster.run("n1", "docker info -f '{{.Driver}}'").strip() == "overlayfs":  # the containerd store keeps what its digest is of
        images.append(f"c0:{lab.OPEN}/{name}@{digest}")
    for image in images:
        cluster.run("n1", f"docker pull -q {image}")
    with registry.stopped():
        said = ways(cluster, *images)
    assert came_by_broadcast(said) == [True, True]
    assert "the registry does not have the image" in said["n1"]["reason"]
    assert "connection refused" in said["n1"]["reason"]


def test_nodes_that_lack_its_login_or_the_way_there_get_it_from_the_first_node(cluster: Cluster, registry: Registry, name: str) -> None:
    registry.push(f"{name}:1", "closed")
    helper = {"credHelpers": {f"c0:{lab.CLOSED}": "not-on-this-node"}}
    try:
        for node, config in (("n1", lab.LOGIN), ("n2", helper), ("n3", lab.LOGIN)):
            cluster.write(CONFIG, json.dumps(config), mode="0600", node=node)
        with registry.unreachable("n3"):
            said = ways(cluster, f"c0:{lab.CLOSED}/{name}:1")
    finally:
        for node in NODES:
            cluster.run(node, f"rm -f {CONFIG}")
    assert came_by_broadcast(said) == [True, True]
    assert re.search("way='registry', n2='.*no basic auth credentials.*', n3='.*connection refused.*'", said["n1"]["reason"])
