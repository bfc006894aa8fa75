# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the preflight of another release asks this one to prove itself: its own path, whatever moves inside the library."""

from __future__ import annotations

from .hooks.release import prove

__all__ = ["prove"]
