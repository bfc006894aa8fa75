# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.rocm.madengine.plugins.modules import manifest_info
from helpers import manifests

Run = Callable[..., Any]


@pytest.mark.parametrize(("shape", "write"), manifests.SHAPES.items())
def test_a_manifest_of_any_shape_is_described(run_module: Run, tmp_path: Path, shape: str, write: Any) -> None:
    code, result = run_module(manifest_info, path=manifests.write(tmp_path, write()))
    assert (code, result["changed"]) == (0, False)
    (model,) = result["models"]
    assert (model["name"], model["shape"]) == ("llama", shape)
    assert [image["reference"] for image in result["images"]] == [model["image"]]


def test_nothing_is_written_and_no_value_is_shown(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    before = Path(path).read_bytes()
    _, result = run_module(manifest_info, src=path, _ansible_check_mode=True)
    assert manifests.TOKEN not in json.dumps(result)
    assert (result["variables"], result["secrets"]) == (["COPY", "HF_TOKEN", "MAD_SECRETS_HFTOKEN"], ["HF_TOKEN", "MAD_SECRETS_HFTOKEN"])
    assert {one["name"] for one in result["lint"]} == {"secret_in_clear"}
    assert (Path(path).read_bytes(), os.listdir(tmp_path)) == (before, ["build_manifest.json"])


def test_a_password_in_a_url_is_not_shown(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built(model={"additional_docker_run_options": "-e U=https://bob:hunter22@git.example.org"}))
    _, result = run_module(manifest_info, src=path)
    assert "hunter22" not in json.dumps(result)
    assert [one["name"] for one in result["lint"]] == ["secret_in_clear"]


def test_an_image_name_that_holds_a_token_is_refused_without_showing_it(run_module: Run, tmp_path: Path) -> None:
    broken = manifests.built(context={"docker_env_vars": {"HF_TOKEN": manifests.TOKEN}}, image={"docker_image": f"A B {manifests.TOKEN}"})
    code, result = run_module(manifest_info, src=manifests.write(tmp_path, broken))
    assert (code, manifests.TOKEN in json.dumps(result)) == (1, False)


def test_an_entrypoint_is_found_with_the_docker_of_this_host(run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\necho \'["/init"]\'\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    _, result = run_module(manifest_info, src=manifests.write(tmp_path, manifests.built()))
    assert [one["name"] for one in result["lint"]] == ["entrypoint"]
    assert (tmp_path / "calls").read_text() == "image inspect --format {{json .Config.Entrypoint}} -- ci-llama_llama.ubuntu.amd:latest\n"


def test_a_file_that_is_no_manifest_is_a_failure_in_one_line(run_module: Run, tmp_path: Path) -> None:
    code, result = run_module(manifest_info, src=manifests.write(tmp_path, "{"))
    assert code == 1
    assert result["msg"].startswith("madengine: job: manifest: not as expected")
    assert "\n" not in result["msg"]
