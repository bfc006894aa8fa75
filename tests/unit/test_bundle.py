# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's bundle holds what the role would install, is the same for the same sources, and its release runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config, release
from helpers import programs

bundle = programs.imported("scripts/bundle.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's root, as the tarball makes it."""
    folder = tmp_path_factory.mktemp("bundle")
    bundle.tarball(folder / "hooks.tar.gz")
    with tarfile.open(folder / "hooks.tar.gz") as tar:
        tar.extractall(folder / "root", filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(folder / "root")
    return folder / "root"


def listing(root: Path) -> Dict[str, bool]:
    """Each file below *root*, and whether it can be executed."""
    return {str(path.relative_to(root)): os.access(path, os.X_OK) for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def test_the_release_in_it_is_whole_and_runs(root: Path) -> None:
    path = root / bundle.HOOKS / "current"
    assert path.is_symlink()
    assert not os.path.isabs(os.readlink(path))
    release.prove(str(path))


def test_a_bundle_that_lacks_a_library_file_does_not_run(root: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree((root / bundle.HOOKS / "current").resolve(), tmp_path / "broken"))
    next(path.rglob("core/errors.py")).unlink()
    with pytest.raises(release.JobFault):
        release.prove(str(path))


def test_what_slurm_starts_can_be_started_and_is_what_the_release_has(root: Path) -> None:
    current = root / bundle.HOOKS / "current"
    for target, source in bundle.STARTED.items():
        assert (root / target).read_bytes() == (current / source).read_bytes()
        assert os.access(root / target, os.X_OK)


def test_its_settings_are_the_defaults(root: Path) -> None:
    assert config.parse((root / bundle.SETTINGS).read_text(), strict=True) == config.Site()


def test_it_is_the_same_for_the_same_sources(tmp_path: Path) -> None:
    for name in ("first", "second"):
        bundle.tarball(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb")
def test_the_package_holds_what_the_tarball_holds_and_keeps_an_admins_settings(root: Path, tmp_path: Path) -> None:
    bundle.deb(tmp_path / "hooks.deb")
    subprocess.run(["dpkg-deb", "--extract", tmp_path / "hooks.deb", tmp_path / "root"], check=True)
    assert listing(tmp_path / "root") == listing(root)
    subprocess.run(["dpkg-deb", "--control", tmp_path / "hooks.deb", tmp_path / "control"], check=True)
    kept = (tmp_path / "control/conffiles").read_text().split()
    assert "/etc/madengine/hooks.conf" in kept
    assert all((root / name[1:]).is_file() for name in kept)
    assert "python3-docker" in (tmp_path / "control/control").read_text()
