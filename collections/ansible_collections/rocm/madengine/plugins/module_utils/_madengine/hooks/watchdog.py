# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An end to a hook, whatever it waits for: slurmd waits for the process that it has started, and that one does no work.

Even root hangs where a user has put a filesystem that answers nobody, and no deadline of ours is asked there. So the hook
is a child, and its parent does three things: it waits, it says what it has to say, and it ends what is left.

Source: slurmd waits for a prolog for ever unless the site sets ``PrologTimeout`` (slurm.conf(5)), and then drains the node.
"""

from __future__ import annotations

import os
from typing import Callable

from ..core import descendants, process

MARGIN_SECONDS = 60.0  # what a hook may take beyond its deadline: farewells, leases, a look at the node


def guarded(work: Callable[[], int], seconds: float, on_late: Callable[[], None], on_death: Callable[[int], None]) -> int:
    """Return the status that *work* ends with in a child, or 0 where it does not end within *seconds* or dies.

    Nothing that it started is left, but for what nobody can end.

    :param on_late: says and writes down that the time is up; what is still at work is ended after that.
    :param on_death: says that *work* was killed by a signal, which it is told.
    """
    descendants.adopt()
    pid = process.fork(lambda: _live(work, os.getppid()), keep=())
    status = descendants.wait(pid, seconds)
    try:
        if status is None:
            on_late()
        elif not os.WIFEXITED(status):
            on_death(os.WTERMSIG(status))
    finally:
        if status is None:
            descendants.end(pid)
        descendants.end_all()
    return os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else 0


def _live(work: Callable[[], int], parent: int) -> int:
    # slurmd reads a script's output to its end, so what cannot be ended must not hold it open. The journal has what we say.
    os.dup2(1, 2)
    descendants.die_with(parent)
    return work()
