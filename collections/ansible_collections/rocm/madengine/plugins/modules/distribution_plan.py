#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distribution_plan
short_description: Decide which image all nodes shall have, and which node publishes it
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Takes the results of M(rocm.madengine.image_compare_info) from all nodes.
  - Where they do not all have the same image under the name, and nobody has said whose is meant, the newest is meant and RV(decision)
    says so; with O(on_conflict=fail), or if the images do not say when they were made, it fails and names who has which.
  - Runs anywhere and looks at nothing but its options; the controller is the place for it.
options:
  image:
    description: The image's name.
    type: str
    required: true
  node_results:
    description: The result of M(rocm.madengine.image_compare_info), by host; a failure, or nothing, for a host that has not answered.
    type: dict
    required: true
  source:
    description:
      - The host whose image is meant, or V(store) for the one that the store has.
      - If empty, O(on_conflict) decides between those who have different ones, the store included.
    type: str
    default: ""
  on_conflict:
    description:
      - What is done where several images have the name, as C(OnConflict) says it for jobs.
      - V(leader) takes that of the first host that has one.
    type: str
    choices: [newest, leader, fail]
    default: newest
  pull:
    description: Whether a node may pull the image from its registry if nobody has it.
    type: bool
    default: false
extends_documentation_fragment:
  - rocm.madengine.attributes.info
seealso:
  - module: rocm.madengine.image_compare_info
  - module: rocm.madengine.distribution_report
"""

EXAMPLES = r"""
- name: Decide whose image it shall be
  rocm.madengine.distribution_plan:
    image: rocm/vllm:1.0
    node_results: >-
      {{ dict(ansible_play_hosts_all |
      zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='seen', default={}))) }}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
publisher:
  description: The host that has to publish the image; empty if the store has it.
  returned: success
  type: str
  sample: n1
identity:
  description: The image that all nodes shall have, as one digest; empty if it has to be pulled first.
  returned: success
  type: str
  sample: sha256:9a27ccba66aa89308938703855d814353523ad7b0738ac52e7b7a185bb61e304
decision:
  description: Who has which image and why it is this one, where several have the name; empty mostly.
  returned: success
  type: str
  sample: ""
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import plan as distribution
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "node_results": {"type": "dict", "required": True},
            "source": {"type": "str", "default": ""},
            "pull": {"type": "bool", "default": False},
            "on_conflict": {"type": "str", "choices": ["newest", "leader", "fail"], "default": "newest"},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _planned(module.params))


def _planned(asked: Dict[str, Any]) -> Dict[str, Any]:
    looks = {host: distribution.Look.of(look or {}) for host, look in asked["node_results"].items()}
    plan = distribution.plan(asked["image"], looks, asked["source"], asked["pull"], asked["on_conflict"])
    return {"changed": False, "publisher": plan.publisher, "identity": plan.identity, "decision": plan.decision}


if __name__ == "__main__":
    main()
