# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's words: host lists, the allocation, slurm.conf and the files that SLURM starts, its broadcast and control groups.

Imports `core`. Open `allocation` first.
"""
