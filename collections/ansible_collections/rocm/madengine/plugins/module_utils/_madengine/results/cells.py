# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell of a CSV that somebody else has written says: a number, a percentage, or that its row failed.

Source: what Python's ``float`` and pandas' ``read_csv`` both read as a number; ``thousands=","`` there.
"""

from __future__ import annotations

import math
import re
from typing import Optional, Tuple

# A first group that is 0 is no thousand: 0,500 is a half to whoever writes a comma for a point.
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
# Columns that say how a row came about.
_OUTCOME = re.compile(r"(?:\w+[ _-])?(?:status|state|outcome|verdict)|result")
_IS_GOOD = re.compile(r"(?:is[ _-])?(?:success|successful|succeeded|ok|passed|valid)")
_FAILED = re.compile(
    r"fail|err|abort|cancel|crash|kill|time[ _-]?d?[ _-]?out|oom|out of mem|skip|invalid|exception|terminat|segv|segfault|segment|core dump"
    r"|incomplete|unsuccess|not[ _-]|nok|did[ _-]?n|dnf|broken|hang|hung|stuck|preempt|dead|no[ _-]?result|missing|traceback"
)
_WITH_ERRORS = re.compile(r"(?<!no )(?<!0 )(?<!without )\b(?:errors?|failures?)\b")
_NO = frozenset(("false", "no", "0", "n", "f"))


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

    >>> [tells_outcome(name) for name in ("Status", "run_status", "result", "is_ok", "failed", "mean_result")]
    [True, True, True, True, False, False]
    """
    name = column.strip().lower()
    return bool(_OUTCOME.fullmatch(name) or _IS_GOOD.fullmatch(name))


def has_failed(status: str, column: str = "status") -> bool:
    """Say whether the *status* of a row, in a column that `tells_outcome`, says that it failed, whatever the case.

    >>> [has_failed(text) for text in ("FAILURE", " Failed", "completed with errors", "SUCCESS", "no error", "")]
    [True, True, True, False, False, False]
    """
    text = status.strip().lower()
    if _IS_GOOD.fullmatch(column.strip().lower()):
        return text in _NO
    return bool(_FAILED.match(text) or _WITH_ERRORS.search(text))
