# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hook_release: what it says in check mode is what it does, and a release in use outlives everything."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import release
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from ansible_collections.rocm.madengine.plugins.modules import hook_release
from helpers import releases

Run = Callable[..., Tuple[Any, Any]]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A node's directories on a tmpfs, where no interpreter is started to prove anything."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as path:
        monkeypatch.setattr(hook_release, "Releases", functools.partial(release.Releases, base=f"{path}/run"))
        monkeypatch.setattr(release, "_run", lambda command: None)
        yield Path(path)


def tree(folder: Path) -> List[Tuple[str, str]]:
    """Return all that is below *folder*: names, and where links lead."""
    found = (path for path in folder.rglob("*") if path.suffix != ".gz")
    return sorted((str(path.relative_to(folder)), os.readlink(path) if path.is_symlink() else "") for path in found)


def both(run_module: Run, folder: Path, **asked: Any) -> Dict[str, Any]:
    """Run in check mode, then for good; the first must change nothing and say what the second says."""
    before = tree(folder)
    predicted = run_module(hook_release, root=str(folder / "hooks"), _ansible_check_mode=True, **asked)
    assert tree(folder) == before
    done = run_module(hook_release, root=str(folder / "hooks"), **asked)
    assert predicted == done
    code, result = done
    assert code == 0, result
    assert isinstance(result, dict)
    return result


def wanted(folder: Path, number: int, version: str = "") -> Dict[str, Any]:
    archive = releases.numbered(folder, number)
    return {"version": version or f"{number}.0.0", "src": archive.path, "sha256": archive.sha256}


def test_the_first_release_is_installed_and_the_second_run_changes_nothing(run_module: Run, folder: Path) -> None:
    asked = wanted(folder, 1)
    first = both(run_module, folder, **asked)
    name = release.name_of(asked["version"], asked["sha256"])
    assert (first["changed"], first["current"], first["previous"], first["removed"]) == (True, name, "", [])
    assert first["diff"] == {"before": "current: \n", "after": f"current: {name}\n"}
    again = both(run_module, folder, **asked)
    assert (again["changed"], again["current"], again["previous"]) == (False, name, "")


def test_upgrades_keep_as_many_as_they_are_told_and_what_is_in_use(run_module: Run, folder: Path) -> None:
    names = [both(run_module, folder, **wanted(folder, 1))["current"]]
    JobState(4711, str(folder / "run")).begin(os.getuid(), os.getgid(), str(folder / "hooks/releases" / names[0]))
    for number in (2, 3):
        result = both(run_module, folder, keep=2, **wanted(folder, number))
        names.append(result["current"])
    assert (result["previous"], result["removed"], result["in_use"]) == (names[1], [], [names[0]])
    JobState(4711, str(folder / "run")).remove()
    result = both(run_module, folder, keep=2, **wanted(folder, 3))
    assert (result["changed"], result["removed"], result["in_use"]) == (True, [names[0]], [])
    result = both(run_module, folder, keep=1, **wanted(folder, 4))
    assert (result["previous"], result["removed"]) == (names[2], [names[1]])


def test_an_older_collection_leads_back_to_its_own_release(run_module: Run, folder: Path) -> None:
    old, new = (both(run_module, folder, **wanted(folder, number))["current"] for number in (1, 2))
    result = both(run_module, folder, **wanted(folder, 1))
    assert (result["changed"], result["current"], result["previous"], result["removed"]) == (True, old, new, [])


def test_going_back_twice_leads_back(run_module: Run, folder: Path) -> None:
    old, new = (both(run_module, folder, **wanted(folder, number))["current"] for number in (1, 2))
    for current, previous in ((old, new), (new, old)):
        result = both(run_module, folder, state="rolled_back")
        assert (result["changed"], result["current"], result["previous"]) == (True, current, previous)


def test_a_node_that_has_left_a_release_does_not_come_back_to_it(run_module: Run, folder: Path) -> None:
    old, new = (both(run_module, folder, **wanted(folder, number))["current"] for number in (1, 2))
    for changed in (True, False, False):
        result = both(run_module, folder, state="rolled_back", leaving=new)
        assert (result["changed"], result["current"], result["previous"]) == (changed, old, new)


@pytest.mark.parametrize("is_check", [False, True])
def test_without_a_release_before_there_is_no_going_back(run_module: Run, folder: Path, is_check: bool) -> None:
    both(run_module, folder, **wanted(folder, 1))
    code, result = run_module(hook_release, root=str(folder / "hooks"), state="rolled_back", _ansible_check_mode=is_check)
    assert (code, result["failed"]) == (1, True)
    assert result["msg"].startswith("madengine: job: release: there is none to go back to (root=")


def test_absent_leaves_what_a_running_job_uses_and_goes_on_when_it_has_ended(run_module: Run, folder: Path) -> None:
    old, new = (both(run_module, folder, **wanted(folder, number))["current"] for number in (1, 2))
    JobState(4711, str(folder / "run")).begin(os.getuid(), os.getgid(), str(folder / "hooks/releases" / new))
    result = both(run_module, folder, state="absent")
    assert (result["changed"], result["current"], result["previous"]) == (True, new, "")
    assert (result["removed"], result["in_use"]) == ([old], [new])
    JobState(4711, str(folder / "run")).remove()
    result = both(run_module, folder, state="absent")
    assert (result["changed"], result["current"], result["removed"], result["in_use"]) == (True, "", [new], [])
    assert both(run_module, folder, state="absent")["changed"] is False


def test_absent_where_nothing_ever_was_leaves_nothing(run_module: Run, folder: Path) -> None:
    assert both(run_module, folder, state="absent")["changed"] is False
    assert tree(folder) == []


@pytest.mark.parametrize("is_check", [False, True])
def test_a_broken_release_is_refused_in_check_mode_too(run_module: Run, folder: Path, is_check: bool) -> None:
    good = both(run_module, folder, **wanted(folder, 1))["current"]
    before = tree(folder)
    broken = releases.packed(folder, {"epilog/epilog.py": None})
    asked = {"version": "2.0.0", "src": broken.path, "sha256": broken.sha256}
    code, result = run_module(hook_release, root=str(folder / "hooks"), _ansible_check_mode=is_check, **asked)
    assert (code, result["msg"]) == (
        1,
        "madengine: job: release: a file is missing (file='epilog/epilog.py'); build and install the collection again",
    )
    assert tree(folder) == before
    assert os.readlink(folder / "hooks/current") == f"releases/{good}"


@pytest.mark.parametrize("missing", ["version", "src", "sha256"])
def test_without_the_action_plugin_s_part_the_line_says_what_to_do(run_module: Run, folder: Path, missing: str) -> None:
    asked = {name: value for name, value in wanted(folder, 1).items() if name != missing}
    code, result = run_module(hook_release, root=str(folder / "hooks"), **asked)
    assert code == 1
    assert result["msg"].endswith(f"(missing='{missing}'); call this by its name in a task; the action plugin adds the archive")


def test_a_version_that_leads_elsewhere_is_refused(run_module: Run, folder: Path) -> None:
    code, result = run_module(hook_release, root=str(folder / "hooks"), **wanted(folder, 1, "../../1.0.0"))
    assert (code, "release: not a version (version='../../1.0.0')" in result["msg"]) == (1, True)
    assert not list(folder.rglob("*1.0.0*"))
