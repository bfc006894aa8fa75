# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cluster, and a small image that only its first node has."""

from __future__ import annotations

import re
from typing import Iterator

import pytest
from helpers.cluster import Cluster, build_image


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(autouse=True)
def nobody_leaves_service(cluster: Cluster) -> Iterator[None]:
    """Whatever a user does, all nodes are idle before and after."""
    cluster.wait_idle()
    yield
    try:
        cluster.wait_idle()
        assert cluster.reasons() == ""
    finally:
        cluster.resume()  # so that the next test does not suffer for this one


@pytest.fixture
def image(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """Return the reference of a fresh image of a few layers that n1 alone has."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    reference = f"lab/{name}:v1"
    build_image(cluster, "n1", reference, payload=reference)
    for node in ("n2", "n3"):
        cluster.hosts[node].run(f"docker rmi -f {reference}")
    return reference
