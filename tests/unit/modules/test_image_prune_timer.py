# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer's program removes what the module would, and says what; its unit runs just that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images
from helpers.hooks import REPOSITORY

COLLECTIONS = REPOSITORY / "collections"
ROLE = COLLECTIONS / "ansible_collections/rocm/madengine/roles/image_prune"


def rendered(kind: str, **variables: object) -> str:
    said = {**yaml.safe_load((ROLE / "defaults/main.yml").read_text()), "image_prune_python": "/usr/bin/python3", **variables}
    return jinja2.Template((ROLE / f"templates/madengine-image-prune.{kind}.j2").read_text()).render(said)


def unit(store: str, days: float, budget: float) -> list:
    shown = rendered("service", image_prune_store=store, image_prune_older_than_days=days, image_prune_budget_gib=budget)
    [line] = [line for line in shown.splitlines() if line.startswith("ExecStart=")]
    return line.partition("=")[2].split()


def run(words: list) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROLE / "files/prune.py"), *words[2:]]
    return subprocess.run(command, env={"PYTHONPATH": str(COLLECTIONS)}, capture_output=True, text=True, check=False)


def test_the_timer_removes_what_is_old_and_says_what(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    for name, age_days in (("old:1", 40), ("new:1", 1)):
        daemon = images.Daemon()
        daemon.images[name] = images.make(b"base", name.encode())
        distribute.release([distribute.publish(daemon, path, name, "site", Deadline(60))])  # type: ignore[arg-type]
        os.utime(ImageStore(path).index_path(Reference.parse(name), "site"), (time.time() - age_days * 86400,) * 2)
    done = run(unit(path, 30, 0))
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "removed old:1 of site", "")
    assert [str(name) for _namespace, name, _digest in ImageStore(path).images()] == ["new:1"]
    assert "removed new:1 of site" in run(unit(path, 0, 0.000001)).stdout


def test_a_timer_without_a_store_fails_in_one_line(tmp_path: Path) -> None:
    done = run(unit(str(tmp_path / "none"), 30, 2000))
    assert (done.returncode, done.stderr.startswith("madengine: share: prune: no image store")) == (1, True)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for kind in ("service", "timer"):
        (tmp_path / f"madengine-image-prune.{kind}").write_text(rendered(kind, image_prune_store="/shared/madengine"))
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "madengine" in line]
    assert (done.returncode, said) == (0, [])
