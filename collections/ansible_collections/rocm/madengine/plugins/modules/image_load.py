#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_load
short_description: Load an image of the image store into this node's Docker daemon
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Sees that this node's Docker daemon has the image exactly as the image store holds it, and moves only the layers that
    the daemon lacks.
  - If the daemon has the image, no layer is read from the store.
  - If the daemon has another image under the same name, the name is given to the store's image; the other one stays, without
    a name.
  - Every byte is verified while it is read; a damaged layer is named and never loaded.
  - Where root loads an image of the namespace V(site), it writes down which one that was, in C(/var/lib/madengine/site_images.json). With
    C(DockerAccess=service), the node's image of that name counts for jobs if it is this one.
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
seealso:
  - module: rocm.madengine.image_save
"""

EXAMPLES = r"""
- name: Have an image on all nodes before the jobs come
  rocm.madengine.image_load:
    image: rocm/vllm:1.0
    store: /shared/madengine/store
  throttle: 16
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
    - V(none) if the daemon had the image, V(pull) if it pulled what it lacked from this node's loopback, V(load) if it got
      an archive, since it could not pull.
  returned: success
  type: str
  sample: pull
reason:
  description: Why the daemon got an archive.
  returned: when RV(method) is V(load)
  type: str
  sample: the daemon has layers that it did not pull
layers_total:
  description: The number of layers of the image.
  returned: success
  type: int
  sample: 7
layers_moved:
  description: The number of layers that the daemon got, or would get.
  returned: success
  type: int
  sample: 1
bytes_total:
  description: The size of all the layers in the store.
  returned: success and not in check mode
  type: int
  sample: 1500000000
bytes_moved:
  description: The number of bytes that the daemon got.
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

import os
from functools import partial
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, site_images
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.root import SITE
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def load(module: AnsibleModule) -> Dict[str, Any]:
    asked = module.params
    docker = Engine(asked["docker_socket"])
    seen = distribute.compare(docker, asked["store"], asked["image"], [asked["namespace"]])
    is_here = seen["stored"] is not None and seen["local"] == seen["stored"]
    if module.check_mode and seen["stored"] is not None:
        result = {
            "identity": seen["stored"],
            "method": "none" if is_here else "pull",
            "layers_total": seen["layers_stored"],
            "layers_moved": 0 if is_here else seen["layers_lacking_in_daemon"],
        }
    else:
        within = Deadline(asked["timeout_seconds"])
        result = distribute.load(docker, asked["store"], asked["image"], [asked["namespace"]], within)
        if asked["namespace"] == SITE and os.geteuid() == 0 and not module.check_mode:
            site_images.note(Reference.parse(asked["image"]), result["identity"])
    diff = {"before": f"{seen['local']}\n", "after": f"{result['identity']}\n"}
    figures = {name: result[name] for name in distribute.FIGURES if name in result}
    return {"changed": not is_here, "image": seen["reference"], "identity": result["identity"], **figures, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **options.IMAGE,
            **options.DOCKER,
            **options.TIMEOUT,
        },
        supports_check_mode=True,
    )
    finish(module, partial(load, module))


if __name__ == "__main__":
    main()
