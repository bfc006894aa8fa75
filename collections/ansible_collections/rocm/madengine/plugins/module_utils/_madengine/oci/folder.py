# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that users write into, by its descriptor: one step at a time, through no link, with one user's rights.

Whoever may rename in a directory can put a link where a directory was. So no path of a store is ever followed: each name is
opened below the descriptor of what it lies in, and root takes on the rights of the owner for as long as a step lasts.

Source: openat(2), "O_NOFOLLOW", "O_PATH"; setfsuid(2), which is each thread's own. An NFS server with root_squash knows no
root, but knows the owners.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import stat
from typing import IO, Iterator, List, Optional

from ..core.errors import ShareFault

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NOBODY = 65534
UNFINISHED = ".new."  # how the name of a file begins that has not got its own yet


class Foreign(ShareFault):
    """It is there, but it belongs to somebody who has no say in it."""


class Folder:
    """An open directory, to be closed by ``with``.

    :param handle: its descriptor.
    :param path: what it is called in messages.
    :param uid: whose rights count in it, if this process is root; any other process has only its own.
    """

    def __init__(self, handle: int, path: str, uid: int) -> None:
        self.handle, self.path, self.uid = handle, path, uid

    @classmethod
    def at(cls, path: str, uid: int) -> Folder:
        """Open *path*, which an admin or the job has named; here a link is followed.

        :raises OSError: it is not there.
        """
        return cls(os.open(path, _DIRECTORY), path, uid)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    def child(self, name: str, owner: Optional[int] = None, uid: Optional[int] = None) -> Folder:
        """Open the directory *name*.

        :param owner: the only uid that it may belong to, or None for any.
        :param uid: whose rights count in it; the same as here if None.
        :raises OSError: it is not there, or no directory.
        :raises Foreign: it belongs to somebody else, or everybody may write into it.
        """
        inside = self.uid if uid is None else uid
        with rights_of(self.uid):
            reached = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.handle)
        try:
            with rights_of(inside):
                handle = os.open(".", _DIRECTORY, dir_fd=reached)
        finally:
            os.close(reached)
        child = Folder(handle, os.path.join(self.path, name), inside)
        try:
            if owner is not None:
                require_owner(child.path, os.fstat(handle), owner)
                _require_closed(child.path, os.fstat(handle))
        except BaseException:
            os.close(handle)
            raise
        return child

    def make(self, name: str, mode: int, owner: Optional[int] = None) -> None:
        """Make the directory *name*, unless it is there.

        :param owner: whose it shall be, if this process is root.
        """
        is_new = self._mkdir(name, self.uid if owner is None else owner)
        if owner is not None and os.geteuid() == 0:
            self._give(name, owner)
        if is_new:
            with self.child(name, uid=owner) as made, rights_of(made.uid):
                os.fchmod(made.handle, mode)

    def _mkdir(self, name: str, uid: int) -> bool:
        """Make *name* as *uid*, or as whoever has this directory where only root can give it to *uid*; say if it is new."""
        for user in (uid, self.uid):
            try:
                with rights_of(user):
                    os.mkdir(name, 0o700, dir_fd=self.handle)
                return True
            except FileExistsError:
                return False
            except PermissionError:
                if user == self.uid or os.geteuid() != 0:
                    raise
        return False

    def _give(self, name: str, owner: int) -> None:
        """See that *name* is *owner*'s, also if root made it a moment ago, or was killed before it gave it away."""
        with self.child(name, uid=0) as made:
            # Only while nothing is in it: nobody's work becomes another's.
            if os.fstat(made.handle).st_uid in {0, self.uid} - {owner} and not os.listdir(made.handle):
                os.fchown(made.handle, owner, -1)

    def names(self) -> List[str]:
        with rights_of(self.uid):
            return sorted(os.listdir(self.handle))

    def status(self, name: str) -> os.stat_result:
        """Return what *name* itself is, not where it leads."""
        with rights_of(self.uid):
            return os.stat(name, dir_fd=self.handle, follow_symlinks=False)

    def is_readable(self, name: str) -> bool:
        with rights_of(self.uid):
            return os.access(name, os.R_OK, dir_fd=self.handle, effective_ids=True)

    def is_writable(self) -> bool:
        with rights_of(self.uid):
            return os.access(".", os.W_OK, dir_fd=self.handle, effective_ids=True)

    def opened(self, name: str, owner: Optional[int] = None) -> IO[bytes]:
        """Open the regular file *name* for reading.

        :raises OSError: it is not there, not readable, a link, or no regular file.
        :raises Foreign: it belongs to somebody else than *owner*.
        """
        with rights_of(self.uid):
            handle = os.open(name, _FILE, dir_fd=self.handle)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", name)
            if owner is not None:
                require_owner(os.path.join(self.path, name), status, owner)
                _require_closed(os.path.join(self.path, name), status)
        except BaseException:
            os.close(handle)
            raise
        return os.fdopen(handle, "rb")

    def read(self, name: str, at_most_bytes: int, owner: Optional[int] = None) -> bytes:
        """Return the content of the regular file *name*; errors as `opened`, and EFBIG if it is larger than that."""
        with self.opened(name, owner) as stream:
            data = stream.read(at_most_bytes + 1)
        if len(data) > at_most_bytes:
            raise OSError(errno.EFBIG, "too large", name)
        return data

    def new(self, name: str, mode: int = 0o600) -> int:
        """Make the file *name*, which must not be there, and return a descriptor for writing."""
        with rights_of(self.uid):
            handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.handle)
        os.fchmod(handle, mode)
        return handle

    def write(self, name: str, data: bytes, mode: int) -> None:
        """Put *data* under *name* at once and for good; who is killed meanwhile leaves a file called `UNFINISHED` and *name*."""
        unfinished = f"{UNFINISHED}{name}.{os.urandom(8).hex()}"
        try:
            with os.fdopen(self.new(unfinished, mode), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            self.rename(unfinished, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self.unlink(unfinished)
            raise
        self.sync()

    def sync(self) -> None:
        """Make a rename outlive a power cut; some network filesystems cannot, and need not."""
        try:
            os.fsync(self.handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise

    def rename(self, name: str, other: str, folder: Optional[Folder] = None) -> None:
        """Give *name* another name, here or in *folder*."""
        with rights_of(self.uid):
            os.rename(name, other, src_dir_fd=self.handle, dst_dir_fd=(folder or self).handle)

    def link(self, target: str, name: str) -> None:
        """Make *name* a symbolic link to *target*, whatever it was a link to."""
        unfinished = f"{UNFINISHED}{name}.{os.urandom(8).hex()}"
        with rights_of(self.uid):
            with contextlib.suppress(OSError):
                if os.readlink(name, dir_fd=self.handle) == target:
                    return
            os.symlink(target, unfinished, dir_fd=self.handle)
            os.rename(unfinished, name, src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def unlink(self, name: str) -> None:
        with rights_of(self.uid):
            os.unlink(name, dir_fd=self.handle)

    def touch(self, name: str) -> None:
        with rights_of(self.uid):
            os.utime(name, dir_fd=self.handle, follow_symlinks=False)


def require_owner(path: str, status: os.stat_result, *owners: int) -> None:
    """Do nothing if *status* is of something that belongs to one of *owners*.

    :raises Foreign: it belongs to somebody else; the fault names both.
    """
    if status.st_uid not in owners:
        remedy = "have its owner or an admin remove it, and look at who made it"
        raise Foreign("store: it belongs to another user", remedy, path=path, owner=named(status.st_uid), wanted=named(owners[0]))


def _require_closed(path: str, status: os.stat_result) -> None:
    if status.st_mode & 0o002:
        raise Foreign("store: others may write there", "take the others' right to write away", path=path, mode=oct(status.st_mode & 0o7777))


def named(uid: int) -> str:
    """Return a user for a reader: the number, and the name if this node knows it."""
    try:
        return f"{uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return str(uid)


@contextlib.contextmanager
def rights_of(uid: int) -> Iterator[None]:
    """Have the rights of *uid* to files while the block lasts, if this process is root; any other process keeps its own.

    They are this thread's alone, and without groups: what a user owns needs none.
    """
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    library = ctypes.CDLL(None)
    gid = library.setfsgid(_gid_of(uid))
    try:
        library.setfsuid(uid)
        if library.setfsuid(-1) != uid:  # no id, so nothing changes; it says what holds
            raise PermissionError(errno.EPERM, "cannot take on a user's rights", str(uid))
        yield
    finally:
        library.setfsuid(0)
        library.setfsgid(gid)


def _gid_of(uid: int) -> int:
    """Return the group of *uid*; who has left the cluster has files still, and no group."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return _NOBODY
