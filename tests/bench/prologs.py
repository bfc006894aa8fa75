# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole prolog of a job, as slurmd starts it, on all nodes at once: real hooks, real rendezvous, real daemons.

There is no SLURM: the gate gets the variables that slurmd would set, as measured with 24.11.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Protocol, Sequence

RELEASE = "/opt/madengine-hooks/releases/bench"
UID = 2000
INSTALL = f"""
mkdir -p {RELEASE}/lib/ansible_collections/rocm/madengine/plugins /etc/madengine /etc/slurm /shared/home
cp -r /repo/prolog /repo/epilog {RELEASE}/
cp -r /repo/collections/ansible_collections/rocm/madengine/plugins/module_utils {RELEASE}/lib/ansible_collections/rocm/madengine/plugins/
python3 -m compileall -q {RELEASE}
ln -sfn {RELEASE} /opt/madengine-hooks/current
printf "ImageStore=/shared/store\\nKeyFile=/etc/madengine/key\\n" > /etc/madengine/hooks.conf
install -m 0400 /shared/key /etc/madengine/key
echo PrologFlags=Alloc,DeferBatch > /etc/slurm/slurm.conf
useradd --uid {UID} --no-create-home --groups docker bench
chown {UID} /shared/home
"""


class Machine(Protocol):
    """A machine of the bench."""

    name: str

    @property
    def address(self) -> str: ...

    def sh(self, script: str) -> str: ...


def install(nodes: Sequence[Machine]) -> None:
    """Install the hooks on all nodes, and let them know each other."""
    nodes[0].sh("head -c 48 /dev/urandom | base64 > /shared/key; chmod 0755 /shared")
    hosts = "\n".join(f"{node.address} {node.name}" for node in nodes)
    for node in nodes:
        node.sh(INSTALL + f"grep -v mad-bench /etc/hosts > /tmp/hosts; echo '{hosts}' >> /tmp/hosts; cat /tmp/hosts > /etc/hosts")


def run(nodes: Sequence[Machine], job_id: int, image: str) -> Dict[str, Any]:
    """Start a job that wants *image* and end it; return how long its slowest prolog took, and the image bytes that moved."""
    environ = {
        "SLURM_JOB_ID": job_id,
        "SLURM_JOB_UID": UID,
        "SLURM_JOB_GID": UID,
        "SLURM_JOB_USER": "bench",
        "SLURM_CLUSTER_NAME": "bench",
        "SLURM_JOB_NODELIST": ",".join(node.name for node in nodes),
        "SLURM_JOB_NUM_NODES": len(nodes),
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "SLURM_JOB_WORK_DIR": "/shared/home",
        "SLURM_JOB_STDOUT": "/shared/home/out",
        "SLURM_JOB_COMMENT": f"madengine:image={image}",
    }
    with ThreadPoolExecutor(len(nodes)) as pool:
        found = list(pool.map(lambda node: _prolog(node, environ), nodes))
    for node in nodes:
        _hook(node, "epilog", environ)
    return {
        "seconds": max(one["seconds"] for one in found),
        "bytes_moved": sum(one["bytes_moved"] for one in found),
        "method": "+".join(sorted({one["method"] for one in found})),
        "rss_mib": max(one["rss_mib"] for one in found),
    }


def _prolog(node: Machine, environ: Dict[str, Any]) -> Dict[str, Any]:
    seconds, kib = _hook(node, "prolog", environ).split()[-2:]
    state = f"/run/madengine/jobs/{environ['SLURM_JOB_ID']}"
    verdict = node.sh(f"cat {state}/verdict")
    if "ready" not in verdict:
        raise SystemExit(f"{node.name}: {verdict}")
    steps = [json.loads(line) for line in node.sh(f"cat {state}/timeline.jsonl").splitlines()]
    moved = [step for step in steps if "bytes_moved" in step]
    return {
        "seconds": float(seconds),
        "rss_mib": int(kib) / 1024,
        "bytes_moved": sum(int(step["bytes_moved"]) for step in moved),
        "method": moved[0]["method"],
    }


def _hook(node: Machine, which: str, environ: Dict[str, Any]) -> str:
    """Run the gate; return the seconds it took and the largest of its processes in KiB."""
    words = " ".join(f"{name}={value}" for name, value in {**environ, "SLURMD_NODENAME": node.name}.items())
    # What wait4 says of the children is their largest: the hook itself, and what it forked for the user.
    script = (
        "import os,resource,subprocess,sys,time; b=time.monotonic(); "
        "s=subprocess.call(sys.argv[1:]); print(time.monotonic()-b, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(s)"
    )
    return node.sh(f"env -i {words} python3 -c '{script}' sh /repo/{which}/50-madengine 2>/run/{which}.log")
