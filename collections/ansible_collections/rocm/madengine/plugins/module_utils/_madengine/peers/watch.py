# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that a child answers while a session goes on, beside its sockets; one of them now and then: is all this still wanted?

The pauses grow and no two jobs keep the same, so that many jobs that wait do not ask at once, nor often.
"""

from __future__ import annotations

import contextlib
import random
import selectors
from typing import Any, Callable, Optional

from ..core.deadline import Deadline
from ..core.errors import Fault
from ..core.process import Child

FIRST_SECONDS, LONGEST_SECONDS = 4.0, 60.0


class Question:
    """What a child is asked; no answer is as if nobody had asked.

    :param selector: the session's; when it turns, `answer` may have come.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._child: Optional[Child] = None
        self.answer: Any = None

    @property
    def is_open(self) -> bool:
        return self._child is not None

    def ask(self, begin: Callable[[], Child]) -> None:
        with contextlib.suppress(Fault, OSError):
            self._child = begin()
            self._selector.register(self._child, selectors.EVENT_READ, lambda _mask: self._hear())

    def close(self) -> None:
        """End a question that is under way."""
        if self._child is not None:
            self._child.kill()

    def _hear(self) -> None:
        child = self._child
        if child is None or not child.receive():
            return
        self._selector.unregister(child)
        self._child = None
        with contextlib.suppress(Fault, RuntimeError):
            self.answer = child.result()


class Watch:
    """A question that comes back.

    :param selector: the session's.
    :param begin: begins a child that returns a reason to stop, or ""; None where nobody asks.
    """

    def __init__(self, selector: selectors.BaseSelector, begin: Optional[Callable[[], Child]]) -> None:
        self._question, self._begin = Question(selector), begin
        self._pause = FIRST_SECONDS
        self._next = self._after_pause()

    @property
    def reason(self) -> str:
        return str(self._question.answer or "")

    def look(self) -> None:
        """Ask, if it is time to; what comes back is `reason`, once the selector has turned."""
        if self._begin is None or self._question.is_open or not self._next.has_passed():
            return
        self._pause = min(LONGEST_SECONDS, 2 * self._pause)
        self._next = self._after_pause()
        self._question.ask(self._begin)

    def close(self) -> None:
        self._question.close()

    def _after_pause(self) -> Deadline:
        return Deadline(self._pause * random.uniform(0.5, 1.5))  # noqa: S311  not a secret
