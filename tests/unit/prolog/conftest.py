# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the prolog's tests find: a node that is a directory."""

from helpers.gate_fixtures import no_fsync, node

__all__ = ["no_fsync", "node"]
