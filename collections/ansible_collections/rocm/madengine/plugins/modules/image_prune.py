#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_prune
short_description: Remove old images and unused layers from the image store
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Removes images by age and by a size budget, and the layers that no image needs any more.
  - A layer that an image names, or that a publishing or loading node has a lease on, is never removed. The module may run while
    jobs start.
  - Without O(older_than_days) and O(budget) only what no image needs is removed.
extends_documentation_fragment:
  - rocm.madengine.attributes
  - rocm.madengine.store
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: Images grow older between two runs.
options:
  older_than_days:
    description:
      - Images that nobody has published for so many days are removed. A job that uses an image publishes it again.
    type: float
  budget:
    description:
      - The size that the store's images may have, for example V(500G). The longest unused ones go until the others fit.
    type: str
  grace_seconds:
    description:
      - Layers without an image that are younger stay.
    type: int
    default: 3600
seealso:
  - module: rocm.madengine.image_info
"""

EXAMPLES = r"""
- name: See what would go
  rocm.madengine.image_prune:
    store: /shared/madengine/store
    older_than_days: 30
  check_mode: true

- name: Keep the store below two terabytes
  rocm.madengine.image_prune:
    store: /shared/madengine/store
    budget: 2T
"""

RETURN = r"""
images:
  description: The images that were removed, or would be.
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
      description: What the image is; empty if it is damaged.
      type: str
    age_days:
      description: The time since it was published last.
      type: float
      sample: 45.2
blobs:
  description: The number of blobs that were removed, or would be.
  returned: success
  type: int
  sample: 12
bytes_freed:
  description: Their size.
  returned: success
  type: int
  sample: 23000000000
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

from functools import partial
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import prune
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def prune_store(module: AnsibleModule) -> Dict[str, Any]:
    asked = module.params
    store, days = ImageStore(asked["store"]), asked["older_than_days"]
    namespaces = None if asked["namespaces"] is None else set(asked["namespaces"])
    older = None if days is None else days * 86400
    decided = prune.plan(store, older, budget_of(asked["budget"]), namespaces, asked["grace_seconds"])
    if not module.check_mode:
        decided = prune.carry_out(store, decided)
    names = [f"{entry.namespace} {entry.reference}\n" for entry in decided.images]
    return {
        "changed": bool(decided.images or decided.blobs or decided.leftovers),
        "images": [described(entry) for entry in decided.images],
        "blobs": len(decided.blobs),
        "bytes_freed": decided.freed_bytes,
        "diff": {"before": "".join(names), "after": ""},
    }


def described(entry: prune.Entry) -> Dict[str, Any]:
    days = round(entry.age_seconds / 86400, 2)
    return {"image": str(entry.reference), "namespace": entry.namespace, "identity": entry.identity, "age_days": days}


def budget_of(text: Optional[str]) -> Optional[int]:
    try:
        return None if text is None else int(human_to_bytes(text))
    except ValueError as error:
        raise JobFault("image_prune: not a size", "write it as 500G or 2T", budget=text) from error


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **options.STORE,
            "older_than_days": {"type": "float"},
            "budget": {"type": "str"},
            "grace_seconds": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    finish(module, partial(prune_store, module))


if __name__ == "__main__":
    main()
