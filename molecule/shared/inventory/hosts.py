#!/usr/bin/env python3
# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's inventory: a controller and three compute nodes, each a container of this machine's Docker engine.

The environment says which lab, so that several can exist side by side:

=============  =============  ========================================================================
MADLAB_NAME    madlab         names the network, the label and build/lab/<name>; containers are
                              <name>-c0, <name>-n1, ...; if empty: demo, and plain c0, n1, ...
MADLAB_BASE    debian:trixie  the nodes' distribution (or debian:bookworm, debian:forky)
MADLAB_STORE   classic        the nodes' Docker image store: classic or containerd
MADLAB_SHARED  yes            yes: /shared is one directory on all nodes; no: there is none
MADLAB_CONFIG  files          files: every host has a slurm.conf; configless: the controller alone has
MADLAB_BUNDLE  no             yes: the nodes boot with what `make bundle` has put into dist/; no: they boot without hooks
=============  =============  ========================================================================

It is a program and no template because testinfra reads the inventory without templating: ``ansible_host`` must be literal.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

CONTROLLER = "c0"
COMPUTE = ("n1", "n2", "n3")
REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


def choice(name: str, *allowed: str) -> str:
    """Return the environment's value of *name*; the first of *allowed* is the default."""
    value = os.environ.get(name) or allowed[0]
    if value not in allowed:
        sys.exit(f"hosts.py: {name}={value} is unknown; use one of: {', '.join(allowed)}")
    return value


def inventory() -> dict[str, object]:
    """Return the inventory as ``ansible-inventory --list`` writes it."""
    name = os.environ.get("MADLAB_NAME", "madlab")
    prefix = f"{name}-" if name else ""
    base = os.environ.get("MADLAB_BASE") or "debian:trixie"
    shared = choice("MADLAB_SHARED", "yes", "no") == "yes"
    return {
        "slurm": {
            "children": ["slurm_controller", "slurm_compute"],
            "vars": {
                "ansible_connection": "community.docker.docker",
                "ansible_user": "root",
                "ansible_python_interpreter": "/usr/bin/python3",
                "lab_name": name or "demo",
                "lab_base": base,
                "lab_image": f"madlab-node:{base.rpartition(':')[2]}",
                "lab_wants_cgroup2": base.rpartition(":")[2] not in ("bookworm", "trixie"),
                "lab_bundle": choice("MADLAB_BUNDLE", "no", "yes") == "yes",
                "lab_store": choice("MADLAB_STORE", "classic", "containerd"),
                "lab_shared": shared,
                "lab_is_configless": choice("MADLAB_CONFIG", "files", "configless") == "configless",
                "lab_home": "/shared/home" if shared else "/home",
                "lab_dir": str(REPOSITORY / "build" / "lab" / (name or "demo")),
            },
        },
        "slurm_controller": {"hosts": [CONTROLLER]},
        "slurm_compute": {"hosts": list(COMPUTE)},
        "_meta": {"hostvars": {node: {"ansible_host": prefix + node} for node in (CONTROLLER, *COMPUTE)}},
    }


if __name__ == "__main__":
    print(json.dumps(inventory(), indent=2))
