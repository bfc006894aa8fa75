# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for madengine's runner: what an unmodified one does with a build manifest, and nothing else of it.

It follows what was observed of madengine 2.1 and of its later tar cache, step by step: the key of an image without
``local_image`` and ``registry_image`` is the image; the manifest's variables win over the shell's; a model's options go through
``sh -c`` as they stand, behind all the others; a worker does not read ``docker_mounts``. GPU devices are left out: a test
machine has none.

usage: runner.py MANIFEST   (in the submit directory; writes what it runs to stderr)
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import Any, Dict, List

SHELL_LIST = (
    "MASTER_ADDR MASTER_PORT WORLD_SIZE RANK NODE_RANK NNODES NPROC_PER_NODE MAD_MULTI_NODE_RUNNER MAD_COLLECT_METRICS"
    " NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME NCCL_DEBUG NCCL_IB_DISABLE NCCL_NET_GDR_LEVEL PRIMUS_CONFIG_PATH PRIMUS_CLI_EXTRA"
    " TORCH_ELASTIC_RDZV_TIMEOUT MODEL_NAME MODEL_DIR xP yD PD_SYNC_ROOT PD_RUN_ID PROXY_TYPE ROUTER_PORT BENCHMARK_PORT"
    " SLURM_JOB_ID OUTPUT_DIR BARRIER_TIMEOUT_S PROXY_CLOSE_TIMEOUT_S REQUIRE_RDMA KV_UCX_TLS KV_UCX_SOCKADDR_TLS_PRIORITY"
    " HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES"
)


def sh(command: str) -> str:
    """Run a command as madengine does: through a shell, and echoed."""
    print(f"> {command}", file=sys.stderr)
    return subprocess.run(command, shell=True, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def stream(command: str) -> None:
    """Run a command whose output goes where ours goes."""
    print(f"> {command}", file=sys.stderr, flush=True)
    subprocess.run(command, shell=True, check=True)


def has_image(image: str) -> bool:
    try:
        sh(f"docker image inspect {shlex.quote(image)} > /dev/null 2>&1")
    except subprocess.CalledProcessError:
        return False
    return True


def prepared_image(key: str, image: Dict[str, Any]) -> str:
    """See that the image is there in the way that the entry's shape asks for, and return its name."""
    if image.get("local_image"):
        return with_tar_cache(image["docker_image"])
    if image.get("registry_image"):
        if os.environ.get("SLURM_JOB_ID"):
            sh(f"docker rmi -f {shlex.quote(image['registry_image'])}")
        sh(f"timeout 60 docker pull {shlex.quote(image['registry_image'])}")
        return str(image["registry_image"])
    if not has_image(key):
        raise SystemExit(f"no image {key}")
    return key


def with_tar_cache(image: str) -> str:
    folder = os.environ.get("MAD_DOCKER_BUILDS", "")
    here = has_image(image)
    if folder and os.environ.get("NODE_RANK", "0") == "0":
        sh(f"docker save -o {shlex.quote(os.path.join(folder, re.sub(r'[^A-Za-z0-9_.-]+', '_', image)))}.tar {shlex.quote(image)}")
    if int(os.environ.get("NNODES", "1")) > 1:
        print("> barrier", file=sys.stderr)
    if not here:
        sh(f"docker pull {shlex.quote(image)}")
    return image


def variables(manifest: Dict[str, Any]) -> Dict[str, Any]:
    """Return the container's variables: detected, then the shell's, then the manifest's."""
    found: Dict[str, Any] = {"MAD_GPU_VENDOR": "AMD", "MAD_GUEST_OS": "UBUNTU", "MAD_SYSTEM_NGPUS": "8"}
    found.update({name: os.environ[name] for name in SHELL_LIST.split() if name in os.environ})
    if "HIP_VISIBLE_DEVICES" in found:
        found["RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES"] = ""
    found.update((manifest.get("context") or {}).get("docker_env_vars") or {})
    return found


def run_model(image: str, model: Dict[str, Any], env: Dict[str, Any]) -> None:
    """Start the container on ``cat``, run the model's script in it, and take it away."""
    options = ["--network host -u root --ipc=host", f"--env MAD_MODEL_NAME={shlex.quote(model['name'])}"]
    if model.get("multiple_results"):
        options.append(f"--env MAD_OUTPUT_CSV={shlex.quote(model['multiple_results'])}")
    options += [f"--env {name}={shlex.quote(str(value))}" for name, value in env.items()]
    options.append(model.get("additional_docker_run_options") or "")
    name = "container_" + re.sub(r"[^A-Za-z0-9_.-]", "_", image) + f"_node{os.environ.get('SLURM_PROCID', '0')}_{os.getpid()}"
    place = f"-v {shlex.quote(os.getcwd())}:/myworkspace/ --workdir /myworkspace/ --name {name}"
    sh(f"docker run -t -d {' '.join(options)} {place} {shlex.quote(image)} cat")
    try:
        script = f"cd /myworkspace && bash {model['scripts']} {model.get('args') or ''}"
        stream(f"docker exec {name} bash -c {shlex.quote(script)}")
    finally:
        sh(f"docker rm -f {name}")


def main(arguments: List[str]) -> None:
    with open(arguments[0], encoding="utf-8") as stream:
        manifest = json.load(stream)
    registries = [image["registry"] for image in manifest["built_images"].values() if image.get("registry")]
    if registries:
        sh(f"docker login {shlex.quote(registries[0])} < /dev/null")
    for key, image in manifest["built_images"].items():
        model = (manifest.get("built_models") or {}).get(key)
        if model:
            run_model(prepared_image(key, image), model, variables(manifest))


if __name__ == "__main__":
    main(sys.argv[1:])
