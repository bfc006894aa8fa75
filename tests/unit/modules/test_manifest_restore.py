# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import environment
from ansible_collections.rocm.madengine.plugins.modules import manifest_restore
from helpers import manifests

Run = Callable[..., Any]
TOKEN = manifests.TOKEN


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.select(os.environ):
        monkeypatch.delenv(name)


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_the_manifest_is_restored_in_place_for_its_owner_alone(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built(context={"docker_mounts": {"/data": "/scratch"}}))
    code, result = run_module(manifest_restore, src=path)
    assert (code, result["changed"], result["dest"]) == (0, True, path)
    written = json.loads(Path(path).read_text())
    (model,) = written["built_models"].values()
    assert model["additional_docker_run_options"] == "-v /scratch:/data --label madengine.job=${SLURM_JOB_ID}"
    assert mode_of(path) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["build_manifest.json"]
    assert [image["reference"] for image in result["images"]] == ["ci-llama_llama.ubuntu.amd:latest"]
    assert (result["dropped_mounts"], result["dropped_env"], result["lint"]) == ([], [], [])
    assert "context.docker_mounts./data" in result["restored"]


def test_the_second_run_changes_nothing_not_even_the_file(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    run_module(manifest_restore, src=path)
    before = os.stat(path)
    code, result = run_module(manifest_restore, src=path, backup=True)
    assert (code, result["changed"], result["restored"]) == (0, False, [])
    assert (before.st_ino, before.st_mtime_ns) == (os.stat(path).st_ino, os.stat(path).st_mtime_ns)
    assert sorted(os.listdir(tmp_path)) == ["build_manifest.json"]


def test_check_mode_says_the_same_and_writes_nothing(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    before = Path(path).read_bytes()
    _, checked = run_module(manifest_restore, src=path, backup=True, _ansible_check_mode=True)
    assert (Path(path).read_bytes(), os.listdir(tmp_path)) == (before, ["build_manifest.json"])
    _, done = run_module(manifest_restore, src=path)
    assert {key: checked[key] for key in ("changed", "images", "restored", "dropped_env", "lint", "diff")} == {
        key: done[key] for key in ("changed", "images", "restored", "dropped_env", "lint", "diff")
    }


def test_another_place_leaves_the_manifest_alone(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built())
    before = Path(path).read_bytes()
    dest = str(tmp_path / "restored.json")
    assert run_module(manifest_restore, src=path, dest=dest)[1]["changed"] is True
    assert run_module(manifest_restore, src=path, dest=dest)[1]["changed"] is False
    assert Path(path).read_bytes() == before
    assert mode_of(dest) == 0o600


def test_a_backup_holds_the_old_manifest_without_its_secrets_for_its_owner_alone(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    _, result = run_module(manifest_restore, src=path, backup=True)
    kept = Path(result["backup_file"]).read_text()
    assert TOKEN not in kept
    document = json.loads(kept)
    assert document["context"]["docker_env_vars"]["COPY"] == f"x{environment.MASK}y"
    assert document["built_images"] == json.loads(
        json.dumps(manifests.with_token_everywhere()["built_images"]).replace(TOKEN, environment.MASK)
    )
    assert mode_of(result["backup_file"]) == 0o600


def test_no_file_beside_the_manifest_holds_a_token_even_where_another_one_stood(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built())
    other = manifests.write(tmp_path, f"HF_TOKEN: {TOKEN} and no JSON", "old.json")
    run_module(manifest_restore, src=path, dest=other, backup=True, environment={"HF_TOKEN": TOKEN})
    assert len(os.listdir(tmp_path)) == 3
    assert not [name for name in os.listdir(tmp_path) if TOKEN in (tmp_path / name).read_text()]


def test_the_callers_own_environment_is_that_of_the_run(run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NCCL_DEBUG": "WARN", "UCX_NET_DEVICES": "mlx5_2:1", "yD": "2", "MAD_SECRETS_HFTOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    path = manifests.write(tmp_path, manifests.built(context={"docker_env_vars": {"NCCL_DEBUG": "INFO"}}))
    _, result = run_module(manifest_restore, src=path, _ansible_diff=True)
    written = json.loads(Path(path).read_text())
    assert written["context"]["docker_env_vars"] == {"NCCL_DEBUG": "WARN", "MAD_GUEST_OS": "UBUNTU", "MAD_SECRETS_HFTOKEN": ""}
    (model,) = written["built_models"].values()
    assert {"-e UCX_NET_DEVICES", "-e yD", "-e MAD_SECRETS_HFTOKEN"} <= set(re.findall(r"-e \w+", model["additional_docker_run_options"]))
    assert TOKEN not in json.dumps(result)
    assert result["invocation"]["module_args"]["environment"] is None
    run_module(manifest_restore, src=manifests.write(tmp_path, manifests.built(), "none.json"), environment={})
    assert "-e" not in (tmp_path / "none.json").read_text()


def test_what_was_masked_is_returned_by_name(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built(context={"docker_env_vars": {"KAGGLE_KEY": TOKEN}}))
    _, result = run_module(manifest_restore, src=path, environment={})
    assert [(one["name"], one["where"]) for one in result["masked"]] == [("KAGGLE_KEY", "context.docker_env_vars")]


@pytest.mark.parametrize(("mode", "expected"), [("0640", 0o640), (0o640, 0o640), ("600", 0o600)])
def test_the_mode_is_octal_digits_or_what_yaml_makes_of_them(run_module: Run, tmp_path: Path, mode: Any, expected: int) -> None:
    path = manifests.write(tmp_path, manifests.built())
    run_module(manifest_restore, src=path, mode=mode)
    assert mode_of(path) == expected
    assert run_module(manifest_restore, src=path, mode=mode)[1]["changed"] is False
    assert run_module(manifest_restore, src=path, mode="0400")[1]["changed"] is True
    assert mode_of(path) == 0o400


@pytest.mark.parametrize("mode", ["u=rw", "0999", "-1", "77777", [1]])
def test_a_mode_that_is_none_is_refused(run_module: Run, tmp_path: Path, mode: Any) -> None:
    code, result = run_module(manifest_restore, src=manifests.write(tmp_path, manifests.built()), mode=mode)
    assert code == 1
    assert "files: no permissions" in result["msg"]


def test_the_environment_wins_and_no_value_of_it_is_returned(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built(context={"docker_env_vars": {"NCCL_DEBUG": "INFO", "X": "${UCX_TLS}"}}))
    runtime = {"NCCL_DEBUG": "a-value-of-mine", "UCX_TLS": "another-of-mine", "MAD_SECRETS_X": TOKEN, "N": 1, "A": "llama"}
    _, result = run_module(manifest_restore, src=path, environment=runtime, _ansible_diff=True)
    variables = json.loads(Path(path).read_text())["context"]["docker_env_vars"]
    assert variables == {"NCCL_DEBUG": "a-value-of-mine", "X": "another-of-mine", "MAD_GUEST_OS": "UBUNTU", "MAD_SECRETS_X": ""}
    text = json.dumps(result)
    assert not [value for value in ("a-value-of-mine", "another-of-mine", TOKEN) if value in text]
    assert result["invocation"]["module_args"]["environment"] == dict.fromkeys(runtime, "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER")
    # A harmless short value must not eat the rest of the result.
    assert result["images"][0]["reference"] == "ci-llama_llama.ubuntu.amd:latest"


@pytest.mark.parametrize("extra", [{}, {"_ansible_check_mode": True}, {"backup": True}, {"image_form": "keep"}])
def test_a_planted_token_is_in_nothing_that_the_module_says_or_writes(run_module: Run, tmp_path: Path, extra: Any) -> None:
    path = manifests.write(tmp_path, manifests.with_token_everywhere())
    manifests.write(tmp_path, [{"name": "llama", "cred": TOKEN}], "models.json")
    _, result = run_module(manifest_restore, src=path, environment={"HF_TOKEN": TOKEN}, _ansible_diff=True, _ansible_verbosity=3, **extra)
    assert TOKEN not in json.dumps(result)
    if not extra.get("_ansible_check_mode"):
        assert TOKEN not in Path(path).read_text()


@pytest.mark.parametrize(
    "breaks",
    [
        {"model": {"additional_docker_run_options": f"-e HF_TOKEN={TOKEN} -v '/a:/b"}},
        {"model": {"additional_docker_run_options": f"-e HF_TOKEN= {TOKEN}"}},
        {"context": {"docker_env_vars": {"MAD_SECRETS_X": [TOKEN]}}},
        {"context": {"docker_env_vars": {"HF_TOKEN": TOKEN}, "docker_mounts": {"/x": f"/$({TOKEN})"}}},
        {"deployment_config": {"env_vars": {"HF_TOKEN": f"$(echo {TOKEN})"}}},
    ],
)
def test_a_planted_token_is_not_in_a_failure_either(run_module: Run, tmp_path: Path, breaks: Any) -> None:
    path = manifests.write(tmp_path, manifests.built(**breaks))
    before = Path(path).read_bytes()
    code, result = run_module(manifest_restore, src=path, environment={"HF_TOKEN": TOKEN}, _ansible_diff=True)
    assert code == 1
    assert TOKEN not in json.dumps(result)
    assert result["msg"].startswith("madengine: job: ")
    assert Path(path).read_bytes() == before


def test_a_file_that_is_no_manifest_fails_with_its_place_and_stays(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built(context={"docker_env_vars": ["A"]}))
    code, result = run_module(manifest_restore, src=path)
    assert code == 1
    assert result["msg"] == (
        f"madengine: job: manifest: not as expected (path={path!r}, where='context.docker_env_vars', found='a list',"
        " expected='an object {name: value}'); correct it or build again"
    )
    assert result["fault"]["kind"] == "job"


def test_a_link_in_place_of_the_manifest_is_refused(run_module: Run, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(manifests.write(tmp_path, manifests.built()))
    code, result = run_module(manifest_restore, src=str(link))
    assert (code, "give the file itself, not a link to it" in result["msg"]) == (1, True)


def test_models_beside_the_manifest_fill_it_and_others_on_request(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.use_image())
    manifests.write(tmp_path, [{"name": "llama", "multiple_results": "perf.csv"}], "models.json")
    run_module(manifest_restore, src=path)
    assert json.loads(Path(path).read_text())["built_models"]["rocm/vllm:1"]["multiple_results"] == "perf.csv"
    code, result = run_module(manifest_restore, src=path, models=manifests.write(tmp_path, "{}", "bad.json"))
    assert (code, "manifest: no list of models" in result["msg"]) == (1, True)


def test_the_diff_shows_what_changes_and_no_value_of_a_variable(run_module: Run, tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built(context={"docker_env_vars": {"X": "${NONE}", "Y": "my value"}}))
    _, result = run_module(manifest_restore, src=path, _ansible_diff=True)
    before, after = json.loads(result["diff"]["before"]), json.loads(result["diff"]["after"])
    assert before["context"]["docker_env_vars"] == {"X": "${NONE}", "Y": "********"}
    assert after["context"]["docker_env_vars"] == {"Y": "********", "MAD_GUEST_OS": "********"}
