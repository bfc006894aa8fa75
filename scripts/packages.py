# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library's packages and who imports whom, read from the imports: ``packages.py`` prints the picture for the design.

``packages.py --write`` puts it into docs/design/architecture.md; a test checks that it stands there as it is.
"""

from __future__ import annotations

import ast
import pathlib
import sys
from typing import Dict, Iterator, List, Set, Tuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIBRARY = "collections/ansible_collections/rocm/madengine/plugins/module_utils/_madengine"
PAGE = "docs/design/architecture.md"
BEGIN, END = "<!-- packages: drawn by scripts/packages.py -->\n", "<!-- end of packages -->\n"

# From the ground up. A package imports what lies below its level, and of its own level nothing but itself.
LEVELS: Tuple[Tuple[str, ...], ...] = (
    ("core",),
    ("slurm", "oci"),
    ("docker", "manifest", "peers"),
    ("images", "results"),
    ("report",),
    ("hooks",),
    ("preflight",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def imports(library: pathlib.Path) -> Iterator[Tuple[str, str, str]]:
    """Give each import between packages: the file that has it, its own package, and the other one."""
    for path in sorted(library.rglob("*.py")):
        package = path.relative_to(library).parts[0] if path.parent != library else ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if package and isinstance(node, ast.ImportFrom) and node.level == 2:
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                for name in names:
                    yield str(path.relative_to(library)), package, name


def arrows(library: pathlib.Path) -> Dict[str, Set[str]]:
    """Return, of each package, the others that it imports."""
    found: Dict[str, Set[str]] = {name: set() for name in LEVEL}
    for _path, package, other in imports(library):
        found.setdefault(package, set()).add(other)
    return found


def out_of_order(library: pathlib.Path) -> List[str]:
    """Return each import that does not lead down, and each folder that is no package of `LEVELS`."""
    folders = {path.name for path in library.iterdir() if path.is_dir() and not path.name.startswith("__")}
    wrong = [f"{name}: is on no level" for name in sorted(folders ^ set(LEVEL))]
    for path, package, other in imports(library):
        if LEVEL.get(other, 99) >= LEVEL.get(package, -1):
            wrong.append(f"{path}: {package} imports {other}")
    return wrong


def picture(library: pathlib.Path) -> str:
    """Return the levels as a text, top down: each package and what it imports directly."""
    found = arrows(library)
    lines = []
    for level in range(len(LEVELS) - 1, -1, -1):
        for name in LEVELS[level]:
            below = " ".join(sorted(found[name], key=lambda other: (-LEVEL[other], other))) or "nothing of ours"
            lines.append(f"{level}  {name:<10} → {below}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def page(text: str, drawn: str) -> str:
    """Return the design page *text* with the picture in its place."""
    head, _begin, rest = text.partition(BEGIN)
    _old, _end, tail = rest.partition(END)
    return head + BEGIN + drawn + END + tail


def main() -> int:
    drawn = picture(ROOT / LIBRARY)
    if "--write" in sys.argv:
        path = ROOT / PAGE
        path.write_text(page(path.read_text(encoding="utf-8"), drawn), encoding="utf-8")
    else:
        print(drawn, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
