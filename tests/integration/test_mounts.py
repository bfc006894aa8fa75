# SPDX-License-Identifier: GPL-3.0-or-later
"""Every spelling of a mount against a real daemon: it takes our merged options, and refuses or hides with the naive ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import mounts
from helpers import containers

# {own} is the directory of the model's own mount, {ours} the manifest's; each holds a file of that name.
REFUSED = [
    "-v {own}:/data",
    "-v={own}:/data",
    "-v{own}:/data",
    "-iv {own}:/data",
    "-iv={own}:/data",
    "--volume {own}:/data",
    "--volume={own}:/data",
    "-v {own}:/data/",
    "-v {own}://data/.",
    "-v {own}:/x/../data",
    "-v {own}:/data:ro",
    "-v {own}:/data:rw,rprivate",
    "-v '{own}':\"/data\"",
    "-v $OWN:/data",
    '-v "${{OWN}}/":/d"at"a',
    "-v `echo {own}`:/data",
    "--mount type=bind,source={own},target=/data",
    "--mount=type=bind,src={own},dst=/data",
    "--mount type=bind,source={own},destination=/data/",
    "--mount TYPE=bind,Source={own},TARGET=/data",
    "--mount 'type=bind,\"source={own}\",target=/data'",
    "--tmpfs /data",
    "--tmpfs=/data:rw,size=1m",
]
# The daemon takes these, and one of the two mounts is silently not to be seen.
HIDDEN = ["-v /data", "--tmpfs /data/", "--mount type=tmpfs,target=/data"]


def start(options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = f"docker run --rm --network none {options} {containers.IMAGE} ls /data /other"
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env={**os.environ, **environ})


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    for name in ("own", "ours", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    return {name: str(tmp_path / name) for name in ("own", "ours", "other")}


def merged(spelling: str, places: dict[str, str]) -> str:
    wanted = mounts.wanted({"/data": places["ours"], "/other": places["other"]})
    text, dropped = mounts.merge(spelling.format(**places), wanted)
    assert [one.target for one in dropped] == ["/data"]
    return text


@pytest.mark.parametrize("spelling", REFUSED)
def test_docker_takes_our_options_and_refuses_the_naive_ones(places: dict[str, str], spelling: str) -> None:
    naive = start(spelling.format(**places) + " -v {ours}:/data -v {other}:/other".format(**places), OWN=places["own"])
    assert naive.returncode == 125
    assert "Duplicate mount point" in naive.stderr
    good = start(merged(spelling, places), OWN=places["own"])
    seen = [] if "tmpfs" in spelling else ["own"]
    assert (good.returncode, good.stdout.split()) == (0, ["/data:", *seen, "/other:", "other"]), good.stderr


@pytest.mark.parametrize("spelling", HIDDEN)
def test_where_docker_would_hide_a_mount_without_a_word_the_models_own_is_the_one_to_be_seen(places: dict[str, str], spelling: str) -> None:
    naive = start(spelling.format(**places) + " -v {ours}:/data -v {other}:/other".format(**places))
    good = start(merged(spelling, places))
    assert (good.returncode, good.stdout.split()) == (0, ["/data:", "/other:", "other"]), good.stderr
    assert naive.returncode == 125 or naive.stdout.split() != ["/data:", "own", "ours", "/other:", "other"]


def test_a_named_volume_keeps_its_place(places: dict[str, str], tmp_path: Path) -> None:
    name = f"test-{os.getpid()}"
    try:
        good = start(merged(f"-v {name}:/data", places))
        assert (good.returncode, good.stdout.split()) == (0, ["/data:", "/other:", "other"]), good.stderr
    finally:
        subprocess.run(["docker", "volume", "rm", name], capture_output=True, check=False)


@pytest.mark.parametrize(
    "name", ["with space", "it's", 'q"uote', "$HOME", "back\\slash", "semi;colon", "star*", "~", "grüße", "#hash", "(x)"]
)
def test_a_path_of_any_characters_is_mounted_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "found").touch()
    # A $ in a manifest's path is for the shell, as it is in madengine; the variable gives the odd name back.
    path = f"{tmp_path}/$ODD" if "$" in name else f"{tmp_path}/{name}"
    text, _ = mounts.merge("", mounts.wanted({"/data": path, "/other": str(tmp_path)}))
    good = start(text, ODD=name)
    assert (good.returncode, good.stdout.split("\n")[:2]) == (0, ["/data:", "found"]), good.stderr


def test_the_mode_in_a_key_is_heeded(places: dict[str, str]) -> None:
    text, _ = mounts.merge("", mounts.wanted({"/data:ro": places["ours"]}))
    command = f"docker run --rm --network none {text} {containers.IMAGE} touch /data/x"
    assert "Read-only" in subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stderr
