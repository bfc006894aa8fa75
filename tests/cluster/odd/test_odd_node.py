# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's first node that has everything elsewhere: SLURM below /opt, another Python, no package of Docker's SDK, a firewall,
and a NodeName that leads nowhere but by its NodeAddr.

The cluster is not given back as it was: this is the last that is done to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from helpers import wheels
from helpers.cluster import NODES, Cluster, manifest
from helpers.collections import Collection
from helpers.hooks import REPOSITORY
from helpers.playbooks import Played

NAME = "a1"  # it sorts before n2 and n3, so it leads
FOLDER = "/shared/home/alice/odd"
SCRIPT = """\
#!/bin/sh
PATH=/opt/slurm/bin:$PATH
srun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE cat /payload && echo led by $SLURMD_NODENAME at $MASTER_ADDR
"""
SDK = ("docker", "requests", "urllib3", "idna", "certifi", "charset-normalizer")
PYTHON = "/opt/python/bin/python3"
# One that finds its library beside itself, as those that people build do.
OTHER_PYTHON = """
library=$(ls -d /usr/lib/python3.*[0-9])
mkdir -p /opt/python/bin /opt/python/lib && cp -a $library /opt/python/lib && cp -L /usr/bin/python3 /opt/python/bin/python3
"""
MOVED = "scontrol sbcast srun sbatch scancel squeue sinfo"


def _move_slurm(cluster: Cluster) -> None:
    cluster.run(
        "n1", f"mkdir -p /opt/slurm/bin /opt/slurm/sbin && cd /usr/bin && mv {MOVED} /opt/slurm/bin && mv /usr/sbin/slurmd /opt/slurm/sbin"
    )
    started = "[Service]\nExecStart=\nExecStart=/opt/slurm/sbin/slurmd -D -s $SLURMD_OPTIONS\n"
    cluster.write("/etc/systemd/system/slurmd.service.d/odd.conf", started, user="root", node="n1")


def _rename(cluster: Cluster) -> str:
    address = cluster.run("n1", "hostname -i").split()[0]
    named = f"NodeName={NAME} NodeHostname=n1 NodeAddr={address} \\2"
    edit = rf"sed -i -E 's/^NodeName=n1,(n2,n3) (.*)/{named}\nNodeName=\1 \2/' /etc/slurm/slurm.conf"
    for host in ("c0", *NODES):
        cluster.run(host, edit)
    cluster.run("c0", "systemctl restart slurmctld")
    for node in NODES:
        cluster.run(node, "systemctl daemon-reload; systemctl restart slurmd")
    return address


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> str:
    """Make n1 odd; return its address."""
    for node in NODES:
        cluster.run(node, f"dpkg --purge python3-docker && {OTHER_PYTHON}")
    _move_slurm(cluster)
    found = _rename(cluster)
    # As sites have it: what SLURM and MPI need between nodes, and no more.
    cluster.run("n1", "ufw allow 1024:65535/tcp && ufw --force enable")
    return found


class Site:
    """The collection as built, and what such a site says to it."""

    def __init__(self, folder: Path) -> None:
        self._built = Collection(REPOSITORY / "build/collections", "as built")
        self._inventory = folder / "odd.yml"
        self._inventory.write_text(f"all:\n  hosts:\n    n1:\n      preflight_node: {NAME}\n")
        (folder / "wheels").mkdir()
        for name in SDK:
            wheels.pack(name, folder / "wheels")
        self._said = {
            "slurm_hooks_venv": True,
            "slurm_hooks_venv_python": PYTHON,
            "slurm_hooks_wheels": str(folder / "wheels"),
            "slurm_hooks_packages": [],
            "madengine_settings": {"Deadline": 240, "SlurmDir": "/opt/slurm"},
        }

    def play(self, name: str, *options: str, **variables: object) -> Played:
        return self._built.play(name, "--inventory", str(self._inventory), *options, **self._said, **variables)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("odd"))


def _failing(played: Played) -> List[List[str]]:
    return [line.split()[:3] for line in played.lines if line.startswith("FAIL")]


def test_a_node_that_has_everything_elsewhere_leads_a_job_once_its_firewall_is_open(
    cluster: Cluster, address: str, image: str, site: Site
) -> None:
    applied = site.play("site")
    assert applied.status == 0, applied.output
    for node in NODES:
        found = cluster.run(node, "/opt/madengine-hooks/venv/bin/python3 -c 'import sys, docker; print(sys.base_prefix, docker.__file__)'")
        assert found.startswith("/opt/python /opt/madengine-hooks/venv/"), found

    closed = site.play("preflight")
    assert _failing(closed) == [["FAIL", "ports", NAME]], closed.output
    assert f"cannot connect to it ({address} port 288: no answer)" in closed.output

    opened = site.play("site", "--tags=slurm_hooks_preflight,slurm_hooks_configure", slurm_hooks_open_ports=True)
    assert opened.status == 0, opened.output

    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))
    ended = cluster.job(SCRIPT, "-N3", "--comment=madengine:transport=sbcast", folder=FOLDER)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert sorted(ended.output.splitlines()) == [image] * 3 + [f"led by {NAME} at {address}"]
