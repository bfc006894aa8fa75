# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a whole: what is said twice is said alike, and nothing is forgotten.

Each check is a function that names what is wrong in a tree, and is itself tried on a tree in which something is wrong.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import yaml
from helpers.hooks import REPOSITORY

COLLECTION = Path("collections/ansible_collections/rocm/madengine")
HOOK_FILES = COLLECTION / "roles/slurm_hooks/files"
SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"
# Texts for people, what has no comments, what a tool writes, and what a real controller printed word for word.
WITHOUT_HEADER = re.compile(
    r"LICENSE|.*\.json|.*\.md|.*\.rst|\.gitignore|.*/changelogs/(fragments/.*|changelog\.yaml)|requirements-lock\.txt"
    r"|tests/helpers/slurm/.*\.txt|docs/examples/.*/expected"
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def shipped(root: Path) -> Iterator[Path]:
    """The files of *root*, relative to it: those that git knows or would add, or all where there is no git."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"], capture_output=True, check=False
    )
    if (root / ".git").exists():
        assert listing.returncode == 0, listing.stderr
        yield from (Path(name) for name in listing.stdout.decode().split("\0") if name and os.path.lexists(root / name))
    else:
        yield from (path.relative_to(root) for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


# --- The checks ---------------------------------------------------------------------------------------------------------


def versions_that_differ(root: Path) -> List[str]:
    galaxy = load(root / "galaxy.yml")["version"]
    project = re.search(r'^version = "(.*)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    return [] if project and project.group(1) == galaxy else [f"galaxy.yml {galaxy}, pyproject.toml {project and project.group(1)}"]


def links_that_lead_nowhere(root: Path) -> List[str]:
    """Links must lead to a file inside the repository: building follows them, and skips links to directories."""
    links = [path for path in (root / COLLECTION).rglob("*") if path.is_symlink()]
    return sorted(
        str(link.relative_to(root))
        for link in links
        if not link.is_file() or root.resolve() not in link.resolve().parents or os.path.isabs(os.readlink(link))
    )


def hooks_that_the_role_forgets(root: Path) -> List[str]:
    """What stands in prolog/ or epilog/ and is not, as a link to just that file, among the role's files; and the reverse."""
    real = {f"{folder}/{path.name}" for folder in ("prolog", "epilog", "bin") for path in (root / folder).iterdir() if path.is_file()}
    folders = [root / HOOK_FILES / folder for folder in ("prolog", "epilog", "bin")]
    carried = {str(path.relative_to(root / HOOK_FILES)) for folder in folders for path in folder.rglob("*") if not path.is_dir()}
    astray = {name for name in real & carried if not os.path.samefile(root / name, root / HOOK_FILES / name)}
    return sorted((real ^ carried) | astray)


def hooks_that_cannot_run(root: Path) -> List[str]:
    """What SLURM starts needs its #!/bin/sh and its execute bit; what a program reads in (.py, .sh) has neither."""
    wrong = []
    for folder in ("prolog", "epilog", "bin"):
        for path in sorted((root / folder).iterdir()):
            if path.is_file():
                is_program, first = os.access(path, os.X_OK), path.read_text().partition("\n")[0]
                is_right = not is_program and first[:2] != "#!" if path.suffix else is_program and first == "#!/bin/sh"
                wrong += [] if is_right else [f"{folder}/{path.name}"]
    return wrong


def defaults_that_are_not_documented(root: Path) -> List[str]:
    """Each variable of a role's defaults is documented with the same default, and the reverse; a required one may be empty."""
    wrong = []
    for role in sorted((root / COLLECTION / "roles").iterdir()):
        defaults: Dict[str, Any] = load(role / "defaults/main.yml") or {}
        options: Dict[str, Any] = load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})
        for name in sorted({*defaults, *options}):
            option = options.get(name, {})
            is_alike = name in options and (
                defaults.get(name, "") == "" if option.get("required") else name in defaults and option.get("default") == defaults[name]
            )
            if not is_alike or not name.startswith(role.name + "_"):
                wrong.append(f"{role.name}: {name}")
    return wrong


def modules_that_are_not_documented(root: Path) -> List[str]:
    """Each module has its three texts, and is named right in them (that they fit its arguments, ansible-test finds out)."""
    wrong = []
    for path in sorted((root / COLLECTION / "plugins/modules").glob("*.py")):
        texts = _texts(path)
        missing = [name for name in ("DOCUMENTATION", "EXAMPLES", "RETURN") if not yaml.safe_load(texts.get(name, ""))]
        if missing:
            wrong.append(f"{path.stem}: {' '.join(missing)}")
            continue
        documented = yaml.safe_load(texts["DOCUMENTATION"])
        if documented["module"] != path.stem or not documented.get("version_added") or not documented.get("short_description"):
            wrong.append(f"{path.stem}: DOCUMENTATION")
        if not any(f"rocm.madengine.{path.stem}" in task for task in yaml.safe_load(texts["EXAMPLES"])):
            wrong.append(f"{path.stem}: EXAMPLES")
    return wrong


def files_without_a_header(root: Path) -> List[str]:
    wrong = []
    for path in shipped(root):
        if WITHOUT_HEADER.fullmatch(str(path)) or path.name == "LICENSE" or (root / path).is_symlink():
            continue
        if not any(line.endswith((SPDX, SPDX + " #}")) for line in (root / path).read_text(errors="replace").splitlines()[:8]):
            wrong.append(str(path))
    return sorted(wrong)


def gates_that_look_elsewhere(root: Path) -> List[str]:
    """The gates start the release that the role puts in place; they heed no variable, so there is no other."""
    current = load(root / COLLECTION / "roles/slurm_hooks/vars/main.yml")["_slurm_hooks_root"] + "/current"
    gates = ("prolog/50-madengine", "epilog/50-madengine")
    return [gate for gate in gates if not re.search(rf"[ =]{re.escape(current)}(/|$)", (root / gate).read_text(), re.MULTILINE)]


def modules_outside_the_action_group(root: Path) -> List[str]:
    """`module_defaults: group/rocm.madengine.madengine` reaches every module."""
    grouped = load(root / COLLECTION / "meta/runtime.yml")["action_groups"]["madengine"]
    return sorted({path.stem for path in (root / COLLECTION / "plugins/modules").glob("*.py")} ^ set(grouped))


def _texts(path: Path) -> Dict[str, str]:
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant):
            found[node.targets[0].id] = str(node.value.value)
    return found


# --- The tree as it is, and each check's bad twin -----------------------------------------------------------------------

CHECKS: List[Callable[[Path], List[str]]] = [
    versions_that_differ,
    links_that_lead_nowhere,
    hooks_that_the_role_forgets,
    hooks_that_cannot_run,
    defaults_that_are_not_documented,
    modules_that_are_not_documented,
    files_without_a_header,
    gates_that_look_elsewhere,
    modules_outside_the_action_group,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_there_are_no(check: Callable[[Path], List[str]]) -> None:
    assert check(REPOSITORY) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is shipped, links and all, to break."""
    for path in shipped(REPOSITORY):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / path, tmp_path / path, follow_symlinks=False)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} does not hold {old!r}"
    path.write_text(text.replace(old, new, 1))


def link(path: Path, to: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


DEFAULTS = COLLECTION / "roles/slurm_hooks/defaults/main.yml"
OPTIONS = COLLECTION / "roles/slurm_hooks/meta/argument_specs.yml"
MODULE = COLLECTION / "plugins/modules/slurm_info.py"
BREAKS: Dict[str, Callable[[Path], object]] = {
    "versions_that_differ": lambda tree: replace(tree / "galaxy.yml", "version: ", "version: 9"),
    "links_that_lead_nowhere": lambda tree: (tree / "prolog/task_prolog").unlink(),
    "links_that_lead_nowhere outside": lambda tree: link(tree / HOOK_FILES / "prolog/00-noop", "/etc/passwd"),
    "links_that_lead_nowhere to a directory": lambda tree: link(tree / HOOK_FILES / "more", "prolog"),
    "hooks_that_the_role_forgets": lambda tree: (tree / "epilog/60-new").write_text("#!/bin/sh\n"),
    "hooks_that_the_role_forgets dangling": lambda tree: (tree / "epilog/00-noop").unlink(),
    "hooks_that_the_role_forgets astray": lambda tree: link(tree / HOOK_FILES / "epilog/00-noop", "../prolog/00-noop"),
    "hooks_that_cannot_run": lambda tree: (tree / "prolog/task_prolog").chmod(0o644),
    "hooks_that_cannot_run without a shell": lambda tree: replace(tree / "prolog/00-noop", "#!/bin/sh", "#!/bin/bash"),
    "hooks_that_cannot_run by themselves": lambda tree: (tree / "prolog/prolog.py").chmod(0o755),
    "defaults_that_are_not_documented": lambda tree: replace(tree / DEFAULTS, "slurm_hooks_keep: ", "slurm_hooks_keep: 4"),
    "defaults_that_are_not_documented new": lambda tree: replace(tree / DEFAULTS, "slurm_hooks_keep", "slurm_hooks_kept"),
    "defaults_that_are_not_documented gone": lambda tree: replace(tree / OPTIONS, "      slurm_hooks_keep:", "      slurm_hooks_kept:"),
    "modules_that_are_not_documented": lambda tree: replace(tree / MODULE, "RETURN =", "RETURNS ="),
    "modules_that_are_not_documented by name": lambda tree: replace(tree / MODULE, "module: slurm_info", "module: slurm"),
    "modules_that_are_not_documented by example": lambda tree: replace(tree / MODULE, "rocm.madengine.slurm_info:", "slurm_info:"),
    "files_without_a_header": lambda tree: replace(tree / "epilog/50-madengine", SPDX, "SPDX"),
    "files_without_a_header new": lambda tree: (tree / COLLECTION / "plugins/modules/new.py").write_text("pass\n"),
    "gates_that_look_elsewhere": lambda tree: replace(tree / "epilog/50-madengine", "=/opt/madengine-hooks", "=/opt/hooks"),
    "modules_outside_the_action_group": lambda tree: replace(tree / COLLECTION / "meta/runtime.yml", "    - slurm_info\n", ""),
}  # fmt: skip


def test_each_check_has_a_bad_twin() -> None:
    assert {name.split()[0] for name in BREAKS} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("name", list(BREAKS))
def test_a_tree_that_is_broken_is_found_out(tree: Path, name: str) -> None:
    (check,) = (check for check in CHECKS if check.__name__ == name.split()[0])
    before = check(tree)
    BREAKS[name](tree)
    assert check(tree) != before
    assert all(isinstance(line, str) and line for line in itertools.chain(before, check(tree)))
