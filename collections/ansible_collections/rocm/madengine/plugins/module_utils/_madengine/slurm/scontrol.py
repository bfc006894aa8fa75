# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounded question to the controller, for what no file of a node tells.

Source: scontrol(1), ``show``, ``--oneliner``.
"""

from __future__ import annotations

import subprocess

from ..core import process


def show(entity: str, name: str, seconds: float, path: str, conf: str = "") -> str:
    """Return what ``scontrol`` says of *entity* (``job``, ``node``) *name*, a line each, errors included; "" where it does not answer.

    :param path: where SLURM's programs are searched for.
    :param conf: what ``SLURM_CONF`` says; "" for scontrol's own way to the controller.
    """
    environment = {"PATH": path, "LC_ALL": "C.UTF-8", **({"SLURM_CONF": conf} if conf else {})}
    try:
        done = process.command(["scontrol", "--oneliner", "show", entity, name], seconds, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"{done.stdout}\n{done.stderr}"
