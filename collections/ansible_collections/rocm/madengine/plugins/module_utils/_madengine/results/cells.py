# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell of a CSV that somebody else has written says: a number, a percentage, or that its row failed.

Source: what Python's ``float`` and pandas' ``read_csv`` both read as a number; ``thousands=","`` there.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Optional, Tuple

_LONGEST = 500  # of a status; what comes behind is the text of an error
# A first group that is 0 is no thousand: 0,500 is a half to whoever writes a comma for a point.
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
# Columns that say how a row came about: in words, by a yes or no, by a code, or by what went wrong.
_STATUS = re.compile(
    r"(?:\w+[ _-])?(?:status(?:[ _-]?code)?|state|outcome|verdict|health)|(?:(?:test|run|final|bench(?:mark)?|job)[ _-])?result|pass/fail"
)
_IS_GOOD = re.compile(r"(?:is[ _-])?(?:success|successful|succeeded|ok|passed|pass|valid)")
_IS_BAD = re.compile(
    r"(?:is|has|was)[ _-](?:failed|failure|errors?|crashed|aborted|timed[ _-]?out|oom)|failed|failure|crashed|aborted|timed[ _-]?out|oom"
)
_CODE = re.compile(r"(?:\w+[ _-])?(?:exit|return|ret)[ _-]?(?:code|status|value)|rc")
_REASON = re.compile(
    r"(?:\w+[ _-])?(?:error|err|exception|failure|fail|traceback)(?:[ _-](?:message|msg|reason|type|text|log|info|details?|name|class))?"
)
_FAILED = re.compile(
    r"fail|err|abort|cancel|crash|kill|time ?d? ?out|oom|out of mem|skip|invalid|exception|terminat|segv|segfault|segment|core dump"
    r"|incomplete|unsuccess|not |nok|ko\b|did ?n|dnf|broken|hang|hung|stuck|stall|deadlock|preempt|dead|no[ -]?(?:result|data|output)"
    r"|missing|traceback|partial|interrupt|reject|refus|wrong|bad\b|mismatch|lost|unreachable|unhealthy|node fail|boot fail"
    r"|sig(?:kill|segv|abrt|bus|term|int|fpe|ill)|signal \d|(?:exit(?:ed)?|return|ret|rc)(?: (?:code|status|with))*[ =:(]*-?[1-9]"
    r"|non ?-?zero|[\u2717\u2718\u274c\u274e\U0001f534]|(?:false|no|x|n|f)$"
)
_FAILED_AT_ALL = re.compile(
    r"\bfail|\b(?:errors?|errored)\b|\w(?:error|exception)\b|\bexception|\babort|\bcrash|\bkilled|\btime ?d? ?out|\boom\b|out of mem"
    r"|\bcancel|segfault|\btraceback|\binterrupted|\bnon ?zero|(?:success\w*|ok|pass(?:ed)?) ?[:=] ?(?:false|no|0|n)\b"
)
# What says that there was none of it.
_NONE_OF_IT = re.compile(
    r"\b(?:no|0|without|zero)(?: any)?(?: \w+)? (?:errors?|failures?|failed|fails|exceptions?|timeouts?|crash(?:es)?|skipped)\b"
    r"|\b(?:no|0|zero) errors?\b|\b(?:errors?|failures?|failed|exceptions?|timeouts?|skipped|aborted) ?[:=]? ?(?:0|none|no|false)\b"
    r"|\b(?:exit(?:ed)?(?: (?:code|status))?|rc) ?[:=]? ?0\b"
)
_GOOD = re.compile(r"(?:success|succeed|ok\b|pass|complete|done|finish|good|true|\u2713|\u2714|\u2705)(?!\w* ?[:=] ?(?:false|no|0|n)\b)")
_WITH_ERRORS = re.compile(r"\b(?:errors?|failures?)\b")
_CODES_OF_FAILURE = frozenset((*range(124, 160), 255))  # of a shell, where 0 and 1 may mean either
_NO = frozenset(("false", "no", "0", "n", "f"))
_YES = frozenset(("true", "yes", "y", "t"))
_NOTHING = frozenset(("", "none", "null", "nan", "n/a", "na", "nil", "ok", "success", "[]", "{}", "()", "-", "--", ".", *_NO))


def number(text: str) -> Optional[float]:
    """Return the finite number that *text* is, or None.

    >>> number(" 1e3 "), number("nan"), number("1_000"), number("12 tokens/s")
    (1000.0, None, None, None)
    """
    if not text:  # the usual case on a node that knows nothing, and an exception costs more
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    # Python alone reads 1_000 and the digits of other scripts as numbers; whoever reads the CSV next would not.
    return value if math.isfinite(value) and "_" not in text and text.isascii() else None


def figure(text: str) -> Optional[Tuple[float, bool]]:
    """Return the finite number that *text* is and whether it is a percentage, or None; a comma may stand between thousands.

    >>> figure("1,444.5"), figure(" 50 %"), figure("14,44"), figure("0,500")
    ((1444.5, False), (50.0, True), None, None)
    """
    value = number(text)
    if value is not None:
        return value, False
    plain = text.strip()
    is_percentage = plain.endswith("%")
    plain = plain[:-1].rstrip() if is_percentage else plain
    value = number(plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else plain)
    return None if value is None else (value, is_percentage)


def tells_outcome(column: str) -> bool:
    """Say whether *column* tells how a row came about.

    >>> [tells_outcome(name) for name in ("Status", "result", "is_ok", "exit_code", "error", "failed_requests", "mean_result")]
    [True, True, True, True, True, False, False]
    """
    name = column.strip().lower()
    return any(pattern.fullmatch(name) for pattern in (_STATUS, _IS_GOOD, _IS_BAD, _CODE, _REASON))


def has_failed(status: str, column: str = "status") -> bool:
    """Say whether the *status* of a row, in a column that `tells_outcome`, says that it failed, whatever the case.

    >>> [has_failed(text) for text in ("FAILURE", " Failed", "completed with errors", "SUCCESS", "no error", "")]
    [True, True, True, False, False, False]
    """
    return _says_failure(status[:_LONGEST].strip().strip("'\"[]()*").strip().lower(), column.strip().lower())


@functools.lru_cache(maxsize=1024)  # many rows, few words
def _says_failure(text: str, name: str) -> bool:
    found = figure(text)
    if _IS_GOOD.fullmatch(name):
        return text in _NO or (found is None and _is_failure(text))
    if _IS_BAD.fullmatch(name):  # a number counts failed requests, unless the name asks a question
        return text in _YES or (found is not None and found[0] == 1 and name.startswith(("is", "has", "was")))
    if _CODE.fullmatch(name) and found is not None:
        return found[0] != 0
    if _REASON.fullmatch(name):  # a number is how far a result is off
        return found is None and text not in _NOTHING and not _NONE_OF_IT.search(text)
    if found is not None:
        return found[0] < 0 or found[0] in _CODES_OF_FAILURE or 400 <= found[0] < 600
    return _is_failure(text)


def _is_failure(text: str) -> bool:
    words = _NONE_OF_IT.sub(" ", re.sub(r"[\s_-]+", " ", text)).strip()
    if _GOOD.match(words):
        return _WITH_ERRORS.search(words) is not None
    return bool(_FAILED.match(words) or _FAILED_AT_ALL.search(words))
