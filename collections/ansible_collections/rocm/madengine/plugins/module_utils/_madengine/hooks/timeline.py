# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a job's start and end went: one JSON object a phase, in ``timeline.jsonl`` and in the journal.

A line holds ``time`` (seconds since the epoch, UTC, when the phase began), ``job_id``, ``node``, ``node_rank``,
``phase``, ``seconds``, ``result`` (``ok`` or the kind of fault: job, share, node, defect) and the phase's own facts,
such as ``bytes_moved``. A fault is here what root found it to be: the counters are made of these lines, and they wake people up.

Source: architecture.md, "Observability".
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ..core.errors import Fault, JobFault, NodeFault, PeerFault

Sink = Callable[[str], None]


class Timeline:
    """The phases of one job on one node.

    :param common: what every line carries.
    :param sinks: who gets each line, without a newline at its end; called once a phase. One that fails loses its line.
    :param judge: returns a fault as root finds it, as for `exit_status.run`.
    """

    def __init__(self, common: Dict[str, Any], sinks: List[Sink], judge: Callable[[Fault], Fault] = lambda fault: fault) -> None:
        self._common, self._sinks, self._judge = common, sinks, judge
        self.lines: List[Dict[str, Any]] = []

    @contextlib.contextmanager
    def step(self, phase: str, **facts: Any) -> Iterator[Dict[str, Any]]:
        """Time the block as *phase*; what it puts into the dictionary it gets is written down with the phase."""
        began, start = time.time(), time.monotonic()
        fault: Optional[BaseException] = None
        try:
            yield facts
        except BaseException as error:
            fault = error
            raise
        finally:
            seconds = round(time.monotonic() - start, 4)
            result, blame = self._outcome(fault)
            line = {"time": round(began, 3), "phase": phase, "seconds": seconds, "result": result}
            self._write({**line, **facts, **blame, **line})  # a fact may come from a user's process: it takes the place of nothing of ours

    def seconds(self, phase: str) -> float:
        """Return how long *phase* took in all, 0 if it never ran."""
        return sum(float(line["seconds"]) for line in self.lines if line["phase"] == phase)

    def _outcome(self, error: Optional[BaseException]) -> Tuple[str, Dict[str, str]]:
        """Return what a phase came to, and what is said of that."""
        if not isinstance(error, Fault):
            return "ok" if error is None else "defect", {}
        try:
            judged = self._judge(error)
        except Exception:  # as in `exit_status`: then nobody has seen it but who was told
            judged = JobFault(error.what, error.remedy) if isinstance(error, NodeFault) else error
        return judged.kind, _blame(judged)

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


def _blame(fault: Fault) -> Dict[str, str]:
    return {"fault": str(fault), **({"fault_node": fault.node} if isinstance(fault, PeerFault) else {})}
