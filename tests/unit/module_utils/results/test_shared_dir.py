# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes see one and the same directory is found out from the directory itself, and nothing is left in it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, List, Sequence

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import shared_dir
from helpers import peers
from hypothesis import given
from hypothesis import strategies as st


def unshared(folders: Sequence[Path], attempt: int = 0) -> List[Any]:
    """Return what the first node and each other one finds out, when rank N sees ``folders[N]``."""
    places = [str(folder / "madengine-7") for folder in folders]
    shared_dir.open_for(places[0], attempt, 0)
    joined = [shared_dir.join(place, attempt, rank) for rank, place in enumerate(places) if rank]
    return [shared_dir.close(places[0], attempt, len(places)), [rank for rank, has in enumerate(joined, 1) if not has]]


@given(st.lists(st.booleans(), max_size=6))
def test_both_sides_know_who_is_apart_and_nothing_is_left_behind(is_shared: List[bool]) -> None:
    with tempfile.TemporaryDirectory() as base:
        folders = [Path(base, "shared" if rank == 0 or is_shared[rank - 1] else f"local{rank}") for rank in range(len(is_shared) + 1)]
        expected = [rank for rank, shares in enumerate(is_shared, 1) if not shares]
        assert unshared(folders) == [expected, expected]
        assert [name for folder in folders if folder.exists() for name in os.listdir(folder)] == []


def test_an_earlier_attempt_s_marks_prove_nothing(tmp_path: Path) -> None:
    place = str(tmp_path / "madengine-7")
    shared_dir.open_for(place, 0, 0)  # a prolog that was killed
    assert shared_dir.join(place, 0, 1)
    assert not shared_dir.join(place, 1, 1)
    shared_dir.open_for(place, 1, 0)
    assert shared_dir.close(place, 1, 2) == [1]


def test_what_others_have_put_there_stays(tmp_path: Path) -> None:
    place = tmp_path / "madengine-7"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    shared_dir.open_for(str(place), 0, 0)
    assert shared_dir.close(str(place), 0, 1) == []
    assert os.listdir(place) == ["notes.txt"]


def test_a_directory_that_cannot_be_written_is_shared_with_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file/madengine-7")
    assert not shared_dir.open_for(place, 0, 0)
    assert not shared_dir.join(place, 0, 1)
    assert shared_dir.close(place, 0, 3) == [1, 2]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir])
def test_a_mark_that_a_user_has_prepared_proves_nothing_and_holds_up_nobody(tmp_path: Path, make: Any) -> None:
    place = tmp_path / "madengine-7"
    (place / ".nodes.0").mkdir(parents=True)
    make(place / ".nodes.0/0")
    assert not shared_dir.join(str(place), 0, 1)


class Session:
    """Attends to children, as any meeting does."""

    def run_child(self, child: process.Child) -> Any:
        return child.result(Deadline(10))


def common(place: Path, rank: int, nodes: int = 2) -> shared_dir.SharedDirProbe:
    return shared_dir.SharedDirProbe(peers.me(), Deadline(10), (str(place), 0, rank, nodes))


@pytest.mark.parametrize("is_shared", [True, False])
def test_while_the_prologs_meet_each_leaves_its_mark(tmp_path: Path, is_shared: bool) -> None:
    first, second = common(tmp_path / "a/7", 0), common(tmp_path / ("a/7" if is_shared else "b/7"), 1)
    with first:
        first.leave_marker(Session())  # type: ignore[arg-type]
        with second:
            second.leave_marker(Session())  # type: ignore[arg-type]
    assert (first.unshared_ranks, second.unshared_ranks) == (([], []) if is_shared else ([1], [1]))
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_meeting_that_fails_leaves_no_mark(tmp_path: Path) -> None:
    first = common(tmp_path / "7", 0)
    with contextlib.suppress(ZeroDivisionError), first:
        first.leave_marker(Session())  # type: ignore[arg-type]
        assert (tmp_path / "7/.nodes.0/0").exists()
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_job_of_one_node_asks_nobody(tmp_path: Path) -> None:
    with common(tmp_path / "7", 0, nodes=1) as alone:
        alone.leave_marker(None)  # type: ignore[arg-type]
    assert (alone.unshared_ranks, os.listdir(tmp_path)) == ([], [])
