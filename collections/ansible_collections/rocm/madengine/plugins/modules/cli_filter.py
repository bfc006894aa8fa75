#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cli_filter
short_description: Place the filter that turns a shell's variables into a job's request
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - SLURM's commands run one C(cli_filter.lua), beside C(slurm.conf), before they submit a job, if C(CliFilterPlugins) names
    C(cli_filter/lua). This places one that runs C(/etc/madengine/cli_filter.lua), and that file.
  - A C(cli_filter.lua) of the site's is never changed. It has to run ours in its last line; until it does, this fails and shows that line.
  - Every submission fails where SLURM cannot load the filter. So it is loaded once on this host before anything is placed, and
    V(absent) leaves one that does nothing as long as C(slurm.conf) names it.
options:
  state:
    description:
      - V(present) places both files.
      - V(absent) removes ours.
    type: str
    choices: [present, absent]
    default: present
  slurm_conf:
    description:
      - Where C(slurm.conf) is. A host without it has C(cli_filter.lua) from the controller as well, from SLURM 24.11 on.
    type: path
    default: /etc/slurm/slurm.conf
  script:
    description: What C(/etc/madengine/cli_filter.lua) shall hold; needed for V(present).
    type: str
  entry:
    description: What C(cli_filter.lua) beside C(slurm.conf) shall hold where the site has none of its own; needed for V(present).
    type: str
extends_documentation_fragment:
  - rocm.madengine.attributes
  - rocm.madengine.slurm_dir
attributes:
  check_mode:
    support: full
    details: A command of SLURM loads the filter from a temporary directory, in check mode too.
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: rocm.madengine.slurm_conf
  - name: slurm.conf
    description: SLURM's manual of the settings, C(CliFilterPlugins).
    link: https://slurm.schedmd.com/slurm.conf.html
"""

EXAMPLES = r"""
- name: Let the submitting shell's variables ask
  rocm.madengine.cli_filter:
    script: "{{ lookup('ansible.builtin.file', 'cli_filter/cli_filter.lua', rstrip=false) }}"
    entry: "{{ lookup('ansible.builtin.file', 'cli_filter/entry.lua', rstrip=false) }}"

- name: Let them ask no more
  rocm.madengine.cli_filter:
    state: absent
"""

RETURN = r"""
entry:
  description: Whose C(cli_filter.lua) lies beside C(slurm.conf) when the module is done, V(ours), the V(site)'s or V(none).
  returned: success
  type: str
  sample: ours
named:
  description: Whether C(slurm.conf) names C(cli_filter/lua).
  returned: success
  type: bool
  sample: true
fault:
  description: Whose failure it is, what happened and what to do.
  returned: failure
  type: dict
"""

import contextlib
import os
import subprocess
import tempfile
from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings, site_files, slurm_conf
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish

_LARGEST_BYTES = 16 << 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT = site_files.FILTER_SCRIPT
_SECONDS = 20
_MODE = 0o644


class Places:
    """This host's files, as they are."""

    def __init__(self, path: str) -> None:
        self.conf = _text(path)
        self.entry = os.path.join(os.path.dirname(path), site_files.FILTER_NAME)
        self.before = {name: _text(name) for name in (_SCRIPT, self.entry)}
        self.is_named = self.conf is not None and _is_named(self.conf, path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "slurm_conf": {"type": "path", "default": "/etc/slurm/slurm.conf"},
            "script": {"type": "str"},
            **options.SLURM_DIR,
            "entry": {"type": "str"},
        },
        required_if=[("state", "present", ["script", "entry"])],
        supports_check_mode=True,
    )
    finish(module, lambda: _settled(module))


def _settled(module: AnsibleModule) -> Dict[str, Any]:
    places = Places(module.params["slurm_conf"])
    wanted = _present(module, places) if module.params["state"] == "present" else _absent(places)
    changed = [name for name, text in wanted.items() if text != places.before[name]]
    if not module.check_mode:
        for name in changed:
            _put(name, wanted[name])
    entry = wanted.get(places.entry, places.before[places.entry])
    return {
        "changed": bool(changed),
        "entry": "none" if entry is None else "ours" if site_files.is_our_filter(entry) else "site",
        "named": places.is_named,
        "diff": [
            {"before_header": name, "after_header": name, "before": places.before[name] or "", "after": wanted[name] or ""}
            for name in changed
        ],
    }


def _present(module: AnsibleModule, places: Places) -> Dict[str, Optional[str]]:
    """Return what shall be where, the script first.

    :raises JobFault: the site's own filter does not run ours.
    :raises NodeFault: SLURM cannot load a filter on this host.
    """
    theirs = places.before[places.entry]
    is_theirs = theirs is not None and not site_files.is_our_filter(theirs)
    if is_theirs and not site_files.calls_our_filter(theirs):
        remedy = f"add this as its last line: {site_files.FILTER_LINE}"
        raise JobFault("cli_filter: the site's own filter does not run ours", remedy, file=places.entry)
    _prove(module, places)
    wanted: Dict[str, Optional[str]] = {_SCRIPT: module.params["script"]}
    if places.conf is not None and not is_theirs:
        wanted[places.entry] = module.params["entry"]
    return wanted


def _absent(places: Places) -> Dict[str, Optional[str]]:
    """Return what shall be where: nothing of ours, but the entry as long as slurm.conf names it. It bears our script's absence."""
    is_ours = site_files.is_our_filter(places.before[places.entry])
    return {**({places.entry: None} if is_ours and not places.is_named else {}), _SCRIPT: None}


def _prove(module: AnsibleModule, places: Places) -> None:
    """Do nothing if SLURM can load a filter here; where nobody can submit, there is nothing to prove.

    :raises NodeFault: it cannot; the message says why.
    """
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:
        for name, text in (("slurm.conf", site_files.filter_probe(places.conf or "")), (site_files.FILTER_NAME, module.params["entry"])):
            files.write(os.path.join(folder, name), text)
        environment = {
            "PATH": settings.search_path(module.params["slurm_dir"], _PATH),
            "LC_ALL": "C",
            "SLURM_CONF": os.path.join(folder, "slurm.conf"),
        }
        try:
            done = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment)
        except FileNotFoundError:
            return
        except subprocess.TimeoutExpired:
            raise _unable(["no answer"]) from None
    if done.returncode != 0:
        raise _unable(done.stderr.splitlines())
    if places.conf is None and settings.version(done.stdout) < site_files.FILTER_CONFIGLESS_SINCE:
        remedy = "give it a slurm.conf of its own, or set slurm_hooks_cli_filter: false"
        raise NodeFault("cli_filter: this SLURM brings no filter to a host without slurm.conf", remedy, version=done.stdout.strip())


def _unable(said: List[str]) -> NodeFault:
    remedy = (
        "install the package that holds cli_filter_lua.so (Debian: slurm-wlm-basic-plugins) and Lua, or set slurm_hooks_cli_filter: false"
    )
    return NodeFault("cli_filter: SLURM cannot load a filter in Lua here", remedy, said=" | ".join(said[:2]))


def _is_named(text: str, path: str) -> bool:
    """Say whether slurm.conf names the filter, or a file that it includes names any."""
    return site_files.FILTER_PLUGIN in slurm_conf.filters(text) or bool(slurm_conf.included(text, path, _text, slurm_conf.FILTERS))


def _text(path: str) -> Optional[str]:
    if not os.path.isfile(path):
        return None
    return files.read(os.path.realpath(path), _LARGEST_BYTES).decode("utf-8", "surrogateescape")


def _put(path: str, text: Optional[str]) -> None:
    """Write *text*, or remove the file if it is None.

    :raises NodeFault: it cannot be done.
    """
    try:
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        else:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            files.write(path, text, mode=_MODE)
    except OSError as error:
        raise files.local_fault("cli_filter", path, error) from error


if __name__ == "__main__":
    main()
