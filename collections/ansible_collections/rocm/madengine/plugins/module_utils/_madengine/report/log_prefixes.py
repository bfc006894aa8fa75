# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What loggers and launchers put before a line of a log: time, level, rank, process, host.

It is taken off before a line is read, and tells whose the line is and how grave its logger took it. A prefix that is not
known here is learned where a traceback's header stands behind it.

Source: the prefixes of vLLM, SGLang, Ray, Megatron, Primus, torchrun, glog, Python's logging, ``srun -l``, ``mpirun
--tag-output``, ``docker compose`` and ``docker logs -t`` as they appear in public logs.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, Iterator, Tuple

HEADER = "Traceback (most recent call last):"
ERROR, WARNING = "ERROR", "WARNING"
_MESSAGES = ("log", "message", "msg", "event", "error", "exc_info", "exception", "traceback", "stack_trace", "stacktrace")
_LEVELS_OF_ERROR = ("ERROR", "CRITICAL", "FATAL")
_LONGEST_LINE = 4000
_LONGEST_OBJECT = 256 << 10
_MOST_LINES = 400
_LONGEST_LEAD, _MOST_LEADS = 120, 16
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]{0,30}[A-Za-z]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))")
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|SUCCESS)"
_DATE = r"(?:\d{4}[-/]?\d{2}[-/]?\d{2}|\d{2}-\d{2}(?:-\d{2,4})?|\d{2}/\d{2}/\d{2,4})"
_TIME = r"\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?"
_PREFIX = re.compile(
    "|".join(
        (
            rf"{_DATE}T{_TIME} (?:std(?:out|err) [FP] )?",  # docker logs -t, containerd
            r"[A-Za-z][\w.-]{0,60}[-_]\d{1,4} {1,20}\| ",  # docker compose
            r"[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} [\w.-]{1,60} [\w./-]{1,60}(?:\[\d+\])?: ?",  # syslog
            r"[a-z](?!\w*(?:Error|Exception))[\w-]{0,40}\d(?::\d{1,5})?: (?=\S| {2})",  # pdsh: the host
            r"\s{0,40}\| ",  # the margin of an exception group
            r"\s{0,6}\d{1,6}: ",  # srun -l
            r"\[\d+,\d+\]<std(?:out|err)>: ?",  # mpirun
            r"\((?:[\w.:-]{1,80}[ ,]{1,2})?(?:rank=\d+[, ]+)?pid=\d+[^)]{0,60}\) ?",  # Ray, vLLM
            r"\((?:raylet|autoscaler|gcs_server)[^)]{0,40}\) ?",
            rf"{_LEVEL} {_DATE} {_TIME} (?:\[[\w./-]{{1,80}}:\d+\]|[\w./-]{{1,80}}:\d+\]) ?",  # vLLM, new and old
            rf" ?\[{_DATE}[ T]{_TIME}[^\]]{{0,40}}\]:? ?",  # SGLang, Megatron, Primus
            r'\{"(?:log|message|msg)": ?"',  # what is cut off of a JSON object
            rf"{_DATE} {_TIME} \| {_LEVEL} *\| [^|]{{0,120}}? - ",  # loguru
            rf"{_DATE} {_TIME} - (?:[\w.]{{1,80}} - {_LEVEL}|{_LEVEL} - [\w.]{{1,80}}) - ",  # Python's logging, TorchTitan
            rf"{_DATE} {_TIME},? {_LEVEL}:? ?",
            rf"(?:{_DATE} )?{_TIME} ",
            rf"\[{_TIME}\] ?",
            rf"{_LEVEL} +\| ",
            r"[EWIF]\d{4} \d{2}:\d{2}:\d{2}(?:\.\d+)? +\d* ?[\w./-]{1,80}:\d+\] ?",  # glog, torchrun
            r"\[[EWIF]\d{3,4} ?\d{2}:\d{2}:\d{2}(?:\.\d+)? [\w./-]{1,80}:\d+\] ?",  # torch's C++
            rf"\[ ?{_LEVEL} ?(?:[|:][^\]]{{0,80}})?\](?: ?\[[^\]]{{1,80}}\])*(?: : ?|: ?| )?",  # DeepSpeed, transformers
            rf"{_LEVEL}:[\w.]{{1,80}}: ?",  # Python's logging, unconfigured
            r"\[(?:(?:default|rank|local_rank|node|n|worker|titan|stage)[-_ ]?\d*(?:/\d+)?)\]:? ?",
            r"\[Rank \d+\] (?=\s{2}|Traceback|[\w.]{0,80}(?:Error|Exception)\b)",
            r"\[-+[\w./]{1,80}:\d+\](?: : ?|: ?| )?",  # Primus' place in the code
            r"\[[\w./-]{1,80}\.py:\d+(?::\w+)?\] ?",
            r"\[[A-Za-z][\w.-]{0,60}(?::\d{1,7})?\](?: ?\[[A-Z]+\])?:? (?=\S| {2})",  # a program, or its host and process
        )
    )
)
_SAYS_MILD = re.compile(r"\b(?:WARN(?:ING)?|INFO|NOTICE|DEBUG|TRACE|SUCCESS)\b|^\[?[WI]\d{3,4} ")
_SAYS_ERROR = re.compile(r"\b(?:ERROR|CRITICAL|FATAL)\b|^\[?[EF]\d{3,4} ")
_WHO = re.compile(
    r"rank[-_=: ]?\d+|pid=\d+|ip=[\d.]+|\b[TDPE]P\d+\b|^\s*\d+: |\[\d+,\d+\]|[\w.-]+[-_]\d+(?= +\|)|\[\w[\w.-]*:\d+\]|\w+\d:\d+(?=: )"
)
# What changes from line to line in what somebody puts before them.
_CHANGING = re.compile(r"[\d:.,/+-]{4,}")
# An exception behind something, and what else than words a prefix may be made of.
_BEHIND = re.compile(r"(?<![\w.'\"])(?:[A-Za-z_]\w{0,60}\.){0,8}[A-Z]\w{0,60}(?:Error|Exception): ")
_HARMLESS = re.compile(r"warning: |ignor|caught|retr|expect|handl|skip", re.IGNORECASE)
_WORD, _NAME = re.compile(r"[A-Za-z]{3,}"), re.compile(r"\S*[./=]\S*")
_OF_PREFIXES = frozenset(
    (
        *(
            "mon",
            "tue",
            "wed",
            "thu",
            "fri",
            "sat",
            "sun",
            "jan",
            "feb",
            "mar",
            "apr",
            "may",
            "jun",
            "jul",
            "aug",
            "sep",
            "oct",
            "nov",
            "dec",
        ),
        *("utc", "gmt", "error", "warning", "warn", "info", "debug", "critical", "fatal", "notice", "stderr", "stdout", "err", "out"),
        *("rank", "pid", "gpu", "node", "worker", "host", "root", "main", "thread", "process", "proc", "level", "msg", "time"),
    )
)
_REPEATED = re.compile(r"\s{0,4}\[repeated \d+x across cluster\][^\n]{0,200}$")


def opened(log: Iterable[str]) -> Iterator[str]:
    """Give the lines of *log*, and of one that is a JSON object (Docker's json-file, loggers) the lines of its message and exception."""
    for raw in log:
        said = _object(raw) if raw.lstrip().startswith('{"') else None
        texts = [str(said[key]) for key in _MESSAGES if said.get(key) and not isinstance(said[key], (dict, list))] if said else []
        if not texts:
            yield raw
            continue
        level = str(said.get("level") or said.get("levelname") or said.get("severity") or "").upper() if said else ""
        who = f"[rank{said['rank']}]: " if said and isinstance(said.get("rank"), int) else ""
        mark = who + (f"[{level}] " if level in _LEVELS_OF_ERROR else "")
        yield from (mark + line for text in texts for line in text.splitlines()[:_MOST_LINES])


def _object(raw: str) -> Dict[str, Any] | None:
    try:
        said = json.loads(raw[:_LONGEST_OBJECT])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _unknown(line: str, start: int) -> int:
    """Return where an exception begins behind what can only be a prefix: it has a number or is one word, and is no sentence."""
    found = _BEHIND.search(line, start, start + _LONGEST_LEAD)
    lead = line[start : found.start()] if found else ""
    if not found or not lead.strip() or _HARMLESS.search(lead):
        return start
    words = [word for word in _WORD.findall(_NAME.sub(" ", lead)) if word.lower() not in _OF_PREFIXES]
    is_lead = len(words) <= 1 and (re.search(r"[\d\[\](){}<>|#>+]", lead) or " " not in lead.strip())
    return found.start() if is_lead else start


def bare(raw: str, leads: Leads) -> Tuple[str, str, str]:
    """Return who said *raw* (rank, process; empty if it does not tell), it without what was put before, and how grave that is."""
    line = _CONTROL.sub("", raw[:_LONGEST_LINE].rstrip("\r\n"))
    taken, told = 0, ""
    while True:
        found = _PREFIX.match(line, taken)
        end = found.end() if found else taken
        if end == taken:
            end = leads.taken(line, taken)
            told += _steady(line[taken:end])
        if end == taken:
            break
        taken = end
    taken = _unknown(line, taken)
    who = " ".join([*_WHO.findall(line[:taken]), *filter(None, [told])])
    level = ERROR if _SAYS_ERROR.search(line[:taken]) else WARNING if _SAYS_MILD.search(line[:taken]) else ""
    said = line[taken:]
    return who, _REPEATED.sub("", said) if "[repeated " in said else said, level


class Leads:
    """What stood before a traceback's header and is no prefix that we know: the lines that follow may begin with it, too.

    Numbers and times in it may differ from line to line.
    """

    def __init__(self) -> None:
        self._shapes: Dict[str, re.Pattern[str]] = {}

    def learned(self, who: str, line: str) -> Tuple[str, str]:
        """Return *who* and *line*, which ends with a header, without what is before it; and remember that."""
        lead = line[: line.rindex(HEADER)]
        if not lead.strip() or len(lead) > _LONGEST_LEAD or lead[-1] not in " :|>]\t":
            return who, line
        shape = re.sub(r"\d+", r"\\d+", re.escape(lead))
        if len(self._shapes) < _MOST_LEADS:
            self._shapes.setdefault(shape, re.compile(shape))
        return f"{who} {_steady(lead)}".strip(), line[len(lead) :]

    def taken(self, line: str, start: int) -> int:
        """Return where *line* goes on behind what is before it at *start*."""
        for shape in self._shapes.values():
            found = shape.match(line, start)
            if found:
                return found.end()
        return start


def _steady(lead: str) -> str:
    return _CHANGING.sub("", lead).strip()
