# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cluster, and a small image that only its first node has."""

from __future__ import annotations

import json
from typing import Iterator

import pytest
from helpers.cluster import Cluster

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY payload /payload
ENV FLAVOUR=lab
CMD ["cat", "/payload"]
"""


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(autouse=True)
def nobody_leaves_service(cluster: Cluster) -> Iterator[None]:
    """Whatever a user does, all nodes are idle before and after."""
    cluster.wait_idle()
    yield
    cluster.wait_idle()
    assert cluster.reasons() == ""


@pytest.fixture
def image(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """Return the reference of a fresh image of a few layers that n1 alone has."""
    reference = f"lab/{request.node.name.lower().replace('[', '-').replace(']', '')[:60]}:v1"
    build_image(cluster, "n1", reference, payload=reference)
    for node in ("n2", "n3"):
        cluster.hosts[node].run(f"docker rmi -f {reference}")
    return reference


def build_image(cluster: Cluster, node: str, reference: str, payload: str) -> None:
    folder = cluster.run(node, "mktemp -d").strip()
    cluster.write(f"{folder}/Dockerfile", DOCKERFILE, user="root", node=node)
    cluster.write(f"{folder}/payload", payload + "\n", user="root", node=node)
    cluster.run(node, f"cp /bin/busybox {folder} && docker build -q -t {reference} {folder} && rm -r {folder}")


def manifest(reference: str, **model: object) -> str:
    """Return a build manifest as madengine writes it for one image (shape A)."""
    facts = {"name": "tiny", "n_gpus": "0", "scripts": "run.sh", "args": "", "multiple_results": "perf_tiny.csv", **model}
    return json.dumps(
        {
            "built_images": {reference: {"docker_image": reference, "dockerfile": "docker/tiny.Dockerfile"}},
            "built_models": {reference: facts},
            "context": {"docker_env_vars": {"NCCL_DEBUG": "INFO", "MAD_GUEST_OS": "UBUNTU"}, "docker_mounts": {}},
        },
        indent=1,
    )
