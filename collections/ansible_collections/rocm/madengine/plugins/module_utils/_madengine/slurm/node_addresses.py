# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under which address SLURM reaches each node, where its name leads nowhere by itself.

slurm.conf lies on every node, configless ones included, so nobody is asked. Nodes that come up by themselves (``slurmd -Z``)
are not in it: they are reached by their names, and where these lead nowhere the controller knows more.

Source: slurm.conf(5), "NodeAddr" and "Include"; configless_slurm.html, "NOTES" (where slurmd keeps what it was sent);
dynamic_nodes.html; measured with 24.11.5 (``scontrol --oneliner show node``).
"""

from __future__ import annotations

import contextlib
import os.path
import re
from typing import Collection, Dict, List

from ..core import files
from ..core.errors import JobFault
from . import hostlist, scontrol, settings, slurm_conf

_LARGEST_BYTES = 16 << 20
_MOST_FILES = 64
_ASK_SECONDS = 5.0
_TOLD = re.compile(r"^NodeName=(\S+) .*?\bNodeAddr=(\S+)", re.MULTILINE)
_SENT = "/run/slurm/conf/slurm.conf"
_INSTALLED = "/etc/slurm/slurm.conf"


def conf_file(slurm_dir: str = "", sent: str = _SENT, installed: str = _INSTALLED) -> str:
    """Return where this node's slurm.conf is, for those to whom no ``SLURM_CONF`` says it.

    :param slurm_dir: where the site has SLURM, if outside of ``/usr``.
    :param sent: what a slurmd without files of its own was sent; an older file elsewhere is nothing to it.
    :returns: the usual place if there is none.
    """
    places = [sent, *([f"{slurm_dir.rstrip('/')}/etc/slurm.conf"] if slurm_dir else []), installed]
    return next((path for path in places if os.path.isfile(path)), installed)


def texts(path: str) -> List[str]:
    """Return the text of the slurm.conf *path* and of all that it includes; what cannot be read is left out."""
    found: List[str] = []
    waiting, seen = [path], {path}
    while waiting and len(seen) < _MOST_FILES:
        place = waiting.pop()
        with contextlib.suppress(JobFault):
            found.append(files.read(os.path.realpath(place), _LARGEST_BYTES).decode("utf-8", "replace"))
            others = [os.path.join(os.path.dirname(place), name) for name in slurm_conf.includes(found[-1])]
            waiting += [other for other in others if other not in seen]
            seen.update(others)
    return found


def of(path: str, wanted: Collection[str]) -> Dict[str, str]:
    """Return name → ``NodeAddr`` for those of the nodes *wanted* that have one.

    :param path: slurm.conf, as ``SLURM_CONF`` names it; a file that cannot be read says nothing.
    """
    found: Dict[str, str] = {}
    for text in texts(path):
        for line in slurm_conf.nodes(text) if "nodeaddr" in text.lower() else ():
            found.update(_pairs(line.get("nodename", ""), line.get("nodeaddr", "")))
    return {name: found[name] for name in wanted if name in found}


def asked(wanted: Collection[str], conf: str = "", slurm_dir: str = "") -> Dict[str, str]:
    """Return name → ``NodeAddr`` as the controller knows it: one question for all of *wanted*, and for a bounded time.

    :param conf: slurm.conf, for ``scontrol`` to find the controller by; "" for its own way.
    :returns: nothing for nodes that it does not know, and where it does not answer.
    """
    output = scontrol.show("node", ",".join(wanted), _ASK_SECONDS, settings.search_path(slurm_dir), conf)
    return {name: address for name, address in _TOLD.findall(output) if name in wanted}


def _pairs(names: str, addresses: str) -> Dict[str, str]:
    with contextlib.suppress(JobFault):
        expanded = hostlist.expand(names), hostlist.expand(addresses)
        if len(expanded[0]) == len(expanded[1]):
            return dict(zip(*expanded))
    # An IPv6 address is no host list.
    return {names: addresses} if addresses and "[" not in names and "," not in names else {}
