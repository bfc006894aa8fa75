# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guides tell a user or an admin to type does what they say, on a real cluster, word for word."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator

import pytest
from helpers import guides
from helpers.cluster import NODES, Cluster, build_image

HOME = "/shared/home/alice/guides"
(MANIFEST,) = guides.blocks("manifest")


def named(kind: str) -> Any:
    found = guides.blocks(kind)
    assert found
    return pytest.mark.parametrize("block", found, ids=[block.name for block in found])


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> Iterator[str]:
    """The image that the guides speak of, on the first node alone; gone afterwards."""
    (reference,) = json.loads(MANIFEST.text)["built_images"]
    build_image(cluster, "n1", reference, payload="guides")
    yield reference
    for node in NODES:
        cluster.hosts[node].run(f"docker rmi -f {reference}")


@named("job")
def test_a_job_of_the_guides_ends_with_a_result(cluster: Cluster, image: str, block: guides.Block) -> None:
    folder = f"{HOME}/{block.name}"
    cluster.run("n1", f"rm -rf {folder}")
    if "image=" not in block.text:
        cluster.write(f"{folder}/build_manifest.json", MANIFEST.text)
    cluster.write(f"{folder}/job.sh", block.text)
    for node in ("n2", "n3"):
        cluster.hosts[node].run(f"docker rmi -f {image}")
    ended = cluster.job(block.text, folder=folder)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    collection = f"{folder}/madengine-{ended.job_id}"
    selection = cluster.json(f"{collection}/selection.json")
    assert selection["verdict"] == "ok", selection
    assert cluster.run("n1", f"cat {collection}/perf_llama.csv").splitlines()[1] == "llama,42.5,tokens/s"
    assert "<html" in cluster.run("n1", f"cat {collection}/report.html")
    assert cluster.leftovers(ended.job_id) == {}
    cluster.run("n1", f"rm -rf {folder}")


@named("on-node")
def test_what_an_admin_types_on_a_node_works_there(cluster: Cluster, block: guides.Block) -> None:
    said = [cluster.run("n1", command) for command in block.commands()]
    assert said, block.name
    if re.search(r"readlink|journalctl", block.text):
        assert all(text.strip() for text in said)
    assert not cluster.hosts["n1"].file("/etc/madengine/disabled").exists, "a guide left the hooks switched off"


@named("on-controller")
def test_what_an_admin_types_on_the_controller_works_there(cluster: Cluster, block: guides.Block) -> None:
    assert [cluster.run("c0", command) for command in block.commands()]
