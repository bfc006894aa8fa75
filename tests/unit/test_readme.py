# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the README tells a newcomer to type exists, and the settings that it shows are the ones that the role accepts."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.config import Site
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import allocation
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings as slurm

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections/ansible_collections/rocm/madengine"
README = (ROOT / "README.md").read_text()


def test_the_settings_that_it_shows_are_enough_with_the_default_deadline() -> None:
    settings = dict(line.strip().split("=", 1) for line in README.splitlines() if re.match(r"    [A-Z][A-Za-z]+=", line))
    wanted = ("/etc/slurm/prolog.d/*", "/etc/slurm/epilog.d/*", "/etc/slurm/task_prolog")
    assert slurm.judge(settings, *wanted, Site().deadline_seconds) == []
    for key in settings:
        fewer = {name: value for name, value in settings.items() if name != key}
        assert slurm.judge({**fewer, "BatchStartTimeout": fewer.get("BatchStartTimeout", "10 sec")}, *wanted, Site().deadline_seconds)


def test_the_targets_playbooks_and_files_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+)(?: [a-z -]+)?:", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][a-z-]+)", README)) <= targets
    for name in re.findall(r"ansible-playbook .* rocm\.madengine\.([a-z_]+)", README):
        assert (COLLECTION / "playbooks" / f"{name}.yml").is_file()
    for path in re.findall(r"\]\((?!https)([^)]+)\)", README):
        assert (ROOT / path).exists()
    version = re.search(r"^version: *(\S+)", (ROOT / "galaxy.yml").read_text(), re.MULTILINE)
    assert version
    assert f"dist/rocm-madengine-{version[1]}.tar.gz" in README


def test_the_comment_that_it_shows_is_understood() -> None:
    comment = re.search(r"--comment=(\S+)", README)
    assert comment
    job = allocation.Allocation("c", 1, 0, ("n1", "n2", "n3"), "n1", work_dir="/home/alice", comment=comment[1])
    assert request.read(job).manifest == "/home/alice/build_manifest.json"
