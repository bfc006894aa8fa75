#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_save
short_description: Publish an image of this node's Docker daemon in the image store
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Sees that the image store holds the image exactly as this node's Docker daemon has it, and writes only the layers that
    the store lacks.
  - The store consists of plain OCI image layouts over shared blobs, so other tools (skopeo, podman, crane) can read it.
  - An image is the same if its layers and its configuration are the same. Its tag says nothing, and neither does its id,
    which differs between Docker's two kinds of store.
extends_documentation_fragment:
  - rocm.madengine.attributes
  - rocm.madengine.image
  - rocm.madengine.docker
  - rocm.madengine.timeout
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  pull:
    description:
      - Whether the image is pulled from its registry, Docker's default registry included, if the daemon does not have it.
    type: bool
    default: false
  compression:
    description:
      - How layers that are new to the store are packed; those that it has stay as they are.
      - They stay plain where C(zstd), or C(pigz) or C(gzip), is not installed, and for V(zstd) where the Docker daemon is older
        than 23.0 and so would not load them.
      - Worth it where the store is slower than a core or two can pack and unpack, as over a network of 1 Gbit/s.
    type: str
    choices: [none, gzip, zstd]
    default: none
seealso:
  - module: rocm.madengine.image_load
"""

EXAMPLES = r"""
- name: Publish an image for all nodes and all users
  rocm.madengine.image_save:
    image: rocm/vllm:1.0
    store: /shared/madengine/store
  run_once: true

- name: Fetch an image from its registry once and publish it
  rocm.madengine.image_save:
    image: registry.example.org/team/model:2
    store: /shared/madengine/store
    pull: true
  run_once: true
"""

RETURN = r"""
image:
  description: The image's name, normalized.
  returned: success
  type: str
  sample: rocm/vllm:1.0
identity:
  description: What the image is, layers and configuration, as one digest that is the same on every node.
  returned: success
  type: str
  sample: sha256:9a27ccba66aa89308938703855d814353523ad7b0738ac52e7b7a185bb61e304
method:
  description:
    - How the layers were read. V(none) if the store held the image, V(graph) from the daemon's own files, V(save) by
      C(docker save).
  returned: success
  type: str
  sample: graph
layers_total:
  description: The number of layers of the image.
  returned: success
  type: int
  sample: 7
layers_moved:
  description: The number of layers that were written, or would be.
  returned: success
  type: int
  sample: 1
bytes_total:
  description: The size of all the layers in the store.
  returned: success and not in check mode
  type: int
  sample: 1500000000
bytes_moved:
  description: The number of bytes that were written.
  returned: success and not in check mode
  type: int
  sample: 20000000
seconds:
  description: How long it took.
  returned: success and not in check mode
  type: float
  sample: 0.2
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

from functools import partial
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import layer_server
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, sources, transports
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def save(module: AnsibleModule) -> Dict[str, Any]:
    asked = module.params
    docker = Engine(asked["docker_socket"])
    seen = distribute.compare(docker, asked["store"], asked["image"], [asked["namespace"]])
    if module.check_mode:
        if not seen["local"] and not asked["pull"]:
            raise sources.nowhere(seen["reference"], [f"docker of this node ({docker.socket})"])
        result = {
            "identity": seen["local"],
            "method": "none" if seen["local"] == seen["stored"] else "graph",
            "layers_total": seen["layers_local"],
            "layers_moved": seen["layers_lacking_in_store"],
        }
    else:
        places = ("local", "registry", "hub") if asked["pull"] else ("local",)
        options = transports.TransportOptions(
            sources=places,
            transport="shared",
            reader=layer_server.source_of(*docker.info().storage),
            compression=asked["compression"],
            must_publish=True,
        )
        within = Deadline(asked["timeout_seconds"])
        result = distribute.publish(docker, asked["store"], asked["image"], asked["namespace"], within, options)
        distribute.release([result])
    changed = result["identity"] is None or result["identity"] != seen["stored"]  # None: it would be pulled first
    diff = {"before": f"{seen['stored']}\n", "after": f"{result['identity']}\n"}
    figures = {name: result[name] for name in distribute.FIGURES if name in result}
    return {"changed": changed, "image": seen["reference"], "identity": result["identity"], **figures, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **options.IMAGE,
            **options.DOCKER,
            **options.TIMEOUT,
            "pull": {"type": "bool", "default": False},
            "compression": {"type": "str", "choices": ["none", "gzip", "zstd"], "default": "none"},
        },
        supports_check_mode=True,
    )
    finish(module, partial(save, module))


if __name__ == "__main__":
    main()
