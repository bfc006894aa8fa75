# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that need no cluster, played on this machine against fake programs of SLURM's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
from helpers.hooks import REPOSITORY

PLAY = """
- name: Find the nodes
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Find the nodes
      ansible.builtin.include_role:
        name: rocm.madengine.image_distribute
        tasks_from: targets
    - name: Say which
      ansible.builtin.debug:
        msg: "found {{ groups['image_distribute_targets'] | sort | join('+') }}"
"""


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        ({"image_distribute_partition": "gpu"}, "sinfo --noheader --Node --format=%N --partition=gpu"),
        ({"image_distribute_nodes": "n[1-2]"}, "scontrol show hostnames n[1-2]"),
    ],
)
def test_nodes_are_asked_of_the_slurm_that_the_site_has(tmp_path: Path, asked: Dict[str, str], called: str) -> None:
    (tmp_path / "slurm/bin").mkdir(parents=True)
    for name in ("sinfo", "scontrol"):
        path = tmp_path / "slurm/bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >{tmp_path}/called\nprintf "n1\\nn2\\n"\n')
        path.chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAY)
    settings = {"madengine_settings": {"SlurmDir": f"{tmp_path}/slurm"}, "image_distribute_hosts": ["n1", "n2.site.example", "n3"]}
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_LOCALHOST_WARNING": "false"}
    given = json.dumps({**settings, **asked, "image_distribute_asked": "localhost", "ansible_python_interpreter": sys.executable})
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-e", given, tmp_path / "play.yml"]
    played = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "found n1+n2.site.example" in played.stdout
    assert (tmp_path / "called").read_text().strip() == called
