# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option of the modules that compare SLURM's timers with what the hooks need."""

from __future__ import annotations


class ModuleDocFragment:
    """How long the prolog may take."""

    DOCUMENTATION = r"""
options:
  deadline:
    description: The longest that the prolog may take, in seconds; SLURM's timers must lie behind it.
    type: float
    default: 600
"""
