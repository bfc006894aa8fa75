# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hook_release's action: the whole release in one archive, the same for the same files, and one line where it cannot be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import time
from pathlib import Path
from typing import Dict

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.rocm.madengine.plugins.action import hook_release
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import release
from helpers.hooks import REPOSITORY

COLLECTION = REPOSITORY / "collections/ansible_collections/rocm/madengine"
LIBRARY = "lib/ansible_collections/rocm/madengine/plugins/module_utils/_madengine"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the collection in which links are files, as building makes it."""
    for folder in (hook_release.LIBRARY, hook_release.HOOKS):
        shutil.copytree(COLLECTION / folder, tmp_path / folder, symlinks=False)
    shutil.copy(REPOSITORY / "galaxy.yml", tmp_path / "galaxy.yml")
    monkeypatch.setattr(hook_release, "COLLECTION", str(tmp_path))
    return tmp_path


def members(data: bytes) -> Dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def test_every_hook_and_every_library_file_is_in_it() -> None:
    found = members(hook_release.archive())
    hooks = {
        f"{folder}/{path.name}" for folder in ("prolog", "epilog", "bin") for path in (REPOSITORY / folder).iterdir() if path.is_file()
    }
    source = COLLECTION / "plugins/module_utils/_madengine"
    library = {f"{LIBRARY}/{path.relative_to(source)}" for path in source.rglob("*.py")}
    assert set(found) == hooks | library
    assert set(release.PROGRAMS) <= set(found)
    assert all(member.isfile() for member in found.values())


def test_it_is_byte_for_byte_the_same_for_the_same_files(built: Path) -> None:
    first = hook_release.archive()
    assert first == hook_release.archive()
    for path in built.rglob("*"):
        os.utime(path, (time.time() - 1000, 1))
    if os.geteuid() == 0:
        os.chown(built / hook_release.HOOKS / "prolog/prolog.py", 12345, 12345)
    (built / hook_release.HOOKS / "prolog/prolog.py").chmod(0o640)
    assert hook_release.archive() == first
    (built / hook_release.LIBRARY / "errors.py").write_text("# another\n")
    assert hook_release.archive() != first


def test_what_slurm_starts_is_executable_and_nothing_else(built: Path) -> None:
    found = members(hook_release.archive())
    assert {name for name, member in found.items() if member.mode == 0o755} == {
        "prolog/50-madengine", "prolog/task_prolog", "prolog/00-noop", "epilog/50-madengine", "epilog/00-noop",
        "bin/madengine-restore",
    }  # fmt: skip
    assert {member.mode for member in found.values()} == {0o755, 0o644}


def test_what_an_editor_and_a_compiler_leave_is_no_part_of_a_release(built: Path) -> None:
    first = hook_release.archive()
    for name in ("errors.py~", ".errors.py.swp", "notes.txt"):
        (built / hook_release.LIBRARY / name).write_text("x")
    (built / hook_release.LIBRARY / "__pycache__").mkdir(exist_ok=True)
    (built / hook_release.HOOKS / "prolog/prolog.py~").write_text("x")
    assert hook_release.archive() == first


@pytest.mark.parametrize("name", [f"{hook_release.HOOKS}/epilog/epilog.py", f"{hook_release.LIBRARY}/core/errors.py"])
def test_a_link_that_leads_nowhere_is_one_line_with_the_way_out(built: Path, name: str) -> None:
    (built / name).unlink()
    (built / name).symlink_to("../../../nowhere")
    with pytest.raises(AnsibleActionFail) as caught:
        hook_release.archive()
    assert str(caught.value) == (
        f"{name} is missing, or a link that leads nowhere: this copy of rocm.madengine was not built. Run `make dist` and install"
        " dist/rocm-madengine-*.tar.gz with `ansible-galaxy collection install`."
    )


@pytest.mark.parametrize("name", [f"{hook_release.HOOKS}/epilog", hook_release.LIBRARY, "galaxy.yml"])
def test_what_is_not_there_at_all_is_the_same_line(built: Path, name: str) -> None:
    shutil.rmtree(built / name) if (built / name).is_dir() else (built / name).unlink()
    with pytest.raises(AnsibleActionFail, match=f"^{name} is missing, or a link that leads nowhere"):
        hook_release.archive() and hook_release.version()


def test_the_version_is_the_collection_s_built_or_not(built: Path) -> None:
    wanted = next(line.split()[1] for line in (REPOSITORY / "galaxy.yml").read_text().splitlines() if line.startswith("version:"))
    assert hook_release.version() == wanted
    (built / "galaxy.yml").unlink()
    (built / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "7.8.9"}}))
    assert hook_release.version() == "7.8.9"


def test_the_real_release_runs_on_this_machine(tmp_path: Path) -> None:
    """Only the interpreter of the nodes is another one here."""
    data = hook_release.archive()
    path = tmp_path / "release.tar.gz"
    path.write_bytes(hook_release.gzip.compress(data, mtime=0))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(release, "_INTERPRETER", sys.executable)
        release.examine(str(path), hashlib.sha256(data).hexdigest(), str(tmp_path / "release"))
