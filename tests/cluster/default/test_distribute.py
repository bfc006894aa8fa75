# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image goes to all nodes ahead of their jobs: a bad node stops nobody, and the next run does only what is left to do."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
from helpers.cluster import Cluster, build_image
from helpers.playbooks import Played, play


@pytest.fixture
def image(cluster: Cluster) -> str:
    """Return the reference of an image that n1 alone has, and of which the store knows nothing from an earlier run."""
    reference = f"lab/ahead:{uuid.uuid4().hex}"
    build_image(cluster, "n1", reference, payload=reference)
    return reference


def test_a_bad_node_stops_nobody_and_the_next_run_changes_it_alone(cluster: Cluster, image: str) -> None:
    distribute = partial(play, "distribute_image", image_distribute_image=image)

    check_mode = distribute("--check")
    assert (check_mode.status, check_mode.lines[0]) == (0, f"{image}: 1 of 3 nodes had it, 2 would load it"), check_mode.output
    assert [cluster.hosts[node].run(f"docker image inspect {image}").rc for node in ("n1", "n2", "n3")] == [0, 1, 1]

    cluster.run("n2", "systemctl stop docker.socket docker")
    try:
        first = distribute(image_distribute_partition="main", image_distribute_at_once=1)
    finally:
        cluster.run("n2", "systemctl start docker")
    assert (first.status, first.failed, first.changed) == (2, {"n2": 1}, {"n1": 1, "n3": 1}), first.output
    assert first.lines[0].startswith(f"{image}: 1 of 3 nodes fail: n2; 1 of 3 nodes had it, 1 loaded it")
    assert first.lines[1].startswith("store: n1 published ")
    assert cells(first, "n1")[:2] == ["all", "-"]
    had, _of, total, loaded = cells(first, "n3")[:4]
    assert int(had) + int(loaded) == int(total)
    assert "FAILED" in first.lines[-1]
    assert first.lines[-1].startswith("n2 ")
    assert "no answer" in first.lines[-1]
    assert cluster.run("n3", f"docker run --rm --pull never {image}") == f"{image}\n"

    second = distribute(image_distribute_nodes="n[2-3]")
    assert (second.status, second.changed) == (0, {"n2": 1}), second.output
    assert second.lines[:2] == [
        f"{image}: 1 of 2 nodes had it, 1 loaded it: {second.lines[0].rpartition(': ')[2]}",
        "store: held it already",
    ]

    third = distribute()
    assert (third.status, third.changed) == (0, {}), third.output
    assert third.lines[0] == f"{image}: all 3 nodes had it; nothing was moved to them"


def test_where_nodes_have_different_images_of_one_name_somebody_has_to_say_which_is_meant(cluster: Cluster, image: str) -> None:
    build_image(cluster, "n2", image, payload="another")
    refused = play("distribute_image", image_distribute_image=image, image_distribute_on_conflict="fail")
    assert (refused.status, refused.changed) == (2, {})
    assert "several images have this name" in refused.output
    served = play("distribute_image", image_distribute_image=image, image_distribute_source="n2")
    assert served.status == 0, served.output
    assert {cluster.run(node, f"docker run --rm --pull never {image}") for node in ("n1", "n2", "n3")} == {"another\n"}


def cells(played: Played, node: str) -> list[str]:
    """Return the words of a node's line in the table, without its name."""
    return next(line for line in played.lines if line.split()[:1] == [node]).split()[1:]
