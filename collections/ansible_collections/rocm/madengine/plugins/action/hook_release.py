# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack this collection's hooks and library into one archive and hand it to the module of the same name.

One transfer a node, where copying file by file would take a minute of each node's time at every run.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from typing import Any, Dict, Iterator, Optional, Tuple

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = "plugins/module_utils/_madengine"
HOOKS = "roles/slurm_hooks/files"


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core is not typed
    """Transfers the archive only where the release is not there yet."""

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") != "present":
            return dict(self._execute_module(module_args=arguments, task_vars=task_vars))
        data = archive()
        arguments.update(version=arguments.get("version") or version(), sha256=hashlib.sha256(data).hexdigest())
        temporary = self._make_tmp_path()
        arguments["src"] = self._connection._shell.join_path(temporary, "release.tar.gz")
        self._transfer_data(arguments["src"], data)
        self._fixup_perms2((temporary, arguments["src"]))
        try:
            return dict(self._execute_module(module_args=arguments, task_vars=task_vars))
        finally:
            self._remove_tmp_path(temporary)


def archive() -> bytes:
    """Return the release as a compressed tar, byte for byte the same for the same files."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for name, path in sorted(members()):
            _add(tar, name, path)
    return packed.getvalue()


def members() -> Iterator[Tuple[str, str]]:
    """Give each file of a release: its name there, and where it is on this machine."""
    for folder in ("prolog", "epilog"):
        for name in os.listdir(os.path.join(COLLECTION, HOOKS, folder)):
            yield f"{folder}/{name}", os.path.join(COLLECTION, HOOKS, folder, name)
    for name in os.listdir(os.path.join(COLLECTION, LIBRARY)):
        if not name.startswith((".", "__")):
            yield f"lib/ansible_collections/rocm/madengine/{LIBRARY}/{name}", os.path.join(COLLECTION, LIBRARY, name)


def version() -> str:
    """Return the version of this collection, built or not."""
    built, source = os.path.join(COLLECTION, "MANIFEST.json"), os.path.join(COLLECTION, "galaxy.yml")
    if os.path.exists(built):
        with open(built, encoding="utf-8") as stream:
            return str(json.load(stream)["collection_info"]["version"])
    with open(source, encoding="utf-8") as stream:
        return str(yaml_load(stream)["version"])


def _add(tar: tarfile.TarFile, name: str, path: str) -> None:
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        raise AnsibleActionFail(
            f"{os.path.relpath(path, COLLECTION)} is a link that leads nowhere: this copy of rocm.madengine was not built. "
            "Run `make dist` and install dist/rocm-madengine-*.tar.gz with `ansible-galaxy collection install`."
        ) from None
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o755 if os.access(path, os.X_OK) else 0o644
    tar.addfile(member, io.BytesIO(data))
