#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: manifest_info
short_description: Read and check a madengine build manifest
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Reads C(build_manifest.json) in any of its shapes, and warns of what is legal and yet likely a mistake.
  - Changes nothing, and returns no value of a variable.
extends_documentation_fragment:
  - rocm.madengine.attributes.info
options:
  path:
    description:
      - The manifest. It must be a plain file of at most 4 MiB.
    type: path
    required: true
    aliases: [src]
seealso:
  - module: rocm.madengine.manifest_restore
"""

EXAMPLES = r"""
- name: Look at a manifest
  rocm.madengine.manifest_info:
    path: /home/alice/run/build_manifest.json
  register: manifest

- name: Stop where a secret stands in clear
  ansible.builtin.assert:
    that: manifest.lint | selectattr('name', 'equalto', 'secret_in_clear') | length == 0
"""

RETURN = r"""
images:
  description: The images of the manifest, each once, in its order; as M(rocm.madengine.manifest_restore) returns them.
  returned: success
  type: list
  elements: dict
models:
  description: What runs.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The model.
      type: str
    key:
      description: Its key in the manifest.
      type: str
    shape:
      description: How its image was made. V(build), V(local), V(use-image) or V(build-on-compute).
      type: str
    image:
      description: The exact image.
      type: str
    launcher:
      description: The distributed launcher, empty if the manifest does not say.
      type: str
    multiple_results:
      description: The CSV file with the results, empty if the manifest does not say.
      type: str
variables:
  description: The names of the variables that the manifest gives to containers.
  returned: success
  type: list
  elements: str
secrets:
  description: Those of them that are secrets.
  returned: success
  type: list
  elements: str
lint:
  description: What is legal and yet likely a mistake; as M(rocm.madengine.manifest_restore) returns it.
  returned: success
  type: list
  elements: dict
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

from functools import partial
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _manifest_module as shared
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import environment, job_spec, lint, redaction, schema
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def describe(module: AnsibleModule) -> Dict[str, Any]:
    read = job_spec.read(module.params["path"])
    secrets = redaction.values(read, {}) | redaction.url_passwords(read)
    shared.hide(module, secrets)
    names = sorted(job_spec.variables(read))
    hidden = sorted(secrets)
    return {
        "changed": False,
        "images": redaction.masked(job_spec.images(read), hidden),
        "models": redaction.masked([job_spec.model(entry) for entry in schema.entries(read) if entry.model], hidden),
        "variables": names,
        "secrets": [name for name in names if environment.is_secret(name)],
        "lint": lint.check(read, entrypoint=shared.entrypoint_of(module)),
    }


def main() -> None:
    module = AnsibleModule(argument_spec={"path": {"type": "path", "required": True, "aliases": ["src"]}}, supports_check_mode=True)
    finish(module, partial(describe, module))


if __name__ == "__main__":
    main()
