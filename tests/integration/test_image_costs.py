# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image's way costs beside its bytes, counted: what the daemon is asked, and what a child of the hook has yet to import."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List
from urllib.parse import unquote

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import layer_server
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, load, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images
from helpers.hooks import REPOSITORY

IMPORTED = """
import json, os, sys
sys.path[:0] = [{collections!r}, {tests!r}]
from helpers import stories
prolog = stories.programs.imported("prolog/prolog.py")
job_images, process = prolog.job_images, prolog.process


def counting(work):
    def counted(*arguments):
        before = set(sys.modules)
        return [{{**done, "imported": sorted(set(sys.modules) - before)}} for done in work(*arguments)]
    return counted


job_images._published, job_images.distribute.obtain_all = counting(job_images._published), counting(job_images.distribute.obtain_all)
me = process.Account("root", os.getuid(), os.getgid(), (os.getgid(),), "/root")
of_the_job = job_images.JobImages(prolog.Site(docker_socket={socket!r}), {store!r}, me, prolog.Deadline(120), nodes=2)
of_the_job.prepare()
offers = of_the_job.stage([{name!r}], alone=False).result()
of_the_job._engine.untag({name!r})
loaded = of_the_job.load(offers).result()
print(json.dumps([offers[0], loaded[0]]))
"""


@pytest.fixture
def names(engine: Engine) -> Iterator[List[str]]:
    made = [f"mad-test-{os.urandom(4).hex()}/a:{tag}" for tag in (1, 2)]
    yield made
    for name in made:
        engine.untag(name)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """What the SDK asks the daemon, as it goes out; without each of the images that a list names."""
    found: List[str] = []
    ask = http.client.HTTPConnection.putrequest

    def noted(connection: Any, method: str, url: str, *given: Any, **options: Any) -> None:
        path = unquote(url).partition("?")[0].split("/", 2)[2]
        if not path.startswith("images/sha256:"):
            words = path.split("/")
            found.append(path if len(words) < 3 else f"{method} {words[-1] if method != 'DELETE' else 'image'}")
        ask(connection, method, url, *given, **options)

    monkeypatch.setattr(http.client.HTTPConnection, "putrequest", noted)
    return found


def within() -> Deadline:
    return Deadline(120)


def pull(engine: Engine, store: ImageStore, image: images.Image, name: str) -> None:
    kept = store.commit(Reference.parse(name), "site", image.config, [store.put_layer([data]) for data in image.layers])
    assert load.load(engine, load.FromStore(store, kept), Reference.parse(name), within()).method == "pull"


def publish(engine: Engine, store: str, name: str) -> Dict[str, Any]:
    with contextlib.closing(layer_server.LayerClient(layer_server.start(engine.socket))) as reader:
        options = transports.TransportOptions(sources=("local",), reader=reader)
        return distribute.publish(engine, store, name, "site", within(), options)


def test_a_new_layer_costs_the_daemon_few_questions(engine: Engine, names: List[str], asked: List[str], tmp_path: Path) -> None:
    base, other = random.randbytes(3000), ImageStore(str(tmp_path / "other"))
    other.ensure()
    for name in names:
        pull(engine, other, images.make(base, random.randbytes(3000)), name)
    store, is_containerd_store = str(tmp_path / "store"), engine.info().is_containerd_store

    asked.clear()
    offers = [publish(engine, store, name) for name in names]
    saved = [["GET get"] if offer["method"] == "save" else [] for offer in offers]  # where the daemon's files are not of this machine
    assert asked == ["GET json", "GET json", *saved[0], "GET json", "GET json", *saved[1]]
    assert (offers[1]["layers_moved"], publish(engine, store, names[1])["layers_moved"]) == (1, 0)

    for name in names:
        engine.untag(name)
    distribute.obtain(engine, offers[0], within())
    asked.clear()
    assert distribute.obtain(engine, offers[1], within())["method"] == "pull"
    # What it has of this name; what it is; the pull; that it is the right one; its name, and that it has it; the endpoint's go.
    known = [] if is_containerd_store else ["images/json"]
    proof = ["GET json", "POST tag", "GET json"]
    assert asked == ["GET json", "info", *known, "images/create", *proof, "DELETE image", "images/json"]
    asked.clear()
    assert distribute.obtain(engine, offers[1], within())["method"] == "none"
    assert asked == ["GET json"]


def test_a_child_of_the_hook_imports_nothing(engine: Engine, names: List[str], tmp_path: Path) -> None:
    other, store = ImageStore(str(tmp_path / "other")), tmp_path / "store"
    other.ensure()
    pull(engine, other, images.make(random.randbytes(3000)), names[0])
    paths = {"collections": str(REPOSITORY / "collections"), "tests": str(REPOSITORY / "tests")}
    script = IMPORTED.format(**paths, socket=engine.socket, store=str(store), name=names[0])
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    published, loaded = json.loads(done.stdout)
    assert (published["method"] in ("graph", "save"), loaded["method"]) == (True, "pull")
    assert (published["imported"], loaded["imported"]) == ([], [])
