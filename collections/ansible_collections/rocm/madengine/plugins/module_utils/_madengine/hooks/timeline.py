# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a job's start and end went: one JSON object a phase, in ``timeline.jsonl`` and in the journal.

A line holds ``time`` (seconds since the epoch, UTC, when the phase began), ``job_id``, ``node``, ``node_rank``,
``phase``, ``seconds``, ``result`` (``ok`` or the kind of fault: job, share, node, defect) and the phase's own facts,
such as ``bytes_moved``.

Source: architecture.md, "Observability".
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Callable, Dict, Iterator, List

from ..core.errors import Fault, PeerFault

Sink = Callable[[str], None]


class Timeline:
    """The phases of one job on one node.

    :param common: what every line carries.
    :param sinks: who gets each line, without a newline at its end; called once a phase. One that fails loses its line.
    """

    def __init__(self, common: Dict[str, Any], sinks: List[Sink]) -> None:
        self._common, self._sinks = common, sinks
        self.lines: List[Dict[str, Any]] = []

    @contextlib.contextmanager
    def step(self, phase: str, **facts: Any) -> Iterator[Dict[str, Any]]:
        """Time the block as *phase*; what it puts into the dictionary it gets is written down with the phase."""
        began, start = time.time(), time.monotonic()
        result = "ok"
        try:
            yield facts
        except BaseException as error:
            result = error.kind if isinstance(error, Fault) else "defect"
            facts = {**facts, **_blame(error)}
            raise
        finally:
            line = {"time": round(began, 3), "phase": phase, "seconds": round(time.monotonic() - start, 4), "result": result}
            self._write({**line, **facts, **line})  # a fact may come from a user's process: it takes the place of nothing of ours

    def seconds(self, phase: str) -> float:
        """Return how long *phase* took in all, 0 if it never ran."""
        return sum(float(line["seconds"]) for line in self.lines if line["phase"] == phase)

    def _write(self, line: Dict[str, Any]) -> None:
        self.lines.append(line)
        text = json.dumps({**self._common, **line, **self._common}, default=str)
        for sink in self._sinks:
            # A full disk or a silent journal costs the line, never the job, nor the fault that is on its way up.
            with contextlib.suppress(Exception):
                sink(text)


def appender(path: str) -> Sink:
    """Return a sink that appends to the file *path*; a line is one write, so a reader never sees half of one."""

    def append(text: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(handle, 0o644)
            os.write(handle, (text + "\n").encode("utf-8", "surrogateescape"))
        finally:
            os.close(handle)

    return append


def _blame(error: BaseException) -> Dict[str, str]:
    if isinstance(error, PeerFault):
        return {"fault": str(error), "fault_node": error.node}
    return {"fault": str(error)} if isinstance(error, Fault) else {}
