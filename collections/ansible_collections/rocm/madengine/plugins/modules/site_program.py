#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_program
short_description: Keep what slurm.conf named as Prolog, Epilog or TaskProlog, beside the hooks
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Looks whether a program of the site's can go on beside the hooks, and, where the hooks have taken its place in C(slurm.conf),
    writes the file that runs it.
  - A program that leads back to what SLURM is to start for the hooks would run itself for ever, and is refused. What it names by
    full paths is followed, files and directories alike.
  - A program that is not there, or cannot be started, is refused where the file would run it. SLURM takes a node out of service for it.
options:
  key:
    description: Which setting of C(slurm.conf) names it.
    type: str
    choices: [Prolog, Epilog, TaskProlog]
    required: true
  program:
    description: The program, by its full path; of C(Prolog) and C(Epilog) a pattern such as V(/opt/slurm/etc/prolog.d/*) too.
    type: str
    required: true
  hooks:
    description: Files and directories that SLURM is to start for the hooks.
    type: list
    elements: path
    required: true
  path:
    description: The file that runs the program. Without it the program is only looked at, as far as it is there.
    type: path
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: rocm.madengine.slurm_conf
"""

EXAMPLES = r"""
- name: Keep the site's own prolog in the chain
  rocm.madengine.site_program:
    key: Prolog
    program: /etc/slurm/prolog.sh
    hooks: [/etc/madengine/prolog.d]
    path: /etc/madengine/prolog.d/90-site
"""

RETURN = r"""
programs:
  description: What SLURM starts for O(program) on this host, in its order.
  returned: with O(path)
  type: list
  elements: str
  sample: [/etc/slurm/prolog.sh]
"""

import os
import stat
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import site_files
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "key": {"type": "str", "choices": ["Prolog", "Epilog", "TaskProlog"], "required": True},
            "program": {"type": "str", "required": True},
            "hooks": {"type": "list", "elements": "path", "required": True},
            "path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _kept(module.params, module.check_mode))


def _kept(asked: Dict[str, Any], is_check: bool) -> Dict[str, Any]:
    program, path = asked["program"], asked["path"]
    back = site_files.leads_back(program, asked["hooks"])
    if back is not None:
        remedy = "take the hooks' directory out of it: SLURM starts what is in there by itself"
        raise JobFault("site_program: it leads back to the hooks, and would run itself for ever", remedy, program=program, file=back)
    if not path:
        return {"changed": False}
    if not program.startswith("/"):
        raise JobFault("site_program: not a full path", "give it in slurm.conf with its directory", program=program)
    found, wanted = site_files.startable(program), site_files.chain_link(asked["key"], program)
    before = (site_files.content(path) or b"").decode(errors="replace")
    changed = before != wanted or stat.S_IMODE(os.stat(path).st_mode) != site_files.MODE
    if changed and not is_check:
        files.write(path, wanted, mode=site_files.MODE)
    return {
        "changed": changed,
        "programs": found,
        "diff": {"before_header": path, "after_header": path, "before": before, "after": wanted},
    }


if __name__ == "__main__":
    main()
