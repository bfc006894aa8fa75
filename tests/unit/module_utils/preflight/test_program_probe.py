# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SLURM cannot start on a node is found before a job finds it, and for the users who will need it."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import probes
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight.program_probe import programs
from helpers.users import needs_root, shared_directory

FINE = b"#!/bin/sh\nexit 0\n"


@pytest.fixture
def site() -> Iterator[Path]:
    """Give a folder that every user can reach, with a slurm.conf whose programs can be started."""
    for folder in shared_directory():
        root = Path(folder)
        for name in ("task_prolog", "prolog.d/10-a", "prolog.d/20-b", "epilog.sh"):
            placed(root / name)
        conf = f"Prolog={root}/prolog.d/*\nEpilog=epilog.sh # beside slurm.conf\nTaskProlog={root}/task_prolog\n"
        (root / "slurm.conf").write_text(conf)
        yield root


def placed(path: Path, content: bytes = FINE, mode: int = 0o755) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def bad(site: Path, *users: str) -> Dict[str, Dict[str, str]]:
    return dict(programs(str(site / "slurm.conf"), "/nowhere", users)["bad"])


def test_what_slurm_can_start_is_not_spoken_of(site: Path) -> None:
    assert programs(str(site / "slurm.conf"), "/nowhere", []) == {"conf": f"{site}/slurm.conf", "bad": {}}
    shutil.copy("/bin/true", site / "task_prolog")
    placed(site / "prolog.d/20-b", b"#!  /bin/sh -e\n")
    assert bad(site) == {}


def absent(path: Path) -> None:
    path.unlink()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/task_prolog")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def queue(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # whoever reads it waits


BROKEN: Dict[str, Any] = {
    "is not there": [absent, dangling],
    "is no file": [directory, queue],
    "is not executable for": [lambda path: path.chmod(0o644)],
    "has no first line that names an interpreter": [lambda path: placed(path, b""), lambda path: placed(path, b"exit 0\n")],
    "has an interpreter that is not there ('/nowhere/sh')": [lambda path: placed(path, b"#!/nowhere/sh\n")],
    "has an interpreter that is not there ('/bin/sh\\r')": [lambda path: placed(path, b"#!/bin/sh\r\nexit 0\r\n")],
    "has an interpreter that is not there ('')": [lambda path: placed(path, b"#! \n")],
}


@pytest.mark.parametrize("key", ["TaskProlog", "Prolog", "Epilog"])
@pytest.mark.parametrize(("reason", "spoil"), [(reason, spoil) for reason, several in BROKEN.items() for spoil in several])
def test_what_it_cannot_start_is_named_with_its_path_and_why(site: Path, key: str, reason: str, spoil: Any) -> None:
    path = site / {"TaskProlog": "task_prolog", "Prolog": "prolog.d/10-a", "Epilog": "epilog.sh"}[key]
    spoil(path)
    found = bad(site)
    if (key, path.is_symlink() or path.exists()) == ("Prolog", False):
        assert found == {}  # a pattern has lost nothing with a file that is not there
        return
    assert list(found) == [key]
    assert list(found[key]) == [str(path)]
    assert found[key][str(path)].startswith(reason)


def test_a_pattern_that_names_nothing_is_named_itself(site: Path) -> None:
    shutil.rmtree(site / "prolog.d")
    assert bad(site) == {"Prolog": {f"{site}/prolog.d/*": "names nothing"}}


def test_a_task_prolog_without_a_directory_is_refused_although_a_prolog_is_not(site: Path) -> None:
    (site / "slurm.conf").write_text("TaskProlog=task_prolog\nProlog=epilog.sh\n")
    assert bad(site) == {"TaskProlog": {"task_prolog": "is not a full path"}}


def test_what_slurm_conf_includes_counts_and_what_it_does_not_name_does_not(site: Path) -> None:
    (site / "slurm.conf").write_text("Include more.conf\n#TaskProlog=/nowhere/at/all\n")
    (site / "more.conf").write_text("TaskProlog=/nowhere/task_prolog\n")
    assert bad(site) == {"TaskProlog": {"/nowhere/task_prolog": "is not there"}}


def test_a_node_whose_slurm_conf_is_not_to_be_read_must_have_the_task_prolog_all_the_same(site: Path) -> None:
    (site / "slurm.conf").unlink()
    assert programs(str(site / "slurm.conf"), f"{site}/task_prolog", []) == {"conf": "", "bad": {}}
    assert bad(site) == {"TaskProlog": {"/nowhere": "is not there"}}


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o711, 0o644])
def test_a_task_prolog_must_start_for_the_users_and_be_readable_for_them(site: Path, mode: int) -> None:
    (site / "task_prolog").chmod(mode)
    (site / "epilog.sh").chmod(mode | 0o100)
    for users in ([], ["root"], ["no-such-user"], [getpass.getuser()]):  # root is nobody's measure
        assert list(bad(site, *users)) == ["TaskProlog"]
        assert "nobody" in bad(site, *users)["TaskProlog"][f"{site}/task_prolog"]
    assert "daemon" in bad(site, "daemon")["TaskProlog"][f"{site}/task_prolog"]


@needs_root
def test_a_folder_that_is_closed_to_users_hides_a_task_prolog_that_root_sees(site: Path) -> None:
    (site / "closed").mkdir(mode=0o700)
    placed(site / "closed/task_prolog")
    (site / "slurm.conf").write_text(f"TaskProlog={site}/closed/task_prolog\nProlog={site}/closed/task_prolog\n")
    assert bad(site) == {"TaskProlog": {f"{site}/closed/task_prolog": "cannot be read by nobody (Permission denied)"}}


@needs_root
def test_whom_a_group_lets_in_is_asked_as_himself(site: Path) -> None:
    os.chown(site / "task_prolog", 0, 1)  # of the group daemon
    (site / "task_prolog").chmod(0o750)
    assert bad(site, "daemon") == {}
    assert list(bad(site, "nobody", "daemon")) == ["TaskProlog"]


def test_it_is_a_look_that_a_preflight_can_make_beside_others(site: Path) -> None:
    (site / "task_prolog").unlink()
    found = probes.gather({"programs": (programs, (str(site / "slurm.conf"), "/nowhere", ["nobody"]), 30)})
    assert found["programs"]["bad"] == {"TaskProlog": {f"{site}/task_prolog": "is not there"}}
