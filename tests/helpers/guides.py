# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides of the collection's documentation, and what in them is meant to be typed."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

from .hooks import REPOSITORY

FOLDER = REPOSITORY / "collections/ansible_collections/rocm/madengine/docs/docsite/rst"
# What the name of a block ends with says which test claims it; the language is part of the promise.
ON_PAPER = {  # tests/unit/test_docs.py
    "inventory": "ini",
    "variables": "yaml",
    "playbook": "yaml",
    "command": "console",
    "slurm-conf": "ini",
    "hooks-conf": "ini",
    "manifest": "json",
    "program": "sh",
}
ON_THE_CLUSTER = {  # tests/cluster/default/test_guides.py
    "job": "bash",
    "on-node": "console",
    "on-controller": "console",
}
KINDS = {**ON_PAPER, **ON_THE_CLUSTER}
_BLOCK = re.compile(r"^\.\. code-block:: (?P<language>\S+)\n(?:   :name: (?P<name>\S+)\n)?\n(?P<text>(?:(?:   .*)?\n)+)", re.MULTILINE)
_LITERAL = re.compile(r"^(?!\.\. )(?:.*[^:\n])?::$|^\.\. (?:code|sourcecode|parsed-literal|literalinclude|highlight)::.*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block: which guide it stands in, its language, its name ("" if it has none), its text."""

    guide: str
    language: str
    name: str
    text: str

    @property
    def kind(self) -> str:
        """What it is, of `KINDS`; "" if no test claims such a block."""
        found = [kind for kind, language in KINDS.items() if self.name.endswith("-" + kind) and self.language == language]
        return found[0] if found else ""

    def commands(self) -> List[str]:
        """The commands of a console; what is not behind a prompt is what they print."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def texts(folder: Path = FOLDER) -> Dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.rst"))}


def blocks_in(guide: str, text: str) -> List[Block]:
    found = _BLOCK.finditer(text)
    return [Block(guide, match["language"], match["name"] or "", textwrap.dedent(match["text"]).strip("\n") + "\n") for match in found]


def blocks(kind: str, folder: Path = FOLDER) -> List[Block]:
    return [block for guide, text in texts(folder).items() for block in blocks_in(guide, text) if block.kind == kind]


def unclaimed(guide: str, text: str) -> List[str]:
    """Return what in *text* is set as code, and that no test reads or runs."""
    found = blocks_in(guide, text)
    missed = text.count("\n.. code-block::") - len(found)
    wrong = [block.name or f"a block without a name: {block.text.splitlines()[0]}" for block in found if not block.kind]
    return wrong + [match.group().strip() for match in _LITERAL.finditer(text)] + [f"{missed} blocks of another form"] * bool(missed)


def messages(text: str) -> List[Tuple[str, str]]:
    """Return what *text* quotes as ``noun: what happened (values); what to do``: the fact, and the remedy or ""."""
    found = []
    for quoted in re.findall(r"``([^`]+)``", " ".join(text.split())):
        line = re.sub(r"^madengine: (job|share|node): ", "", quoted)
        match = re.fullmatch(r"((?:madengine: )?[a-z_]+: [^;(]+?) ?(?:\([^)]*\))?(?:; (.+))?", line)
        if match and not re.match(r"[a-z_]+: (true|false|\d)", line):
            found.append((match[1].strip(), match[2] or ""))
    return found
