#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hook_release
short_description: Install a release of the SLURM hooks beside the others, and switch to it
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Installs the hooks and the library of this collection as one release, proves that this node's Python can run them, and
    lets new jobs run it from one instant to the next. A release that is broken is refused before it is switched on.
  - A running job's epilog runs the release that its prolog ran, so a release in use is never removed.
options:
  state:
    description:
      - V(present) installs the release of this collection and switches to it. The same version with another content is
        another release.
      - V(rolled_back) switches to the release before the present one. A node that runs another release than O(leaving) has
        been rolled back already, or never been upgraded, and stays as it is.
      - V(absent) removes all releases that no running job uses.
    type: str
    choices: [present, rolled_back, absent]
    default: present
  keep:
    description: How many releases stay installed; those in use stay in any case.
    type: int
    default: 3
  python:
    description: The interpreter that runs the hooks on this node, 3.9 or newer; C(/usr/bin/python3) if not given.
    type: path
  version:
    description: The release's version; the collection's own if not given.
    type: str
  leaving:
    description:
      - The release that V(rolled_back) leaves, and no other; the one of this collection if not given, since the action plugin
        of the same name says so.
    type: str
  src:
    description: The release's archive on this node; the action plugin of the same name makes and transfers it.
    type: path
  sha256:
    description: The digest of the tar in O(src); the action plugin computes it.
    type: str
extends_documentation_fragment:
  - rocm.madengine.attributes
  - rocm.madengine.hooks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Install this collection's hooks
  rocm.madengine.hook_release:

- name: Go back to the release before
  rocm.madengine.hook_release:
    state: rolled_back
"""

RETURN = r"""
current:
  description: The release that new jobs run; empty if there is none.
  returned: success
  type: str
  sample: 1.0.0+6f2d3b40c1e9
previous:
  description: The release that V(rolled_back) would go back to; empty if there is none.
  returned: success
  type: str
  sample: 0.9.0+0b1c7a55d2e4
removed:
  description: The releases that were removed.
  returned: success
  type: list
  elements: str
  sample: []
in_use:
  description: The releases under which jobs of this node have started, and which their epilogs will run.
  returned: success
  type: list
  elements: str
  sample: []
"""

import contextlib
import os
import tempfile
from typing import Any, Callable, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.release import Releases, examine, name_of
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def present(module: AnsibleModule, releases: Releases) -> Dict[str, Any]:
    """Install, switch and prune."""
    asked = module.params
    for option in ("version", "src", "sha256"):
        if not asked[option]:
            raise JobFault("release: no archive", "call this by its name in a task; the action plugin adds the archive", missing=option)
    name = name_of(asked["version"], asked["sha256"])
    is_there, before = releases.has(name), releases.named("current")
    previous = before if before and before != name else releases.before()
    removed = releases.superfluous(asked["keep"], name)
    if module.check_mode:
        if not is_there:
            with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:
                examine(asked["src"], asked["sha256"], os.path.join(folder, name), asked["python"] or "")
    else:
        if not is_there or before != name:
            releases.install(name, asked["src"], asked["sha256"])
            releases.switch(name)
        prune(releases, removed)
    return report(not is_there or before != name or bool(removed), before, name, previous, removed, releases)


def rolled_back(module: AnsibleModule, releases: Releases) -> Dict[str, Any]:
    """Switch to the release before."""
    before, leaving = releases.named("current"), module.params["leaving"]
    if leaving and before != leaving:
        return report(False, before, before, releases.before(), [], releases)
    after = releases.provable() if module.check_mode else releases.roll_back()
    return report(True, before, after, before, [], releases)


def absent(module: AnsibleModule, releases: Releases) -> Dict[str, Any]:
    """Remove whatever no running job uses."""
    used = releases.pinned()
    before, current = releases.named("current"), left(releases.named("current"), used)
    previous = left(releases.before(), used)
    removed = [name for name in releases.installed() if name not in used]
    if not module.check_mode:
        prune(releases, removed)
    return report(bool(removed), before, current, previous, removed, releases)


def alone(module: AnsibleModule, work: Callable[[AnsibleModule, Releases], Dict[str, Any]], releases: Releases) -> Dict[str, Any]:
    """Do *work* while nobody else changes the releases; where there are none, there is nothing to take away."""
    is_reading = module.check_mode or (module.params["state"] == "absent" and not releases.installed())
    with contextlib.nullcontext() if is_reading else releases.locked():
        return work(module, releases)


def left(name: Optional[str], used: Any) -> Optional[str]:
    """Return *name* if it is one of those in use."""
    return name if name in used else None


def prune(releases: Releases, names: List[str]) -> None:
    """Remove the releases *names*."""
    for name in names:
        releases.remove(name)


def report(
    changed: bool, before: Optional[str], after: Optional[str], previous: Optional[str], removed: List[str], releases: Releases
) -> Dict[str, Any]:
    """Return the module's result."""
    diff = {"before": f"current: {before or ''}\n", "after": f"current: {after or ''}\n"}
    in_use = sorted(releases.pinned())
    return {"changed": changed, "current": after or "", "previous": previous or "", "removed": removed, "in_use": in_use, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **options.HOOKS,
            "state": {"type": "str", "choices": ["present", "rolled_back", "absent"], "default": "present"},
            "keep": {"type": "int", "default": 3},
            "python": {"type": "path"},
            "version": {"type": "str"},
            "leaving": {"type": "str"},
            "src": {"type": "path"},
            "sha256": {"type": "str"},
        },
        supports_check_mode=True,
    )
    work = {"present": present, "rolled_back": rolled_back, "absent": absent}[module.params["state"]]
    finish(module, lambda: alone(module, work, Releases(module.params["root"], python=module.params["python"] or "")))


if __name__ == "__main__":
    main()
