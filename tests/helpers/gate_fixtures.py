# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that is a directory, once for each shell that may be its /bin/sh: for the tests of prolog and epilog."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import hooks


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """/run is no disk; here it lies on one, and each of a state's files would wait for it."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(params=list(hooks.SHELLS))
def node(request: pytest.FixtureRequest, tmp_path: Path) -> hooks.GateNode:
    return hooks.GateNode(tmp_path / "node", hooks.SHELLS[request.param])
