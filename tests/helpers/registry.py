# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's docker-registry on the lab's controller: the nodes' daemons may ask it, and it is their mirror of the default registry."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any, Dict, Iterator

from helpers.cluster import NODES, Cluster, build_image

OPEN, CLOSED = 5000, 5001  # the second wants a login, and has what the first has
LOGIN = {"auths": {f"c0:{CLOSED}": {"auth": base64.b64encode(b"alice:lab").decode()}}}
_HTPASSWD = "alice:$2y$05$ajxjKOB/ttO5vSlZTrSpHu2Eh3flU73x1yIT/rmqmQeXZGj4b79g2\n"
_ROOT = "/run/registry"
_DAEMON = "/etc/docker/daemon.json"
_KEPT = "/root/daemon.json"
_MIRROR = f"http://c0:{OPEN}/"
_MIRRORS = "docker info --format '{{json .RegistryConfig.Mirrors}}'"


class Registry:
    """What lies on ``c0``, for all and for those with a login."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def start(self, port: int = OPEN) -> None:
        """Serve, and return when it answers."""
        config: Dict[str, Any] = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": f"{_ROOT}/data"}},
            "http": {"addr": f":{port}", "secret": "lab"},
        }
        if port == CLOSED:
            path = self._cluster.write(f"{_ROOT}/htpasswd", _HTPASSWD, user="root", node="c0")
            config["auth"] = {"htpasswd": {"realm": "lab", "path": path}}
        path = self._cluster.write(f"{_ROOT}/{port}.yml", json.dumps(config), user="root", node="c0")
        self._cluster.run("c0", f"systemd-run --collect --unit=registry-{port} docker-registry serve {path}")
        self._cluster.until("c0", f"bash -c ': < /dev/tcp/127.0.0.1/{port}' 2>/dev/null")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        self._cluster.run("c0", f"systemctl stop registry-{OPEN}")
        try:
            yield
        finally:
            self.start()

    def push(self, name: str, payload: str) -> str:
        """See that it has an image *name*, by tag, and no node does; return its digest there."""
        pushed = f"c0:{OPEN}/{name}"
        build_image(self._cluster, "n1", pushed, payload)
        said = self._cluster.run("n1", f"docker push {pushed}")
        self._cluster.run("n1", f"docker rmi -f {pushed}")
        return said.partition("digest: ")[2].split()[0]

    @contextlib.contextmanager
    def unreachable(self, node: str) -> Iterator[None]:
        """Let *node* have no way to it for a while."""
        rule = f"OUTPUT --protocol tcp --match multiport --dports {OPEN},{CLOSED} --jump REJECT --reject-with tcp-reset"
        self._cluster.run(node, f"iptables --insert {rule}")
        try:
            yield
        finally:
            self._cluster.run(node, f"iptables --delete {rule}")


@contextlib.contextmanager
def served(cluster: Cluster) -> Iterator[Registry]:
    """Give a registry that all nodes' daemons know; leave them as they were."""
    registry = Registry(cluster)
    known = {"insecure-registries": [f"c0:{OPEN}", f"c0:{CLOSED}"], "registry-mirrors": [_MIRROR]}
    try:
        registry.start(OPEN)
        registry.start(CLOSED)
        for node in NODES:
            cluster.run(node, f"touch {_DAEMON} && cp -p {_DAEMON} {_KEPT}")
            _tell(cluster, node, known)
            cluster.until(node, f"{_MIRRORS} | grep -qF '{_MIRROR}'")
        yield registry
    finally:
        for node in NODES:
            _tell(cluster, node, {key: [] for key in known})  # a daemon forgets nothing that is only left out
            cluster.until(node, f"! {_MIRRORS} | grep -qF '{_MIRROR}'")
            cluster.run(node, f"mv {_KEPT} {_DAEMON}; [ -s {_DAEMON} ] || rm {_DAEMON}")
        cluster.run("c0", f"systemctl stop registry-{OPEN} registry-{CLOSED}; rm -rf {_ROOT}")


def _tell(cluster: Cluster, node: str, known: Dict[str, Any]) -> None:
    before = json.loads(cluster.run(node, f"cat {_KEPT}") or "{}")
    cluster.write(_DAEMON, json.dumps({**before, **known}), user="root", node=node)
    cluster.run(node, "systemctl reload docker")  # which stops no container
