#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_compare_info
short_description: Compare what this node and the image store have under an image's name
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Says what this node's Docker daemon has under the name, what the image store has, and how many layers each lacks of the other's.
  - An image that neither has is no failure.
extends_documentation_fragment:
  - rocm.madengine.attributes.info
  - rocm.madengine.image
  - rocm.madengine.docker
seealso:
  - module: rocm.madengine.image_save
  - module: rocm.madengine.image_load
  - module: rocm.madengine.image_info
"""

EXAMPLES = r"""
- name: See what each node has
  rocm.madengine.image_compare_info:
    image: rocm/vllm:1.0
    store: /shared/madengine/store
  register: look

- name: Name the nodes that have another image than the store
  ansible.builtin.debug:
    msg: "{{ inventory_hostname }} has {{ look.local }}"
  when: look.local != look.stored
"""

RETURN = r"""
image:
  description: The image's name, normalized.
  returned: success
  type: str
  sample: rocm/vllm:1.0
local:
  description: What this node's daemon has under the name, layers and configuration, as one digest; empty if it has nothing.
  returned: success
  type: str
  sample: sha256:9a27ccba66aa89308938703855d814353523ad7b0738ac52e7b7a185bb61e304
stored:
  description: What the store has under the name, likewise.
  returned: success
  type: str
  sample: sha256:9a27ccba66aa89308938703855d814353523ad7b0738ac52e7b7a185bb61e304
created_local:
  description: When the daemon's image was made, as it says itself; empty if it does not.
  returned: success
  type: str
  sample: "2026-01-01T00:00:00Z"
created_stored:
  description: When the store's image was made, likewise.
  returned: success
  type: str
  sample: "2026-01-01T00:00:00Z"
layers_local:
  description: The number of layers of the daemon's image.
  returned: success
  type: int
  sample: 7
layers_stored:
  description: The number of layers of the store's image.
  returned: success
  type: int
  sample: 7
layers_lacking_in_store:
  description: How many layers of the daemon's image the store lacks.
  returned: success
  type: int
  sample: 0
layers_lacking_in_daemon:
  description: How many layers of the store's image the daemon lacks.
  returned: success
  type: int
  sample: 0
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

from functools import partial
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def compare(module: AnsibleModule) -> Dict[str, Any]:
    asked = module.params
    seen = distribute.compare(Engine(asked["docker_socket"]), asked["store"], asked["image"], [asked["namespace"]])
    image = seen.pop("reference")
    return {**seen, "changed": False, "image": image, "local": seen["local"] or "", "stored": seen["stored"] or ""}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **options.IMAGE,
            **options.DOCKER,
        },
        supports_check_mode=True,
    )
    finish(module, partial(compare, module))


if __name__ == "__main__":
    main()
