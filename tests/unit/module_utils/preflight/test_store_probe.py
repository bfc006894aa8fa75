# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One store for all: notes are found where they were left, and nothing of a preflight stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import store_probe


def test_a_note_is_found_by_the_others_and_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    seen = store_probe.write(str(tmp_path), "s1", "n1", "secret-1", 0, 1)
    assert (seen["nonce"], seen["write_mb_per_second"], seen["free_gib"] > 0) == ("secret-1", 0.0, True)
    others = [{"node": "n1", "nonce": "secret-1"}, {"node": "n2", "nonce": "secret-2"}, {"node": "n3", "nonce": ""}]
    assert store_probe.missing(str(tmp_path), "s1", others) == {"missing": ["n2"]}
    store_probe.write(str(tmp_path), "s1", "n2", "another", 0, 1)
    assert store_probe.missing(str(tmp_path), "s1", others) == {"missing": ["n2"]}
    for node in ("n1", "n2", "n2"):
        store_probe.remove(str(tmp_path), "s1", node)
    assert os.listdir(tmp_path / "tmp") == []


def test_the_speed_is_measured_and_the_probe_file_is_gone(tmp_path: Path) -> None:
    seen = store_probe.write(str(tmp_path), "s1", "n1", "x", 3 << 20, 10)
    assert seen["write_mb_per_second"] > 0
    assert seen["read_mb_per_second"] > 0
    assert os.listdir(tmp_path) == [".preflight.s1.n1"]


def test_a_slow_store_is_measured_by_what_it_has_done_in_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10000, 2))
    monkeypatch.setattr(store_probe.time, "monotonic", lambda: float(next(clock)))
    seen = store_probe.write(str(tmp_path), "s1", "n1", "x", 64 << 20, 5)
    # A megabyte every two seconds, two of them before the five are over, and one question more of the clock.
    assert seen["write_mb_per_second"] == pytest.approx(2 * 1.048576 / 8)
    assert seen["read_mb_per_second"] == pytest.approx(2 * 1.048576 / 8)


def test_a_measurement_that_fails_leaves_no_probe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_probe.os, "write", full)
    with pytest.raises(ShareFault, match="No space left on device") as raised:
        store_probe.write(str(tmp_path), "s1", "n1", "x", 1 << 20, 5)
    assert "free space" in raised.value.remedy
    assert os.listdir(tmp_path) == [".preflight.s1.n1"]


def test_a_store_that_is_not_there_is_the_shares_fault(tmp_path: Path) -> None:
    for work in (
        lambda: store_probe.write(str(tmp_path / "gone"), "s", "n", "x", 0, 1),
        lambda: store_probe.missing(str(tmp_path / "gone"), "s", []),
    ):
        with pytest.raises(ShareFault, match="store: not there") as raised:
            work()
        assert "mount the share" in raised.value.remedy


def test_what_is_planted_under_a_notes_name_is_neither_followed_nor_believed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("secret-1")
    (tmp_path / ".preflight.s1.n1").symlink_to(tmp_path / "elsewhere")
    assert store_probe.missing(str(tmp_path), "s1", [{"node": "n1", "nonce": "secret-1"}]) == {"missing": ["n1"]}
    (tmp_path / ".preflight.s1.n1.bulk").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ShareFault):
        store_probe.write(str(tmp_path), "s1", "n1", "y", 1 << 20, 1)
    assert (tmp_path / "elsewhere").read_text() == "secret-1"


@pytest.mark.parametrize("name", ["", "../n1", "n/1", ".hidden", "n1\n", "x" * 200])
def test_a_name_that_leads_out_of_the_store_is_refused(tmp_path: Path, name: str) -> None:
    for session, node in ((name, "n1"), ("s1", name)):
        with pytest.raises(JobFault, match="not a name for a file"):
            store_probe.write(str(tmp_path), session, node, "x", 0, 1)
