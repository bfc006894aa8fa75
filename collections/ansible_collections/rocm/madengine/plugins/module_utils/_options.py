# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that several modules share, as an argument spec has them; the doc_fragments of the same names describe them.

A test holds the two against each other, and finds an option that a module has of its own though a fragment has it.
"""

from __future__ import annotations

from typing import Any, Dict

Spec = Dict[str, Dict[str, Any]]

DEADLINE: Spec = {"deadline": {"type": "float", "default": 600}}
DOCKER: Spec = {"docker_socket": {"type": "str", "default": "/var/run/docker.sock", "aliases": ["docker_host"]}}
HOOKS: Spec = {"root": {"type": "path", "default": "/opt/madengine-hooks"}}
IMAGE: Spec = {
    "image": {"type": "str", "required": True, "aliases": ["name"]},
    "store": {"type": "path", "required": True},
    "namespace": {"type": "str", "default": "site"},
}
TIMEOUT: Spec = {"timeout_seconds": {"type": "int", "default": 3600}}
SLURM: Spec = {
    "prolog": {"type": "str", "default": "/etc/slurm/prolog.d/*"},
    "epilog": {"type": "str", "default": "/etc/slurm/epilog.d/*"},
    "task_prolog": {"type": "path", "default": "/etc/slurm/task_prolog"},
}
SLURM_DIR: Spec = {"slurm_dir": {"type": "path", "default": ""}}
STORE: Spec = {"store": {"type": "path", "required": True}, "namespaces": {"type": "list", "elements": "str"}}
