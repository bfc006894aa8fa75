# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TaskProlog's place: whose program stands there, and how it changes hands without an instant of emptiness."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Callable, Optional, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import task_program
from helpers.hooks import REPOSITORY

OURS = (REPOSITORY / "prolog/task_prolog").read_bytes()
THEIRS = b"#!/bin/bash\n# The site's.\necho export OMP_NUM_THREADS=4\n"


@pytest.fixture
def places(tmp_path: Path) -> Tuple[Path, Path]:
    """The file that SLURM names, and where the site's own is kept."""
    return tmp_path / "task_prolog", tmp_path / "task_prolog.site"


def settle(places: Tuple[Path, Path], ours: bytes = OURS) -> None:
    task_program.settle(str(places[0]), str(places[1]), ours)
    assert task_program.settled(str(places[0]), ours)


@pytest.mark.parametrize(("data", "expected"), [
    (None, False),
    (b"", False),
    (b"#!/bin/sh\nexit 0\n", False),
    (b"#!/bin/bash\n\n  # nothing\n:\n true \nexit", False),
    (task_program.NOTHING.encode(), False),
    (OURS, False),
    (OURS.replace(b"_job=", b"job="), False),
    (b"#!/bin/sh\nexit 1\n", True),
    (b"#!/bin/sh\nexit 0; reboot\n", True),
    (b"\x7fELF\x02\x01", True),
    (THEIRS, True),
])  # fmt: skip
def test_whose_program_it_is_shows_in_what_it_does(data: Optional[bytes], expected: bool) -> None:
    assert task_program.is_the_sites(data) is expected


def test_the_sites_program_moves_aside_with_its_permissions_and_comes_back(places: Tuple[Path, Path]) -> None:
    path, site = places
    path.write_bytes(THEIRS)
    path.chmod(0o751)
    settle(places)
    assert (path.read_bytes(), site.read_bytes()) == (OURS, THEIRS)
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o755, 0o751]
    settle(places)
    assert (path.read_bytes(), site.read_bytes()) == (OURS, THEIRS)
    task_program.give_back(str(path), str(site))
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode), site.exists()) == (THEIRS, 0o751, False)
    task_program.give_back(str(path), str(site))
    assert path.read_bytes() == THEIRS


@pytest.mark.parametrize("before", [None, b"#!/bin/sh\nexit 0\n", OURS + b"# an older one\n"])
def test_where_the_site_had_none_there_is_none_to_keep_and_one_that_does_nothing_stays(
    places: Tuple[Path, Path], before: Optional[bytes]
) -> None:
    path, site = places
    if before is not None:
        path.write_bytes(before)
    settle(places)
    assert not site.exists()
    assert task_program.given_back(str(path), str(site)) == task_program.NOTHING.encode()
    task_program.give_back(str(path), str(site))
    assert (path.read_text(), os.access(path, os.X_OK)) == (task_program.NOTHING, True)


def test_a_link_of_the_sites_is_kept_as_one_and_what_it_leads_to_is_not_touched(places: Tuple[Path, Path], tmp_path: Path) -> None:
    path, site = places
    (tmp_path / "real").write_bytes(THEIRS)
    path.symlink_to("real")
    settle(places)
    assert (path.is_symlink(), site.is_symlink(), site.read_bytes(), (tmp_path / "real").read_bytes()) == (False, True, THEIRS, THEIRS)
    task_program.give_back(str(path), str(site))
    assert (path.is_symlink(), path.read_bytes()) == (True, THEIRS)


def test_what_the_site_puts_over_ours_later_is_its_will_and_what_it_had_before_is_not_lost(places: Tuple[Path, Path]) -> None:
    path, site = places
    path.write_bytes(THEIRS)
    settle(places)
    path.write_bytes(THEIRS + b"# new\n")
    assert not task_program.settled(str(path), OURS)
    settle(places)
    assert site.read_bytes() == THEIRS + b"# new\n"
    assert Path(f"{site}.old").read_bytes() == THEIRS


@pytest.mark.parametrize("change", [lambda path: path.chmod(0o644), lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_program_of_ours_that_cannot_run_is_not_settled(places: Tuple[Path, Path], change: Callable[[Path], object]) -> None:
    settle(places)
    change(places[0])
    assert not task_program.settled(str(places[0]), OURS)


def test_at_no_instant_is_the_place_empty(places: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever something is renamed into place, something has been there before, and is there after."""
    path, site = places
    path.write_bytes(THEIRS)
    seen = []
    rename = os.rename

    def watched(*names: str) -> None:
        seen.append(path.exists())
        rename(*names)
        seen.append(path.exists())

    monkeypatch.setattr(os, "rename", watched)
    settle(places)
    task_program.give_back(str(path), str(site))
    assert len(seen) >= 6
    assert all(seen)
