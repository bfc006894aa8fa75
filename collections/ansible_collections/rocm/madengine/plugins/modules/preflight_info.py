#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Judge whether a node is ready for multi-node madengine jobs
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Looks at Docker, the hooks, the cluster's key, ports, names, the image store and more, and says of each whether it is fit,
    what was seen, and what to do.
  - Each look has a time limit of its own and all begin at once, so a share or a daemon that hangs costs its own answer alone.
  - What only several nodes together can tell is gathered here and judged by M(rocm.madengine.preflight_report).
    The role C(rocm.madengine.preflight) does the three steps on all nodes.
options:
  step:
    description:
      - V(gather) gathers and judges, and leaves a note in the store if there is a O(session).
      - V(peers) looks for the O(peers) by their names and for their notes.
      - V(cleanup) removes the node's note.
    type: str
    choices: [gather, peers, cleanup]
    default: gather
  node:
    description: This node's C(NodeName) in SLURM; the host's name up to the first dot if not given.
    type: str
  session:
    description:
      - One name for all steps and nodes of one run, of letters, digits, dots and dashes.
      - Without it nothing stays in the store, and the key's fingerprint is always the same.
    type: str
    default: ""
  peers:
    description: What V(gather) returned as C(peer) on the nodes; for V(peers).
    type: list
    elements: dict
    default: []
  path:
    description: Where the hooks' settings are.
    type: path
    default: /etc/madengine/hooks.conf
  ask_slurm:
    description: Whether to ask SLURM's controller for its settings, which one node can do for all.
    type: bool
    default: true
  slurm_conf:
    description:
      - This node's slurm.conf, whose C(NodeAddr) is where the hooks look for a node, and whose programs SLURM must be able to start.
      - Where SLURM's daemons have it, if not given; a node without one is looked for by its name.
    type: path
  store:
    description: Where the image store is; C(ImageStore) of the hooks' settings if not given.
    type: path
  store_probe_mb:
    description: How much to write into the store and to read again for measuring it, in millions of bytes; V(0) measures nothing.
    type: int
    default: 64
  store_probe_seconds:
    description: How long writing, and then reading, may take at most.
    type: float
    default: 10
  store_mb_per_second:
    description: A store that is slower than this many millions of bytes a second is a warning.
    type: float
    default: 100
  free_gib:
    description: Less free space than this many GiB, for Docker or in the store, is a warning.
    type: float
    default: 50
  least_free_gib:
    description: Less free space than this many GiB is a failure.
    type: float
    default: 5
  users:
    description:
      - Who must be able to use Docker on this node, and to start SLURM's C(TaskProlog).
      - With C(DockerAccess=service) it is the account C(madengine) alone that must be able to use Docker, whoever is given.
    type: list
    elements: str
    default: []
  invoking_user:
    description: Who asks. Is one of O(users) on a node that knows this name, and nobody on another.
    type: str
    default: ""
  madengine:
    description: The program that must answer C(--version) and leave nothing behind; a name or a path.
    type: str
    default: madengine
  skip:
    description: Checks not to make, by their names.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - rocm.madengine.attributes.info
  - rocm.madengine.slurm
  - rocm.madengine.hooks
attributes:
  check_mode:
    details: >-
      It works in check mode as always. What it writes for measuring the store is removed by V(gather) itself, and its note by
      V(cleanup).
  idempotent:
    details: It gathers what is there at the time.
notes:
  - The node must be asked as root, who alone can read the cluster's key. What is returned of it is a fingerprint, derived for
    the O(session) and of no other use.
  - C(madengine --version) runs as the user C(nobody), in an empty directory, without C(MODEL_DIR).
seealso:
  - module: rocm.madengine.preflight_report
  - module: rocm.madengine.slurm_info
"""

EXAMPLES = r"""
- name: Look at a node
  rocm.madengine.preflight_info:
    users: [alice, bob]
  register: preflight

- name: Stop where jobs would fail
  ansible.builtin.assert:
    that: preflight.checks | selectattr('status', 'eq', 'fail') | length == 0
"""

RETURN = r"""
checks:
  description: What was found, judged. One check may have several entries.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: What was looked at.
      type: str
    status:
      description: V(ok), V(warn) or V(fail).
      type: str
    seen:
      description: What was seen, with its values.
      type: str
    remedy:
      description: What to do; empty if the check is V(ok).
      type: str
  sample:
    - {name: pigz, status: warn, seen: "no unpigz: Docker unpacks compressed layers on one core", remedy: install the package pigz}
facts:
  description: What M(rocm.madengine.preflight_report) compares between the nodes.
  returned: O(step=gather)
  type: dict
  sample: {node: n1, release: 1.0.0+6f2d3b40c1e9, clock: {offset_seconds: 0.02, uncertainty_seconds: 0.4}}
peer:
  description: What the others need for O(step=peers).
  returned: O(step=gather)
  type: dict
  sample: {node: n1, addresses: [10.0.0.1], nonce: 5e0c…}
met:
  description: Which peers this node could not find.
  returned: O(step=peers)
  type: dict
  sample: {missing: [], unknown: [], wrong: {n3: [10.9.9.9]}}
time:
  description: This node's clock when the module began and ended, in seconds since 1970.
  returned: success
  type: dict
  sample: {began: 1767225600.1, ended: 1767225602.3}
"""

import os
import secrets
import shutil
import socket
import time
from typing import Any, Dict, List, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import (
    checks,
    docker_probe,
    network_probe,
    probes,
    program_probe,
    store_probe,
)
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import node_addresses, settings
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish

_MEGABYTE = 1_000_000
_STORE_MARGIN_SECONDS = 15
# SLURM's usual places beside those of the distributions, which PATH holds.
_SLURM_PATH = "/opt/slurm/bin:/usr/local/slurm/bin"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["gather", "peers", "cleanup"], "default": "gather"},
            "node": {"type": "str"},
            "session": {"type": "str", "default": ""},
            "peers": {"type": "list", "elements": "dict", "default": []},
            "path": {"type": "path", "default": config.PATH},
            **options.HOOKS,
            **options.SLURM,
            "ask_slurm": {"type": "bool", "default": True},
            "slurm_conf": {"type": "path"},
            "store": {"type": "path"},
            "store_probe_mb": {"type": "int", "default": 64},
            "store_probe_seconds": {"type": "float", "default": 10},
            "store_mb_per_second": {"type": "float", "default": 100},
            "free_gib": {"type": "float", "default": 50},
            "least_free_gib": {"type": "float", "default": 5},
            "users": {"type": "list", "elements": "str", "default": []},
            "invoking_user": {"type": "str", "default": ""},
            "madengine": {"type": "str", "default": "madengine"},
            "skip": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    work = {"gather": gather, "peers": peers, "cleanup": cleanup}[module.params["step"]]
    finish(module, lambda: _timed(module.params, work))


def _timed(asked: Dict[str, Any], work: Any) -> Dict[str, Any]:
    began = time.time()
    asked["node"] = asked["node"] or socket.gethostname().partition(".")[0]
    site = config.read(asked["path"])
    asked["store"] = asked["store"] or site.image_store
    asked["slurm_conf"] = asked["slurm_conf"] or node_addresses.conf_file(site.slurm_dir)
    return {"changed": False, **work(asked, site), "time": {"began": began, "ended": time.time()}}


def gather(asked: Mapping[str, Any], site: config.Site) -> Dict[str, Any]:
    """Gather all, and judge what this node alone can tell."""
    plan = {name: probe for name, probe in _plan(asked, site).items() if name not in asked["skip"]}
    found = probes.gather(plan)
    if "store" not in asked["skip"] and not asked["store"]:
        found["store"] = {}
    if not asked["session"] and "store" in plan:
        probes.gather({"store": (store_probe.remove, (asked["store"], _session(asked), asked["node"]), _STORE_MARGIN_SECONDS)})
    wanted = checks.Wanted(
        site,
        asked["prolog"],
        asked["epilog"],
        asked["task_prolog"],
        asked["free_gib"],
        asked["least_free_gib"],
        asked["store_mb_per_second"],
    )
    judged = [check.to_dict() for name in checks.JUDGES if name in found for check in checks.judge(name, found[name], wanted)]
    facts = _facts(asked["node"], {name: seen for name, seen in found.items() if not isinstance(seen, Fault)})
    return {
        "checks": [check for check in judged if check["name"] not in asked["skip"]],
        "facts": facts,
        "peer": {name: facts.get(name, "") for name in ("node", "addresses", "nonce")},
    }


def peers(asked: Mapping[str, Any], site: config.Site) -> Dict[str, Any]:
    """Look for the peers and for their notes."""
    plan: Dict[str, probes.Probe] = {
        "names": (network_probe.peers, (asked["node"], asked["peers"], asked["slurm_conf"], site.slurm_dir), 60),
        "ports": (network_probe.reach, (asked["node"], asked["peers"], site.port_range, asked["slurm_conf"], site.slurm_dir), 60),
    }
    if asked["store"]:
        plan["store"] = (store_probe.missing, (asked["store"], asked["session"], asked["peers"]), 60)
    found = probes.gather({name: probe for name, probe in plan.items() if name not in asked["skip"]})
    met: Dict[str, Any] = {}
    failed: List[Dict[str, str]] = []
    for name, seen in found.items():
        if isinstance(seen, Fault):
            failed.append(checks.failed(name, seen).to_dict())
        else:
            met.update(seen)
    return {"checks": failed, "met": met}


def cleanup(asked: Mapping[str, Any], site: config.Site) -> Dict[str, Any]:
    """Remove the note; a store that is not there holds none."""
    if asked["store"]:
        probes.gather({"store": (store_probe.remove, (asked["store"], asked["session"], asked["node"]), _STORE_MARGIN_SECONDS)})
    return {"checks": []}


def _plan(asked: Mapping[str, Any], site: config.Site) -> Dict[str, probes.Probe]:
    """Return what to look at: a function, its arguments, and its limit in seconds."""
    is_service = site.docker_access == "service"
    people = [*asked["users"], *filter(None, [asked["invoking_user"]])]
    users = ([process.SERVICE], site) if is_service else (asked["users"], site, asked["invoking_user"])
    askers = [process.SERVICE] if is_service else people
    plan: Dict[str, probes.Probe] = {
        "docker": (docker_probe.docker, (site, askers, 10), 15),
        "pigz": (docker_probe.pigz, (), 5),
        "python": (probes.python, (site.python, 20), 25),
        "users": (docker_probe.users, users, 15),
        "settings": (probes.settings, (asked["path"], os.path.join(os.path.dirname(asked["path"]), "disabled")), 5),
        "release": (probes.hook_release, (asked["root"], _places(asked), 60, site.python), 65),
        "programs": (program_probe.programs, (asked["slurm_conf"], asked["task_prolog"], people), 30),
        "key": (probes.key, (site.auth, site.key_file, asked["session"]), 15),
        "ports": (network_probe.ports, site.port_range, 15),
        "names": (network_probe.names, (asked["node"], asked["slurm_conf"], site.slurm_dir), 20),
        "madengine": (probes.madengine, (shutil.which(asked["madengine"]) or "", 60), 65),
    }
    if asked["ask_slurm"]:
        scontrol = (
            shutil.which("scontrol", path=settings.search_path(site.slurm_dir, f"{os.environ.get('PATH', '')}:{_SLURM_PATH}")) or "scontrol"
        )
        plan["slurm"] = (probes.slurm_settings, (scontrol, 20), 45)
    if asked["store"]:
        size_bytes = 0 if "store_speed" in asked["skip"] else asked["store_probe_mb"] * _MEGABYTE
        arguments = (asked["store"], _session(asked), asked["node"], secrets.token_hex(16), size_bytes, asked["store_probe_seconds"])
        plan["store"] = (store_probe.write, arguments, 3 * asked["store_probe_seconds"] + _STORE_MARGIN_SECONDS)
    return plan


def _session(asked: Mapping[str, Any]) -> str:
    return asked["session"] or f"alone-{os.getpid()}"


def _places(asked: Mapping[str, Any]) -> List[str]:
    """Return the files of ours that SLURM finds by a pattern; whatever slurm.conf names itself is looked at as ``programs``."""
    return [asked[name][:-1] + "50-madengine" if asked[name].endswith("/*") else asked[name] for name in ("prolog", "epilog")]


def _facts(node: str, found: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    """Return what is compared between the nodes; what could not be seen is not among it."""
    where = {
        "addresses": ("names", "addresses"),
        "nonce": ("store", "nonce"),
        "key": ("key", "fingerprint"),
        "settings": ("settings", "digest"),
        "release": ("release", "current"),
        "slurm_nodes": ("slurm", "names"),
        "docker_version": ("docker", "version"),
    }
    facts: Dict[str, Any] = {"node": node}
    facts.update({fact: found[probe][key] for fact, (probe, key) in where.items() if key in found.get(probe, {})})
    if found.get("docker"):
        facts["docker_store"] = "containerd" if found["docker"]["is_containerd"] else "classic"
    return facts


if __name__ == "__main__":
    main()
