# SPDX-License-Identifier: GPL-3.0-or-later
"""Build manifests as madengine writes them, small and real in shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from hypothesis import strategies as st

TOKEN = "hf_PlantedTokenThatNobodyMaySee0001"
REAL_OPTIONS = (
    "--privileged --group-add render --shm-size 64G --device=/dev/infiniband --cap-add IPC_LOCK --ulimit memlock=-1"
    " -v /sys:/sys:ro -v /sys/class/infiniband:/sys/class/infiniband:ro"
)


def model(name: str = "llama", **fields: Any) -> Dict[str, Any]:
    return {
        "name": name,
        "scripts": "scripts/llama/run.sh",
        "args": "--steps 10",
        "n_gpus": "8",
        "timeout": 3600,
        "url": "",
        "data": "",
        "dockerfile": "docker/llama",
        "multiple_results": f"perf_{name}.csv",
        "additional_docker_run_options": "",
        "tags": ["training"],
        **fields,
    }


def context(**fields: Any) -> Dict[str, Any]:
    return {
        "docker_env_vars": {},
        "docker_mounts": {},
        "docker_build_arg": {},
        "gpu_vendor": "AMD",
        "guest_os": "UBUNTU",
        "docker_gpus": "0-7",
        "tools": [],
        **fields,
    }


def built(**fields: Any) -> Dict[str, Any]:
    """Shape A: a normal build."""
    key = "ci-llama_llama.ubuntu.amd"
    image = {
        "docker_image": key,
        "dockerfile": "docker/llama.ubuntu.amd.Dockerfile",
        "base_docker": "rocm/pytorch",
        "docker_sha": "Error: No such object",
        "build_duration": 1.5,
        "build_command": f"docker build --network=host -t {key} --pull -f docker/llama.ubuntu.amd.Dockerfile .",
        "log_file": "x.build.live.log",
    }
    return {
        "built_images": {key: {**image, **fields.pop("image", {})}},
        "built_models": {key: model(**fields.pop("model", {}))},
        "context": context(**fields.pop("context", {})),
        "credentials_required": [],
        "summary": {"successful_builds": [], "failed_builds": []},
        **fields,
    }


def container_image(reference: str = "rocm/vllm:1") -> Dict[str, Any]:
    """Shape B: MAD_CONTAINER_IMAGE."""
    image = {"docker_image": reference, "local_image": True, "registry_image": None, "dockerfile": "N/A (local image mode)"}
    return {"built_images": {"local-llama": image}, "built_models": {"local-llama": {"name": "llama"}}, "context": context()}


def use_image(reference: str = "rocm/vllm:1") -> Dict[str, Any]:
    """Shape C: ``build --use-image``."""
    image = {"docker_image": reference, "local_image": True, "dockerfile": ""}
    return {"built_images": {"llama": image}, "built_models": {"llama": {"name": "llama"}}, "context": context()}


def build_on_compute(reference: str = "registry.example.org:5000/team/llama:7") -> Dict[str, Any]:
    """Shape D: ``build --build-on-compute``."""
    image = {
        "docker_image": reference,
        "local_image": "ci-llama",
        "registry_image": reference,
        "registry": "registry.example.org:5000",
        "dockerfile": "docker/llama.ubuntu.amd.Dockerfile",
    }
    return {"built_images": {"llama": image}, "built_models": {"llama": {"name": "llama"}}, "context": context()}


def by_hand(reference: str = "debian:trixie", **fields: Any) -> Dict[str, Any]:
    """The least that somebody writes by hand."""
    return {"built_images": {"my run": {"docker_image": reference}}, "built_models": {"my run": {"name": "mine"}}, **fields}


SHAPES = {"build": built, "local": container_image, "use-image": use_image, "build-on-compute": build_on_compute}


def with_token_everywhere(token: str = TOKEN, **fields: Any) -> Dict[str, Any]:
    """A manifest that holds *token* wherever a real one was seen to, and in a few places more."""
    return built(
        image={
            "build_command": f"docker build --build-arg MAD_SECRETS_HFTOKEN='{token}' .",
            "docker_sha": f"error near {token}",
        },
        model={
            "args": f"--hub-token {token}",
            "additional_docker_run_options": f"-e HF_TOKEN='{token}' --env=MAD_SECRETS_B={token} -eWANDB_API_KEY={token} --shm-size 1G",
        },
        context={
            "docker_env_vars": {"MAD_SECRETS_HFTOKEN": token, "HF_TOKEN": token, "COPY": f"x{token}y"},
            "docker_build_arg": {"MAD_SECRETS_HFTOKEN": token},
        },
        deployment_config={"env_vars": {"MAD_SECRETS_HFTOKEN": token, "NCCL_DEBUG": "INFO"}},
        summary={"successful_builds": [{"env": {"MAD_SECRETS_HFTOKEN": token}, "text": f"used {token}", token: 1}]},
        **fields,
    )


def write(path: Path, document: Any, name: str = "build_manifest.json") -> str:
    """Put *document* under *path* as madengine does (0644), and return the file's path."""
    file = path / name
    file.write_text(document if isinstance(document, str) else json.dumps(document, indent=4))
    file.chmod(0o644)
    return str(file)


# For laws: any shape, any mix of good and odd values.
NAMES = st.sampled_from(["NCCL_DEBUG", "UCX_TLS", "PATH", "MAD_SECRETS_X", "HF_TOKEN", "NODE_RANK", "MASTER_ADDR", "A", "B"])
VALUES = st.sampled_from(["1", "${A}", "${NOBODY}", "$A", "x y", "it's", "", "${A:-d}", TOKEN, "$$", "a=b"]) | st.integers(0, 9) | st.none()
OPTIONS = st.lists(
    st.sampled_from(
        ["--rm", "-v /tmp:/data", "-itv /tmp:/x", "-e A=1", f"-e HF_TOKEN={TOKEN}", "--label madengine.job=7", "--tmpfs /data/"]
    )
).map(" ".join)
MANIFESTS = st.builds(
    lambda shape, env, mounts, build, deployment, text, model: {
        **shape(),
        "context": context(docker_env_vars=env, docker_mounts=mounts, docker_build_arg=build),
        "deployment_config": {"env_vars": deployment},
        "built_models": {next(iter(shape()["built_images"])): {"name": model, "additional_docker_run_options": text}},
    },
    st.sampled_from(list(SHAPES.values())),
    st.dictionaries(NAMES, VALUES),
    st.dictionaries(st.sampled_from(["/data", "/data/", "/x:ro", "/myworkspace"]), st.sampled_from(["/a", "$HOME/b", "named"])),
    st.dictionaries(NAMES, VALUES),
    st.dictionaries(NAMES, VALUES),
    OPTIONS,
    st.sampled_from(["llama", "a/b"]),
)
