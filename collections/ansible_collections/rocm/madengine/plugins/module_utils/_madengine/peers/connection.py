# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket in a selector, with a state machine at its end.

Source: socket(7), tcp(7).
"""

from __future__ import annotations

import errno
import selectors
import socket
from typing import Callable, Generic, Optional, Tuple, TypeVar

from . import reserved
from .handshake import End

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_CHUNK = 65536

# A peer without power says nothing. The kernel asks for it, so a peer whose process is busy or stopped is no false
# alarm: silent for 10 s, then 4 questions 5 s apart; the same 30 s for what was sent and never acknowledged.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

AnyEnd = TypeVar("AnyEnd", bound=End)
News = Callable[["Connection[AnyEnd]"], None]


class Connection(Generic[AnyEnd]):
    """One connection; it closes itself when it is over, and tells its end when it is lost.

    :param end: takes bytes by ``receive``, holds those to send in ``outgoing``, and says when it ``is_over``.
    :param on_news: called after bytes came, and when the connection has ended.
    """

    def __init__(
        self, selector: selectors.BaseSelector, sock: socket.socket, end: AnyEnd, on_news: News[AnyEnd], is_connected: bool = True
    ) -> None:
        self._selector, self._socket = selector, sock
        self.end: AnyEnd = end
        self._on_news: News[AnyEnd] = on_news
        self._is_connected, self._is_shut = is_connected, False
        self.is_closed = False
        for option in _KEEPALIVE:
            sock.setsockopt(*option)
        self._mask = READ if is_connected else WRITE
        selector.register(sock, self._mask, self.ready)

    def ready(self, mask: int) -> None:
        """Do what the selector says is possible."""
        if self.is_closed:  # by an earlier event of the same turn
            return
        if not self._is_connected:
            self._connect()
        elif mask & READ:
            self._receive()
        self.flush()
        self._on_news(self)

    def flush(self) -> None:
        """Send what can be sent now, and close in order what is over."""
        if self.is_closed or not self._is_connected:
            return
        try:
            while self.end.outgoing:
                del self.end.outgoing[: self._socket.send(self.end.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
        self._finish()
        self._watch()

    def close(self) -> None:
        """Close at once; harmless if it is closed."""
        if not self.is_closed:
            self.is_closed = True
            self._selector.unregister(self._socket)
            self._socket.close()

    def _connect(self) -> None:
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lost()
        else:
            self._is_connected = True

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.end.receive(data)  # an end that is over takes no notice
        else:
            self._lost()

    def _lost(self) -> None:
        self.close()
        if not self.end.is_over:
            self.end.lost()

    def _finish(self) -> None:
        """After the last word, say that it was the last and wait for the other end's: a reset could overtake the word."""
        if self.end.is_over and not self.end.outgoing and not self._is_shut and not self.is_closed:
            self._is_shut = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()

    def _watch(self) -> None:
        mask = READ | WRITE if self.end.outgoing else READ
        if mask != self._mask and not self.is_closed:
            self._mask = mask
            self._selector.modify(self._socket, mask, self.ready)


def dial(
    selector: selectors.BaseSelector, family: int, number: str, port: int, end: AnyEnd, on_news: News[AnyEnd]
) -> Optional[Connection[AnyEnd]]:
    """Return a connection that is being made, or None if it fails at once."""
    for source in reserved.sources(port):
        try:
            sock, status = _dialling(family, number, port, source)
        except OSError:
            return None
        if status in (0, errno.EINPROGRESS):
            return Connection(selector, sock, end, on_news, is_connected=False)
        sock.close()
        if status not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
            return None
    return None


def _dialling(family: int, number: str, port: int, source: int) -> Tuple[socket.socket, int]:
    """Return a socket and how connect(2) went from the port *source*.

    :raises OSError: there is no socket to be had.
    """
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if source:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside those who dial somebody else from it
            sock.bind(("", source))
    except OSError as error:
        return sock, error.errno or errno.EINVAL
    return sock, sock.connect_ex((number, port))
