# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sbatch, salloc and srun run before they submit: one file of SLURM's, which is ours, or the site's and calls ours.

Where slurm.conf names the filter and the file is missing, every submission fails; so it comes first and goes last.

Source: slurm.conf(5), "CliFilterPlugins"; measured with 22.05.8 and 24.11.5: the file lies beside slurm.conf, a command
reads it before its own options, so ``sbatch --version`` fails where it cannot be loaded; 24.11 brings it to configless
hosts, 22.05 does not.
"""

from __future__ import annotations

import re
from typing import Optional, Tuple

from . import slurm_conf

PLUGIN = slurm_conf.CLI_FILTER
NAME = "cli_filter.lua"
SCRIPT = "/etc/madengine/cli_filter.lua"
LINE = f'pcall(dofile, "{SCRIPT}")'
CONFIGLESS_SINCE = (24, 11)
_OURS = "-- Placed by rocm.madengine"
_CALL = re.compile(r"^(?!\s*--).*[\"']" + re.escape(SCRIPT) + r"[\"']", re.MULTILINE)
_VERSION = re.compile(r"\bslurm\S* ([0-9]+)\.([0-9]+)")


def is_ours(text: Optional[str]) -> bool:
    """Say whether SLURM's file, with this *text*, is one that we have placed; None is no file."""
    return text is not None and text.startswith(_OURS)


def calls_ours(text: Optional[str]) -> bool:
    """Say whether SLURM's file runs our script.

    >>> calls_ours(f"function slurm_cli_pre_submit() end\\n{LINE}\\n"), calls_ours(f"-- {LINE}\\n")
    (True, False)
    """
    return text is not None and bool(_CALL.search(text))


def probe(site: str) -> str:
    """Return a slurm.conf with which a command loads the filter, as it would with the *site*'s, and no more."""
    folder = slurm_conf.values(site).get("plugindir", "")
    lines = ["ClusterName=probe", "SlurmctldHost=localhost", f"CliFilterPlugins={PLUGIN}", *([f"PluginDir={folder}"] if folder else [])]
    return "\n".join(lines) + "\n"


def version(said: str) -> Optional[Tuple[int, int]]:
    """Return the release that ``sbatch --version`` told, None if it is none.

    >>> version("slurm-wlm 24.11.5")
    (24, 11)
    """
    match = _VERSION.search(said)
    return (int(match.group(1)), int(match.group(2))) if match else None
