#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Compare what the nodes said in a preflight, and make one table of it
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Takes the results of M(rocm.madengine.preflight_info) from all nodes and adds what only the comparison can tell, such as a
    node with another key, another store, a wrong clock, or a name that leads elsewhere.
  - Where nodes differ, the most of them are taken to be right.
  - Runs anywhere and looks at nothing but its options; the controller is the place for it.
options:
  node_results:
    description: The result of O(rocm.madengine.preflight_info#module:step=gather), by host; empty for a host that has not answered.
    type: dict
    required: true
  peer_results:
    description: The result of O(rocm.madengine.preflight_info#module:step=peers), by host.
    type: dict
    default: {}
  clock_seconds:
    description: How far a node's clock may be from the others', in seconds.
    type: float
    default: 2
  skip:
    description: Checks to leave out, by their names.
    type: list
    elements: str
    default: []
  fail_on:
    description: From which status on this task fails.
    type: str
    choices: [warn, fail, never]
    default: never
extends_documentation_fragment:
  - rocm.madengine.attributes.info
seealso:
  - module: rocm.madengine.preflight_info
"""

EXAMPLES = r"""
- name: Look at each node
  rocm.madengine.preflight_info:
  register: seen

- name: Compare
  rocm.madengine.preflight_report:
    node_results: >-
      {{ dict(ansible_play_hosts_all |
      zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='seen', default={}))) }}
    fail_on: fail
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
table:
  description: The report, to be shown to a person.
  returned: always
  type: str
  sample: "preflight: all 3 nodes are ready"
headline:
  description: The report's first line.
  returned: always
  type: str
  sample: "preflight: 1 of 3 nodes fail: n2"
status:
  description: The worst status of all, V(ok), V(warn) or V(fail).
  returned: always
  type: str
  sample: warn
rows:
  description: The findings, each with the nodes that share it, what fails first.
  returned: always
  type: list
  elements: dict
  sample:
    - check: pigz
      status: warn
      nodes: [n1, n2]
      seen: "no unpigz: Docker unpacks compressed layers on one core"
      remedy: install the package pigz
"""

from typing import Any, Dict, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import checks, cluster_checks, table


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "node_results": {"type": "dict", "required": True},
            "peer_results": {"type": "dict", "default": {}},
            "clock_seconds": {"type": "float", "default": 2},
            "skip": {"type": "list", "elements": "str", "default": []},
            "fail_on": {"type": "str", "choices": ["warn", "fail", "never"], "default": "never"},
        },
        supports_check_mode=True,
    )
    result = _report(module.params)
    limit = module.params["fail_on"]
    if limit != "never" and checks.worst([result["status"], limit]) == result["status"]:
        module.fail_json(msg=result["headline"], **result)
    module.exit_json(changed=False, **result)


def _report(asked: Mapping[str, Any]) -> Dict[str, Any]:
    answers = {}
    for host, look in asked["node_results"].items():
        answer = cluster_checks.of(look or {}, asked["peer_results"].get(host) or {})
        name = str(answer.facts.get("node", host)) if answer else host
        answers[host if name in answers else name] = answer  # hosts that call themselves the same are told apart
    rows = table.rows(cluster_checks.judge(answers, asked["clock_seconds"], asked["skip"]))
    return {
        "table": table.table(rows, list(answers)),
        "headline": table.headline(rows, list(answers)),
        "status": table.status(rows),
        "rows": [row.to_dict() for row in rows],
    }


if __name__ == "__main__":
    main()
