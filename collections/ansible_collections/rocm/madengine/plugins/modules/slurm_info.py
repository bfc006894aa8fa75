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
  - With O(hosts), also says which of SLURM's nodes are none of them.
  - Changes nothing.
options:
  needs_sbcast:
    description: Whether images may have to travel by SLURM's C(sbcast), as where there is no image store.
    type: bool
    default: false
  hosts:
    description:
      - All names by which the hosts of a play go. A node is one of them if its C(NodeName), its C(NodeHostName) or its C(NodeAddr)
        is among them, with or without a domain.
    type: list
    elements: str
    default: []
  absent_nodes:
    description: Nodes that need not be among O(hosts), as host lists such as V(cloud[001-200]).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - rocm.madengine.attributes.info
  - rocm.madengine.slurm
  - rocm.madengine.slurm_dir
  - rocm.madengine.deadline
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
site_problems:
  description: Those of RV(problems) that M(rocm.madengine.slurm_conf) cannot mend, as what the site has chosen would go.
  returned: success
  type: list
  elements: str
  sample: []
unreached_nodes:
  description:
    - The nodes that SLURM would use and that are none of O(hosts). Those that SLURM itself calls down, drained, powered down or
      future are not among them, as no job starts there.
  returned: with O(hosts)
  type: list
  elements: str
  sample: []
unused_nodes:
  description: The nodes that are none of O(hosts), and that SLURM does not use at present.
  returned: with O(hosts)
  type: list
  elements: str
  sample: [n7]
"""

import os
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import nodes, settings
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **options.SLURM_DIR,
            **options.SLURM,
            **options.DEADLINE,
            "needs_sbcast": {"type": "bool", "default": False},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "absent_nodes": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _gathered(module))


def _gathered(module: AnsibleModule) -> Dict[str, Any]:
    asked = module.params
    found = settings.parse(_said(module, ["show", "config"]))
    # Asked only where it matters: each question is one more for the controller.
    is_serial = "serial" in found.get("PrologFlags", "").lower()
    partitions = _said(module, ["--oneliner", "show", "partitions"]) if is_serial else ""
    cluster = settings.Cluster(settings.is_exclusive(found, partitions), asked["needs_sbcast"])
    problems = settings.judge(found, asked["prolog"], asked["epilog"], asked["task_prolog"], asked["deadline"], cluster)
    return {
        "changed": False,
        "settings": found,
        "problems": [str(problem) for problem in problems],
        "site_problems": [str(problem) for problem in problems if problem.is_the_sites],
        **(_nodes(module) if asked["hosts"] else {}),
    }


def _nodes(module: AnsibleModule) -> Dict[str, List[str]]:
    known = nodes.parse(_said(module, ["--oneliner", "show", "nodes"]))
    missing = nodes.beyond(known, module.params["hosts"], module.params["absent_nodes"])
    return {
        "unreached_nodes": [node.name for node in missing if node.is_in_use()],
        "unused_nodes": [node.name for node in missing if not node.is_in_use()],
    }


def _said(module: AnsibleModule, words: List[str]) -> str:
    """Return what scontrol printed.

    :raises NodeFault: the controller does not answer.
    """
    path = settings.search_path(module.params["slurm_dir"], os.environ.get("PATH", ""))
    status, output, errors = module.run_command(["scontrol", *words], environ_update={"LC_ALL": "C", "PATH": path})
    if status != 0:
        raise NodeFault("slurm: no settings", "start slurmctld, or run this on a host of the cluster", status=status, said=errors.strip())
    return str(output)


if __name__ == "__main__":
    main()
