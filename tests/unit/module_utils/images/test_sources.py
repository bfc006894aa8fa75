# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image under a reused name: what was built from something else is built anew, or it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import build
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import sources
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images.request import ImageRequest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Identity, Reference

LOCAL = tuple(source for source in sources.SOURCES if source in ("local", "build"))


class Daemon:
    """One image, as a file: the command ``docker build`` below writes it, and the engine reads it."""

    socket = "/run/docker.sock"

    def __init__(self, path: Path) -> None:
        self.path = path

    def inspect(self, name: str) -> Optional[Dict[str, Any]]:
        labels = dict(line.split("=", 1) for line in self.path.read_text().splitlines()) if self.path.exists() else None
        if labels is None:
            return None
        layer = "sha256:" + "ab" * 32
        return {"RootFS": {"Layers": [layer]}, "Config": {"Labels": labels}, "Os": "linux", "Architecture": "amd64"}

    def identity(self, reference: Reference) -> Optional[Identity]:
        document = self.inspect(str(reference))
        return None if document is None else Identity.of_inspect(document)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    (tmp_path / "bin").mkdir()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/m.Dockerfile").write_text("FROM scratch\n")
    script = f'#!/bin/sh\nwhile [ "$1" != --label ]; do shift; done\necho "$2" >{tmp_path}/image\necho x >>{tmp_path}/builds\n'
    (tmp_path / "bin/docker").write_text(script)
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setattr(process, "PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return Daemon(tmp_path / "image")


def ensured(daemon: Daemon, *names: str) -> Any:
    entry = {"dockerfile": "docker/m.Dockerfile", "work_dir": str(daemon.path.parent)}
    request = ImageRequest(Reference.parse("ci-m:1"), recipe=build.Recipe.of(entry))
    source, _identity, said = sources.ensure(daemon, None, request, "alice", Deadline(10), names or LOCAL)  # type: ignore[arg-type]
    return source, said


def builds(daemon: Daemon) -> int:
    path = daemon.path.parent / "builds"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_what_we_built_is_built_again_only_when_its_dockerfile_has_changed(daemon: Daemon) -> None:
    assert ensured(daemon) == ("build", "")
    assert ensured(daemon) == ("local", "")
    (daemon.path.parent / "docker/m.Dockerfile").write_text("FROM scratch\nENV A=1\n")
    source, said = ensured(daemon)
    assert (source, builds(daemon)) == ("build", 2)
    assert said.endswith("was built from another Dockerfile or other arguments than the manifest's; it was built anew")
    assert ensured(daemon) == ("local", "")


def test_where_no_job_may_build_the_old_image_runs_and_it_is_said(daemon: Daemon) -> None:
    ensured(daemon)
    (daemon.path.parent / "docker/m.Dockerfile").write_text("FROM scratch\nENV A=1\n")
    source, said = ensured(daemon, "local")
    assert (source, builds(daemon)) == ("local", 1)
    assert said.endswith("it runs, for this site lets no job build")


def test_an_image_that_nobody_has_labelled_is_the_user_s_own(daemon: Daemon) -> None:
    daemon.path.write_text("maintainer=alice\n")
    assert ensured(daemon) == ("local", "")
    assert json.loads(json.dumps(builds(daemon))) == 0
