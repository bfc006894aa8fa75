#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: env_passthrough
short_description: Choose the environment variables that pass into a job's containers
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Chooses variables by the groups that multi-node training and inference need (rendezvous, madengine, fabric, devices,
    launchers, serving, caches), and adds those of a build manifest.
  - Writes an env file for C(docker run --env-file) if asked to. A secret stands there by its name alone, and Docker takes the
    value from the environment in which C(docker run) is called.
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The diff shows names, never values.
  idempotent:
    support: full
options:
  manifest:
    description:
      - A build manifest whose variables fill the gaps of O(environment).
    type: path
  environment:
    description:
      - The variables to choose from, with their values. Values are never logged or returned.
    type: dict
    default: {}
  names:
    description:
      - Names, patterns (C(*) and C(?)) and groups (C(@fabric)) that pass beside the usual ones.
    type: list
    elements: str
    default: []
  without:
    description:
      - Names, patterns and groups that do not pass.
    type: list
    elements: str
    default: []
  dest:
    description:
      - Where the env file goes. Its permissions are V(0600). Without it no file is written.
    type: path
seealso:
  - module: rocm.madengine.manifest_restore
"""

EXAMPLES = r"""
- name: Write an env file for docker run
  rocm.madengine.env_passthrough:
    manifest: /home/alice/run/build_manifest.json
    environment: "{{ ansible_facts.env }}"
    names: [WANDB_PROJECT, "VLLM_*"]
    without: ["@caches"]
    dest: /home/alice/run/env
  register: passed

- name: Start a container with them
  ansible.builtin.command:
    argv: "{{ ['docker', 'run', '--rm', '--env-file', passed.env_file] + ['rocm/vllm:1.0', 'env'] }}"
"""

RETURN = r"""
names:
  description: The names that pass, sorted.
  returned: success
  type: list
  elements: str
  sample: [MASTER_ADDR, NCCL_DEBUG]
docker_args:
  description:
    - Arguments of C(docker run) that pass the variables of O(environment), and all secrets, out of its own environment, without
      any value. What the manifest alone gives is in the env file.
  returned: success
  type: list
  elements: str
  sample: [--env, MASTER_ADDR, --env, NCCL_DEBUG]
env_file:
  description: The env file.
  returned: success and dest is given
  type: str
  sample: /home/alice/run/env
refused:
  description: What cannot stand in an env file, and why. By name such a variable passes all the same.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The variable.
      type: str
    reason:
      description: Why.
      type: str
      sample: a newline cannot be in an env file
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

import os
from functools import partial
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _manifest_module as shared
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import environment as variables
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec, redaction
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish

_LARGEST_BYTES = 16 << 20


def choose(module: AnsibleModule, environment: Dict[str, str]) -> Dict[str, Any]:
    params, declared = module.params, {}
    if params["manifest"]:
        original = job_spec.read(params["manifest"])
        shared.hide(module, redaction.values(original, environment))
        declared = job_spec.variables(job_spec.restore(original, environment).document)
    values = variables.passing(environment, declared, params["names"], params["without"])
    text, refused = variables.env_file(values)
    names = sorted(name for name in values if variables.is_name(name))
    result = {
        "changed": False,
        "names": names,
        # By name an unset variable would take away what the env file gives, so those of the manifest alone are left out.
        "docker_args": variables.docker_args(name for name in names if name in environment or variables.is_secret(name)),
        "refused": [{"name": name, "reason": reason} for name, reason in sorted(refused.items())],
    }
    if params["dest"]:
        result.update(written(module, text))
    return result


def written(module: AnsibleModule, text: str) -> Dict[str, Any]:
    dest = module.params["dest"]
    before = files.read(dest, _LARGEST_BYTES).decode("utf-8", "replace") if os.path.lexists(dest) else ""
    changed = not shared.is_current(dest, text, 0o600)
    if changed and not module.check_mode:
        shared.write(dest, text, 0o600, os.path.dirname(dest) or ".")
    diff = {"before": "".join(names_of(before)), "after": "".join(names_of(text)), "before_header": dest, "after_header": dest}
    return {"changed": changed, "env_file": dest, "diff": diff}


def names_of(text: str) -> List[str]:
    return [line.partition("=")[0] + "\n" for line in text.splitlines()]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "manifest": {"type": "path"},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "without": {"type": "list", "elements": "str", "default": []},
            "dest": {"type": "path"},
        },
        supports_check_mode=True,
    )
    finish(module, partial(choose, module, shared.taken_environment(module)))


if __name__ == "__main__":
    main()
