# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library: everything that has logic, in packages that import only what lies below them.

========== =====================================================================
level      packages
========== =====================================================================
0          `core`
1          `slurm`, `oci`
2          `docker`, `manifest`, `peers`
3          `images`, `results`
4          `report`
5          `hooks`
6          `preflight`
========== =====================================================================

A package imports itself and what lies below; of its own level, nothing. Hooks and modules import any of them.
"""
