#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: task_prolog
short_description: Place the TaskProlog of the hooks, and keep the one that the site had
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - SLURM knows one C(TaskProlog). Where the site has a program of its own under O(path), it moves to O(site), and the program
    of the hooks, which takes its place, runs it first. One that does nothing is replaced.
  - At no instant is O(path) missing, for SLURM fails every task where it is.
options:
  path:
    description: The file that SLURM's C(TaskProlog) names.
    type: path
    default: /etc/slurm/task_prolog
  site:
    description: Where the program of the site is kept. The program of the hooks looks for it in the default place alone.
    type: path
    default: /etc/madengine/task_prolog.site
  state:
    description:
      - V(present) places the program of the hooks.
      - V(absent) puts back what the site had, or a file that does nothing.
    type: str
    choices: [present, absent]
    default: present
  content:
    description: The program of the hooks; needed for V(present).
    type: str
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Place the TaskProlog
  rocm.madengine.task_prolog:
    content: "{{ lookup('ansible.builtin.file', 'prolog/task_prolog', rstrip=false) }}"

- name: Put back the site's own
  rocm.madengine.task_prolog:
    state: absent
"""

RETURN = r"""
kept:
  description: Whether the site has a program of its own, which is kept or put back.
  returned: success
  type: bool
  sample: false
"""

import os
from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import site_files
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/slurm/task_prolog"},
            "site": {"type": "path", "default": "/etc/madengine/task_prolog.site"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "content": {"type": "str"},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    work = _present if module.params["state"] == "present" else _absent
    finish(module, lambda: _told(module, work))


def _told(module: AnsibleModule, work: Callable[[AnsibleModule, str, str], Dict[str, Any]]) -> Dict[str, Any]:
    path = module.params["path"]
    try:
        return work(module, path, module.params["site"])
    except OSError as error:
        raise files.local_fault("task_prolog", path, error) from error


def _present(module: AnsibleModule, path: str, site: str) -> Dict[str, Any]:
    ours, before = module.params["content"].encode(), site_files.content(path)
    changed = not site_files.settled(path, ours)
    kept = os.path.lexists(site) or site_files.is_the_sites(before)
    if changed and not module.check_mode:
        site_files.settle(path, site, ours)
    return {"changed": changed, "kept": kept, "diff": _diff(path, before, ours)}


def _absent(module: AnsibleModule, path: str, site: str) -> Dict[str, Any]:
    before, after = site_files.content(path), site_files.given_back(path, site)
    kept = site_files.is_the_sites(after)
    changed = before != after or os.path.lexists(site)
    if changed and not module.check_mode:
        site_files.give_back(path, site)
    return {"changed": changed, "kept": kept, "diff": _diff(path, before, after)}


def _diff(path: str, before: site_files.Content, after: site_files.Content) -> Dict[str, str]:
    shown = {"before": (before or b"").decode(errors="replace"), "after": (after or b"").decode(errors="replace")}
    return {"before_header": path, "after_header": path, **shown}


if __name__ == "__main__":
    main()
