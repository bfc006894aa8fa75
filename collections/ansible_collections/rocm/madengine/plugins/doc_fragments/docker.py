# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option of the modules that ask a Docker daemon."""

from __future__ import annotations


class ModuleDocFragment:
    """Which daemon."""

    DOCUMENTATION = r"""
options:
  docker_socket:
    description:
      - The path of the Docker daemon's socket, or a URL as in C(DOCKER_HOST).
    type: str
    default: /var/run/docker.sock
    aliases: [docker_host]
requirements:
  - Docker SDK for Python (C(python3-docker)), 5.0.3 or newer
"""
