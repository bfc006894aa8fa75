#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_info
short_description: Gather SLURM's settings and what in them the hooks cannot live with
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Asks C(scontrol show config) once and judges the settings that C(rocm.madengine.slurm_hooks) depends on.
  - Changes nothing.
options:
  deadline:
    description: The longest that the prolog may take, in seconds; SLURM's timers must lie behind it.
    type: float
    default: 600
extends_documentation_fragment:
  - rocm.madengine.attributes.info
  - rocm.madengine.slurm
seealso:
  - name: slurm.conf
    description: SLURM's manual of the settings.
    link: https://slurm.schedmd.com/slurm.conf.html
"""

EXAMPLES = r"""
- name: Look at SLURM's settings
  rocm.madengine.slurm_info:
    deadline: 120
  register: slurm

- name: Stop where the hooks would not work
  ansible.builtin.assert:
    that: slurm.problems | length == 0
    fail_msg: "{{ slurm.problems | join('\n') }}"
"""

RETURN = r"""
settings:
  description: Every setting that C(scontrol show config) printed; C((null)) is an empty string.
  returned: success
  type: dict
  sample: {PrologFlags: "Alloc,DeferBatch"}
problems:
  description: One line for each setting that does not fit, with what it should be and what goes wrong otherwise.
  returned: success
  type: list
  elements: str
  sample: ["PrologFlags=(null) should be …,Alloc: the other nodes run their prolog only at their first step"]
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings as slurm
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prolog": {"type": "str", "default": "/etc/slurm/prolog.d/*"},
            "epilog": {"type": "str", "default": "/etc/slurm/epilog.d/*"},
            "task_prolog": {"type": "path", "default": "/etc/slurm/task_prolog"},
            "deadline": {"type": "float", "default": 600},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _gathered(module))


def _gathered(module: AnsibleModule) -> Dict[str, Any]:
    asked = module.params
    status, output, errors = module.run_command(["scontrol", "show", "config"], environ_update={"LC_ALL": "C"})
    if status != 0:
        raise NodeFault("slurm: no settings", "start slurmctld, or run this on a host of the cluster", status=status, said=errors.strip())
    settings = slurm.parse(output)
    problems = slurm.judge(settings, asked["prolog"], asked["epilog"], asked["task_prolog"], asked["deadline"])
    return {"changed": False, "settings": settings, "problems": [str(problem) for problem in problems]}


if __name__ == "__main__":
    main()
