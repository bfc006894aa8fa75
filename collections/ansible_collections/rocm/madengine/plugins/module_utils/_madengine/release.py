# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks' releases on a node: side by side, proved before they are switched on, switched in one step.

::

    <root>/releases/<version>/{prolog,epilog,lib}   .sha256: of the archive that it came from
    <root>/current -> releases/<version>            what new jobs run
    <root>/previous -> releases/<version>           what `roll_back` goes back to

A running job's epilog runs the release that its prolog ran, so a release that a job has pinned is never removed.

Source: architecture.md, "State"; rename(2).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tarfile
from typing import Iterator, List, Optional, Set

from . import files, state
from .errors import JobFault

PROGRAMS = ("prolog/prolog.py", "epilog/epilog.py", "prolog/task_prolog", "prolog/50-madengine", "epilog/50-madengine", "prolog/00-noop")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")
_MARK = ".sha256"
_INTERPRETER = "/usr/bin/python3"


class Releases:
    """The releases below one directory.

    :param root: e.g. ``/opt/madengine-hooks``.
    :param base: where the jobs' state is, which names the releases in use.
    """

    def __init__(self, root: str, base: str = state.BASE) -> None:
        self.root, self._base = root, base
        self._folder = os.path.join(root, "releases")

    def path(self, version: str) -> str:
        """Return where *version* is or would be.

        :raises JobFault: it is no version.
        """
        if not _VERSION.fullmatch(version):
            raise JobFault("release: not a version", "give one such as 1.0.0", version=version)
        return os.path.join(self._folder, version)

    def installed(self) -> List[str]:
        """Return the installed versions, the one that was installed last at the end."""
        with contextlib.suppress(FileNotFoundError):
            names = [name for name in os.listdir(self._folder) if not name.startswith(".")]
            return sorted(names, key=lambda name: os.stat(os.path.join(self._folder, name)).st_mtime_ns)
        return []

    def named(self, link: str) -> Optional[str]:
        """Return the version that ``current`` or ``previous`` names, None if there is none."""
        try:
            version = os.path.basename(os.readlink(os.path.join(self.root, link)))
        except OSError:
            return None
        return version if os.path.isdir(os.path.join(self._folder, version)) else None

    def has(self, version: str, sha256: str) -> bool:
        """Say whether *version* is installed from the archive with this digest."""
        with contextlib.suppress(OSError), open(os.path.join(self.path(version), _MARK), encoding="ascii") as stream:
            return stream.read().strip() == sha256
        return False

    def install(self, version: str, archive: str, sha256: str) -> None:
        """Unpack *archive* and prove it; it is there as a whole under its final name, or not at all.

        :raises JobFault: it misses a program, does not compile or cannot be imported by this node's Python.
        """
        fresh = os.path.join(self._folder, f".new.{version}")
        os.makedirs(self._folder, mode=0o755, exist_ok=True)
        files.remove_tree(fresh)
        try:
            _unpack(archive, fresh)
            prove(fresh)
            files.write(os.path.join(fresh, _MARK), sha256 + "\n")
            self._put(fresh, self.path(version))
        finally:
            files.remove_tree(fresh)

    def switch(self, version: str) -> None:
        """Let new jobs run *version*, from one instant to the next, and remember what they ran before."""
        before = self.named("current")
        if before and before != version:
            self._link("previous", before)
        self._link("current", version)

    def roll_back(self) -> str:
        """Let new jobs run the previous release again and return its version; the present one becomes the previous.

        :raises JobFault: there is none.
        """
        version = self.named("previous")
        if version is None:
            raise JobFault("release: there is none to go back to", "install the wanted release instead", root=self.root)
        prove(self.path(version))
        self.switch(version)
        return version

    def superfluous(self, keep: int) -> List[str]:
        """Return the versions beyond the last *keep* that nothing uses: no link, and no running job."""
        used = self.pinned() | {self.named("current"), self.named("previous")}
        return [version for version in self.installed()[: -max(1, keep)] if version not in used]

    def pinned(self) -> Set[str]:
        """Return the versions under which jobs of this node have started."""
        return {os.path.basename(path) for path in _pins(os.path.join(self._base, "jobs"))}

    def remove(self, version: str) -> None:
        """Remove *version*, and a link that names it."""
        for link in ("current", "previous"):
            if self.named(link) == version:
                os.unlink(os.path.join(self.root, link))
        files.remove_tree(self.path(version))

    def _put(self, fresh: str, final: str) -> None:
        gone = os.path.join(self._folder, ".gone." + os.path.basename(final))
        files.remove_tree(gone)
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, gone)
        os.rename(fresh, final)
        files.remove_tree(gone)
        files.sync_directory(self._folder)

    def _link(self, name: str, version: str) -> None:
        fresh = os.path.join(self.root, f".{name}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.symlink(os.path.join("releases", version), fresh)
        os.rename(fresh, os.path.join(self.root, name))


def prove(path: str) -> None:
    """Do nothing if the release in *path* has all its programs and this node's Python can import them.

    :raises JobFault: it is broken; the message shows where.
    """
    for program in PROGRAMS:
        if not os.path.isfile(os.path.join(path, program)):
            raise JobFault("release: a file is missing", "build and install the collection again", file=program)
    # Imported as in a prolog, but under another name, so that nothing is done; what is imported is compiled, too.
    code = "import runpy, sys; [runpy.run_path(program, run_name='proof') for program in sys.argv[1:]]"
    programs = [os.path.join(path, program) for program in PROGRAMS if program.endswith(".py")]
    _run([_INTERPRETER, "-I", "-m", "compileall", "-q", path])
    _run([_INTERPRETER, "-I", "-c", code, *programs])
    for program in PROGRAMS:
        if not program.endswith(".py"):
            _run(["/bin/sh", "-n", os.path.join(path, program)])


def _run(command: List[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={"PATH": "/usr/bin:/bin"})
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise JobFault("release: it does not run on this node", "keep the present one, and report this", error=" | ".join(said[-3:]))


def _unpack(archive: str, folder: str) -> None:
    os.mkdir(folder, 0o755)
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if not member.isfile() or ".." in parts or not parts[0]:
                raise JobFault("release: not a release's archive", "build and install the collection again", member=member.name)
            target = os.path.join(folder, *parts)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            with open(target, "wb") as stream:
                shutil.copyfileobj(tar.extractfile(member), stream)  # type: ignore[arg-type] # it is a file
            os.chmod(target, 0o755 if member.mode & 0o100 else 0o644)


def _pins(folder: str) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        for job in os.listdir(folder):
            with contextlib.suppress(OSError), open(os.path.join(folder, job, "release"), encoding="utf-8") as stream:
                yield stream.readline().strip()
