#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hooks_config
short_description: Write the site's settings of the SLURM hooks
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Writes C(hooks.conf), which the prolog and the epilog read at each job's start and end, so a change needs no restart.
  - A key that does not exist, or a value that is not what its key expects, is refused before anything is written. The hooks
    themselves only warn of it and use the default, because a typing mistake must not keep a cluster's jobs from starting.
  - The file holds what is in O(settings) and nothing else. It appears at once, so that no hook reads half of it.
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  settings:
    description:
      - The settings, by their keys. Upper and lower case mean the same.
      - A list is joined by commas, and a truth value becomes C(yes) or C(no). What is not given has its default, which stands
        in parentheses here.
      - V(Enabled) (V(yes)) switches the hooks on or off.
      - V(ImageStore) (none) is the directory on a shared filesystem in which images are published.
      - V(Transport) (V(auto)) is how images travel, one of V(auto), V(shared), V(sbcast), V(registry).
      - V(Compression) (V(none)) is how layers are stored, one of V(none), V(gzip), V(zstd).
      - V(DockerSocket) (V(/run/docker.sock)) is where Docker listens; C(%u) and C(%U) stand for the name and the number of who asks.
      - V(DockerAccess) (V(user)) is whose access to Docker is used, the job's V(user) or the V(service) account's.
      - V(AllowImages) (V(*)) lists patterns of the images that jobs may use.
      - V(OnConflict) (V(newest)) is what is done where the first node, the store and its archive differ in what has a name, one of
        V(newest), V(leader), V(fail).
      - V(DefaultRegistry) (V(yes)) says whether Docker's default registry is asked for an image that nobody has.
      - V(AllowBuild) (V(yes)) says whether an image that nobody has may be built.
      - V(Deadline) (V(600)) is the longest that a prolog may take, in seconds.
      - V(PortRange) (V(288-307)) holds the ports on which a job's first node may listen.
      - V(ArrivalGrace) (V(60)) is how long, in seconds, a job's nodes wait for one that does not come.
      - V(KeyFile) (none) is a file with the key of the nodes. Without it the key comes from SLURM's own.
      - V(Auth) (V(key)) is how nodes prove that they belong to a job, V(key) or V(munge).
      - V(DrainOn) (V(docker)) lists what takes a node out of service, of V(docker), V(disk), V(key), or V(none).
      - V(PassEnv) (none) lists names and patterns of variables that pass into containers. A leading C(-) takes one away.
      - V(ResultsPolicy) (V(richest)) is how a job's result is chosen, V(richest) or V(merge).
      - V(ResultsWait) (V(10)) is how long, in seconds, the first node's epilog waits for the results of nodes that do not
        share the job's directory with it. A job whose nodes share it never waits.
      - V(KeepWorkspace) (V(no)) says whether a job's working files outlive it.
      - V(MetricsDir) (none) is the directory of node_exporter's textfile collector.
      - V(LogLevel) (V(info)) is one of V(error), V(info), V(debug).
      - V(Python) (V(/usr/bin/python3)) is the Python 3.9 or newer that runs the hooks.
      - V(SlurmDir) (none) is the directory that holds SLURM's C(bin), where that is in none of the usual places.
    type: dict
    required: true
  path:
    description:
      - Where the file is. The hooks read it from the default place alone.
      - Its directory must exist. A link in its place is replaced by a plain file, as the hooks do not follow one.
    type: path
    default: /etc/madengine/hooks.conf
seealso:
  - module: rocm.madengine.slurm_info
"""

EXAMPLES = r"""
- name: Write the site's settings
  rocm.madengine.hooks_config:
    settings:
      ImageStore: /shared/madengine
      Deadline: 300
      DrainOn: [docker, disk]
      AllowBuild: false

- name: Go back to the defaults
  rocm.madengine.hooks_config:
    settings: {}
"""

RETURN = r"""
path:
  description: Where the file is.
  returned: success
  type: str
  sample: /etc/madengine/hooks.conf
settings:
  description: What holds for each key, given or by default.
  returned: success
  type: dict
  sample: {Enabled: true, Deadline: 300.0, DrainOn: [docker, disk], PortRange: 288-307}
"""

import os
import stat
from typing import Any, Dict, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish

HEADER = "# Written by rocm.madengine.hooks_config: changes by hand are lost. Its documentation explains each key.\n"
_MODE = 0o644


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "path": {"type": "path", "default": config.PATH},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _written(module.params["settings"], module.params["path"], module.check_mode))


def _written(settings: Dict[str, Any], path: str, is_check: bool) -> Dict[str, Any]:
    wanted = HEADER + config.render(settings)
    before, mode = _found(path)
    changed = (before, mode) != (wanted, f"{_MODE:04o}")
    if changed and not is_check:
        try:
            files.write(path, wanted, mode=_MODE)
        except OSError as error:
            raise files.local_fault("config", path, error) from error
    return {
        "changed": changed,
        "path": path,
        "settings": config.settings_of(config.parse(wanted, path, strict=True)),
        "diff": [
            {"before_header": path, "after_header": path, "before": before, "after": wanted},
            {"before": {"mode": mode}, "after": {"mode": f"{_MODE:04o}"}},
        ],
    }


def _found(path: str) -> Tuple[str, str]:
    """Return the content and the mode of *path*, both empty if no plain file is there."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return "", ""
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(), f"{stat.S_IMODE(status.st_mode):04o}"
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        raise files.local_fault("config", path, error) from error


if __name__ == "__main__":
    main()
