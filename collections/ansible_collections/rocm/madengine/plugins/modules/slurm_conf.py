#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_conf
short_description: Merge what the hooks need into slurm.conf, and take it out again
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Sets C(Prolog), C(Epilog) and C(TaskProlog), adds C(Alloc) and C(DeferBatch) to C(PrologFlags), and raises the timers that
    must lie behind the deadline of the prolog. All other lines, comments and their order stay as they are.
  - A SLURM that takes several lines of C(Prolog) and C(Epilog), from 24.11 on, keeps those of the site beside the new ones. An
    older one knows one line of each, and the site's gives way; RV(displaced) names what M(rocm.madengine.site_program) has to run.
  - A line that is changed is kept above the new one as a comment, so that V(absent) brings back what was there.
  - The new text is read by SLURM's own parser before it takes the file's place; one that it refuses never does. A copy of
    the old file stays beside it.
  - Tells no daemon. They read the file at C(scontrol reconfigure).
options:
  path:
    description:
      - Where the file is. Where it is a link, the file that it leads to is changed.
      - A host without it has its settings from the controller, and nothing is done there.
    type: path
    default: /etc/slurm/slurm.conf
  state:
    description:
      - V(present) sees that the file holds what the hooks need.
      - V(absent) gives back each line that was changed, and removes those that were added.
    type: str
    choices: [present, absent]
    default: present
  cli_filter:
    description:
      - Whether C(CliFilterPlugins) holds C(cli_filter/lua) as well; where not, it is taken out again if this module has put it there.
      - Every submission fails where SLURM cannot load that filter, so M(rocm.madengine.cli_filter) comes first.
    type: bool
    default: false
extends_documentation_fragment:
  - rocm.madengine.attributes
  - rocm.madengine.slurm
  - rocm.madengine.slurm_dir
  - rocm.madengine.deadline
attributes:
  check_mode:
    support: full
    details: The new text is read by SLURM's parser, for which it lies for a moment beside the file.
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: rocm.madengine.slurm_info
  - name: slurm.conf
    description: SLURM's manual of the settings.
    link: https://slurm.schedmd.com/slurm.conf.html
"""

EXAMPLES = r"""
- name: Let SLURM start the hooks
  rocm.madengine.slurm_conf:
    deadline: 300

- name: Give slurm.conf back as it was
  rocm.madengine.slurm_conf:
    state: absent
"""

RETURN = r"""
exists:
  description: Whether this host has the file.
  returned: success
  type: bool
  sample: true
differs:
  description: Whether the file was other than it should be.
  returned: success
  type: bool
  sample: false
programs:
  description: The programs that the file names, by key, when the module is done.
  returned: success
  type: dict
  sample: {Prolog: /etc/slurm/prolog.d/*, Epilog: /etc/slurm/epilog.d/*, TaskProlog: /etc/slurm/task_prolog}
filters:
  description: The filters of submissions that the file names, when the module is done.
  returned: success
  type: list
  elements: str
  sample: [cli_filter/lua]
displaced:
  description: The site's own programs that gave way to those of the hooks, by key, with their full paths.
  returned: success
  type: dict
  sample: {Prolog: /etc/slurm/prolog.sh}
site_programs:
  description: All programs of the site's that SLURM starts, or has started, without the hooks, by key, with their full paths.
  returned: success
  type: dict
  sample: {Prolog: [/etc/slurm/prolog.sh], Epilog: [], TaskProlog: []}
backup_file:
  description: Where the old file is.
  returned: when the file has changed, outside check mode
  type: str
  sample: /etc/slurm/slurm.conf.4711.2026-01-01@12:00:00~
"""

import os
import subprocess
import tempfile
from typing import Any, Dict, List, Optional, Set, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils import _options as options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings, slurm_conf
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish

_LARGEST_BYTES = 16 << 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 20  # SLURM waits a minute for a file that is included and not there


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/slurm/slurm.conf"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            **options.SLURM,
            **options.DEADLINE,
            "cli_filter": {"type": "bool", "default": False},
            **options.SLURM_DIR,
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _settled(module))


def _settled(module: AnsibleModule) -> Dict[str, Any]:
    asked, path = module.params, module.params["path"]
    if not os.path.exists(path):
        nothing: Dict[str, Any] = {"programs": {}, "filters": [], "displaced": {}, "site_programs": {}}
        return {"changed": False, "exists": False, "differs": False, **nothing}
    several = asked["state"] == "present" and _version(module) >= slurm_conf.SEVERAL_SINCE
    wanted = slurm_conf.Wanted(asked["prolog"], asked["epilog"], asked["task_prolog"], asked["deadline"], asked["cli_filter"], several)
    before = _text(path)
    after = slurm_conf.merged(before, wanted) if asked["state"] == "present" else slurm_conf.restored(before)
    result = {
        "changed": after != before,
        "exists": True,
        "differs": after != before,
        "programs": slurm_conf.programs(after),
        "filters": slurm_conf.filters(after),
        "displaced": {key: slurm_conf.resolved(value, path) for key, value in slurm_conf.displaced(after).items()},
        "site_programs": _site_programs(before, wanted, path),
        "diff": {"before_header": path, "after_header": path, "before": before, "after": after},
    }
    if after != before:
        _require_no_other_place(after, path, wanted.keys())
        result.update(_replaced(module, path, after))
    return result


def _site_programs(text: str, wanted: slurm_conf.Wanted, path: str) -> Dict[str, List[str]]:
    ours = {wanted.prolog, wanted.epilog, wanted.task_prolog}
    found = slurm_conf.of_the_site(text)
    return {key: [slurm_conf.resolved(name, path) for name in names if name not in ours] for key, names in found.items()}


def _version(module: AnsibleModule) -> Tuple[int, int]:
    """Return this host's release of SLURM, whatever stands in its slurm.conf.

    :returns: (0, 0) where it does not say: then it gets one line of each setting, which every release understands.
    :raises JobFault: it is older than any that the hooks work with.
    """
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:  # even --version reads the settings first
        probe = os.path.join(folder, "slurm.conf")
        files.write(probe, "ClusterName=probe\nSlurmctldHost=localhost\n")
        try:
            said = _scontrol(["--version"], module.params["slurm_dir"], SLURM_CONF=probe).stdout
        except subprocess.TimeoutExpired:
            said = ""
    version = settings.version(said)
    if (0, 0) < version < settings.OLDEST:
        raise JobFault("slurm_conf: this SLURM is too old", "use 22.05 or newer", version=said.strip())
    return version


def _text(path: str) -> str:
    return files.read(os.path.realpath(path), _LARGEST_BYTES).decode("utf-8", "surrogateescape")


def _require_no_other_place(text: str, path: str, keys: Set[str]) -> None:
    """Two places of one setting would be two truths: SLURM takes the later one.

    :raises JobFault: an included file sets what we set.
    """

    def read(name: str) -> Optional[str]:
        return _text(name) if os.path.isfile(name) else None

    for key, place in slurm_conf.included(text, path, read, keys).items():
        raise JobFault("slurm_conf: an included file sets it too", f"move that line into {path}", key=key, place=place)


def _replaced(module: AnsibleModule, path: str, text: str) -> Dict[str, Any]:
    """Put *text* into *path*'s place once SLURM can read it, and return what that leaves; a link stays one."""
    try:
        # Beside it, or the link to it, for that is where SLURM looks for what the file includes.
        handle, fresh = tempfile.mkstemp(prefix=".new.", dir=os.path.dirname(path))
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text.encode("utf-8", "surrogateescape"))
            _require_readable(fresh, module.params["slurm_dir"])
            if module.check_mode:
                return {}
            backup = module.backup_local(os.path.realpath(path))
            module.atomic_move(fresh, os.path.realpath(path))
            return {"backup_file": backup}
        finally:
            if os.path.exists(fresh):
                os.unlink(fresh)
    except OSError as error:
        raise files.local_fault("slurm_conf", path, error) from error


def _require_readable(path: str, slurm_dir: str) -> None:
    """Do nothing if SLURM's parser takes the file.

    ``show hostnames`` asks no daemon, but reads the settings first and ends with 1 if it cannot (measured with 22.05.8 and
    24.11.5; ``slurmd -C`` reads nothing).

    :raises JobFault: it does not; the message says where.
    """
    try:
        done = _scontrol(["show", "hostnames", "n1"], slurm_dir, SLURM_CONF=path)
    except subprocess.TimeoutExpired as error:
        raise _refused((error.stderr or b"").decode(errors="replace")) from None
    if done.returncode != 0:
        raise _refused(done.stderr)


def _scontrol(words: List[str], slurm_dir: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what a call of scontrol said that asks no daemon.

    :raises NodeFault: there is none.
    """
    command = ["scontrol", *words]
    named = {"PATH": settings.search_path(slurm_dir, _PATH), "LC_ALL": "C", **environment}
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False, env=named)
    except FileNotFoundError:
        raise NodeFault("slurm_conf: a program is missing", "install SLURM's client commands", file="scontrol") from None


def _refused(said: str) -> JobFault:
    return JobFault("slurm_conf: SLURM cannot read it", "correct slurm.conf; it is as it was", said=" | ".join(said.splitlines()[:3]))


if __name__ == "__main__":
    main()
