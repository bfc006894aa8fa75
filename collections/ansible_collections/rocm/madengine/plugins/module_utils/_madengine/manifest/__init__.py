# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""madengine's build manifest: what it says, what a run needs of it, and which of its words are secrets.

Imports `core` and `oci`. Open `job_spec` first.
"""
