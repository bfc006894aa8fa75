# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library's packages stand on levels, imports lead down, and the picture in the design is what the imports say."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Tuple

import pytest
from helpers import programs
from helpers.hooks import REPOSITORY

packages = programs.imported("scripts/packages.py")
LIBRARY = REPOSITORY / packages.LIBRARY


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of the library, to break."""
    return Path(shutil.copytree(LIBRARY, tmp_path / "library", ignore=shutil.ignore_patterns("__pycache__")))


def test_imports_lead_down() -> None:
    assert packages.out_of_order(LIBRARY) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from ..hooks import config\n", "core imports hooks"),
        ("def late() -> None:\n    from ..oci.image import Reference\n", "core imports oci"),
        ("from ..nowhere import x\n", "core imports nowhere"),
    ],
)
def test_an_import_that_leads_up_is_found_wherever_it_stands(library: Path, line: str, found: str) -> None:
    path = library / "core/deadline.py"
    path.write_text(path.read_text() + line)
    assert packages.out_of_order(library) == [f"core/deadline.py: {found}"]


def test_packages_of_one_level_do_not_import_each_other(library: Path) -> None:
    path = library / "oci/image.py"
    path.write_text(path.read_text() + "from ..slurm import hostlist\n")
    assert packages.out_of_order(library) == ["oci/image.py: oci imports slurm"]


def test_a_new_folder_needs_a_level(library: Path) -> None:
    (library / "extra").mkdir()
    assert packages.out_of_order(library) == ["extra: is on no level"]


def test_the_picture_in_the_design_is_drawn_from_the_imports() -> None:
    text = (REPOSITORY / packages.PAGE).read_text()
    assert packages.page(text, packages.picture(LIBRARY)) == text, "run: scripts/packages.py --write"


def test_a_new_arrow_changes_the_picture(library: Path) -> None:
    (missing,) = {"core", "slurm"} - packages.arrows(LIBRARY)["oci"]
    path = library / "oci/image.py"
    path.write_text(path.read_text() + f"from ..{missing} import hostlist\n")
    assert packages.picture(library) != packages.picture(LIBRARY)


def _first_file(name: str) -> Tuple[str, str]:
    """Return the docstring of a package, and the file that it says to open first."""
    text = ast.get_docstring(ast.parse((LIBRARY / name / "__init__.py").read_text())) or ""
    opened = re.search(r"Open `(\w+)` first", text)
    return text, opened.group(1) if opened else ""


@pytest.mark.parametrize("name", sorted(packages.LEVEL))
def test_each_package_says_what_it_is_for_what_it_imports_and_which_file_to_open_first(name: str) -> None:
    text, first = _first_file(name)
    assert "Imports" in text
    assert (LIBRARY / name / f"{first}.py").is_file(), text


@pytest.mark.parametrize("name", sorted(packages.LEVEL))
def test_a_package_exports_nothing_by_a_second_name(name: str) -> None:
    body = ast.parse((LIBRARY / name / "__init__.py").read_text()).body
    assert [type(node) for node in body] == [ast.Expr]
