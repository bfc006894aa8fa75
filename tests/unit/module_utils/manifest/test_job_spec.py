# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec
from helpers import manifests


def test_a_job_gets_all_that_its_hooks_need_and_no_secret(tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    found = job_spec.load_for_job(path)
    assert manifests.TOKEN not in json.dumps(vars(found))
    assert found.results == ("perf_llama.csv",)
    assert found.images == (
        {
            "reference": "ci-llama_llama.ubuntu.amd:latest",
            "models": ["llama"],
            "registry_image": "",
            "dockerfile": "docker/llama.ubuntu.amd.Dockerfile",
            "context": "",
            "build_args": {},
            "secret_build_args": ["MAD_SECRETS_HFTOKEN"],
            "image_digest": "",
            "build_fingerprint": "",
            "work_dir": str(tmp_path),
        },
    )
    assert found.names == ("llama",)
    assert found.environment["exports"] == {"NCCL_DEBUG": "INFO"}
    assert {"HF_TOKEN", "MAD_SECRETS_HFTOKEN"} <= set(found.environment["names"])
    assert "MAD_GUEST_OS=UBUNTU" in found.environment["fixed"]


def test_it_comes_back_whole_from_the_users_process(tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built())
    me = process.of(os.getuid(), os.getgid())
    told = process.run(me, lambda: vars(job_spec.load_for_job(path)))
    assert job_spec.JobSpec.of(told) == job_spec.load_for_job(path)


def test_a_manifest_that_was_restored_on_the_submit_host_means_the_same_to_the_nodes(tmp_path: Path) -> None:
    written = manifests.build_on_compute()
    first = job_spec.load_for_job(manifests.write(tmp_path, written))
    again = job_spec.load_for_job(manifests.write(tmp_path, job_spec.text(first.documents[0])))
    assert again == first


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
    assert job_spec.load_for_job(path).results == ()
    manifests.write(tmp_path, [{"name": "llama", "multiple_results": "perf.csv"}], "models.json")
    assert job_spec.load_for_job(path).results == ("perf.csv",)
    other = manifests.write(tmp_path, [{"name": "llama", "multiple_results": "other.csv"}], "other.json")
    assert job_spec.load_for_job(path, models_path=other).results == ("other.csv",)


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
    assert (found.environment["exports"], found.environment["fixed"]) == ({"NCCL_DEBUG": "WARN", "Y": "1"}, ["X=/h", "X"])


def test_a_mount_beside_the_manifest_is_found_from_every_node(tmp_path: Path) -> None:
    found = job_spec.load_for_job(manifests.write(tmp_path, manifests.built(context={"docker_mounts": {"/code": "./code"}})))
    (model,) = found.documents[0]["built_models"].values()
    assert f"-v {tmp_path}/code:/code" in model["additional_docker_run_options"]


def test_variables_are_written_as_madengine_writes_them() -> None:
    written = manifests.built(context={"docker_env_vars": {"A": True, "B": 1.5, "C": 3, "D": "x", "E": None}})
    assert job_spec.variables(written) == {"A": "True", "B": "1.5", "C": "3", "D": "x"}


PIN = "sha256:" + "ab" * 32


def pinned(**image: Any) -> Dict[str, Any]:
    written = manifests.build_on_compute()
    written["built_images"]["llama"].update({"image_digest": PIN, **image})
    return {**written, "deployment_config": {"require_pinned_image": True}}


def test_a_pinned_image_is_had_and_run_by_its_digest_in_every_form_that_is_written(tmp_path: Path) -> None:
    name = f"registry.example.org:5000/team/llama@{PIN}"
    found = job_spec.load_for_job(manifests.write(tmp_path, pinned()))
    assert [(each["reference"], each["registry_image"], each["image_digest"]) for each in found.images] == [(name, name, PIN)]
    (document,) = found.documents
    assert list(document["built_images"]) == [name]
    again = job_spec.load_for_job(manifests.write(tmp_path, job_spec.text(document)))
    assert again == found
    kept = job_spec.restore(pinned(), image_form="keep").document
    assert job_spec.images(kept) == job_spec.images(pinned())
    assert (kept["built_images"]["llama"]["image_digest"], kept["deployment_config"]) == (PIN, {"require_pinned_image": True})


@pytest.mark.parametrize("image", [{"image_digest": ""}, {"image_digest": "sha256:12"}, {"image_digest": None}, {"image_digest": "latest"}])
def test_a_pin_that_cannot_be_kept_is_a_fault_and_never_off(tmp_path: Path, image: Dict[str, Any]) -> None:
    path = manifests.write(tmp_path, pinned(**image))
    with pytest.raises(JobFault, match="must be pinned, and no digest is recorded"):
        job_spec.load_for_job(path)
    by_name = manifests.write(tmp_path, pinned(**image, registry_image=f"reg.example.org/a@{PIN}"))
    assert [each["reference"] for each in job_spec.load_for_job(by_name).images] == [f"reg.example.org/a@{PIN}"]


def test_without_the_demand_a_digest_is_carried_and_the_tag_runs(tmp_path: Path) -> None:
    written = pinned()
    del written["deployment_config"]
    (image,) = job_spec.load_for_job(manifests.write(tmp_path, written)).images
    assert (image["reference"], image["image_digest"]) == ("registry.example.org:5000/team/llama:7", PIN)


@pytest.mark.parametrize(("change", "expected"), [
    ({}, "reg.example.org/multi:3"),
    ({"registry_image": "<FILL_REGISTRY_IMAGE>"}, "team/env:2"),
    ({"registry_image": None}, "team/env:2"),
    ({"registry_image": None, "env": "<IMAGE>"}, "team/local:1"),
    ({"registry_image": "", "env": ""}, "team/local:1"),
])  # fmt: skip
def test_slurm_multi_runs_the_image_that_its_own_script_would_take(tmp_path: Path, change: Dict[str, Any], expected: str) -> None:
    image = {"docker_image": "team/local:1", "registry_image": "reg.example.org/multi:3", **{k: v for k, v in change.items() if k != "env"}}
    model = {"name": "m", "distributed": {"launcher": "slurm_multi"}, "env_vars": {"DOCKER_IMAGE_NAME": change.get("env", "team/env:2")}}
    written = {"built_images": {"m": image}, "built_models": {"m": model}}
    found = job_spec.load_for_job(manifests.write(tmp_path, written))
    assert [each["reference"] for each in found.images] == [expected]
    assert job_spec.images(found.documents[0])[0]["reference"] == expected


def test_where_a_job_script_of_the_user_s_own_puts_its_results_is_known(tmp_path: Path) -> None:
    written = manifests.use_image()
    written["deployment_config"] = {"slurm": {"nodes": 2, "results_dir": "out"}}
    (model,) = written["built_models"].values()
    model["slurm"] = {"results_dir": "card"}
    assert job_spec.load_for_job(manifests.write(tmp_path, written)).results_dirs == ("out", "card")
    model["slurm"], written["deployment_config"]["slurm"]["results_dir"] = {"results_dir": 5}, ""
    assert job_spec.load_for_job(manifests.write(tmp_path, written)).results_dirs == ()


def test_what_of_the_manifest_a_job_does_not_get_is_one_line_of_names(tmp_path: Path) -> None:
    variables = {"A": "${B}x", "HF_TOKEN": manifests.TOKEN, "NODE_RANK": "3", "PLAIN": "y", "TWO": "a\nb"}
    found = job_spec.load_for_job(manifests.write(tmp_path, manifests.built(context={"docker_env_vars": variables})))
    (line,) = found.left_out
    assert line == ("madengine: of the manifest, left out: NODE_RANK, A, TWO; taken out as secrets: HF_TOKEN (madengine-restore says why)")
    assert job_spec.JobSpec.of(json.loads(json.dumps(vars(found)))).left_out == (line,)
    assert job_spec.merged([found, found]).left_out == (line,)


def test_a_job_that_gets_all_of_its_manifest_is_told_nothing_and_a_flood_of_names_is_cut(tmp_path: Path) -> None:
    whole = manifests.built(context={"docker_env_vars": {"PLAIN": "y"}})
    assert job_spec.load_for_job(manifests.write(tmp_path, whole)).left_out == ()
    flood = manifests.built(context={"docker_env_vars": {f"A{number}" + "X" * 500: "${B}" for number in range(500)}})
    (line,) = job_spec.load_for_job(manifests.write(tmp_path, flood)).left_out
    assert "and 488 more" in line
    assert len(line) < 1500


@pytest.mark.parametrize("text", ["<FILL_IMAGE>", "<your image>", "reg.example.org/<FILL_ME>:1"])
def test_a_placeholder_is_passed_over_and_not_refused(tmp_path: Path, text: str) -> None:
    written = manifests.use_image()
    written["built_images"]["later"] = {"docker_image": text}
    written["built_models"]["later"] = {"name": "later"}
    found = job_spec.load_for_job(manifests.write(tmp_path, written))
    assert ([each["reference"] for each in found.images], found.names) == (["rocm/vllm:1"], ("llama", "later"))


def test_several_manifests_are_one_need_in_their_order(tmp_path: Path) -> None:
    first = job_spec.load_for_job(manifests.write(tmp_path, manifests.use_image("rocm/vllm:1"), "a.json"))
    second = job_spec.load_for_job(manifests.write(tmp_path, manifests.built(), "b.json"))
    both = job_spec.merged([first, second])
    assert [each["reference"] for each in both.images] == ["rocm/vllm:1", "ci-llama_llama.ubuntu.amd:latest"]
    assert (both.names, both.results, both.documents) == (("llama", "llama"), ("perf_llama.csv",), first.documents + second.documents)
    assert both.environment == first.environment
    assert job_spec.merged([first]) == first
