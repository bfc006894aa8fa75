# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What prolog, epilog and task prolog are made of: settings, the job's request, its state, and how a fault becomes an exit status.

Imports `images`, `results`, `report` and what lies below. Open `config` first, then `job_state`.
"""
