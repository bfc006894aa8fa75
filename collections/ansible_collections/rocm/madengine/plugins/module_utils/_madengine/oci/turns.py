# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sends first of several that send at once: the one whose bytes the other end can use first.

A daemon asks for three layers at once and unpacks them one after the other from the bottom up. Given in equal shares, the first
is whole when nearly all three are, and until then nothing is unpacked.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Callable, Dict, Iterator

_PATIENCE_SECONDS = 1.0


class Turns:
    """The order among threads; a rank is a number, and the lower goes first for as long as it gets on.

    Whoever gets nowhere loses its turn, so nobody waits for ever: the other end may well read a later one first, or two parts of one
    in any order, which is why equal ranks do not wait for each other.

    :param patience: how many seconds one may take over a piece before the others go on without it.
    """

    def __init__(self, patience: float = _PATIENCE_SECONDS) -> None:
        self._patience, self._changed = patience, threading.Condition()
        self._pieces: Dict[int, int] = {}  # rank of who sends → how many times it had its turn

    @contextlib.contextmanager
    def of(self, rank: int) -> Iterator[Callable[[], None]]:
        """Give what waits for the turn of *rank*; it is to be called before each piece."""
        try:
            yield lambda: self._wait(rank)
        finally:
            with self._changed:
                self._pieces.pop(rank, None)
                self._changed.notify_all()

    def _wait(self, rank: int) -> None:
        with self._changed:
            self._pieces[rank] = self._pieces.get(rank, 0) + 1
            while (first := min(self._pieces, default=rank)) < rank:
                seen = self._pieces[first]
                has_changed = self._changed.wait(self._patience)
                if not has_changed and self._pieces.get(first) == seen:
                    del self._pieces[first]
