# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of a job's secrets are found where the job has them, whatever its user has made of those files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_secrets
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation
from helpers import csvs

SECRET = "Zx81-not-a-known-form"


def job(path: Path, comment: str = "madengine") -> Allocation:
    return Allocation("lab", 4711, 0, ("n1", "n2"), "n1", user="alice", uid=1, gid=1, comment=comment, work_dir=str(path))


@pytest.mark.parametrize(
    ("name", "document", "comment"),
    [
        ("build_manifest.json", {"built_images": {"a": {"env_vars": {"WANDB_API_KEY": SECRET}}}}, "madengine"),
        ("run_manifest_x.json", {"built_models": {"a": {"additional_docker_run_options": f"-e HF_TOKEN={SECRET}"}}},
         "madengine:manifest=run_manifest_x.json"),
        ("b.json", {"built_models": {"a": {"url": f"https://u:{SECRET}@host/x.git"}}}, "madengine:manifest=a.json+b.json"),
        ("credential.json", {"dockerhub": {"username": "alice", "password": SECRET}}, "madengine:image=a:1"),
        ("credential.json", {"AWS": {"MAD_AWS_S3": {"AWS_SECRET_ACCESS_KEY": SECRET}}}, "madengine:no such request"),
        ("tmp/madengine_job_4711_node_0/credential.json", {"token": SECRET}, "madengine"),
    ],
)  # fmt: skip
def test_a_secret_is_found_in_manifests_and_in_madengine_s_credentials(tmp_path: Path, name: str, document: Any, comment: str) -> None:
    csvs.write(tmp_path / name, json.dumps(document))
    workspace = str(tmp_path / "tmp/madengine_job_4711_node_0")
    assert job_secrets.values_of(job(tmp_path, comment), [workspace]) == [SECRET]


@pytest.mark.parametrize("made_of", ["link to nowhere", "pipe", "directory", "no JSON", "a list", "deep"])
def test_what_a_user_made_of_these_files_costs_nothing(tmp_path: Path, made_of: str) -> None:
    path = tmp_path / "build_manifest.json"
    if made_of == "pipe":
        os.mkfifo(path)
    elif made_of == "directory":
        path.mkdir()
    elif made_of == "link to nowhere":
        path.symlink_to("/nowhere")
    else:
        path.write_text({"no JSON": "{", "a list": "[1]", "deep": "[" * 100_000}[made_of])
    csvs.write(tmp_path / "credential.json", json.dumps({"password": SECRET}))
    assert job_secrets.values_of(job(tmp_path), []) == [SECRET]


def test_an_expansion_a_plain_word_and_a_path_are_no_values_to_take_out(tmp_path: Path) -> None:
    given = {"HF_TOKEN": "${MAD_SECRETS_HFTOKEN}", "DB_PASSWORD": "postgres", "A_TOKEN": "/secrets/sa.json", "EOS_TOKEN": "<|eot_id|>"}
    csvs.write(tmp_path / "build_manifest.json", json.dumps({"context": {"docker_env_vars": given}}))
    assert job_secrets.values_of(job(tmp_path), []) == []


def test_a_container_that_is_gone_has_no_values() -> None:
    assert job_secrets.values_given(None) == job_secrets.values_given({"Config": None}) == []
    assert job_secrets.values_given({"Config": {"Env": [f"PGPASSWORD={SECRET}", "A=b"]}}) == [SECRET]
