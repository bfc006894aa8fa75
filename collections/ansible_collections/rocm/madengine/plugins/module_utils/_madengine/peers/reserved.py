# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports that nobody but root can bind: who listens on one is no user, and who comes from one is none either.

The kernel drops what comes from another port before it costs the listener anything: no connection, no answer, no turn of
the loop. It is no proof, and takes the place of none: on a node where users may bind such ports, the key still counts.

Source: ip(7), "ip_unprivileged_port_start"; Linux, Documentation/networking/filter.rst and tcp_v4_rcv(), which runs the
filter of a listening socket over the TCP header of each packet.
"""

from __future__ import annotations

import ctypes
import random
import socket
import struct
from typing import List

FIRST_OF_USERS = 1024
_SOURCES = range(600, FIRST_OF_USERS)  # as bindresvport(3), which daemons of old leave free
_TRIED_SOURCES = 32

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_LOAD_HALFWORD, _JUMP_IF_GREATER_OR_EQUAL, _RETURN = 0x28, 0x35, 0x06
_SOURCE_PORT = 0  # offset in the TCP header
_DROP, _ALL = 0, 0xFFFFFFFF
_FROM_RESERVED_PORTS = (
    (_LOAD_HALFWORD, 0, 0, _SOURCE_PORT),
    (_JUMP_IF_GREATER_OR_EQUAL, 0, 1, FIRST_OF_USERS),
    (_RETURN, 0, 0, _DROP),
    (_RETURN, 0, 0, _ALL),
)


def is_reserved(port: int) -> bool:
    return port < FIRST_OF_USERS


def sources(port: int) -> List[int]:
    """Return the ports from which *port* may be dialled, to be tried in turn; 0 is any."""
    return random.sample(_SOURCES, _TRIED_SOURCES) if is_reserved(port) else [0]


def admit_no_users(listener: socket.socket) -> None:
    """Have the kernel drop what comes to *listener*, which does not listen yet, from a port that a user can bind.

    :raises OSError: the kernel has no filters.
    """
    program = b"".join(_INSTRUCTION.pack(*instruction) for instruction in _FROM_RESERVED_PORTS)
    held = ctypes.create_string_buffer(program, len(program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _program(len(_FROM_RESERVED_PORTS), ctypes.addressof(held)))


def _program(length: int, address: int) -> bytes:
    """Return ``struct sock_fprog``."""
    return struct.pack("@HP", length, address)
