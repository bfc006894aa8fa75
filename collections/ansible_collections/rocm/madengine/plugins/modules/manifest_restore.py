#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: manifest_restore
short_description: Make a madengine build manifest fit for every node of a job
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Rewrites C(build_manifest.json) so that an unmodified C(madengine run --manifest-file) needs nothing else on any node. It
    does not remove, pull, save or log in, because the key of each image is the exact image.
  - Mounts move into the options of each model, which is where workers read them. A mount point is never named twice. What a
    model itself mounts stays as it is.
  - Secrets leave the file and still reach the container. Their names stay, and Docker takes the values from the environment
    of C(madengine run).
  - A C(${NAME}) that was never expanded is replaced by the value of O(environment), or dropped; so is any other form that only a
    shell expands. A secret that is only an expansion, such as C(HF_TOKEN=${MAD_SECRETS_HFTOKEN}), becomes an option of the container.
  - Host paths of mounts that begin with C(~/) or C(./) become what every node can find.
  - Run it on the submit host, in the submit directory, before C(madengine run).
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The diff shows the names of variables, never their values, and no secret.
  idempotent:
    support: full
options:
  src:
    description:
      - The manifest. It must be a plain file of at most 4 MiB.
    type: path
    required: true
  dest:
    description:
      - Where the restored manifest goes. By default it takes the place of O(src).
    type: path
  backup:
    description:
      - Whether the file that stood at O(dest) is kept beside it. The copy is for its owner alone, and its secrets are masked, since
        C(madengine run) copies the submit directory to every node.
    type: bool
    default: false
  environment:
    description:
      - The environment of the run, as far as it is known here; that of the module's process if not given, which is the caller's own
        where the connection is local.
      - Its values win over the manifest's, except for what is of the host, such as C(PATH) and C(ROCM_PATH). What it has of the
        variables that multi-node runs need, and every C(MAD_SECRETS*), passes into the containers by name where the manifest lacks it.
      - Values are never logged or returned.
    type: dict
  models:
    description:
      - A C(models.json), which fills the fields of a model that the manifest has lost.
      - By default the one beside O(src), if there is one.
    type: path
  image_form:
    description:
      - With V(neutral), the key of each image is the exact image, which each version of madengine runs without a pull.
      - With V(keep), images stay as they are.
    type: str
    choices: [neutral, keep]
    default: neutral
  mode:
    description:
      - The permissions of O(dest), as octal digits.
    type: raw
    default: '0600'
seealso:
  - module: rocm.madengine.manifest_info
  - module: rocm.madengine.env_passthrough
"""

EXAMPLES = r"""
- name: Restore the manifest before madengine run
  rocm.madengine.manifest_restore:
    src: /home/alice/run/build_manifest.json
    backup: true
  register: restored

- name: Let given values win instead of those of the shell, and see what became of the manifest
  rocm.madengine.manifest_restore:
    src: build_manifest.json
    dest: /home/alice/run/build_manifest.json
    environment:
      NCCL_IB_HCA: mlx5_0,mlx5_2
      MAD_SECRETS_HFTOKEN: "{{ lookup('ansible.builtin.env', 'MAD_SECRETS_HFTOKEN') }}"

- name: Send the images of the manifest ahead
  rocm.madengine.image_save:
    image: "{{ item.reference }}"
    store: /shared/madengine/store
  loop: "{{ restored.images }}"
"""

RETURN = r"""
dest:
  description: Where the restored manifest is.
  returned: success
  type: str
  sample: /home/alice/run/build_manifest.json
images:
  description: The images of the manifest, each once, in its order.
  returned: success
  type: list
  elements: dict
  contains:
    reference:
      description: The exact image.
      type: str
      sample: rocm/vllm:1.0
    models:
      description: The models that run in it.
      type: list
      elements: str
    registry_image:
      description: Where the image can be pulled from, empty if the manifest does not say.
      type: str
    dockerfile:
      description: What it is built from, empty if the manifest does not say.
      type: str
    context:
      description: The build's context directory, empty if the manifest does not say.
      type: str
    build_args:
      description: The build's arguments, without secrets.
      type: dict
    secret_build_args:
      description: The names of build arguments that are secrets.
      type: list
      elements: str
restored:
  description: The places in the document that differ from O(src).
  returned: success
  type: list
  elements: str
  sample: [context.docker_env_vars.MAD_GUEST_OS]
dropped_mounts:
  description: Mounts of the manifest that were left out, and why.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: The mount point in the container.
      type: str
    source:
      description: What would have been mounted there.
      type: str
    where:
      description: The options that it was left out of.
      type: str
    reason:
      description: Why.
      type: str
      sample: "the model's own option stays: /sys/class/infiniband:/sys/class/infiniband:ro"
dropped_env:
  description: Variables of the manifest that were left out, and why.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The variable.
      type: str
    where:
      description: The place in the document.
      type: str
    reason:
      description: Why.
      type: str
masked:
  description: What was taken out because it is a secret, or holds one.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The variable, or the key.
      type: str
      sample: HF_TOKEN
    where:
      description: The place in the document.
      type: str
      sample: context.docker_env_vars
    reason:
      description: Why, and how it passes all the same.
      type: str
lint:
  description: What in O(src) is legal and yet likely a mistake.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The warning's name.
      type: str
      sample: mounts_reversed
    where:
      description: The place in the document.
      type: str
    message:
      description: What is wrong.
      type: str
backup_file:
  description: The copy of what stood at O(dest).
  returned: changed and if backup=yes and the file existed
  type: str
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

import os
from functools import partial
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _manifest_module as shared
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec, lint, redaction
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def restore(module: AnsibleModule, environment: Dict[str, str]) -> Dict[str, Any]:
    params = module.params
    mode = shared.mode_of(params["mode"])
    original = job_spec.read(params["src"])
    secrets = redaction.values(original, environment) | redaction.url_passwords(original)
    shared.hide(module, secrets)
    models = job_spec.models(params["models"] or "", beside=params["src"])
    directory = os.path.dirname(os.path.abspath(params["src"]))
    restored = job_spec.restore(original, environment, models, params["image_form"], directory)
    text, dest = job_spec.text(restored.document), params["dest"] or params["src"]
    result = {
        "changed": not shared.is_current(dest, text, mode),
        "dest": dest,
        "images": job_spec.images(restored.document),
        "restored": restored.restored,
        "dropped_mounts": restored.dropped_mounts,
        "dropped_env": restored.dropped_env,
        "masked": restored.masked,
        "lint": lint.check(original, entrypoint=shared.entrypoint_of(module)),
        "diff": {
            "before": shared.shown(original, secrets),
            "after": shared.shown(restored.document, secrets),
            "before_header": params["src"],
            "after_header": dest,
        },
    }
    if result["changed"] and not module.check_mode:
        if params["backup"] and os.path.lexists(dest):
            result["backup_file"] = shared.back_up(dest, secrets)
        shared.write(dest, text, mode, params["src"])
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "dest": {"type": "path"},
            "backup": {"type": "bool", "default": False},
            "environment": {"type": "dict", "no_log": True},
            "models": {"type": "path"},
            "image_form": {"type": "str", "choices": ["neutral", "keep"], "default": "neutral"},
            "mode": {"type": "raw", "default": "0600"},
        },
        supports_check_mode=True,
    )
    finish(module, partial(restore, module, shared.taken_environment(module)))


if __name__ == "__main__":
    main()
