# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an outcome means in each of SLURM's script contexts: the one place where a fault becomes an exit status.

===============  ==============================================  ===========================
outcome          Prolog                                          Epilog
===============  ==============================================  ===========================
a Fault          0; the verdict is written down for the tasks    0; written into the results
a NodeFault      drain if its part is in ``DrainOn`` and root    drain likewise
                 finds it broken by itself, else 0
a defect         0; the traceback is logged                      0; the traceback is logged
===============  ==============================================  ===========================

SLURM drains a node whose prolog or epilog exits with anything but 0, and requeues the job: that is for a node that
cannot serve, never for what a user, a share, a peer or we did wrong. (The TaskProlog is a shell script; it exits with
1 for any verdict that is a fault.)

Source: prolog and epilog guide, "Failure Handling"; measured with Slurm 22.05.8 and 24.11.5.
"""

from __future__ import annotations

import contextlib
import traceback
from typing import Callable, List, Sequence, Tuple

from ..core.errors import Fault, JobFault, NodeFault
from .timeline import Timeline

Say = Callable[[str], None]
Judge = Callable[[Fault], Fault]
Step = Tuple[str, Callable[[], None]]

DONE = 0
# No interpreter ends with this by itself (1 is a traceback, 2 a usage error), so that the gate can tell a decision to
# drain from a hook that is broken; the gate turns it into SLURM's 1 and everything else into 0.
DRAIN = 75


def run(story: Callable[[], None], on_fault: Callable[[Fault], None], say: Say, drain_on: Tuple[str, ...], judge: Judge) -> int:
    """Tell *story* and return what its outcome means: `DONE`, or `DRAIN` where this node must leave service.

    :param on_fault: writes a fault down where the job's tasks or its results will show it.
    :param say: logs one text; a traceback has several lines.
    :param drain_on: the parts of a node (``NodeFault.part``) for which it leaves service.
    :param judge: returns a fault as root finds it: one of the node that only a user's process has seen is the job's.
    """
    try:
        story()
    except Fault as fault:
        return _settled(_judged(fault, judge, say), on_fault, say, drain_on)
    except Exception:
        _tried(say, "madengine: defect: the job continues without our help\n" + traceback.format_exc())
    return DONE


def each(parts: Sequence[Step], log: Timeline, say: Say, drain_on: Tuple[str, ...] = ()) -> None:
    """Do every one of *parts*, as a phase of its name, whatever becomes of the others: an epilog cleans up in any case.

    :raises Fault: the gravest that a part raised, one of *drain_on* before any other; the others are said.
    """
    faults: List[Fault] = []
    for phase, part in parts:
        try:
            with log.step(phase):
                part()
        except Fault as fault:
            faults.append(fault)
        except Exception:
            _tried(say, f"madengine: defect: {phase} was left undone\n" + traceback.format_exc())
    faults.sort(key=lambda one: (not _drains(one, drain_on), not isinstance(one, NodeFault)))
    for lesser in faults[1:]:
        _tried(say, lesser.line())
    if faults:
        raise faults[0]


def _settled(fault: Fault, on_fault: Callable[[Fault], None], say: Say, drain_on: Tuple[str, ...]) -> int:
    drains = _drains(fault, drain_on)
    _tried(say, fault.line() + ("; this node leaves service" if drains else ""))
    try:
        on_fault(fault)
    except Exception:  # a full disk may be the very reason
        _tried(say, "madengine: defect: the fault could not be written down\n" + traceback.format_exc())
    return DRAIN if drains else DONE


def _judged(fault: Fault, judge: Judge, say: Say) -> Fault:
    try:
        return judge(fault)
    except Exception:  # then nobody has seen it but who was told
        _tried(say, "madengine: defect: this node could not be looked at\n" + traceback.format_exc())
        return JobFault(fault.what, fault.remedy) if isinstance(fault, NodeFault) else fault


def _tried(say: Say, text: str) -> None:
    # A log that cannot be reached must not keep the verdict from being written down.
    with contextlib.suppress(Exception):
        say(text)


def _drains(fault: Fault, drain_on: Tuple[str, ...]) -> bool:
    return isinstance(fault, NodeFault) and fault.part in drain_on
