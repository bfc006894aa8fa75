# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store's own directory: who owns it, whose namespaces lie in it, and who acts in which of its parts.

The owner of the store's directory owns the store. What belongs to nobody else (blobs, leases, unfinished files, ``site``) is
his; a namespace that is a number is that user's. A process that is root does everything as one of the two, so that it
neither overrules a user nor needs to be root to the share's server.

Source: architecture.md, "Identities".
"""

from __future__ import annotations

import os
import re
import stat
from typing import Optional

from ..core.errors import JobFault
from .folder import Folder, require_owner

SITE = "site"
FOLDERS = ("blobs", "blobs/sha256", "images", "tmp", "leases")
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_UID = (1 << 32) - 2


class Root:
    """The directory of one store, seen by one user.

    :param path: an absolute path; it need not exist.
    :param user: whose view it is; this process' own if None, and root's is that of the store's owner.
    """

    def __init__(self, path: str, user: Optional[int] = None) -> None:
        if not os.path.isabs(path):
            raise JobFault("store: it is no absolute path", "give an absolute path", path=path)
        self.path, self._user = path, user

    @property
    def owner(self) -> int:
        """Return the uid that owns the store; where there is none yet, whoever would make it."""
        try:
            return os.stat(self.path).st_uid
        except OSError:
            return os.geteuid()

    @property
    def user(self) -> int:
        if self._user is not None:
            return self._user
        return os.geteuid() or self.owner

    @property
    def mode(self) -> int:
        """Return the permissions of the store's directory: its owner decides who may read and add."""
        try:
            return stat.S_IMODE(os.stat(self.path).st_mode)
        except OSError:
            return 0o755

    @property
    def file_mode(self) -> int:
        """Return the permissions of the store's files, which are as readable as the store."""
        return (self.mode & 0o444) | 0o600

    @property
    def is_private(self) -> bool:
        """Say whether this user's layers are nobody else's: the store's owner alone writes the blobs that all share."""
        if self.user == self.owner:
            return False
        with self.folder("blobs", "sha256", uid=self.user) as shared:
            return not shared.is_writable()

    def make(self) -> None:
        """Make the store's directories, each open to whom the store itself is open.

        :raises OSError: that cannot be.
        """
        if not os.path.isdir(self.path):
            os.makedirs(self.path, exist_ok=True)
        mode = self.mode
        for name in FOLDERS:
            *above, last = name.split("/")
            with self.folder(*above) as folder:
                folder.make(last, mode)

    def folder(self, *names: str, uid: Optional[int] = None) -> Folder:
        """Open one of the store's own directories.

        :param uid: whose rights count in it, if this process is root; the store's owner's if None.
        :raises OSError: it is not there.
        :raises Foreign: root would act in a directory that a user has made.
        """
        owner = self.owner
        folder = Folder.at(self.path, owner)
        for name in names:
            with folder as above:
                folder = above.child(name, uid=owner)
            _require_trusted(folder, owner)
        folder.uid = owner if uid is None else uid
        return folder

    def namespace(self, name: str, makes: bool = False) -> Folder:
        """Open the directory of a namespace, which belongs to the user whom it names.

        :param makes: whether it is made if it is not there.
        :raises OSError: it is not there, or cannot be made.
        :raises Foreign: somebody else has made it.
        """
        uid = self.uid_of(name)
        with self.folder("images") as folder:
            if makes:
                folder.make(name, self.namespace_mode, uid)
            return folder.child(name, uid, uid)

    @property
    def namespace_mode(self) -> int:
        """Return the permissions of what a namespace holds: its publisher's alone, however open the store is."""
        return 0o700 if self.is_private else self.mode & 0o7755

    def uid_of(self, namespace: str) -> int:
        """Return whose namespace it is: a number names a user, all else is the store's owner's.

        :raises JobFault: it is no namespace.
        """
        if not is_namespace(namespace):
            raise JobFault("store: not a namespace", "use letters, digits, - and _", namespace=namespace)
        is_uid = namespace.isdigit() and str(int(namespace)) == namespace and int(namespace) <= _LARGEST_UID
        return int(namespace) if is_uid else self.owner


def is_namespace(name: str) -> bool:
    return _NAMESPACE.fullmatch(name) is not None


def _require_trusted(folder: Folder, owner: int) -> None:
    """Do nothing unless this process has root's rights in *folder*, and it is not root's."""
    if os.geteuid() == 0 and owner == 0:
        try:
            require_owner(folder.path, os.fstat(folder.handle), 0)
        except BaseException:
            os.close(folder.handle)
            raise
