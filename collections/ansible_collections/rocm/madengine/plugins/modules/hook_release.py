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
  root:
    description: Directory of the releases and of the link C(current).
    type: path
    default: /opt/madengine-hooks
  state:
    description:
      - V(present) installs the release of this collection and switches to it.
      - V(rolled_back) switches to the release before the present one; twice leads back to the present one.
      - V(absent) removes all releases that no running job uses.
    type: str
    choices: [present, rolled_back, absent]
    default: present
  keep:
    description: How many releases stay installed; those in use stay in any case.
    type: int
    default: 3
  version:
    description: Name of the release; the collection's own version if not given.
    type: str
  src:
    description: The release's archive on this node; the action plugin of the same name makes and transfers it.
    type: path
  sha256:
    description: The digest of O(src); the action plugin computes it.
    type: str
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: V(rolled_back) goes back and forth by its nature.
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
  sample: 1.0.0
previous:
  description: The release that V(rolled_back) would go back to; empty if there is none.
  returned: success
  type: str
  sample: 0.9.0
removed:
  description: The releases that were removed.
  returned: success
  type: list
  elements: str
  sample: []
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.release import Releases
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def present(module: AnsibleModule, releases: Releases) -> Dict[str, Any]:
    """Install, switch and prune."""
    asked = module.params
    for name in ("version", "src", "sha256"):
        if not asked[name]:
            raise JobFault("release: no archive", "call this by its name in a task; the action plugin adds the archive", missing=name)
    is_there, before = releases.has(asked["version"], asked["sha256"]), releases.named("current")
    if not module.check_mode:
        if not is_there:
            releases.install(asked["version"], asked["src"], asked["sha256"])
        if before != asked["version"]:
            releases.switch(asked["version"])
    removed = prune(module, releases, releases.superfluous(asked["keep"]))
    changed = not is_there or before != asked["version"] or bool(removed)
    return report(releases, changed, before, asked["version"], removed)


def rolled_back(module: AnsibleModule, releases: Releases) -> Dict[str, Any]:
    """Switch to the release before."""
    before, after = releases.named("current"), releases.named("previous")
    if not module.check_mode or after is None:
        after = releases.roll_back()
    return report(releases, True, before, after, [])


def absent(module: AnsibleModule, releases: Releases) -> Dict[str, Any]:
    """Remove whatever no running job uses."""
    before, used = releases.named("current"), releases.pinned()
    removed = prune(module, releases, [version for version in releases.installed() if version not in used])
    return report(releases, bool(removed), before, releases.named("current"), removed)


def prune(module: AnsibleModule, releases: Releases, versions: List[str]) -> List[str]:
    """Remove *versions*, and say which."""
    for version in [] if module.check_mode else versions:
        releases.remove(version)
    return versions


def report(releases: Releases, changed: bool, before: Any, after: Any, removed: List[str]) -> Dict[str, Any]:
    """Return the module's result."""
    diff = {"before": f"current: {before or ''}\n", "after": f"current: {after or ''}\n"}
    return {"changed": changed, "current": after or "", "previous": releases.named("previous") or "", "removed": removed, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/madengine-hooks"},
            "state": {"type": "str", "choices": ["present", "rolled_back", "absent"], "default": "present"},
            "keep": {"type": "int", "default": 3},
            "version": {"type": "str"},
            "src": {"type": "path"},
            "sha256": {"type": "str"},
        },
        supports_check_mode=True,
    )
    work = {"present": present, "rolled_back": rolled_back, "absent": absent}[module.params["state"]]
    finish(module, lambda: work(module, Releases(module.params["root"])))


if __name__ == "__main__":
    main()
