# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option of the modules that start SLURM's programs."""

from __future__ import annotations


class ModuleDocFragment:
    """Where they are."""

    DOCUMENTATION = r"""
options:
  slurm_dir:
    description: The directory that holds SLURM's C(bin), where that is in none of the usual places, such as V(/opt/slurm).
    type: path
    default: ""
"""
