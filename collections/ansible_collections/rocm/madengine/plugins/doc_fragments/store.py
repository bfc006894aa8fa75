# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the modules that look at the image store as a whole."""

from __future__ import annotations


class ModuleDocFragment:
    """Which store, and whose images in it."""

    DOCUMENTATION = r"""
options:
  store:
    description:
      - The absolute path of the image store.
    type: path
    required: true
  namespaces:
    description:
      - Whose images are meant; V(site) and users' numeric ids. Everybody's if not given.
    type: list
    elements: str
"""
