# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's way from the node that has it to those that have not.

Imports `docker`, `peers` and what lies below. Open `distribute` first, then `transports` and the `transport_*` that it lists.
"""
