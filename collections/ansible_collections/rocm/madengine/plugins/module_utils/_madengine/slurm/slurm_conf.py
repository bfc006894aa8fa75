# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a slurm.conf: what the hooks need is merged into it, and taken out again, and the rest stays as it is.

A line that we change is kept above the new one, as a comment with `MARK`, so the file itself says what it was before and
`restored` needs nothing else::

    # before rocm.madengine: PrologFlags=X11
    PrologFlags=X11,Alloc,DeferBatch

A SLURM that takes several lines of ``Prolog`` and ``Epilog`` keeps the site's as they are, beside ours. An older one knows
one of each: there ours takes its place, and `displaced` names what has to go on elsewhere.

Source: slurm.conf(5); Slurm's parse_config.c for what a line is: several ``key=value`` may share one, ``#`` begins a
comment unless a backslash stands before it, a backslash at a line's end joins it with the next.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from ..core.errors import JobFault
from . import settings

MARK = "# before rocm.madengine:"
_NOTHING = " (no such line)"  # what stands behind the mark of a line that was not there at all
_PAIR = re.compile(r'(?P<key>[A-Za-z0-9_.]+)\s*[-*+/]?=\s*(?P<value>"[^"]*"|\S+)')
_INCLUDE = re.compile(r"\s*include\s+(\S+)", re.IGNORECASE)
_COMMENT = re.compile(r"(?<!\\)#.*", re.DOTALL)
PROGRAMS = ("Prolog", "Epilog", "TaskProlog")
SEVERAL_SINCE = (24, 11)  # the release from which each line of Prolog and of Epilog counts (measured: 24.11.5; not in 22.05.8)
CLI_FILTER = "cli_filter/lua"
FILTERS = {"clifilterplugins"}
ALWAYS = {"prologflags", "prolog", "epilog", "taskprolog", "prologepilogtimeout", "prologtimeout", "batchstarttimeout", "authinfo"}
MANAGED = ALWAYS | FILTERS


@dataclass(frozen=True)
class Wanted:
    """What the hooks need of SLURM.

    :param prolog: the value of ``Prolog``, e.g. ``/etc/slurm/prolog.d/*``; the others likewise.
    :param deadline_seconds: the longest that a prolog may take.
    :param has_cli_filter: whether the commands that submit jobs run SLURM's filter in Lua.
    :param takes_several: whether this SLURM takes several lines of ``Prolog`` and ``Epilog``.
    """

    prolog: str
    epilog: str
    task_prolog: str
    deadline_seconds: float
    has_cli_filter: bool = False
    takes_several: bool = False

    def keys(self) -> Set[str]:
        """Return what `merged` may set, in small letters."""
        return MANAGED if self.has_cli_filter else ALWAYS

    def least_seconds(self) -> int:
        """Return how long SLURM's own timers must be at least."""
        return math.ceil(self.deadline_seconds) + settings.MARGIN_SECONDS


def merged(text: str, wanted: Wanted) -> str:
    """Return *text* with what the hooks need; the same text if it has all of it.

    Where the filter is not wanted any more, what we have set for it goes.

    :raises JobFault: a setting stands in it more than once, or names several programs, so that no single line can be changed.
    """
    lines = list(_lines(_ended(text if wanted.has_cli_filter else restored(text, FILTERS))))
    if wanted.takes_several:
        lines = _beside(_beside(lines, "Prolog", wanted.prolog), "Epilog", wanted.epilog)
    for key, rule in _rules(wanted).items():
        lines = _with(lines, key, rule)
    return "".join(lines)


def restored(text: str, keys: Set[str] = MANAGED) -> str:
    """Return *text* as it was before `merged`: each changed line as it stood, each added one gone.

    What else has been changed in the meantime stays.

    :param keys: of these settings alone, in small letters; by default of all that `merged` may set.
    """
    out: List[str] = []
    marked: List[str] = []
    for line in _lines(text):
        if line.startswith(MARK):
            marked.append(line)
            continue
        out += map(_unmarked, marked) if marked and _keys(line) & keys else [*_left(marked, keys), line]
        marked = []
    return "".join(out + _left(marked, keys))


def displaced(text: str) -> Dict[str, str]:
    """Return the programs of the site's in whose place `merged` has put our own in *text*, by key."""
    before, now = programs(restored(text)), programs(text)
    return {key: value for key, value in before.items() if value and not set(value.split(",")) <= set(now[key].split(","))}


def of_the_site(text: str) -> Dict[str, List[str]]:
    """Return the programs that *text* names without us, by key, in SLURM's order."""
    return {key: [name for name in value.split(",") if name] for key, value in programs(restored(text)).items()}


def resolved(name: str, path: str) -> str:
    """Return the program *name* of the slurm.conf *path* as SLURM finds it.

    >>> resolved("prolog.sh", "/etc/slurm/slurm.conf")
    '/etc/slurm/prolog.sh'
    """
    return os.path.join(os.path.dirname(path), name)


def programs(text: str) -> Dict[str, str]:
    """Return the programs that *text* names, by key; several of a kind are one list, as ``slurm.parse`` has it."""
    found: Dict[str, str] = dict.fromkeys(PROGRAMS, "")
    keys = {key.lower(): key for key in PROGRAMS}
    for name, value in (pair for line in _lines(text) for pair in _pairs(line) if pair[0] in keys):
        found[keys[name]] = ",".join(part for part in (found[keys[name]], value) if part)
    return found


def filters(text: str) -> List[str]:
    """Return the filters of submissions that *text* names, by their full names.

    >>> filters("CliFilterPlugins=lua,cli_filter/syslog")
    ['cli_filter/lua', 'cli_filter/syslog']
    """
    return [name if "/" in name else f"cli_filter/{name}" for name in values(text).get("clifilterplugins", "").split(",") if name]


def values(text: str) -> Dict[str, str]:
    """Return the settings in *text*, by their keys in small letters; of several, the last.

    >>> values("prologflags = X11 # no more")
    {'prologflags': 'X11'}
    """
    return {key: value for line in _lines(text) for key, value in _pairs(line)}


def nodes(text: str) -> List[Dict[str, str]]:
    """Return the settings of each line of *text* that defines nodes, by their keys in small letters.

    >>> nodes("NodeName=n[1-2] NodeAddr=10.0.0.[1-2]")
    [{'nodename': 'n[1-2]', 'nodeaddr': '10.0.0.[1-2]'}]
    """
    lines = [dict(_pairs(line)) for line in _lines(text)]
    return [line for line in lines if "nodename" in line]


def includes(text: str) -> List[str]:
    """Return the names of the files that *text* includes, as they stand there."""
    return _includes(text)


def included(text: str, path: str, read: Callable[[str], Optional[str]], keys: Set[str] = MANAGED) -> Dict[str, str]:
    """Return where files that *text* includes, and theirs, set what the hooks need: path by key in small letters.

    :param path: where *text* is, for names without a directory.
    :param read: gives a file's text, or None where there is none.
    :param keys: the settings to look for.
    """
    found: Dict[str, str] = {}
    waiting, seen = [(text, path)], {path}
    while waiting:
        content, place = waiting.pop()
        for name in _includes(content):
            other = os.path.join(os.path.dirname(place), name)
            more = None if other in seen else read(other)
            seen.add(other)
            if more is not None:
                found.update({key: other for key in values(more) if key in keys})
                waiting.append((more, other))
    return found


# --- The rules: what a setting should be, given what it is; None where it may stay -----------------------------------------

_Rule = Callable[[Optional[str]], Optional[str]]


def _rules(wanted: Wanted) -> Mapping[str, _Rule]:
    least = wanted.least_seconds()
    rules: Dict[str, _Rule] = {"CliFilterPlugins": _filters} if wanted.has_cli_filter else {}
    return {
        **rules,
        "PrologFlags": _flags,
        "Prolog": lambda value: _program(value, wanted.prolog),
        "Epilog": lambda value: _program(value, wanted.epilog),
        "TaskProlog": lambda value: _program(value, wanted.task_prolog),
        "PrologEpilogTimeout": lambda value: _limit(value, least, "unlimited"),
        "PrologTimeout": lambda value: _limit(value, least, "unlimited"),
        "BatchStartTimeout": lambda value: _limit(value, least, "10"),
        "AuthInfo": lambda value: _credential(value, least),
    }


def _flags(value: Optional[str]) -> Optional[str]:
    have = [flag for flag in (value or "").split(",") if flag]
    missing = [flag for flag in ("Alloc", "DeferBatch") if flag.lower() not in {one.strip().lower() for one in have}]
    return ",".join(have + missing) if missing else None


def _filters(value: Optional[str]) -> Optional[str]:
    have = [name for name in (value or "").split(",") if name]
    return None if {CLI_FILTER, "lua"} & set(have) else ",".join([*have, CLI_FILTER])


def _program(value: Optional[str], ours: str) -> Optional[str]:
    return None if value == ours else ours


def _limit(value: Optional[str], least: int, default: str) -> Optional[str]:
    limit = settings.seconds(value or default)
    return str(least) if limit is not None and limit < least else None


def _credential(value: Optional[str], least: int) -> Optional[str]:
    parts = [part for part in (value or "").split(",") if part]
    limit = next((settings.seconds(part.partition("=")[2]) for part in parts if part.startswith("cred_expire=")), 120)
    if limit is None or limit >= least:
        return None
    return ",".join([part for part in parts if not part.startswith("cred_expire=")] + [f"cred_expire={least}"])


# --- Lines ---------------------------------------------------------------------------------------------------------------


def _lines(text: str) -> Iterator[str]:
    """Give each line as SLURM takes it, ends and all: what a backslash joins is one. In a comment it joins nothing."""
    joined = ""
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        joined += line
        if not _is_continued(line):
            yield joined
            joined = ""
    if joined:
        yield joined


def _ended(text: str) -> str:
    """Return *text* with an end to its last line, so that no line of ours becomes a part of it."""
    if not text or text.endswith("\n"):
        return text
    return text + ("\n\n" if _is_continued(text.rpartition("\n")[2]) else "\n")


def _physical(line: str) -> List[str]:
    """Return a line's parts as the file has them, without their ends."""
    return (line[:-1] if line.endswith("\n") else line).split("\n")


def _is_continued(line: str) -> bool:
    code = _COMMENT.sub("", line).rstrip()
    return (len(code) - len(code.rstrip("\\"))) % 2 == 1


def _code(line: str) -> str:
    """Return what SLURM reads of a line, in one piece."""
    parts = [_COMMENT.sub("", part).rstrip() for part in _physical(line)]
    return "".join(part[:-1] if _is_continued(part) else part for part in parts)


def _pairs(line: str) -> List[Tuple[str, str]]:
    code = _code(line)
    if _INCLUDE.match(code):
        return []
    return [(match.group("key").lower(), match.group("value").strip('"')) for match in _PAIR.finditer(code)]


def _keys(line: str) -> Set[str]:
    return {key for key, _value in _pairs(line)}


def _includes(text: str) -> List[str]:
    matches = (_INCLUDE.match(_code(line)) for line in _lines(text))
    return [match.group(1).strip('"') for match in matches if match]


def _with(lines: List[str], key: str, rule: _Rule) -> List[str]:
    """Return *lines* with *key* as *rule* wants it."""
    found = [(number, value) for number, line in enumerate(lines) for name, value in _pairs(line) if name == key.lower()]
    if not found:
        value = rule(None)
        return lines if value is None else _appended(lines, f"{key}={value}\n")
    if any(rule(value) is None for _number, value in found):
        return lines
    if len(found) > 1:
        places = [number + 1 for number, _value in found]
        raise JobFault("slurm_conf: a setting stands there more than once", "leave one line of it", key=key, places=places)
    ((place, value),) = found
    above = [] if place and lines[place - 1].startswith(MARK) else [_marked(lines[place])]
    return lines[:place] + above + [_replaced(lines[place], key, str(rule(value)))] + lines[place + 1 :]


def _beside(lines: List[str], key: str, ours: str) -> List[str]:
    """Return *lines* with one more of *key* where the site has its own: our prolog after theirs, our epilog before theirs."""
    places = [number for number, line in enumerate(lines) if key.lower() in _keys(line)]
    if not places or any((key.lower(), ours) in _pairs(line) for line in lines):
        return lines
    place = places[-1] + 1 if key == "Prolog" else places[0]
    if place == len(lines):
        return _appended(lines, f"{key}={ours}\n")
    while place and lines[place - 1].startswith(MARK):  # a mark belongs to the line below it
        place -= 1
    return [*lines[:place], f"{MARK}{_NOTHING}\n", f"{key}={ours}\n", *lines[place:]]


def _left(marked: List[str], keys: Set[str]) -> List[str]:
    """Return what becomes of marks above a line that is not to be given back: that of another setting stays.

    Where all settings are given back, somebody has taken our line away.
    """
    return marked if keys < MANAGED else [_unmarked(line) for line in marked]


def _appended(lines: List[str], line: str) -> List[str]:
    return [*lines, f"{MARK}{_NOTHING}\n", line]


def _replaced(line: str, key: str, value: str) -> str:
    """Return *line*, in one piece, with another *value*; a comment at its end stays."""
    code, parts = _code(line), _physical(line)
    comment = _COMMENT.search(parts[-1])
    match = next(match for match in _PAIR.finditer(code) if match.group("key").lower() == key.lower())
    changed = code[: match.start()] + f"{key}={value}" + code[match.end() :]
    return changed + (f" {comment.group()}" if comment else "") + "\n"


def _marked(line: str) -> str:
    return "".join(f"{MARK} {part}\n" for part in _physical(line))


def _unmarked(line: str) -> str:
    return "" if line.rstrip("\n") == MARK + _NOTHING else line[len(MARK) + 1 :]
