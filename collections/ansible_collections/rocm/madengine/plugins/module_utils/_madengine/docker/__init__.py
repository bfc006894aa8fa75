# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine of this node: its API, the layers in its own files, archives for it, and builds.

Imports `core`, `slurm` and `oci`. Open `engine` first.
"""
