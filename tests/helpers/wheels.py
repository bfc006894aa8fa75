# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels of what this Python has installed, for a node that reaches no index."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

_TAGS = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def pack(name: str, folder: Path) -> Path:
    """Write the wheel of an installed distribution, without what was compiled for this Python, into *folder*."""
    found = importlib.metadata.distribution(name)
    stem = f"{found.metadata['Name'].replace('-', '_')}-{found.version}"
    target = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for path in found.files or ():
            if path.parts[0] == ".." or path.suffix in (".pyc", ".so") or path.name in ("RECORD", "WHEEL", "INSTALLER", "REQUESTED"):
                continue
            wheel.write(str(path.locate()), str(path))
        info = next(path.parts[0] for path in found.files or () if path.parts[0].endswith(".dist-info"))
        wheel.writestr(f"{info}/WHEEL", _TAGS)
        wheel.writestr(f"{info}/RECORD", "")
    return target
