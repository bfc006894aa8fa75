# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the other end of a connection on this node's loopback is, as the kernel knows it.

The kernel is asked for the one socket, by its two addresses: a table of all sockets (``/proc/net/tcp``) is as long as
users make it.

Source: sock_diag(7), "IPv4 and IPv6 sockets"; netlink(7). An answer has the uid of the socket's maker; of a socket that its
process has closed already, the inode is 0 and the uid means nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import Optional, Tuple

NOBODY = -1  # the other end has been closed
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_ALL_STATES, _NO_COOKIE = 0xFFFFFFFF, b"\xff" * 8
_SECONDS = 1.0  # a kernel answers in the call
_LARGEST_ANSWER = 64 << 10
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_UID_INODE = struct.Struct("=II")
# struct inet_diag_msg: four bytes, 48 of the two addresses, then expires, rqueue, wqueue, uid, inode.
_UID_AT = _HEADER.size + 4 + 48 + 12

Address = Tuple[str, int]


def of_peer(connection: socket.socket) -> Optional[int]:
    """Return the uid of who made the other end of an IPv4 *connection* within this node; `NOBODY` if that is closed.

    :returns: None where the kernel does not say: it has no ``tcp_diag``, or the other end is in another network namespace.
    """
    with contextlib.suppress(OSError, struct.error):
        peer, own = connection.getpeername(), connection.getsockname()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_SECONDS)
            kernel.sendto(_question(peer, own), (0, 0))
            return _uid(kernel.recv(_LARGEST_ANSWER))
    return None


def trusted(path: str) -> Tuple[int, ...]:
    """Return the uids as which the daemon behind the socket *path* can come: root's, ours, and the socket's owner's."""
    uids = {0, os.geteuid()}
    with contextlib.suppress(OSError, ValueError):  # it is no file
        uids.add(os.stat(path).st_uid)
    return tuple(sorted(uids))


def _question(source: Address, destination: Address) -> bytes:
    addresses = b"".join(socket.inet_aton(host).ljust(16, b"\0") for host, _port in (source, destination))
    ports = struct.pack("!HH", source[1], destination[1])
    body = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ALL_STATES) + ports + addresses + struct.pack("=I", 0) + _NO_COOKIE
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body


def _uid(answer: bytes) -> Optional[int]:
    if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    uid, inode = _UID_INODE.unpack_from(answer, _UID_AT)
    return int(uid) if inode else NOBODY
