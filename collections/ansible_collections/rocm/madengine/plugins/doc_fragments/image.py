# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the modules about one image of the store."""

from __future__ import annotations


class ModuleDocFragment:
    """Which image, in which store."""

    DOCUMENTATION = r"""
options:
  image:
    description:
      - The image's name as C(docker run) takes it, for example V(rocm/vllm:1.0).
      - A name without tag and digest means C(latest).
    type: str
    required: true
    aliases: [name]
  store:
    description:
      - The absolute path of the image store, a directory that all nodes share.
    type: path
    required: true
  namespace:
    description:
      - Whose images are meant. V(site) holds those of the site; each user has one called by the user's numeric id.
    type: str
    default: site
"""
