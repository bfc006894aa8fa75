#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_diagnostics
short_description: Write down why a job's containers failed
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Looks at a job's containers on this node, running or ended, and writes what it finds to files for a person to read.
    How each was started and ended, its processes, its listening sockets, the end of its output, the ends of the newest logs in
    C(/run_logs) and C(/myworkspace), and what the kernel said of GPUs and memory, if this account may read it.
  - Best effort. Each probe has its own time limit and may fail alone. Secrets are masked, by name, by value and by form.
  - Containers are looked at and never changed.
options:
  job_id:
    description:
      - The SLURM job whose containers are meant, by the label C(madengine.job), by C(SLURM_JOB_ID) in their environment, by
        madengine's workspace of that job mounted at C(/myworkspace), or by the job's control group.
      - Exactly one of O(job_id) and O(container) is required.
    type: str
  container:
    description: The id or name of one container.
    type: str
  dest:
    description: The directory to write to. It is made, readable by this account alone, if it is missing.
    type: path
    required: true
  lines:
    description: How many lines of the end of each log are kept.
    type: int
    default: 200
  probe_seconds:
    description: How long one probe may take, in seconds.
    type: float
    default: 10
extends_documentation_fragment:
  - rocm.madengine.attributes
  - rocm.madengine.docker
attributes:
  check_mode:
    support: full
    details: Nothing is looked at in check mode; the task would change O(dest).
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each run looks again and writes down what it sees.
seealso:
  - module: rocm.madengine.job_report
"""

EXAMPLES = r"""
- name: See why job 4711 failed on this node
  rocm.madengine.container_diagnostics:
    job_id: "4711"
    dest: /home/alice/slurm_results/llama/4711/node_0/diagnostics
  become: true
  become_user: alice
  register: found

- name: Say it in a sentence
  ansible.builtin.debug:
    var: found.summary
"""

RETURN = r"""
summary:
  description: What became of the containers, in one line.
  returned: success, outside check mode
  type: str
  sample: "llama: exit code 137, out of memory: torch.OutOfMemoryError: HIP out of memory"
containers:
  description: Each container that was found.
  returned: success, outside check mode
  type: list
  elements: dict
  contains:
    id:
      description: The short id.
      type: str
    name:
      description: The name.
      type: str
    image:
      description: The image's name.
      type: str
    image_id:
      description: The image's id on this node.
      type: str
    status:
      description: How it is, for example V(running) or V(exited).
      type: str
    exit_code:
      description: How it ended, if it has.
      type: int
    oom_killed:
      description: Whether the kernel killed it for want of memory.
      type: bool
    cause:
      description: The line in its logs that names the root cause, without what loggers put before it. Empty if there is none.
      type: str
    failures:
      description: The last lines in its logs that speak of a failure; known harmless noise is left out.
      type: list
      elements: str
files:
  description: What was written, relative to O(dest).
  returned: success, outside check mode
  type: list
  elements: str
  sample: [llama/output.log, llama/processes.txt, llama/state.json]
notes:
  description: What could not be found out, and why.
  returned: success, outside check mode
  type: list
  elements: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import diagnostics
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "job_id": {"type": "str"},
            "container": {"type": "str"},
            "dest": {"type": "path", "required": True},
            "lines": {"type": "int", "default": diagnostics.LINES},
            "probe_seconds": {"type": "float", "default": diagnostics.PROBE_SECONDS},
            **options.DOCKER,
        },
        required_one_of=[["job_id", "container"]],
        mutually_exclusive=[["job_id", "container"]],
        supports_check_mode=True,
    )
    finish(module, lambda: _look(module))


def _look(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    if module.check_mode:
        return {"changed": True}
    docker = Engine(params["docker_socket"], params["probe_seconds"])
    chosen = {"job_id": params["job_id"] or "", "container": params["container"] or ""}
    try:
        found = diagnostics.diagnose(docker, params["dest"], lines=params["lines"], probe_seconds=params["probe_seconds"], **chosen)
    finally:
        docker.close()
    return {"changed": True, **found}


if __name__ == "__main__":
    main()
