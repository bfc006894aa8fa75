# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's host list expressions, expanded and folded without asking a daemon.

Source: slurm.conf(5), "NodeName"; compared with ``scontrol show hostnames`` of Slurm 24.11.5 by the tests.
"""

from __future__ import annotations

import itertools
import re
from typing import Collection, Dict, Iterable, Iterator, List, Tuple

from ..core.errors import JobFault

_MOST_HOSTS = 100_000  # SLURM's own limit is 64k nodes; a list that names more is no allocation
_MOST_DIGITS = 20
_LONGEST_LISTED = 40  # characters of a table's column
_PART = re.compile(r"(?:[^\[\],]|\[[^\[\]]*\])+")
_PIECE = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def expand(hostlist: str) -> List[str]:
    """Return the hosts that *hostlist* names, in its own order (rank 0 first).

    :param hostlist: as SLURM writes it in ``SLURM_JOB_NODELIST``; zero padding is part of a name.
    :returns: one name per host, repeats kept, never empty.
    :raises JobFault: *hostlist* is empty or not a host list; the message shows the faulty part.

    >>> expand("n[08-10],login1")
    ['n08', 'n09', 'n10', 'login1']
    """
    hosts: List[str] = []
    for part in _split(hostlist):
        hosts.extend(_hosts(part))
        if len(hosts) > _MOST_HOSTS:
            raise _refused(part)
    return hosts


def fold(names: Iterable[str]) -> str:
    """Return *names* as SLURM writes a host list, sorted; `hostlist.expand` gives them back.

    >>> fold(["n9", "n10", "login", "n07", "n08"])
    'login,n[07-08,9-10]'
    """
    families: Dict[Tuple[str, str], List[str]] = {}
    plain = []
    for name in set(names):
        match = _NUMBERED.fullmatch(name)
        if match:
            families.setdefault((match.group(1), match.group(3)), []).append(match.group(2))
        else:
            plain.append(name)
    folded = [f"{head}{_ranges(numbers)}{tail}" for (head, tail), numbers in families.items()]
    return ",".join(sorted([*plain, *folded]))


def listed(nodes: Collection[str], count: bool = True) -> str:
    """Return *nodes* folded, and cut if they have no pattern.

    :param count: whether what was cut says how many there are.
    """
    text = fold(nodes)
    if len(text) <= _LONGEST_LISTED:
        return text
    return text[: _LONGEST_LISTED - 1] + "…" + (f" ({len(nodes)} nodes)" if count else "")


def _split(hostlist: str) -> List[str]:
    parts, end = [], -1
    for match in _PART.finditer(hostlist):
        # Whatever lies between two parts must be the one comma that separates them.
        if match.start() != end + 1 or (end >= 0 and hostlist[end] != ","):
            raise _refused(hostlist)
        parts.append(match.group())
        end = match.end()
    if not parts or end != len(hostlist):
        raise _refused(hostlist)
    return parts


def _hosts(part: str) -> List[str]:
    choices, product = [], 1
    for ranges, literal in _PIECE.findall(part):
        choices.append([literal] if literal else _numbers(ranges, part))
        product *= len(choices[-1])
        if product > _MOST_HOSTS:
            raise _refused(part)
    names = list(_names(choices))
    if not all(_NAME.fullmatch(name) for name in names):
        raise _refused(part)
    return names


def _names(choices: List[List[str]]) -> Iterator[str]:
    """Yield the names in SLURM's order: the last bracket runs fastest, then those before it, the first of them first."""
    last = max((place for place, choice in enumerate(choices) if len(choice) > 1), default=len(choices) - 1)
    before, running, after = choices[:last], choices[last], choices[last + 1 :]
    for pieces in itertools.product(*reversed(before), running):
        yield "".join((*reversed(pieces[:-1]), pieces[-1], *(choice[0] for choice in after)))


def _numbers(ranges: str, part: str) -> List[str]:
    numbers: List[str] = []
    for item in ranges.split(","):
        match = _RANGE.fullmatch(item)
        if not match:
            raise _refused(part)
        low, high = match.group(1), match.group(2) or match.group(1)
        if max(len(low), len(high)) > _MOST_DIGITS or not 0 <= int(high) - int(low) < _MOST_HOSTS - len(numbers):
            raise _refused(part)
        numbers.extend(str(number).zfill(len(low)) for number in range(int(low), int(high) + 1))
    return numbers


def _refused(part: str) -> JobFault:
    return JobFault("hostlist: not a host list", "give it as SLURM writes it, such as n[01-03]", part=part)


def _ranges(numbers: List[str]) -> str:
    runs: List[Tuple[str, str]] = []
    for text in sorted(numbers, key=lambda text: (-len(text) if text.startswith("0") else 0, int(text))):
        # Expanding pads every number of a range to the width of its first.
        if runs and str(int(runs[-1][1]) + 1).zfill(len(runs[-1][0])) == text:
            runs[-1] = (runs[-1][0], text)
        else:
            runs.append((text, text))
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return runs[0][0]
    return "[" + ",".join(low if low == high else f"{low}-{high}" for low, high in runs) + "]"
