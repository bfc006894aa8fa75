# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's journal, where an admin looks first: ``journalctl -t madengine``.

A file of its own beside `timeline`: that one is a value for one job, told where its lines go and free of the system's logger,
while this is the process's one connection to it, which faults, defects and the epilog's parts speak to without any timeline.

Source: syslog(3). SLURM throws a prolog's own output away.
"""

from __future__ import annotations

import syslog
from typing import Dict

TAG = "madengine"
_LEVELS: Dict[str, int] = {"error": syslog.LOG_ERR, "info": syslog.LOG_INFO, "debug": syslog.LOG_DEBUG}


def open_at(level: str) -> None:
    """Let through what is at least as grave as *level*: error, info or debug (``LogLevel``)."""
    syslog.openlog(TAG, syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.setlogmask(syslog.LOG_UPTO(_LEVELS[level]))


def say(text: str) -> None:
    """Log *text* as an error, a line at a time."""
    _log(syslog.LOG_ERR, text)


def note(text: str) -> None:
    """Log *text* as information."""
    _log(syslog.LOG_INFO, text)


def _log(level: int, text: str) -> None:
    for line in text.splitlines():
        if line:
            # What a path holds need not be UTF-8; a line that cannot be said would take the epilog's other parts with it.
            syslog.syslog(level, line.replace("\0", "?").encode("utf-8", "backslashreplace").decode())
