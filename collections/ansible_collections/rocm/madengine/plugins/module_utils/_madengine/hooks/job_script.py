# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which manifest a job of `madengine run` runs: the job script in its output directory names it.

The user can change the script at any time, so it is read as that user, and what it says is a path to look at, no more.

Source: madengine 2.1 and later, job.sh.j2: ``ORIGINAL_MANIFEST="run_manifest_x.json"``, ``SUBMISSION_DIR=/…`` (several
nodes) or ``SUBMIT_DIR=/…``, ``MANIFEST_FILE=/…/run_manifest_x.json`` (one node).
"""

from __future__ import annotations

import os.path
import re
import shlex
from typing import Dict

from ..core import files
from ..core.errors import Fault

_LARGEST_BYTES = 1 << 20
_FOLDERS, _NAMES = ("SUBMISSION_DIR", "SUBMIT_DIR"), ("ORIGINAL_MANIFEST", "MANIFEST_FILE")
_SET = re.compile(rf"^\s*(?:export\s+)?({'|'.join(_FOLDERS + _NAMES)})=(\S.*)$", re.MULTILINE)


def manifest_of(path: str, work_dir: str) -> str:
    """Return the manifest that the job script in *path* names; empty if there is no such script, or it names none.

    :param work_dir: what a relative name is relative to where the script does not say.
    """
    try:
        text = files.read(path, _LARGEST_BYTES).decode("utf-8", "replace")
    except Fault:
        return ""
    return named_in(text, work_dir)


def named_in(text: str, work_dir: str) -> str:
    """Return the manifest that the job script *text* names, as `manifest_of`.

    >>> named_in('SUBMISSION_DIR=/home/a/run\\nORIGINAL_MANIFEST="run_manifest_x.json"\\n', "/home/a")
    '/home/a/run/run_manifest_x.json'
    """
    said: Dict[str, str] = {}
    for name, value in _SET.findall(text):
        plain = _plain(value)
        if plain:
            said.setdefault(name, plain)
    folder = next((said[name] for name in _FOLDERS if said.get(name, "").startswith("/")), work_dir)
    manifest = next((said[name] for name in _NAMES if name in said), "")
    return os.path.normpath(os.path.join(folder, manifest)) if manifest else ""


def _plain(value: str) -> str:
    """Return what the shell makes of *value*; empty where that depends on more than *value*."""
    try:
        word = next(iter(shlex.split(value, comments=True)), "")
    except ValueError:
        return ""
    return word if word.isprintable() and not any(char in word for char in "$`") else ""
