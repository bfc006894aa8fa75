# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lines of a log speak of a failure, which of them is its cause, and which only look like one.

What stands before a line (`log_prefixes`) is taken off before it is read, and tracebacks of several processes in one log are
told apart by it. A cause is what failed first and of itself: a peer that misses it, what its logger took for a warning, a launcher
that reports a dead child and an engine that points upwards come after.

Source: public logs of the programs that `log_prefixes` names; madengine 2.1, benign patterns of ``container_runner.py`` and pull
request 112.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Sequence

from .log_prefixes import ERROR, HEADER, WARNING, Leads, bare, opened

_IGNORED = "Exception ignored in"
BENIGN = (
    *("RuntimeError: Console script timeout", "rocEnvTool/console.py", "rocEnvTool/rocenv_tool.py"),
    # Git where there is none, RCCL's advice at start-up, and Ray without its metrics.
    *("not a git repository", "No names found, cannot describe", "detected dubious ownership", _IGNORED),
    *('Missing "iommu=pt"', "iommu=pt", "HSA_FORCE_FINE_GRAIN_PCIE", "Running out of retries to initialize the metrics agent"),
)
_LONGEST_PATTERN = 200
_MOST_PATTERNS = 50

_MILD = re.compile(r"^WARNING: |(?<!\w)\w*Warning: ")
_CAUSED_BY = "Caused by: "
_EXCEPTION = re.compile(r"^\s*\w*(?:\.\w+)*(?:Error|Exception|Interrupt|Exit|Failure|Timeout|Fault)(?:\(\w+\))?\s*(?::|$)")
_SIGN = re.compile(
    r"^\s*\w*(\.\w+)*(Error|Exception)\b(\(\w+\))?\s*:"
    r"|(?<!\w)(out of memory|OutOfMemory\w*|segmentation fault|core dumped|killed process|bus error|illegal instruction)(?!\w)"
    r"|\b(CUDA|HIP|NCCL|RCCL|MIOpen|ROCm|(?:roc|hip)[a-z]{3,10})\s+(error|failure)\b"
    r"|\bNCCL WARN\b|\bhipError\w+|\bcudaError\w+|Memory access fault by GPU|No space left on device|Connection refused"
    r"|\bGPU reset\b|\bHSA_STATUS_ERROR\w*|\bQueue\b.{0,80}\baborting\b|\bwatchdog\b.{0,80}\b(caught|timeout|timed out|stuck|terminat)"
    r"|\bcollective operation timeout\b|\bfailed \(exitcode: -?\d+\)|\bScheduler hit an exception\b|\bReceived sigquit from a child\b"
    r"|\bSIG(?:SEGV|ABRT|BUS|KILL|FPE|ILL)\b"
    r"|^\s*(FATAL|CRITICAL)\b|^\s*Killed\s*$|\bcommand not found\b"
    r"|^\S{1,120}: (?:line )?\d+: \s*\d+ (?:Killed|Aborted|Terminated|Segmentation|Bus|Illegal)\b"
    r"|^\S{1,120}: (?:line )?\d+: .*: (?:not found|Permission denied|No such file|unbound variable)|: syntax error near "
    r"|^(?:/\S{0,60}/)?(?:ba|da|z|k)?sh: .{1,300}: (?:not found|Permission denied|No such file)|^CMake Error\b"
    r"|\berror while loading shared libraries\b|^Caused by: [\w.$]{3,}"
    r"|^[\w.]{0,120}(?:errors?|exceptions?|exc)\.(?-i:[A-Z])\w{0,80}\s*(?::|$)"
    r"|^\S{1,120}: (?:fatal )?error: |\bError response from daemon\b|\bcan't open file\b|\boom_kill\b|\bDUE TO TIME LIMIT\b"
    r"|\bexited on signal \d+|^make(?:\[\d+\])?: \*\*\*|^E: |\bAssertion\b.{0,200}\bfailed\b|\bpanicked at\b|^panic: "
    r"|\bexit(?:ed|s)? with (?:(?:exit|return) )?(?:code|status)[ =:]+-?[1-9]"
    r"|^\s*what\(\): |^terminate called|\bHW Exception by GPU\b|^Fatal Python error",
    re.IGNORECASE,
)
# What the system says, and tools that are often tried in vain: scripts look for files, and wait for servers.
_STRERROR = re.compile(
    r"^(?:curl: \(\d+\)|wget: )|: (?:Permission denied|Operation not permitted|No such (?:file or directory|device(?: or address)?)"
    r"|Exec format error|Cannot allocate memory|Input/output error|Stale file handle|Read-only file system|Disk quota exceeded"
    r"|Address already in use|Device or resource busy"
    r"|Argument list too long|Too many open files|Resource temporarily unavailable)\.?$",
    re.IGNORECASE,
)
# Who says so points at somebody else's failure.
_FOLLOWS = re.compile(
    r"see (the )?(root cause|above|error|stack ?trace)|root cause above|initialization failed\. See|failed core proc|failed \(exitcode"
    r"|ChildFailedError|ProcessRaisedException|ProcessExitedException|RayTaskError|ActorDiedError|RayActorError|WorkerCrashedError"
    r"|EngineDeadError|EngineGenerateError|MQEngineDead|engine (process|core|loop).{0,20}(died|dead|failed|is not running)"
    r"|worker.{0,40}(died|exited|failed unexpectedly|is dead)|child process.{0,20}(died|failed|exited)|sigquit from a child"
    r"|during handling of the above|direct cause of the following|KeyboardInterrupt|SystemExit|CancelledError|GeneratorExit"
    r"|CalledProcessError|non-zero exit status|Scheduler hit an exception|\bSIG(TERM|INT)\b|SignalException|stopped by signal"
    r"|\bexit(?:ed|s)? with (?:(?:exit|return) )?(?:code|status)\b"
    r"|Console script|\bExited with exit code\b|\bexited on signal\b|^make(?:\[\d+\])?: \*\*\*|ExceptionGroup:|terminate called"
    r"|\bCaught \w{1,80} in (?:DataLoader worker|pin memory|replica)"
    r"|\*\*\* (?:STEP|JOB) .{0,80} CANCELLED AT \S+ \*\*\*",
    re.IGNORECASE,
)
# What a peer's death or a slow start looks like from outside.
_OUTSIDE = re.compile(
    r"watchdog|collective operation timeout|DistBackendError|DistNetworkError|DistStoreError|NCCL (WARN|error)|RCCL error|ncclRemoteError"
    r"|ncclSystemError|Connection (refused|reset|closed|aborted)|Connection(Refused|Reset|Aborted)?Error|Broken ?pipe|TCPStore|EOFError"
    r"|socket (closed|timeout)|remote (peer|process)|heartbeat|TimeoutError|\bSIG(ABRT|KILL)\b|core dumped|Fatal Python error: Aborted"
    r"|\d Aborted\b",
    re.IGNORECASE,
)
_MOST_FRAMES = 400
_MOST_TRACEBACKS = 64
_MOST_WEAK = 20


def lines_of(log: Iterable[str], benign: Sequence[str] = ()) -> Iterator[str]:
    """Give the lines of *log* that speak of a failure, without what loggers put before them; of a traceback its last line.

    :param benign: further patterns of lines that are none, as a manifest's ``log_error_benign_patterns``: texts, or
        regular expressions.

    >>> list(lines_of(["epoch 1", "torch.OutOfMemoryError: HIP out of memory", "RuntimeError: Console script timeout"]))
    ['torch.OutOfMemoryError: HIP out of memory']
    """
    weak: List[str] = []
    signs = _signs(log, Patterns(benign), weak)
    first = next(signs, None)
    # What its logger alone calls an error is the best there is, where nothing else speaks of a failure.
    yield from weak if first is None else itertools.chain([first], signs)


@dataclass
class _Traceback:
    """A traceback that is being read: its lines, the header first, and the level at which it was logged."""

    lines: List[str]
    level: str

    def ended(self, known: Patterns) -> Iterator[str]:
        if not any(map(known.match, self.lines)):
            last = self.lines[-1].strip() or next((line.strip() for line in reversed(self.lines) if line.strip()), HEADER)
            yield _marked(last, self.level)


def _signs(log: Iterable[str], known: Patterns, weak: List[str]) -> Iterator[str]:
    open_ones: Dict[str, _Traceback] = {}
    leads, before = Leads(), ""
    for raw in opened(log):
        who, line, level = bare(raw, leads)
        owner = _of(who, open_ones)
        if line.rstrip().endswith(HEADER):
            if owner is not None:
                yield from open_ones.pop(owner).ended(known)
            who, line = leads.learned(who, line)
            # Of a destructor that failed nobody hears more than this.
            open_ones[who] = _Traceback([before, line] if before.startswith(_IGNORED) else [line], level)
            if len(open_ones) > _MOST_TRACEBACKS:
                oldest, *_younger = open_ones
                yield from open_ones.pop(oldest).ended(known)
        elif owner is not None and (not line.strip() or line[:1].isspace()) and len(open_ones[owner].lines) < _MOST_FRAMES:
            open_ones[owner].lines.append(line)
        elif owner is not None:
            open_ones[owner].lines.append(line)
            yield from open_ones.pop(owner).ended(known)
        elif (_SIGN.search(line) or _STRERROR.search(line)) and not known.match(line):
            yield _marked(line.strip(), level)
        elif level == ERROR and line.strip() and len(weak) < _MOST_WEAK and not known.match(line):
            weak.append(line.strip())
        before = line
    for traceback in open_ones.values():
        yield from traceback.ended(known)


def _marked(line: str, level: str) -> str:
    """Return *line* so that it shows that its logger took it for less than an error."""
    return f"{WARNING}: {line}" if level == WARNING else line


def cause(lines: Sequence[str]) -> str:
    """Return which of *lines* (as `lines_of` gives them) names the root cause; empty if there are none.

    >>> cause(["ValueError: bad", "RuntimeError: Engine core initialization failed. See root cause above."])
    'ValueError: bad'
    """
    nearest = min(range(len(lines)), key=lambda place: _distance(lines[place]), default=-1)  # the first of them
    while 0 <= nearest < len(lines) - 1 and lines[nearest + 1].startswith(_CAUSED_BY):  # as Java writes it, the innermost last
        nearest += 1
    return re.sub(f"^(?:{WARNING}: )?(?:{_CAUSED_BY})?", "", lines[nearest]) if lines else ""


def _distance(line: str) -> int:
    """Return how far from the cause *line* is: 0 for a failure of its own, 3 for a warning, 4 for the report of another's failure."""
    if _FOLLOWS.search(line):
        return 4
    if _MILD.search(line):
        return 3
    if _OUTSIDE.search(line):
        return 2
    return 0 if _EXCEPTION.match(line) or _SIGN.search(line) else 1


def ending(exit_code: str) -> str:
    """Return in words how a job ended that SLURM says *exit_code* of (``status:signal``); empty for a success.

    Source: slurm.h, ``SIG_OOM``: a step that the kernel ended for want of memory has ``0:125``.

    >>> [ending(code) for code in ("0:0", "3:0", "0:9", "0:125")]
    ['', 'exit code 3', 'signal 9', 'out of memory']
    """
    status, _colon, number = exit_code.partition(":")
    if number == "125":
        return "out of memory"
    if number not in ("", "0"):
        return f"signal {number}"
    return "" if status in ("", "0") else f"exit code {status}"


def is_benign(line: str) -> bool:
    """Say whether *line* is known noise, whatever a job's manifest adds to it."""
    return any(pattern in line for pattern in BENIGN)


class Patterns:
    """Lines that only look like a failure: the known ones, and *further*, each a text or a regular expression."""

    def __init__(self, further: Sequence[str] = ()) -> None:
        self._texts = [text for text in further if isinstance(text, str) and 0 < len(text) <= _LONGEST_PATTERN][:_MOST_PATTERNS]
        self._expressions = [found for found in map(_compiled, self._texts) if found]

    def match(self, line: str) -> bool:
        if is_benign(line) or any(text in line for text in self._texts):
            return True
        return any(expression.search(line) for expression in self._expressions)


def _compiled(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return None


def _of(who: str, open_ones: Dict[str, _Traceback]) -> str | None:
    """Return whose open traceback a line of *who* goes on with; a line that does not tell goes on with the latest."""
    if who in open_ones:
        return who
    return next(reversed(open_ones)) if open_ones and not who else None
