# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option of the modules that move images."""

from __future__ import annotations


class ModuleDocFragment:
    """How long."""

    DOCUMENTATION = r"""
options:
  timeout_seconds:
    description:
      - How long all of it may take.
    type: int
    default: 3600
requirements:
  - Docker Engine 20.10 or newer, with the classic or the containerd image store
"""
