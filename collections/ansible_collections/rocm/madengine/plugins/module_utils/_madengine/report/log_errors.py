# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lines of a log speak of a failure, which of them is its cause, and which only look like one.

What loggers and launchers put before a line (time, level, rank, process) is taken off before it is read, and tracebacks
of several processes in one log are told apart by it. A cause is what failed first and of itself: a launcher that reports
a dead child, a peer that misses it and an engine that points upwards come after.

Source: the prefixes of vLLM, SGLang, Ray, Megatron, Primus, torchrun, glog, Python's logging, ``srun -l`` and ``docker logs
-t`` as they appear in public logs; madengine 2.1, benign patterns of ``container_runner.py`` and pull request 112.
"""

from __future__ import annotations

import itertools
import re
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

BENIGN = (
    *("RuntimeError: Console script timeout", "rocEnvTool/console.py", "rocEnvTool/rocenv_tool.py"),
    # RCCL's advice at start-up, and Ray without its metrics.
    *('Missing "iommu=pt"', "iommu=pt", "HSA_FORCE_FINE_GRAIN_PCIE", "Running out of retries to initialize the metrics agent"),
)
_HEADER = "Traceback (most recent call last):"
_LONGEST_LINE = 4000
_LONGEST_PATTERN = 200
_MOST_PATTERNS = 50

_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]{0,30}[A-Za-z]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))")
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|SUCCESS)"
_DATE = r"(?:\d{4}[-/]?\d{2}[-/]?\d{2}|\d{2}-\d{2}(?:-\d{2,4})?)"
_TIME = r"\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?"
_PREFIX = re.compile(
    "|".join(
        (
            rf"{_DATE}T{_TIME} ",  # docker logs -t
            r"[a-z](?!\w*(?:Error|Exception))[\w-]{0,40}\d: (?=\S)",  # pdsh: the host
            r"\s{0,40}\| ",  # the margin of an exception group
            r"\s{0,6}\d{1,6}: ",  # srun -l
            r"\[\d+,\d+\]<std(?:out|err)>: ?",  # mpirun
            r"\((?:[\w.:-]{1,80}[ ,]{1,2})?(?:rank=\d+[, ]+)?pid=\d+[^)]{0,60}\) ?",  # Ray, vLLM
            r"\((?:raylet|autoscaler|gcs_server)[^)]{0,40}\) ?",
            rf"{_LEVEL} {_DATE} {_TIME} (?:\[[\w./-]{{1,80}}:\d+\]|[\w./-]{{1,80}}:\d+\]) ?",  # vLLM, new and old
            rf" ?\[{_DATE}[ T]{_TIME}[^\]]{{0,40}}\]:? ?",  # SGLang, Megatron, Primus
            r'\{"(?:log|message|msg)": ?"',  # Docker's json-file, loggers that write JSON
            rf"{_DATE} {_TIME} \| {_LEVEL} *\| [^|]{{0,120}}? - ",  # loguru
            rf"{_DATE} {_TIME} - [\w.]{{1,80}} - {_LEVEL} - ",  # Python's logging, TorchTitan
            rf"{_DATE} {_TIME},? {_LEVEL}:? ?",
            rf"{_DATE} {_TIME} ",
            r"[EWIF]\d{4} \d{2}:\d{2}:\d{2}(?:\.\d+)? +\d* ?[\w./-]{1,80}:\d+\] ?",  # glog, torchrun
            r"\[[EWIF]\d{3,4} ?\d{2}:\d{2}:\d{2}(?:\.\d+)? [\w./-]{1,80}:\d+\] ?",  # torch's C++
            rf"\[ ?{_LEVEL} ?(?:[|:][^\]]{{0,80}})?\](?: ?\[[^\]]{{1,80}}\])*(?: : ?|: ?| )?",  # DeepSpeed, transformers
            rf"{_LEVEL}:[\w.]{{1,80}}: ?",  # Python's logging, unconfigured
            r"\[(?:(?:default|rank|local_rank|node|n|worker|titan|stage)[-_ ]?\d*(?:/\d+)?)\]:? ?",
            r"\[-+[\w./]{1,80}:\d+\](?: : ?|: ?| )?",  # Primus' place in the code
            r"\[[\w./-]{1,80}\.py:\d+(?::\w+)?\] ?",
        )
    )
)
_SAYS_ERROR = re.compile(r"\b(?:ERROR|CRITICAL|FATAL)\b|^\[?[EF]\d{3,4} ")
_WHO = re.compile(r"rank[-_=: ]?\d+|pid=\d+|ip=[\d.]+|\b[TDPE]P\d+\b|^\s*\d+: |\[\d+,\d+\]")
_REPEATED = re.compile(r"\s*\[repeated \d+x across cluster\][^\n]{0,200}$")

_EXCEPTION = re.compile(r"^\s*\w*(?:\.\w+)*(?:Error|Exception|Interrupt|Exit|Failure|Timeout|Fault)(?:\(\w+\))?\s*(?::|$)")
_SIGN = re.compile(
    r"^\s*\w*(\.\w+)*(Error|Exception)\b(\(\w+\))?\s*:"
    r"|(?<!\w)(out of memory|OutOfMemory\w*|segmentation fault|core dumped|killed process|bus error|illegal instruction)(?!\w)"
    r"|\b(CUDA|HIP|NCCL|RCCL|MIOpen|ROCm)\s+(error|failure)\b"
    r"|\bNCCL WARN\b|\bhipError\w+|\bcudaError\w+|Memory access fault by GPU|No space left on device|Connection refused"
    r"|\bGPU reset\b|\bHSA_STATUS_ERROR\w*|\bQueue\b.{0,80}\baborting\b|\bwatchdog\b.{0,80}\b(caught|timeout|timed out|stuck|terminat)"
    r"|\bcollective operation timeout\b|\bfailed \(exitcode: -?\d+\)|\bScheduler hit an exception\b|\bReceived sigquit from a child\b"
    r"|\bSIG(?:SEGV|ABRT|BUS|KILL|FPE|ILL)\b"
    r"|^\s*(FATAL|CRITICAL)\b|^\s*Killed\s*$|\bcommand not found\b"
    r"|^\S{1,120}: (?:line )?\d+: \s*\d+ (?:Killed|Aborted|Terminated|Segmentation|Bus|Illegal)\b"
    r"|^\S{1,120}: (?:line )?\d+: .*: (?:not found|Permission denied|No such file)"
    r"|^\S{1,120}: (?:fatal )?error: |\bError response from daemon\b|\bcan't open file\b|\boom_kill\b|\bDUE TO TIME LIMIT\b"
    r"|\bexited on signal \d+|^make(?:\[\d+\])?: \*\*\*|^E: |\bAssertion\b.{0,200}\bfailed\b|\bpanicked at\b|^panic: "
    r"|^\s*what\(\): |^terminate called|\bHW Exception by GPU\b|^Fatal Python error",
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
    r"|Console script|\bExited with exit code\b|\bexited on signal\b|^make(?:\[\d+\])?: \*\*\*|ExceptionGroup:|terminate called"
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


def _signs(log: Iterable[str], known: Patterns, weak: List[str]) -> Iterator[str]:
    open_ones: Dict[str, List[str]] = {}
    for raw in log:
        who, line, is_error = _bare(raw)
        traceback = _of(who, open_ones)
        if line.rstrip().endswith(_HEADER):
            if traceback is not None:
                yield from _ended(open_ones.pop(traceback), known)
            open_ones[who] = [line]
            if len(open_ones) > _MOST_TRACEBACKS:
                oldest, *_younger = open_ones
                yield from _ended(open_ones.pop(oldest), known)
        elif traceback is not None and (not line.strip() or line[:1].isspace()) and len(open_ones[traceback]) < _MOST_FRAMES:
            open_ones[traceback].append(line)
        elif traceback is not None:
            yield from _ended([*open_ones.pop(traceback), line], known)
        elif _SIGN.search(line) and not known.match(line):
            yield line.strip()
        elif is_error and line.strip() and len(weak) < _MOST_WEAK and not known.match(line):
            weak.append(line.strip())
    for lines in open_ones.values():
        yield from _ended(lines, known)


def cause(lines: Sequence[str]) -> str:
    """Return which of *lines* (as `lines_of` gives them) names the root cause; empty if there are none.

    >>> cause(["ValueError: bad", "RuntimeError: Engine core initialization failed. See root cause above."])
    'ValueError: bad'
    """
    return min(lines, key=_distance, default="")  # the first of those that are nearest


def _distance(line: str) -> int:
    """Return how far from the cause *line* is: 0 for a failure of its own, 3 for the report of another's."""
    if _FOLLOWS.search(line):
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


def _bare(raw: str) -> Tuple[str, str, bool]:
    """Return who said *raw* (rank, process; empty if it does not tell), it without what was put before, and if that calls it an error."""
    line = _CONTROL.sub("", raw[:_LONGEST_LINE].rstrip("\r\n"))
    taken = 0
    while True:
        found = _PREFIX.match(line, taken)
        if not found or found.end() == taken:
            break
        taken = found.end()
    who = " ".join(_WHO.findall(line[:taken]))
    return who, _REPEATED.sub("", line[taken:]), _SAYS_ERROR.search(line[:taken]) is not None


def _of(who: str, open_ones: Dict[str, List[str]]) -> str | None:
    """Return whose open traceback a line of *who* goes on with; a line that does not tell goes on with the latest."""
    if who in open_ones:
        return who
    return next(reversed(open_ones)) if open_ones and not who else None


def _ended(traceback: List[str], known: Patterns) -> Iterator[str]:
    if traceback and not any(map(known.match, traceback)):
        yield traceback[-1].strip() or next((line.strip() for line in reversed(traceback) if line.strip()), _HEADER)
