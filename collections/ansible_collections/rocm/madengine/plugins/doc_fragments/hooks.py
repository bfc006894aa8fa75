# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option of the modules that look at the hooks on a node."""

from __future__ import annotations


class ModuleDocFragment:
    """Where they are."""

    DOCUMENTATION = r"""
options:
  root:
    description: Directory of the hooks' releases and of the link C(current).
    type: path
    default: /opt/madengine-hooks
"""
