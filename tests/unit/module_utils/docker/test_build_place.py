# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is built from outside the work directory, whatever the manifest says and wherever links lead."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import build


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work directory with a context, and beside it what is somebody else's; docker is nowhere."""
    for folder in ("work/docker", "work-of-bob/docker"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "work/link").symlink_to(tmp_path / "work-of-bob/docker")
    (tmp_path / "work/inner").symlink_to("docker")
    monkeypatch.setattr("ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.process.PATH", str(tmp_path))
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("dockerfile", "context"),
    [
        ("docker/x.Dockerfile", "../work-of-bob"),
        ("docker/x.Dockerfile", "{top}/work-of-bob/docker"),
        ("docker/x.Dockerfile", "/"),
        ("docker/x.Dockerfile", "link"),
        ("../work-of-bob/docker/x.Dockerfile", "docker"),
        ("link/x.Dockerfile", "docker"),
        ("{top}/work-of-bob/docker/x.Dockerfile", "docker"),
    ],
)
def test_a_dockerfile_or_a_context_outside_the_work_directory_is_refused(work: Path, dockerfile: str, context: str) -> None:
    recipe = build.Recipe(str(work), dockerfile.format(top=work.parent), context.format(top=work.parent))
    with pytest.raises(JobFault, match="build: outside the work directory"):
        build.run(recipe, "x:1", "/nowhere", Deadline(60))


@pytest.mark.parametrize(
    ("dockerfile", "context"),
    [("docker/x.Dockerfile", "docker"), ("inner/x.Dockerfile", "."), ("{top}/work/docker/x.Dockerfile", "docker/../docker")],
)
def test_what_lies_below_it_is_built(work: Path, dockerfile: str, context: str) -> None:
    recipe = build.Recipe(str(work), dockerfile.format(top=work.parent), context)
    with pytest.raises(Fault, match="no docker command"):  # it came so far
        build.run(recipe, "x:1", "/nowhere", Deadline(60))
