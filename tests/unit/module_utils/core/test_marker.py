# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A marker is seen by who sees the directory, and by nobody who sees another of the same name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import marker


def test_a_marker_is_seen_until_it_is_taken_away(tmp_path: Path) -> None:
    path = str(tmp_path / "marker")
    assert not marker.has_marker(path, "n1")
    marker.write_marker(path, "n1")
    assert marker.has_marker(path, "n1")
    for _ in range(2):
        marker.remove_marker(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "made",
    [
        lambda path: path.write_text("n2"),
        lambda path: path.write_text("n1\n"),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("n1" * 1000),
        lambda path: path.symlink_to("real"),
        lambda path: path.mkdir(),
        os.mkfifo,
    ],
)
def test_what_is_not_the_told_text_in_a_file_is_no_marker(tmp_path: Path, made: Callable[[Path], object]) -> None:
    (tmp_path / "real").write_text("n1")
    made(tmp_path / "marker")
    assert not marker.has_marker(str(tmp_path / "marker"), "n1")


@pytest.mark.parametrize("text", ["\udcff", "é"])
def test_no_text_is_too_odd_to_be_looked_for(tmp_path: Path, text: str) -> None:
    marker.write_marker(str(tmp_path / "marker"), "n1")
    assert not marker.has_marker(str(tmp_path / "marker"), text)


def test_a_directory_that_is_not_there_takes_no_marker(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        marker.write_marker(str(tmp_path / "gone" / "marker"), "n1")
