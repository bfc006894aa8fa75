# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory something takes, in a process that may have taken more before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable


def peak_kib(work: Callable[[], object]) -> int:
    """Do *work*, and return by how much the memory that this process holds rose at the most, in KiB.

    Source: proc(5), ``clear_refs``: 5 sets the peak to what is held now. What getrusage(2) tells never falls, so nothing that
    comes after a larger thing can be seen there.
    """
    Path("/proc/self/clear_refs").write_text("5")
    before = _held("VmRSS")
    work()
    return _held("VmHWM") - before


def _held(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found
    return int(found[1])
