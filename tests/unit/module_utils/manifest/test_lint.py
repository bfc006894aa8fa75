# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import lint, restore
from helpers import manifests
from hypothesis import given, settings

KEY = "ci-llama_llama.ubuntu.amd"


def found(document: Any, **given: Any) -> list[tuple[str, str]]:
    return [(one["name"], one["where"]) for one in lint.check(document, **{"exists": lambda path: False, **given})]


def test_a_manifest_that_madengine_wrote_well_has_no_warning() -> None:
    assert found(manifests.built()) == []


CASES = [
    ("secret_in_clear", "context.docker_env_vars.HF_TOKEN", {"context": {"docker_env_vars": {"HF_TOKEN": manifests.TOKEN}}}),
    ("secret_in_clear", f"built_models.{KEY}.args", {"model": {"args": "--api-key s3cr3tvalue --pad-token somepadding"}}),
    ("secret_in_clear", f"built_models.{KEY}.args", {"model": {"args": "--hub hf_ABCDEFGHIJKLMNOPqrstuv12"}}),
    ("unexpanded_literal", "context.docker_env_vars.X", {"context": {"docker_env_vars": {"X": "${NOBODY}"}}}),
    ("unexpanded_literal", "context.docker_build_arg.X", {"context": {"docker_build_arg": {"X": "a${NOBODY}"}}}),
    ("nodes_differ", "deployment_config.distributed.nnodes", {"deployment_config": {"slurm": {"nodes": 2}, "distributed": {"nnodes": 3}}}),
    ("nodes_differ", "deployment_config.env_vars.NNODES", {"deployment_config": {"slurm": {"nodes": 2}, "env_vars": {"NNODES": "3"}}}),
    (
        "interfaces_differ",
        "context.docker_env_vars.NCCL_SOCKET_IFNAME",
        {
            "deployment_config": {"slurm": {"network_interface": "ib0"}, "env_vars": {"NCCL_SOCKET_IFNAME": "ib0"}},
            "context": {"docker_env_vars": {"NCCL_SOCKET_IFNAME": "eth0"}},
        },
    ),
    ("infiniband_disabled", "context.docker_env_vars.NCCL_IB_DISABLE", {"context": {"docker_env_vars": {"NCCL_IB_DISABLE": 1}}}),
    ("infiniband_disabled", "deployment_config.env_vars.NCCL_IB_DISABLE", {"deployment_config": {"env_vars": {"NCCL_IB_DISABLE": "1"}}}),
    (
        "interfaces_differ",
        "context.docker_env_vars.NCCL_IB_HCA",
        {"deployment_config": {"env_vars": {"NCCL_IB_HCA": "mlx5_0"}}, "context": {"docker_env_vars": {"NCCL_IB_HCA": "mlx5_2"}}},
    ),
    ("placeholder", "context.docker_env_vars.HF_HOME", {"context": {"docker_env_vars": {"HF_HOME": "<FILL in your cache>"}}}),
    ("placeholder", "deployment_config.slurm.partition", {"deployment_config": {"slurm": {"partition": "<your-partition>"}}}),
    ("variables_unread", f"built_models.{KEY}.env_vars", {"model": {"env_vars": {"NCCL_DEBUG": "INFO"}}}),
    ("build_outside", f"built_images.{KEY}.dockerfile", {"image": {"dockerfile": "../docker/llama.Dockerfile"}}),
    ("build_outside", f"built_models.{KEY}.dockercontext", {"model": {"dockercontext": "/home/bob"}}),
    (
        "options",
        f"built_models.{KEY}.additional_docker_run_options",
        {"model": {"additional_docker_run_options": "-v /a:/x -v /b:/x/"}},
    ),
    ("options", f"built_models.{KEY}.additional_docker_run_options", {"model": {"additional_docker_run_options": "-v '/a:/x"}}),
    ("options", f"built_models.{KEY}.additional_docker_run_options", {"model": {"additional_docker_run_options": "-v .:/myworkspace/"}}),
    ("options", f"built_models.{KEY}.additional_docker_run_options", {"model": {"additional_docker_run_options": "$EXTRA"}}),
    ("options", f"built_models.{KEY}.additional_docker_run_options", {"model": {"additional_docker_run_options": "-v /a:b"}}),
    ("options", f"built_models.{KEY}.additional_docker_run_options", {"model": {"additional_docker_run_options": "-v /a/*:/b"}}),
    ("options", f"built_models.{KEY}.additional_docker_run_options", {"model": {"additional_docker_run_options": '-e A={"b":1,"c":2}'}}),
    ("options", f"built_models.{KEY}.additional_docker_run_options", {"model": {"additional_docker_run_options": "-e A=$'b'"}}),
]


@pytest.mark.parametrize(("name", "where", "fields"), CASES)
def test_each_likely_mistake_has_a_name_and_a_place(name: str, where: str, fields: Any) -> None:
    assert found(manifests.built(**fields)) == [(name, where)]


@pytest.mark.parametrize(
    "fields",
    [
        {"context": {"docker_env_vars": {"HF_TOKEN": "", "X": "a$b"}}},
        {"deployment_config": {"slurm": {"nodes": 2}, "distributed": {"nnodes": "2"}}},
        {"deployment_config": {"slurm": {"network_interface": "ib0"}, "env_vars": {"NCCL_SOCKET_IFNAME": "ib0"}}},
        {"context": {"docker_env_vars": {"NCCL_IB_DISABLE": "0"}}},
        {"deployment_config": {"env_vars": {"NCCL_IB_HCA": "mlx5_0"}}, "context": {"docker_env_vars": {"NCCL_IB_HCA": "mlx5_0"}}},
        {"model": {"timeout": -1}},
        {"model": {"timeout": 0}},
        {"model": {"name": "team/llama"}},
        {"model": {"env_vars": {}, "args": "--end <|eod|> --x <b>"}},
        {"model": {"additional_docker_run_options": manifests.REAL_OPTIONS}},
        {"model": {"additional_docker_run_options": "-v $PWD:/x -v .:/myworkspace/data -e 'A={1,2}*' -e \\$\"a\""}},
    ],
)
def test_the_good_twin_of_each_mistake_has_no_warning(fields: Any) -> None:
    assert found(manifests.built(**fields)) == []


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        ({"/scratch"}, [("mounts_reversed", "context.docker_mounts./scratch")]),
        ({"/data"}, []),
        ({"/scratch", "/data"}, []),
        (set(), []),
    ],
)
def test_a_mount_looks_reversed_if_only_its_container_path_is_on_this_host(here: set[str], expected: list[tuple[str, str]]) -> None:
    written = manifests.built(context={"docker_mounts": {"/scratch": "/data", "/scratch/x": "named"}})
    assert found(written, exists=here.__contains__) == expected


@pytest.mark.parametrize("shape", ["local", "use-image", "build-on-compute"])
def test_a_shape_that_loses_fields_says_which(shape: str) -> None:
    written = manifests.SHAPES[shape]()
    (one,) = lint.check(written)
    assert one["name"] == "fields_lost"
    assert one["message"].startswith(f"an image of shape {shape} loses scripts, args, n_gpus, timeout, multiple_results,")
    (model,) = written["built_models"].values()
    model.update(manifests.model())
    assert lint.check(written) == []


def test_an_image_without_a_model_and_a_model_without_an_image_are_both_named() -> None:
    written = manifests.built()
    written["built_models"]["other"] = written["built_models"].pop(KEY)
    assert found(written) == [("model_missing", f"built_images.{KEY}"), ("model_missing", "built_models.other")]


@pytest.mark.parametrize(("entrypoint", "expected"), [(["/init"], [("entrypoint", f"built_images.{KEY}")]), ([], []), (None, [])])
def test_an_image_with_an_entrypoint_is_named_if_somebody_can_look(entrypoint: Any, expected: list[tuple[str, str]]) -> None:
    asked = []

    def ask(reference: str) -> Any:
        asked.append(reference)
        return entrypoint

    assert found(manifests.built(), entrypoint=ask) == expected
    assert asked == [f"{KEY}:latest"]


def test_no_place_of_a_warning_shows_a_secret() -> None:
    written = manifests.built(context={"docker_mounts": {f"/{manifests.TOKEN}": "/b"}, "docker_env_vars": {"HF_TOKEN": manifests.TOKEN}})
    found_places = found(written, exists=lambda path: path != "/b")
    assert ("mounts_reversed", "context.docker_mounts./REDACTED") in found_places


@settings(deadline=None)
@given(manifests.MANIFESTS)
def test_no_warning_shows_a_secret(written: Any) -> None:
    written["summary"] = {f"key {manifests.TOKEN}": manifests.TOKEN, "HF_TOKEN": manifests.TOKEN}
    assert manifests.TOKEN not in json.dumps(lint.check(written))


@settings(deadline=None)
@given(manifests.MANIFESTS)
def test_a_restored_manifest_has_no_secret_and_no_literal_left(written: Any) -> None:
    names = {one["name"] for one in lint.check(restore.restore(written).document)}
    assert not names & {"secret_in_clear", "unexpanded_literal", "mounts_reversed"}
