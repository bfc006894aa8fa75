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


# --- CONTRIBUTING.md ----------------------------------------------------------------------------------------------------

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
LIBRARY = ROOT / "collections/ansible_collections/rocm/madengine/plugins/module_utils/_madengine"


def answers(text: str) -> dict[str, str]:
    """The questions of a newcomer in *text*, each with the path that answers it."""
    section = text.partition("## Where would I change …")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| ([^|`]+) \| `([^`]+)` \|$", section, re.MULTILINE))


def is_there(path: str) -> bool:
    return (ROOT / path).is_file() or (LIBRARY / path).is_file()


def test_twenty_questions_of_a_newcomer_are_answered_by_one_path_each_which_exists() -> None:
    found = answers(CONTRIBUTING)
    assert len(found) >= 20
    assert [path for path in found.values() if not is_there(path)] == []


def test_a_path_that_does_not_exist_is_found_out() -> None:
    assert [is_there(path) for path in answers("## Where would I change …\n| a thing | `core/nothing.py` |\n").values()] == [False]


def test_the_packages_that_it_names_are_those_that_there_are() -> None:
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| \d \| ([^|]+) \|", CONTRIBUTING, re.MULTILINE)))
    assert sorted(named) == sorted(path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__")


def test_the_commands_that_it_and_the_forges_ci_call_are_targets() -> None:
    called = [CONTRIBUTING, *(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))]
    makefile = (ROOT / "Makefile").read_text()
    targets = {target for text in called for words in re.findall(r"(?:`|run: )make ([a-z -]+)", text) for target in words.split()}
    assert {"test", "lint", "bundle"} <= targets
    assert [target for target in sorted(targets) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
