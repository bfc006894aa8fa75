# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks of the collection as installed, run against the lab from this machine, as an admin does."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Dict, List

REPOSITORY = Path(__file__).resolve().parents[2]
INVENTORY = REPOSITORY / "molecule/shared/inventory"
_SHOWN = re.compile(r'^\s+(?:- )?("(?:[^"\\]|\\.)*"),?$')
_RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)
_BEFORE = "PLAY RECAP"


class Played:
    """What ansible-playbook showed.

    :ivar lines: the texts that ``debug`` showed, one each.
    :ivar changed: how many tasks have changed something, by host; failed: how many have failed or were not reached.
    """

    def __init__(self, status: int, output: str) -> None:
        self.status, self.output = status, output
        self.lines: List[str] = [json.loads(match[1]) for match in map(_SHOWN.match, output.splitlines()) if match]
        recap = _RECAP.findall(output[output.rfind(_BEFORE) :])
        self.changed: Dict[str, int] = {host: int(changed) for host, changed, _unreachable, _failed in recap if int(changed)}
        self.failed: Dict[str, int] = {
            host: int(unreachable) + int(failed) for host, _changed, unreachable, failed in recap if int(unreachable) + int(failed)
        }


def play(name: str, *options: str, **variables: object) -> Played:
    """Run the playbook ``rocm.madengine.<name>`` on the lab."""
    command = ["ansible-playbook", "--inventory", str(INVENTORY), f"rocm.madengine.{name}", *options, "-e", json.dumps(variables)]
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "build/collections"),
        **os.environ,
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",  # molecule asks for it
    }
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return Played(done.returncode, done.stdout + done.stderr)
