# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preflight has found, for a reader: what is not ok first, nodes with the same finding in one row.

Source: NHC and clustershell's clubak for the form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from ..slurm.hostlist import listed
from .checks import FAIL, NAMES, OK, STATUSES, WARN, Check, worst

CLUSTER = "cluster"  # where a check stands that one node makes for all
_OF_CLUSTER = ("slurm",)
_EXAMPLES = 2
_DIGITS = re.compile(r"[0-9][0-9.]*")


@dataclass(frozen=True)
class Row:
    """One finding and the nodes that share it.

    :param seen: what was found; where nodes differ in numbers alone, some of them as examples.
    """

    check: str
    status: str
    nodes: Tuple[str, ...]
    seen: str
    remedy: str

    def to_dict(self) -> Dict[str, Any]:
        return {"check": self.check, "status": self.status, "nodes": list(self.nodes), "seen": self.seen, "remedy": self.remedy}


def rows(checks: Mapping[str, Sequence[Check]]) -> List[Row]:
    """Return the findings, what fails first and then in the order of `NAMES`; equal ones are one row."""
    groups: Dict[Tuple[str, str, str, str], Dict[str, str]] = {}
    for node, each in checks.items():
        for check in each:
            shape = "" if check.status == OK else _DIGITS.sub("#", check.seen)
            place = CLUSTER if check.name in _OF_CLUSTER else node
            groups.setdefault((check.status, check.name, check.remedy, shape), {})[place] = check.seen
    found = [Row(name, status, tuple(seen), _shown(seen), remedy) for (status, name, remedy, _seen), seen in groups.items()]
    return sorted(found, key=lambda row: (-STATUSES.index(row.status), _place(row.check)))


def table(found: Sequence[Row], nodes: Sequence[str]) -> str:
    """Return the report: what is not ok with its remedy, then in one line what is, and what could not be looked at."""
    bad = [row for row in found if row.status != OK]
    lines = [headline(found, nodes), ""] if bad else [headline(found, nodes)]
    names, places = _width([row.check for row in bad]), _width([listed(row.nodes) for row in bad])
    for row in bad:
        status = row.status.upper() if row.status == FAIL else row.status
        lines.append(f"{status:<4}  {row.check:<{names}}  {listed(row.nodes):<{places}}  {row.seen}")
        lines.append(f"{'':<{names + places + 10}}-> {row.remedy}")
    rest = [line for line in (_fine(found), *_left_out(found, nodes)) if line]
    lines += [""] * bool(bad and rest) + rest
    return "\n".join(lines)


def headline(found: Sequence[Row], nodes: Sequence[str]) -> str:
    """Return the one line that says whether jobs may come."""
    failing = {node for row in found if row.status == FAIL for node in row.nodes}
    warned = {row.check for row in found if row.status == WARN}
    if CLUSTER in failing:
        said = "SLURM's settings do not fit, for any node"
    elif failing:
        said = f"{len(failing)} of {len(nodes)} nodes fail: {listed(failing, count=False)}"
    else:
        said = f"all {len(nodes)} nodes are ready" if len(nodes) != 1 else "the node is ready"
    return f"preflight: {said}" + (f" ({len(warned)} warning{'s' * (len(warned) > 1)})" if warned else "")


def status(found: Iterable[Row]) -> str:
    """Return the worst status of all."""
    return worst(row.status for row in found)


def _shown(seen: Mapping[str, str]) -> str:
    """Return what was seen: once if it is the same for all, else of some nodes, with their names."""
    if len(set(seen.values())) == 1:
        return next(iter(seen.values()))
    examples = [f"{node}: {text}" for node, text in list(seen.items())[:_EXAMPLES]]
    rest = len(seen) - len(examples)
    return "; ".join(examples) + (f"; and {rest} like these" if rest else "")


def _width(texts: Sequence[str]) -> int:
    return max(map(len, texts), default=0)


def _place(name: str) -> Tuple[int, str]:
    return (NAMES.index(name) if name in NAMES else len(NAMES), name)


def _fine(found: Sequence[Row]) -> str:
    bad = {row.check for row in found if row.status != OK}
    fine = dict.fromkeys(row.check for row in found if row.check not in bad)
    return f"ok    {', '.join(fine)}" if fine else ""


def _left_out(found: Sequence[Row], nodes: Sequence[str]) -> Iterator[str]:
    """Say where a check was not made that was made elsewhere: that is not the same as ok."""
    silent = {node for row in found if row.check == "node" for node in row.nodes}
    left_out: Dict[str, List[str]] = {}
    for name in dict.fromkeys(row.check for row in found):
        made = {node for row in found if row.check == name for node in row.nodes}
        where = [node for node in nodes if node not in made and node not in silent]
        if where and name not in (*_OF_CLUSTER, "node"):
            left_out.setdefault(listed(where), []).append(name)
    for place, checks in left_out.items():
        yield f"?     {', '.join(checks)}: not looked at on {place}"
