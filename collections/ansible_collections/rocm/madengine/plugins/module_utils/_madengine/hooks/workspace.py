# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's directory on this node's own disk: ``/var/lib/madengine/jobs/<job id>/``.

``results/`` is what ``MAD_RESULTS_DIR`` names: the job's user writes there, and so may the root of a container. What no
epilog could gather (the share was full, the node died) stays for a week, as far as `kept` has room for it. ``task/`` is
written by the TaskProlog as that user: an env file a task, and ``tmpdir``. It lies here because a user can fill it: in
``/run`` that would take the room in which other jobs' prologs leave their verdicts.

Source: results.md, "Gather".
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Callable, List

from ..core import files
from ..core.errors import Fault
from . import kept

BASE = "/var/lib/madengine"
_MODE = 0o755
_ASIDE = ".gone."
_LONGEST_PATH = 4096
_TMP = "/tmp"  # noqa: S108 (where madengine works unless SLURM_TMPDIR says otherwise)
KEPT_SECONDS = 7 * 86400


class Workspace:
    """One job's directory on this node's disk.

    :param base: where the directory of all jobs is; a test gives its own.
    """

    def __init__(self, job_id: int, base: str = BASE) -> None:
        self._base, self.path = base, os.path.join(base, "jobs", str(int(job_id)))
        self.results, self.task = os.path.join(self.path, "results"), os.path.join(self.path, "task")

    def make(self, uid: int, gid: int) -> None:
        """Make it anew for the job's user; what an earlier attempt of the same job has left is gone.

        :raises NodeFault: the disk is full (part ``disk``).
        """
        try:
            self.remove()
            # As state's: whatever slurmd's umask is, the user must reach what is the user's.
            os.makedirs(os.path.dirname(self._base), exist_ok=True)
            for path in (self._base, os.path.dirname(self.path), self.path):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path)
                    os.chmod(path, _MODE)
            for path in (self.results, self.task):
                os.mkdir(path, 0o700)
                os.chown(path, uid, gid)
        except OSError as error:
            raise files.local_fault("workspace", self.path, error) from error

    def make_aside(self, uid: int, gid: int) -> str:
        """Make the directory for what can be gathered nowhere else, and return it.

        :raises NodeFault: it cannot be made (part ``disk``).
        """
        path = os.path.join(self.path, "kept")
        try:
            os.makedirs(path, 0o700, exist_ok=True)
            os.chown(path, uid, gid)  # also if a run before this one was killed in between
        except OSError as error:
            raise files.local_fault("workspace", path, error) from error
        return path

    def temporary_dirs(self) -> List[str]:
        """Return where the job's tasks had their temporary files: what they said (SLURM_TMPDIR), then ``/tmp``.

        Only a path to look in, and only as the job's user: that user wrote it.
        """
        told = ""
        with contextlib.suppress(Fault):
            told = files.read(os.path.join(self.task, "tmpdir"), _LONGEST_PATH).decode("utf-8", "replace").rstrip("\n")
        is_path = told.startswith("/") and told.isprintable()
        return ([told] if is_path and told != _TMP else []) + [_TMP]

    def remove(self) -> None:
        """Remove it and all in it; harmless if it is gone. No link in it is followed, and no mount is entered: it is detached.

        What cannot be removed is put aside, and `sweep` tries again.

        :raises OSError: it could not be put aside either.
        """
        files.detach_mounts(self.path)
        try:
            files.remove_tree(self.path)
        except OSError:
            folder, name = os.path.split(self.path)
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path, os.path.join(folder, f"{_ASIDE}{name}.{os.urandom(8).hex()}"))

    def sweep(self, is_running: Callable[[int], bool], now: Callable[[], float] = time.time) -> None:
        """Remove what other jobs have left here longer ago than `KEPT_SECONDS`, or beyond what is kept; what cannot be removed stays.

        :param is_running: says whether a job of this number has a state on this node.
        """
        folder = os.path.dirname(self.path)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if name.startswith(_ASIDE):
                    files.detach_mounts(path)
                    files.remove_tree(path)
                elif name.isdigit() and os.lstat(path).st_mtime < now() - KEPT_SECONDS and not is_running(int(name)):
                    files.remove_tree(path)
        for path in kept.surplus([path for path in _others(folder) if not is_running(int(os.path.basename(path)))]):
            with contextlib.suppress(OSError):
                files.remove_tree(path)


def _others(folder: str) -> List[str]:
    return [os.path.join(folder, name) for name in os.listdir(folder) if name.isdigit()]
