# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are either whole or not there, and reading what somebody else has written.

Writing is temp file, fsync, rename, fsync of the directory, so a SIGKILL at any instant leaves the old file or the
new one. Reading takes regular files only, never through a link in the last place, and never more than a limit.

Source: rename(2), open(2); the reasons in architecture.md's "State".
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from typing import IO, Iterator, Optional, Tuple, Union

from .errors import Fault, JobFault, NodeFault, Part, ShareFault

_MOST_ROUNDS = 100_000  # a tree that is deeper, or grows while we are at it, does not hold up the epilog
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
# What a share that is away says, or a FUSE program that has died: no fault of who named the file.
_AWAY = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EREMOTEIO, errno.ESHUTDOWN)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write(path: str, data: Union[str, bytes], mode: int = 0o644, owner: Optional[Tuple[int, int]] = None) -> None:
    """Put *data* under *path* at once and for good.

    :param mode: the permissions from the first instant, whatever the umask.
    :param owner: (uid, gid), or None to keep the writer's.
    :raises OSError: it could not be written; *path* is as it was.
    """
    with new(path, mode, owner) as stream:
        stream.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)


@contextlib.contextmanager
def new(path: str, mode: int = 0o644, owner: Optional[Tuple[int, int]] = None, temporary: Optional[str] = None) -> Iterator[IO[bytes]]:
    """Give a binary stream whose content stands under *path* when the block ends well, and nowhere else.

    :param temporary: a directory on the same filesystem for the unfinished file; *path*'s own if None.
    :raises OSError: it could not be written; *path* is as it was.
    """
    folder = os.path.dirname(path) or "."
    handle, unfinished = tempfile.mkstemp(prefix=".new.", dir=temporary or folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            if owner is not None:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(unfinished, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
    sync_directory(folder)


def sync_directory(path: str) -> None:
    """Make a rename inside *path* outlive a power cut; some network filesystems cannot, and need not."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def opened(path: str) -> IO[bytes]:
    """Open *path*, which somebody else may have prepared, for reading.

    :raises JobFault: it is missing, not readable, a link, or no regular file (a FIFO is refused without waiting).
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _unread(path, error) from error
    except ValueError as error:  # a NUL, or a half of a surrogate pair
        raise JobFault("files: not a path", "check the path", path=path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise JobFault("files: not a regular file", "give a plain file", path=path)
    return os.fdopen(handle, "rb")


def read(path: str, at_most_bytes: int) -> bytes:
    """Return the whole content of *path*.

    :raises JobFault: as `opened`, or it is larger than *at_most_bytes*; no more than that is ever read.
    """
    with opened(path) as stream:
        try:
            data = stream.read(at_most_bytes + 1)
        except OSError as error:
            raise _unread(path, error) from error
    if len(data) > at_most_bytes:
        raise JobFault("files: too large", "check that this is the right file", path=path, limit_bytes=at_most_bytes)
    return data


def require_space(path: str, needed_bytes: int, local: bool = True, margin_bytes: int = 64 << 20) -> None:
    """Do nothing if *path*'s filesystem has room for *needed_bytes* and a margin.

    :param local: whether it is this node's disk (a fault of the node) or a share (a fault of the share).
    :raises NodeFault: a local disk is too full (part ``disk``).
    :raises ShareFault: a share is too full.
    """
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    if free >= needed_bytes + margin_bytes:
        return
    seen = {"path": path, "free_gib": round(free / 2**30, 2), "needed_gib": round((needed_bytes + margin_bytes) / 2**30, 2)}
    if local:
        raise NodeFault("files: too little space", "free space on this node", part=Part.DISK, **seen)
    raise ShareFault("files: too little space", "free space on the share", **seen)


def is_full(error: BaseException) -> bool:
    """Say whether *error* is a disk or a quota that is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def local_fault(noun: str, path: str, error: OSError) -> NodeFault:
    """Return what an *error* on this node's own disk means, for *noun*."""
    seen = {"path": path, "error": error.strerror or str(error)}
    if is_full(error):
        return NodeFault(f"{noun}: the disk is full", "free space on this node", part=Part.DISK, **seen)
    return NodeFault(f"{noun}: cannot write", "look at this node's disk", part=Part.DISK, **seen)


def is_away(error: BaseException) -> bool:
    """Say whether *error* is a filesystem that cannot be reached, as a share may be."""
    return isinstance(error, OSError) and error.errno in _AWAY


def _unread(path: str, error: OSError) -> Fault:
    seen = {"path": path, "error": error.strerror or str(error)}
    if is_away(error):
        return ShareFault("files: cannot read", "look at the share", **seen)
    return JobFault("files: cannot read", _remedy(error), **seen)


def _remedy(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "give the file itself, not a link to it"
    return "check the path and its permissions as the job's user"


def remove_tree(path: str) -> None:
    """Remove the directory *path*, in which a user may have put anything, without recursion and through no link.

    ``shutil.rmtree`` needs a descriptor and a stack frame a level, so a deep enough tree makes it give up. Here what lies
    in a subdirectory comes up beside it, and nobody can add to a directory that has had its turn.

    What is mounted in it is not entered: it may be another's, or one that answers nobody.

    :raises OSError: something in it cannot be removed or is mounted, or somebody adds to it faster than it is emptied.
    """
    try:
        top = _taken(path)
    except FileNotFoundError:
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int) -> None:
    for _round in range(_MOST_ROUNDS):
        folders = [name for name in os.listdir(top) if not _unlinked(name, top)]
        if not folders:
            return
        for name in folders:
            _raise_content(name, top)


def _raise_content(name: str, top: int) -> None:
    folder = _taken(name, top)
    try:
        for entry in os.listdir(folder):
            if not _unlinked(entry, folder):
                os.rename(entry, f".{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _taken(path: str, folder: Optional[int] = None) -> int:
    """Open the directory *path* and take it from its owner; a link is refused."""
    # A path descriptor asks the filesystem nothing; which mount it is on, the kernel knows.
    found = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if folder is not None and _mount_of(found) != _mount_of(folder):
            raise OSError(errno.EBUSY, "Something is mounted there", path)
        handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
    finally:
        os.close(found)
    os.fchown(handle, os.geteuid(), -1)
    os.fchmod(handle, 0o700)
    return handle


def _mount_of(handle: int) -> str:
    """Return which mount a descriptor is on."""
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as stream:
        return next((line for line in stream if line.startswith("mnt_id:")), "")


def detach_mounts(path: str, mounts: str = "/proc/self/mountinfo") -> None:
    """Detach what is mounted on *path* or below it, as root, and ask none of it anything; what is in use goes with its last user."""
    top = os.fsencode(path)
    with open(mounts, "rb") as stream:
        points = [point for point in map(_mount_point, stream) if point == top or point.startswith(top + b"/")]
    for point in reversed(points):
        import ctypes  # some milliseconds, for what is hardly ever there

        ctypes.CDLL(None).umount2(point, _MNT_DETACH | _UMOUNT_NOFOLLOW)


def _mount_point(line: bytes) -> bytes:
    """Return the fifth field of a line of mountinfo, in which blanks and backslashes are octal."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), line.split()[4])


def _unlinked(name: str, folder: int) -> bool:
    """Unlink *name* unless it is a directory; say whether it is gone."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        return False
    return True
