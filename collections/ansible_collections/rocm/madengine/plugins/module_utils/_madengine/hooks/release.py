# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks' releases on a node: side by side, proved before they are switched on, switched in one step.

::

    <root>/releases/<version>+<digest>/{prolog,epilog,lib}
    <root>/current -> releases/<version>+<digest>            what new jobs run
    <root>/previous -> releases/<version>+<digest>           what `roll_back` goes back to

A running job's epilog runs the release that its prolog ran. So a release that a job has pinned is never removed, and none
is ever replaced: the same version with another content is another release. One that can be seen is whole, whenever the
power fails or SIGKILL comes.

Source: architecture.md, "State"; rename(2).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import zlib
from typing import Iterator, List, Optional, Set

from ..core import files, locks, process
from ..core.errors import JobFault, NodeFault
from . import job_state

PROGRAMS = (
    *("prolog/prolog.py", "epilog/epilog.py", "prolog/task_prolog", "prolog/task_environment.sh"),
    *("prolog/50-madengine", "epilog/50-madengine", "prolog/00-noop", "epilog/00-noop"),
)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_BYTES = 64 << 20
_INTERPRETER = "/usr/bin/python3"  # where the site names no other
_SECONDS = 120
_FOLDER_MODE = 0o755
_REBUILD = "build and install the collection again"


def name_of(version: str, sha256: str) -> str:
    """Return what the release of *version* with this content is called.

    :raises JobFault: it is no version, or no digest.

    >>> name_of("1.0.0", "0" * 64)
    '1.0.0+000000000000'
    """
    if not _VERSION.fullmatch(version):
        raise JobFault("release: not a version", "give one such as 1.0.0", version=version)
    if not _SHA256.fullmatch(sha256):
        raise JobFault("release: not a SHA-256 digest", "give 64 hexadecimal digits", sha256=sha256)
    return f"{version}+{sha256[:12]}"


class Releases:
    """The releases below one directory.

    :param root: e.g. ``/opt/madengine-hooks``.
    :param base: where the jobs' state is, which names the releases in use.
    :param python: the interpreter that runs the hooks on this node, if the site has named one.
    """

    def __init__(self, root: str, base: str = job_state.BASE, python: str = "") -> None:
        self.root, self._base, self._python = root, base, python
        self._folder = os.path.join(root, "releases")

    def path(self, name: str) -> str:
        """Return where the release *name* is or would be.

        :raises JobFault: no release can be called so.
        """
        if not _NAME.fullmatch(name):
            raise JobFault("release: not a release's name", "give one of those installed", name=name)
        return os.path.join(self._folder, name)

    def installed(self) -> List[str]:
        """Return the installed releases, the one that was installed last at the end."""
        with contextlib.suppress(FileNotFoundError):
            found = [entry for entry in os.scandir(self._folder) if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
            return [entry.name for entry in sorted(found, key=lambda entry: (entry.stat().st_mtime_ns, entry.name))]
        return []

    def named(self, link: str) -> Optional[str]:
        """Return the release that ``current`` or ``previous`` names, None if there is none."""
        try:
            name = os.path.basename(os.readlink(os.path.join(self.root, link)))
        except OSError:
            return None
        return name if _NAME.fullmatch(name) and os.path.isdir(self.path(name)) else None

    def before(self) -> Optional[str]:
        """Return the release that `roll_back` would go back to, None if there is none."""
        name = self.named("previous")
        return None if name == self.named("current") else name

    def has(self, name: str) -> bool:
        """Say whether *name* is installed, and nobody has taken a program out of it."""
        return not _missing(self.path(name))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Change the releases alone; whoever comes at the same time waits."""
        os.makedirs(os.path.dirname(self.root), exist_ok=True)
        for path in (self.root, self._folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
                os.chmod(path, _FOLDER_MODE)  # whatever the umask is
        with locks.flock_directory(self.root):
            yield

    def install(self, name: str, archive: str, sha256: str) -> None:
        """See that *name* is there: as it has always been, or unpacked from *archive* and proved.

        :param archive: a compressed tar; *sha256* is the digest of the tar in it.
        :raises JobFault: the archive is not what it should be, or this node's Python cannot run what is in it.
        :raises NodeFault: the disk is full (part ``disk``).
        """
        fresh = os.path.join(self._folder, f".new.{name}")
        with _disk(self.root):
            self._tidy()
            if self.has(name):
                prove(self.path(name), self._python)
                return
            try:
                examine(archive, sha256, fresh, self._python)
                _settle(fresh)
                self._discard(name)  # somebody has taken a program out of it
                os.rename(fresh, self.path(name))
                files.sync_directory(self._folder)
            finally:
                files.remove_tree(fresh)

    def switch(self, name: str) -> None:
        """Let new jobs run *name*, from one instant to the next, and remember what they ran before.

        :raises JobFault: it is not installed.
        """
        if not self.has(name):
            raise JobFault("release: not installed", "install it first", name=name)
        now = self.named("current")
        with _disk(self.root):
            if now and now != name:
                self._link("previous", now)
            self._link("current", name)

    def roll_back(self) -> str:
        """Let new jobs run the release before again and return its name; the present one becomes the one before.

        :raises JobFault: there is none, or this node's Python cannot run it any more.
        """
        name = self.provable()
        self.switch(name)
        return name

    def provable(self) -> str:
        """Return the release that `roll_back` goes back to; faults as there."""
        name = self.before()
        if name is None:
            raise JobFault("release: there is none to go back to", "install the wanted release instead", root=self.root)
        prove(self.path(name), self._python)
        return name

    def superfluous(self, keep: int, coming: str) -> List[str]:
        """Return the releases beyond the last *keep* that nothing will use once jobs run *coming*: no link, no running job."""
        known = self.installed()
        known += [] if coming in known else [coming]
        now = self.named("current")
        used = self.pinned() | {coming, now if now and now != coming else self.named("previous")}
        return [name for name in known[: -max(1, keep)] if name not in used]

    def pinned(self) -> Set[str]:
        """Return the releases under which jobs of this node have started."""
        return {os.path.basename(path) for path in _pins(os.path.join(self._base, "jobs"))}

    def remove(self, name: str) -> None:
        """Remove *name*, and a link that names it; harmless if it is gone."""
        for link in ("current", "previous"):
            if self.named(link) == name:
                os.unlink(os.path.join(self.root, link))
        with _disk(self.root):
            self._discard(name)

    def _discard(self, name: str) -> None:
        gone = os.path.join(self._folder, f".gone.{name}")
        files.remove_tree(gone)
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path(name), gone)  # half a release is never seen under its name
        files.remove_tree(gone)

    def _tidy(self) -> None:
        for name in os.listdir(self._folder):
            if name.startswith((".new.", ".gone.")):
                files.remove_tree(os.path.join(self._folder, name))

    def _link(self, link: str, name: str) -> None:
        fresh = os.path.join(self.root, f".{link}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.symlink(os.path.join("releases", name), fresh)
        os.rename(fresh, os.path.join(self.root, link))
        files.sync_directory(self.root)


def examine(archive: str, sha256: str, folder: str, python: str = "") -> None:
    """Unpack *archive* into the new directory *folder*, compile and prove it; faults as `Releases.install`."""
    _unpack(_checked(archive, sha256), folder)
    _require(folder)
    _run([python or _INTERPRETER, "-I", "-m", "compileall", "-q", folder])
    prove(folder, python)


def prove(path: str, python: str = "") -> None:
    """Do nothing if the release in *path* has all its programs and this node's Python can import them.

    :raises JobFault: it is broken; the message shows where.
    """
    _require(path)
    # Imported as in a prolog, but under another name, so that nothing is done.
    code = "import runpy, sys; [runpy.run_path(program, run_name='proof') for program in sys.argv[1:]]"
    programs = [os.path.join(path, program) for program in PROGRAMS if program.endswith(".py")]
    _run([python or _INTERPRETER, "-I", "-B", "-c", code, *programs])
    for program in PROGRAMS:
        if not program.endswith(".py"):
            _run(["/bin/sh", "-n", os.path.join(path, program)])


def _missing(path: str) -> List[str]:
    return [program for program in PROGRAMS if not os.path.isfile(os.path.join(path, program))]


def _require(path: str) -> None:
    for program in _missing(path):
        raise JobFault("release: a file is missing", _REBUILD, file=program)


def _run(command: List[str]) -> None:
    try:
        done = process.command(command, _SECONDS, {"PATH": "/usr/bin:/bin"})
    except OSError as error:
        raise NodeFault("release: a program is missing", "install it", file=command[0], error=error.strerror) from error
    except subprocess.TimeoutExpired:
        raise NodeFault("release: no answer", "look why this node is so slow", file=command[0], waited_seconds=_SECONDS) from None
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise JobFault("release: it does not run on this node", "keep the present one, and report this", error=" | ".join(said[-3:]))


def _checked(archive: str, sha256: str) -> bytes:
    """Return the tar in *archive*, which is the one that was sent."""
    try:
        with gzip.open(archive) as stream:
            data = stream.read(_LARGEST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise JobFault("release: cannot read the archive", _REBUILD, path=archive, error=str(error)) from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise JobFault("release: the archive is another one", "transfer it again", wanted=sha256, read=found)
    return data


def _unpack(data: bytes, folder: str) -> None:
    os.mkdir(folder, 0o755)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                _put(tar, member, folder)
    except (tarfile.TarError, EOFError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise JobFault("release: not a release's archive", _REBUILD, error=str(error)) from error


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    parts = member.name.split("/")
    if not member.isfile() or ".." in parts or not parts[0]:
        raise JobFault("release: not a release's archive", _REBUILD, member=member.name)
    target = os.path.join(folder, *parts)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    with open(target, "wb") as stream:
        shutil.copyfileobj(tar.extractfile(member), stream)  # type: ignore[arg-type] # it is a file
    os.chmod(target, 0o755 if member.mode & 0o100 else 0o644)


def _settle(folder: str) -> None:
    """Make all in *folder* outlive a power cut, and readable whatever the umask is."""
    for place, _folders, names in os.walk(folder, topdown=False):
        for name in names:
            handle = os.open(os.path.join(place, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fchmod(handle, os.fstat(handle).st_mode | 0o444)
                os.fsync(handle)
            finally:
                os.close(handle)
        os.chmod(place, _FOLDER_MODE)
        files.sync_directory(place)


@contextlib.contextmanager
def _disk(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise files.local_fault("release", path, error) from error


def _pins(folder: str) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        for job in os.listdir(folder):
            with contextlib.suppress(OSError), open(os.path.join(folder, job, "release"), encoding="utf-8", errors="replace") as stream:
                yield stream.readline().strip()
