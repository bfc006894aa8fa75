# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the modules that compare SLURM's settings with what the hooks need."""

from __future__ import annotations


class ModuleDocFragment:
    """What SLURM has to start at a job's begin, at its end, and before each task."""

    DOCUMENTATION = r"""
options:
  prolog:
    description: What SLURM's C(Prolog) must hold.
    type: str
    default: /etc/slurm/prolog.d/*
  epilog:
    description: What SLURM's C(Epilog) must hold.
    type: str
    default: /etc/slurm/epilog.d/*
  task_prolog:
    description: What SLURM's C(TaskProlog) must be.
    type: path
    default: /etc/slurm/task_prolog
"""
