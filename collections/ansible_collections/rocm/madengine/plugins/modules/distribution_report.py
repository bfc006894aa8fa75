#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distribution_report
short_description: Make one table of which node had an image, which loaded it, and which did not get it
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Takes what M(rocm.madengine.image_compare_info), M(rocm.madengine.image_save) and M(rocm.madengine.image_load) have returned.
  - Runs anywhere and looks at nothing but its options; the controller is the place for it.
options:
  image:
    description: The image's name.
    type: str
    required: true
  identity:
    description: The image that all nodes shall have, as one digest; empty if that is not known.
    type: str
    default: ""
  node_results:
    description: The result of M(rocm.madengine.image_compare_info), by host; a failure, or nothing, for a host that has not answered.
    type: dict
    required: true
  loads:
    description: The result of M(rocm.madengine.image_load), by host, also that of a loop of one; nothing for a host where it has not run.
    type: dict
    default: {}
  publisher:
    description: The host that has published the image.
    type: str
    default: ""
  published:
    description: The result of M(rocm.madengine.image_save) there.
    type: dict
    default: {}
  check_mode:
    description: Whether the results come from check mode, so that the table says what would be.
    type: bool
    default: false
extends_documentation_fragment:
  - rocm.madengine.attributes.info
seealso:
  - module: rocm.madengine.distribution_plan
"""

EXAMPLES = r"""
- name: Load the image
  rocm.madengine.image_load:
    image: rocm/vllm:1.0
    store: /shared/madengine/store
  register: load
  ignore_errors: true

- name: Make the table
  rocm.madengine.distribution_report:
    image: rocm/vllm:1.0
    node_results: >-
      {{ dict(ansible_play_hosts_all |
      zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='seen', default={}))) }}
    loads: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='load', default={}))) }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
table:
  description: The report, to be shown to a person.
  returned: success
  type: str
headline:
  description: The report's first line.
  returned: success
  type: str
  sample: "rocm/vllm:1.0: 2 of 3 nodes had it, 1 loaded it: 20.0 MB"
failures:
  description: Why a host has not got the image, by host.
  returned: success
  type: dict
  sample: {n3: "madengine: node: engine: no answer (socket='/run/docker.sock'); start docker"}
rows:
  description: What became of each host, in their order.
  returned: success
  type: list
  elements: dict
  sample:
    - {node: n1, had: 6, loaded: 1, total: 7, bytes: 20000000, seconds: 0.2, failure: ""}
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import plan
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "identity": {"type": "str", "default": ""},
            "node_results": {"type": "dict", "required": True},
            "loads": {"type": "dict", "default": {}},
            "publisher": {"type": "str", "default": ""},
            "published": {"type": "dict", "default": {}},
            "check_mode": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _report(module.params))


def _report(asked: Dict[str, Any]) -> Dict[str, Any]:
    publication = plan.Publication.of(asked["publisher"], asked["published"])
    identity = publication.identity or asked["identity"]
    looks, loads, check_mode = asked["node_results"], asked["loads"], asked["check_mode"]
    rows = [plan.row(host, identity, looks[host] or {}, loads.get(host) or {}, publication.host, check_mode) for host in looks]
    report = plan.Report(asked["image"], tuple(rows), publication, check_mode)
    return {
        "changed": False,
        "table": report.table(),
        "headline": report.headline(),
        "failures": {row.node: row.failure for row in rows if row.failure},
        "rows": [row.to_dict() for row in rows],
    }


if __name__ == "__main__":
    main()
