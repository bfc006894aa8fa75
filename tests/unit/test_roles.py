# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that need no cluster, played on this machine against fake programs of SLURM's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
from helpers.hooks import REPOSITORY
from helpers.users import needs_root

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


ACCOUNT = """
- name: Make the account
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Make the account
      ansible.builtin.include_role:
        name: rocm.madengine.slurm_hooks
        tasks_from: service_account
"""


@needs_root
def test_the_service_account_is_made_once_and_check_mode_makes_none(tmp_path: Path) -> None:
    """In a mount namespace with an /etc and a /var/lib of its own: this machine gets no account."""
    (tmp_path / "play.yml").write_text(ACCOUNT)
    play = f"{Path(sys.executable).with_name('ansible-playbook')} -i localhost, -e @{tmp_path}/vars.json {tmp_path}/play.yml"
    given = {"ansible_python_interpreter": sys.executable, "slurm_hooks_docker_group": "madtest", "slurm_hooks_service_uid": 61990}
    (tmp_path / "vars.json").write_text(json.dumps(given))
    script = f"""
        cp -a /etc {tmp_path}/etc
        mount --bind {tmp_path}/etc /etc
        mount -t tmpfs none /var/lib
        sed -i '/^madengine:/d' /etc/passwd /etc/shadow /etc/group /etc/gshadow
        groupadd madtest
        {play} --check
        ! id madengine
        for _ in 1 2; do {play}; done
        getent passwd madengine; id -nG madengine; stat -c %U /var/lib/madengine-account
    """
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_LOCALHOST_WARNING": "false"}
    words = ["unshare", "--mount", "sh", "-exc", script]
    played = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert played.returncode == 0, played.stdout + played.stderr
    assert re.findall(r"changed=([0-9])", played.stdout) == ["1", "1", "0"]
    *_rest, entry, groups, owner = played.stdout.splitlines()
    assert entry.startswith("madengine:x:61990:")
    assert entry.endswith(":/var/lib/madengine-account:/usr/sbin/nologin")
    assert (groups.split()[1:], owner) == (["madtest"], "madengine")
