# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks of a collection that is installed, run against the lab from this machine, as an admin does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

REPOSITORY = Path(__file__).resolve().parents[2]
INVENTORY = REPOSITORY / "molecule/shared/inventory"
INSTALLED = REPOSITORY / "build/collections"
_SHOWN = re.compile(r'^\s+(?:- )?("(?:[^"\\]|\\.)*"),?$')
_RECAP = re.compile(r"^(\S+) +: (ok=.*)$", re.MULTILINE)
_BEFORE = "PLAY RECAP"


class Played:
    """What ansible-playbook showed.

    :ivar lines: the texts that ``debug`` showed, one each.
    :ivar recap: the numbers of the recap, by host.
    :ivar changed: how many tasks have changed something, by host; failed: how many have failed or were not reached. Hosts
        with none are left out.
    """

    def __init__(self, status: int, output: str) -> None:
        self.status, self.output = status, output
        self.lines: List[str] = [json.loads(match[1]) for match in map(_SHOWN.match, output.splitlines()) if match]
        found = _RECAP.findall(output[output.rfind(_BEFORE) :])
        self.recap = {host: {name: int(count) for name, count in (pair.split("=") for pair in text.split())} for host, text in found}
        self.changed = self._counts("changed")
        self.failed = self._counts("failed", "unreachable")

    def _counts(self, *names: str) -> Dict[str, int]:
        sums = {host: sum(counts[name] for name in names) for host, counts in self.recap.items()}
        return {host: count for host, count in sums.items() if count}


def play(name: str, *options: str, collections: Path = INSTALLED, **variables: object) -> Played:
    """Run the playbook ``rocm.madengine.<name>`` of the collection in *collections* on the lab, and return what it did, well or not."""
    words = command(name, *options, **variables)
    done = subprocess.run(words, cwd=REPOSITORY, env=environment(collections), capture_output=True, text=True, check=False)
    return Played(done.returncode, done.stdout + done.stderr)


def command(name: str, *options: str, **variables: object) -> List[str]:
    program = str(Path(sys.executable).parent / "ansible-playbook")
    return [program, "--inventory", str(INVENTORY), f"rocm.madengine.{name}", *options, "--extra-vars", json.dumps(variables)]


def environment(collections: Path) -> Dict[str, str]:
    plain = {
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "NO_COLOR": "1",
    }  # molecule asks for it
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, **plain, "PATH": path, "ANSIBLE_COLLECTIONS_PATH": str(collections)}
