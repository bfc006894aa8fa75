# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the repository that are in no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from .hooks import REPOSITORY


def imported(path: str) -> ModuleType:
    """Return the program at *path*, below the repository, as a module; nothing of it runs, and nothing is left in sys.path."""
    before, written = list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        spec = importlib.util.spec_from_file_location(f"program_{path.replace('/', '_')[:-3]}", REPOSITORY / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path[:], sys.dont_write_bytecode = before, written
    return module
