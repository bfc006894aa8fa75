# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What everything stands on: faults, deadlines, files, locks, and processes that act as somebody else.

Imports nothing of ours. Open `errors` first: whose fault it is decides all else.
"""
