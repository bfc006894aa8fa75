# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that gives each job a ``/tmp`` of its own: SLURM's broadcast ends there, and a store does without it."""

from __future__ import annotations

from typing import Iterator

import pytest
from helpers.cluster import NODES, SCRIPT, Cluster, manifest, the_line
from helpers.collections import Collection
from helpers.hooks import REPOSITORY

FOLDER = "/shared/home/alice/namespace"
CONF = "/etc/slurm/slurm.conf"
ON = f"""
cp -p {CONF} /run/slurm.conf.before
sed -i 's/^PrologFlags=.*/&,Contain/' {CONF}
echo %s/tmpfs >>{CONF}
printf 'AutoBasePath=true\\nBasePath=/var/spool/namespaces\\n' >/etc/slurm/job_container.conf
"""
OFF = f"cp -p /run/slurm.conf.before {CONF} && rm -f /etc/slurm/job_container.conf"


def restarted(cluster: Cluster, command: str) -> None:
    """Change the files of all hosts, and let SLURM read them: it takes another plugin at its start alone."""
    for host in ("c0", *NODES):
        cluster.run(host, command)
    cluster.run("c0", "systemctl restart slurmctld")
    for node in NODES:
        cluster.run(node, "systemctl restart slurmd")
    cluster.wait_idle()


@pytest.fixture
def plugin(cluster: Cluster) -> Iterator[str]:
    """Give each job a namespace of its own, for a while; return the setting that does it."""
    known = cluster.run("c0", "scontrol show config")
    key = "NamespaceType=namespace" if "NamespaceType" in known else "JobContainerType=job_container"
    try:
        restarted(cluster, ON % key)
        yield f"{key}/tmpfs"
    finally:
        restarted(cluster, OFF)


def test_jobs_with_a_tmp_of_their_own_get_images_by_a_store_and_are_told_that_no_broadcast_comes(
    cluster: Cluster, plugin: str, image: str
) -> None:
    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))
    with cluster.setting("Transport=sbcast"):
        preflight = Collection(REPOSITORY / "build/collections", "as built").play("preflight", "--limit", "n1")
        assert f"{plugin} should be unset where images travel by sbcast" in preflight.output
        assert preflight.status != 0
        refused = cluster.job(SCRIPT, "-N3", "--comment=madengine", folder=FOLDER)
    assert refused.state == "FAILED", f"{refused}\n{cluster.evidence()}"
    assert the_line(refused.output).startswith("madengine: share: ")
    assert "set ImageStore, or Transport=registry" in the_line(refused.output)

    ended = cluster.job(SCRIPT, "-N3", "--comment=madengine", folder=FOLDER)
    assert (ended.state, ended.output) == ("COMPLETED", "ran\n"), f"{ended}\n{cluster.evidence()}"
    assert cluster.leftovers(ended.job_id) == {}
