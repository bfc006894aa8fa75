# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configless cluster brings to a node that has nothing (MADLAB_CONFIG=configless)."""

from __future__ import annotations

from helpers import guides
from helpers.cluster import Cluster

(GUARD,) = guides.blocks("program")
CONF = "/etc/slurm/slurm.conf"


def test_a_node_without_a_task_prolog_gets_one_before_its_first_task(cluster: Cluster) -> None:
    cluster.write("/etc/slurm/madengine_guard", GUARD.text, user="root", mode="0755", node="c0")
    cluster.run("c0", f"cp -p {CONF} /root/slurm.conf && sed -i 's/^Prolog=/Prolog=madengine_guard\\n&/' {CONF} && scontrol reconfigure")
    cluster.run("n3", "mv /etc/slurm/task_prolog /root/task_prolog")
    try:
        ended = cluster.job("#!/bin/sh\nsrun hostname\n", "-w", "n3", "--output=/shared/home/alice/guard.out")
        assert (ended.state, ended.output) == ("COMPLETED", "n3\n"), f"{ended}\n{cluster.evidence()}"
    finally:
        cluster.run("n3", "mv /root/task_prolog /etc/slurm/task_prolog")
        cluster.run("c0", f"cp -p /root/slurm.conf {CONF} && rm /etc/slurm/madengine_guard && scontrol reconfigure")
