#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_info
short_description: List the images of the image store, and what this node has of them
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Lists the images that the store holds, with their size, age and identity.
  - Says of each whether this node's Docker daemon has the very same image, another one under its name, or none.
extends_documentation_fragment:
  - rocm.madengine.attributes.info
  - rocm.madengine.store
  - rocm.madengine.docker
options:
  node:
    description:
      - Whether this node's Docker daemon is asked too.
    type: bool
    default: true
seealso:
  - module: rocm.madengine.image_prune
"""

EXAMPLES = r"""
- name: See which images the nodes have
  rocm.madengine.image_info:
    store: /shared/madengine/store
  register: listed

- name: Name the nodes that would have to load something
  ansible.builtin.debug:
    msg: "{{ listed.images | rejectattr('node', 'equalto', 'same') | map(attribute='image') | list }}"
"""

RETURN = r"""
images:
  description: The images of the store, the longest unpublished first.
  returned: success
  type: list
  elements: dict
  contains:
    image:
      description: The image's name.
      type: str
      sample: rocm/vllm:1.0
    namespace:
      description: Whose image it is.
      type: str
      sample: site
    identity:
      description: What the image is, layers and configuration, as one digest; empty if it is damaged.
      type: str
    bytes_total:
      description: The size of its layers and documents.
      type: int
      sample: 1500000000
    layers_total:
      description: The number of its blobs that are layers.
      type: int
      sample: 7
    age_days:
      description: The time since it was published last.
      type: float
      sample: 2.5
    damaged:
      description: Whether a document or a layer is missing or cannot be read. The next publication heals it.
      type: bool
    node:
      description: V(same) if this node has the image, V(other) if it has another one of that name, V(none), or V(unknown) if not asked.
      type: str
      sample: same
bytes_total:
  description: The size of all blobs that these images need, each counted once.
  returned: success
  type: int
  sample: 4200000000
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

from functools import partial
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import prune
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def info(module: AnsibleModule) -> Dict[str, Any]:
    asked = module.params
    docker = Engine(asked["docker_socket"]) if asked["node"] else None
    wanted = asked["namespaces"]
    entries = [entry for entry in prune.survey(ImageStore(asked["store"])) if wanted is None or entry.namespace in wanted]
    blobs = {digest: size for entry in entries for digest, size in entry.digests.items()}
    return {"changed": False, "images": [described(entry, docker) for entry in entries], "bytes_total": sum(blobs.values())}


def described(entry: prune.Entry, docker: Optional[Engine]) -> Dict[str, Any]:
    return {
        "image": str(entry.reference),
        "namespace": entry.namespace,
        "identity": entry.identity,
        "bytes_total": entry.size_bytes,
        "layers_total": entry.layers_total,
        "age_days": round(entry.age_seconds / 86400, 2),
        "damaged": entry.is_damaged,
        "node": "unknown" if docker is None else on_node(entry, docker),
    }


def on_node(entry: prune.Entry, docker: Engine) -> str:
    identity = docker.identity(entry.reference)
    if identity is None:
        return "none"
    return "same" if identity.digest == entry.identity else "other"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **options.STORE,
            **options.DOCKER,
            "node": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    finish(module, partial(info, module))


if __name__ == "__main__":
    main()
