# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec
from helpers import manifests


def test_a_job_gets_all_that_its_hooks_need_and_no_secret(tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    found = job_spec.load_for_job(path)
    assert manifests.TOKEN not in json.dumps(found)
    assert found["results"] == ["perf_llama.csv"]
    assert found["images"] == [
        {
            "reference": "ci-llama_llama.ubuntu.amd:latest",
            "models": ["llama"],
            "registry_image": "",
            "dockerfile": "docker/llama.ubuntu.amd.Dockerfile",
            "context": "",
            "build_args": {},
            "secret_build_args": ["MAD_SECRETS_HFTOKEN"],
        }
    ]
    (model,) = found["models"]
    assert (model["name"], model["shape"], model["image"]) == ("llama", "build", "ci-llama_llama.ubuntu.amd:latest")
    assert found["environment"]["exports"] == {"NCCL_DEBUG": "INFO"}
    assert {"HF_TOKEN", "MAD_SECRETS_HFTOKEN"} <= set(found["environment"]["names"])
    assert "MAD_GUEST_OS=UBUNTU" in found["environment"]["fixed"]
    assert "secret_in_clear" in {one["name"] for one in found["report"]["lint"]}


def test_it_comes_back_whole_from_the_users_process(tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built())
    me = process.of(os.getuid(), os.getgid())
    assert process.run(me, job_spec.load_for_job, path) == job_spec.load_for_job(path)


def test_a_manifest_that_was_restored_on_the_submit_host_means_the_same_to_the_nodes(tmp_path: Path) -> None:
    written = manifests.build_on_compute()
    first = job_spec.load_for_job(manifests.write(tmp_path, written))
    again = job_spec.load_for_job(manifests.write(tmp_path, job_spec.text(first["document"])))
    assert {key: again[key] for key in ("document", "images", "results", "environment")} == {
        key: first[key] for key in ("document", "images", "results", "environment")
    }


def test_models_of_one_image_need_that_image_once() -> None:
    written = manifests.use_image()
    written["built_images"]["m2"] = {"docker_image": "docker.io/rocm/vllm:1"}
    written["built_models"]["m2"] = {"name": "m2"}
    (image,) = job_spec.images(written)
    assert (image["reference"], image["models"]) == ("rocm/vllm:1", ["llama", "m2"])


def test_a_dockerfile_that_is_none_is_nothing() -> None:
    assert [job_spec.images(shape())[0]["dockerfile"] for shape in manifests.SHAPES.values()] == [
        *("docker/llama.ubuntu.amd.Dockerfile", "", "", "docker/llama.ubuntu.amd.Dockerfile")
    ]


def test_the_models_beside_the_manifest_are_taken_unasked(tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.use_image())
    assert job_spec.load_for_job(path)["results"] == []
    manifests.write(tmp_path, [{"name": "llama", "multiple_results": "perf.csv"}], "models.json")
    assert job_spec.load_for_job(path)["results"] == ["perf.csv"]
    other = manifests.write(tmp_path, [{"name": "llama", "multiple_results": "other.csv"}], "other.json")
    assert job_spec.load_for_job(path, models_path=other)["results"] == ["other.csv"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[" * 90_000, "nothing", "1" * 1_000_000, "[{}" + ",{}" * 200_000 + "]"])
def test_models_that_are_none_are_refused_by_their_file(tmp_path: Path, text: str) -> None:
    path = manifests.write(tmp_path, text, "models.json")
    with pytest.raises(JobFault, match=r"manifest: (no list of models|not as expected)") as caught:
        job_spec.models(path)
    assert caught.value.seen["path"] == path


@pytest.mark.parametrize(
    "fields",
    [
        {"multiple_results": "../../secret.csv"},
        {"additional_docker_run_options": ["--rm"]},
        {"timeout": []},
        {"x": "a\0b"},
        {"distributed": 1},
    ],
)
def test_what_models_json_fills_in_is_checked_like_the_manifest(tmp_path: Path, fields: dict[str, object]) -> None:
    path = manifests.write(tmp_path, manifests.use_image())
    manifests.write(tmp_path, [{"name": ["odd"]}, {}, {"name": "llama", **fields}], "models.json")
    with pytest.raises(JobFault, match=r"manifest: not as expected .path='models.json'"):
        job_spec.load_for_job(path)


def test_no_models_beside_the_manifest_are_no_fault_but_those_that_were_asked_for_are(tmp_path: Path) -> None:
    assert job_spec.models("", beside=str(tmp_path / "build_manifest.json")) == []
    with pytest.raises(JobFault, match="files: cannot read"):
        job_spec.models(str(tmp_path / "none.json"))


def test_the_runtime_and_the_sites_words_are_heeded(tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built(context={"docker_env_vars": {"NCCL_DEBUG": "INFO", "X": "${HF_HOME}", "Y": "1"}}))
    found = job_spec.load_for_job(path, add=["Y"], without=["MAD_GUEST_OS"], runtime={"NCCL_DEBUG": "WARN", "HF_HOME": "/h"})
    assert (found["environment"]["exports"], found["environment"]["fixed"]) == ({"NCCL_DEBUG": "WARN", "Y": "1"}, ["X=/h", "X"])


def test_a_mount_beside_the_manifest_is_found_from_every_node(tmp_path: Path) -> None:
    found = job_spec.load_for_job(manifests.write(tmp_path, manifests.built(context={"docker_mounts": {"/code": "./code"}})))
    assert f"-v {tmp_path}/code:/code" in found["models"][0]["docker_options"]


def test_variables_are_written_as_madengine_writes_them() -> None:
    written = manifests.built(context={"docker_env_vars": {"A": True, "B": 1.5, "C": 3, "D": "x", "E": None}})
    assert job_spec.variables(written) == {"A": "True", "B": "1.5", "C": "3", "D": "x"}
