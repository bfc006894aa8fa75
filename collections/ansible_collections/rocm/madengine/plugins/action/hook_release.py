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
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.release import name_of

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = "plugins/module_utils/_madengine"
HOOKS = "roles/slurm_hooks/files"


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core is not typed
    """Transfers the archive only where the release is not there yet."""

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state") == "rolled_back" and not arguments.get("leaving"):
            arguments["leaving"] = name_of(arguments.get("version") or version(), hashlib.sha256(archive()).hexdigest())
        if arguments.get("state", "present") != "present":
            return dict(self._execute_module(module_args=arguments, task_vars=task_vars))
        data = archive()
        arguments.update(version=arguments.get("version") or version(), sha256=hashlib.sha256(data).hexdigest())
        temporary = self._make_tmp_path()
        arguments["src"] = self._connection._shell.join_path(temporary, "release.tar.gz")
        self._transfer_data(arguments["src"], gzip.compress(data, mtime=0))
        self._fixup_perms2((temporary, arguments["src"]))
        try:
            return dict(self._execute_module(module_args=arguments, task_vars=task_vars))
        finally:
            self._remove_tmp_path(temporary)


def archive() -> bytes:
    """Return the release as a tar, byte for byte the same for the same files, whatever compresses it on its way."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(members()):
            _add(tar, name, path)
    return packed.getvalue()


def members() -> Iterator[Tuple[str, str]]:
    """Give each file of a release: its name there, and where it is on this machine."""
    for folder in ("prolog", "epilog", "bin"):
        for name in _names(HOOKS, folder):
            yield f"{folder}/{name}", os.path.join(COLLECTION, HOOKS, folder, name)
    for packages, name in _library():
        path = os.path.join(LIBRARY, *packages, name)
        yield f"lib/ansible_collections/rocm/madengine/{path}", os.path.join(COLLECTION, path)


def version() -> str:
    """Return the version of this collection, built or not."""
    built, source = os.path.join(COLLECTION, "MANIFEST.json"), os.path.join(COLLECTION, "galaxy.yml")
    if os.path.exists(built):
        with open(built, encoding="utf-8") as stream:
            return str(json.load(stream)["collection_info"]["version"])
    try:
        with open(source, encoding="utf-8") as stream:
            return str(yaml_load(stream)["version"])
    except FileNotFoundError:
        raise _not_built(source) from None


def _library(*folder: str) -> Iterator[Tuple[Tuple[str, ...], str]]:
    """Give each Python file of the library: the packages that it lies in, and its name."""
    for name in _names(LIBRARY, *folder):
        if name.endswith(".py"):
            yield folder, name
        elif os.path.isdir(os.path.join(COLLECTION, LIBRARY, *folder, name)):
            yield from _library(*folder, name)


def _names(*folder: str) -> List[str]:
    path = os.path.join(COLLECTION, *folder)
    try:
        # An editor's copies and a compiler's directory are no part of a release.
        return [name for name in os.listdir(path) if not name.startswith(".") and name != "__pycache__" and not name.endswith("~")]
    except FileNotFoundError:
        raise _not_built(path) from None


def _not_built(path: str) -> AnsibleActionFail:
    return AnsibleActionFail(
        f"{os.path.relpath(path, COLLECTION)} is missing, or a link that leads nowhere: this copy of rocm.madengine was not built. "
        "Run `make dist` and install dist/rocm-madengine-*.tar.gz with `ansible-galaxy collection install`."
    )


def _add(tar: tarfile.TarFile, name: str, path: str) -> None:
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        raise _not_built(path) from None
    member = tarfile.TarInfo(name)
    # Not os.access, which says no on a filesystem mounted with noexec.
    member.size, member.mode = len(data), 0o755 if os.stat(path).st_mode & 0o100 else 0o644
    tar.addfile(member, io.BytesIO(data))
