# SPDX-License-Identifier: GPL-3.0-or-later
"""What real skopeo writes, in each of its forms, comes back as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo makes the archives")

IMAGE = images.make(b"base" * 1000, b"middle", b"top" * 3000, Env=["A=b"])


def skopeo(source: str, target: str) -> None:
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", source, target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def put(path: str, *namespaces: str) -> None:
    daemon = images.Daemon()
    daemon.images["a/b:1"] = IMAGE
    for namespace in namespaces:
        distribute.publish(daemon, path, "a/b:1", namespace, Deadline(60))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "form", ["docker-archive:{}:a/b:1", "docker-archive:{}", "oci-archive:{}:a/b:1", "oci-archive:{}:1", "oci-archive:{}"]
)
@pytest.mark.parametrize("program", ["", "gzip", "zstd"])
def test_an_archive_of_skopeos_is_a_source(tmp_path: Path, form: str, program: str) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    put(first, "site")
    os.mkdir(second)
    archive = os.path.join(second, "a_b_1.tar")
    skopeo(f"oci:{first}/images/site/a%2Fb%3A1", form.format(archive))
    if program:
        subprocess.run([program, "--quiet", archive], check=True)
        Path(archive).unlink(missing_ok=True)
    offer = distribute.publish(images.Daemon(), second, "a/b:1", "site", Deadline(60))  # type: ignore[arg-type]
    stored: Any = ImageStore(second).find(Reference.parse("a/b:1"), ["site"])
    assert (offer["source"], list(stored.identity.diff_ids)) == ("archive", IMAGE.diff_ids)
    assert json.loads(stored.config_bytes)["config"]["Env"] == ["A=b"]


@pytest.mark.parametrize("namespace", ["site", str(os.geteuid())])
def test_skopeo_reads_each_image_of_the_store_as_it_is(tmp_path: Path, namespace: str) -> None:
    path = str(tmp_path / "store")
    put(path, namespace)
    skopeo(f"oci:{path}/images/{namespace}/a%2Fb%3A1", f"oci:{tmp_path / 'copy'}")
    index = json.loads((tmp_path / "copy" / "index.json").read_text())
    assert len(index["manifests"]) == 1
