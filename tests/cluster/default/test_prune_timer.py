# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer that prunes the store, under a real systemd: it is there, what it starts runs, and it goes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from helpers import playbooks
from helpers.cluster import Cluster

UNITS = "madengine-image-prune"
PLAY = """\
- hosts: slurm_compute
  gather_facts: false
  roles: [rocm.madengine.image_prune]
"""


def applied(folder: Path, *options: str) -> playbooks.Played:
    (folder / "play.yml").write_text(PLAY)
    words = [*playbooks.command("site"), *options]
    words[words.index("rocm.madengine.site")] = str(folder / "play.yml")
    environment = playbooks.environment(playbooks.INSTALLED)
    done = subprocess.run(words, cwd=playbooks.REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return playbooks.Played(done.returncode, done.stdout + done.stderr)


def test_the_store_is_pruned_by_a_timer_of_systemd_until_it_is_taken_away(cluster: Cluster, tmp_path: Path) -> None:
    done = applied(tmp_path)
    assert (done.status, list(done.changed)) == (0, ["n1"]), done.output
    assert cluster.run("n1", f"systemctl is-active {UNITS}.timer; systemctl list-timers --no-legend {UNITS}.timer").split()[0] == "active"
    cluster.run("n1", f"systemctl start {UNITS}.service")
    assert cluster.run("n1", f"systemctl show -p Result,ExecMainStatus {UNITS}.service").split() == ["Result=success", "ExecMainStatus=0"]
    gone = applied(tmp_path, "--extra-vars=image_prune_state=absent")
    assert gone.status == 0, gone.output
    assert cluster.run("n1", f"systemctl list-unit-files --no-legend '{UNITS}*'; ls /usr/local/sbin").strip() == ""
