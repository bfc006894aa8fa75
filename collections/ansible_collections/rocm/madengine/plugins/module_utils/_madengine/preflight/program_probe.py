# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at the programs that one node's slurm.conf names: whether they are there, and start for whom they have to.

As `probes`: nothing is judged. A Prolog and an Epilog start for root. A TaskProlog starts for each job's user, so it is looked
at as a user: a folder or a share may be closed to them, and not to root, or the other way round.

Source: slurm.conf(5), "Prolog", "Epilog", "TaskProlog"; measured with 22.05.8: a TaskProlog must be readable too (mode 0711
fails), and one whose first line names no interpreter that is there fails each task with status 127.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import stat
from typing import Any, Dict, List, Sequence

from ..core import process
from ..core.deadline import Deadline
from ..core.errors import JobFault
from ..slurm import node_addresses, site_files, slurm_conf

_NOBODY = "nobody"
_USER_SECONDS = 10.0
_HEAD_BYTES = 4096
_INTERPRETER = re.compile(rb"#![ \t]*([^ \t\n\0]*)")
_ELF = b"\x7fELF"


def programs(conf: str, task_prolog: str, names: Sequence[str]) -> Dict[str, Any]:
    """Return what SLURM cannot start on this node.

    :param conf: the node's slurm.conf.
    :param task_prolog: what it names as ``TaskProlog`` if it cannot be read.
    :param names: users; who is root, or not known here, does not count, and ``nobody`` stands for the others if nobody is left.
    :returns: ``bad``: why, by path or pattern, by key; ``conf``: the file that was read, "" if none could be.
    """
    text = "\n".join(node_addresses.texts(conf))
    named = slurm_conf.programs(text) if text else {"TaskProlog": task_prolog}
    users = _users(names)
    bad = {key: _bad(key, [name for name in value.split(",") if name], conf, users) for key, value in named.items()}
    return {"conf": conf if text else "", "bad": {key: found for key, found in bad.items() if found}}


def why_not(path: str, user: str) -> str:
    """Return why SLURM cannot start *path* as *user*, who we are; "" if it can."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "is no file"
        with open(path, "rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be read by {user} ({error.strerror})"
    if not os.access(path, os.X_OK):
        return f"is not executable for {user}"
    return _unstartable(head)


def _bad(key: str, names: Sequence[str], conf: str, users: Sequence[process.Account]) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for name in names:
        if key == "TaskProlog":
            found[name] = _why_no_task(name, users)
            continue
        program = slurm_conf.resolved(name, conf)
        paths = sorted(glob.glob(program)) if site_files.is_pattern(program) else [program]
        found.update({path: why_not(path, "root") for path in paths} or {program: "names nothing"})
    return {path: reason for path, reason in found.items() if reason}


def _why_no_task(path: str, users: Sequence[process.Account]) -> str:
    if not os.path.isabs(path):
        return "is not a full path"
    reasons = (process.run(user, why_not, path, user.name, deadline=Deadline(_USER_SECONDS)) for user in users)
    return next((reason for reason in reasons if reason), "")


def _unstartable(head: bytes) -> str:
    """Return why the kernel does not start a file that begins so."""
    if head.startswith(_ELF):
        return ""
    match = _INTERPRETER.match(head)
    if not match:
        return "has no first line that names an interpreter"
    interpreter = os.fsdecode(match.group(1))  # with a carriage return, if there is one: so the kernel takes it
    return "" if os.path.isfile(interpreter) else f"has an interpreter that is not there ({interpreter!r})"


def _users(names: Sequence[str]) -> List[process.Account]:
    if os.getuid() != 0:  # who is not root can look for nobody else
        return [process.Account("this user", os.getuid(), os.getgid(), tuple(os.getgroups()), "/")]
    found: List[process.Account] = []
    for name in dict.fromkeys([*names, _NOBODY]):
        with contextlib.suppress(JobFault):
            user = process.named(name)
            found += [user] if user.uid and (name != _NOBODY or not found) else []
    return found
