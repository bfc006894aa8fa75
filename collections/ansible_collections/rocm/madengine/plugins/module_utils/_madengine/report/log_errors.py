# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lines of a log speak of a failure, and which only look like it.

madengine's own probe of the environment (rocEnvTool) may time out without any harm to the run; its messages, and the
traceback around them, are no failure.

Source: madengine 2.1, benign patterns of ``container_runner.py`` and pull request 112.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator, List

BENIGN = ("RuntimeError: Console script timeout", "rocEnvTool/console.py", "rocEnvTool/rocenv_tool.py")
_HEADER = "Traceback (most recent call last):"
_PREFIX = re.compile(r"^(?:\[[^\]]{0,40}\]:?\s?|\(\w+ pid=\d+[^)]{0,40}\)\s?)+")  # "[rank3]: ", "(Worker pid=17) "
_SIGN = re.compile(
    r"^\s*\w*(\.\w+)*(Error|Exception)\b\s*:"
    r"|(?<!\w)(out of memory|OutOfMemory\w*|segmentation fault|core dumped|killed process|bus error|illegal instruction)(?!\w)"
    r"|\b(CUDA|HIP|NCCL|RCCL|MIOpen|ROCm)\s+(error|failure)\b"
    r"|\bNCCL WARN\b|\bhipError\w+|\bcudaError\w+|Memory access fault by GPU|No space left on device|Connection refused"
    r"|^\s*(FATAL|CRITICAL)\b|^\s*Killed\s*$|\bcommand not found\b",
    re.IGNORECASE,
)
_MOST_FRAMES = 400


def lines_of(log: Iterable[str]) -> Iterator[str]:
    """Give the lines of *log* that speak of a failure; of a traceback its last line.

    >>> list(lines_of(["epoch 1", "torch.OutOfMemoryError: HIP out of memory", "RuntimeError: Console script timeout"]))
    ['torch.OutOfMemoryError: HIP out of memory']
    """
    traceback: List[str] = []
    for raw in log:
        line = _PREFIX.sub("", raw.rstrip("\r\n"))
        if line.startswith(_HEADER):
            yield from _verdict(traceback)
            traceback = [line]
        elif traceback and (not line.strip() or line[:1].isspace()) and len(traceback) < _MOST_FRAMES:
            traceback.append(line)
        elif traceback:
            yield from _verdict([*traceback, line])
            traceback = []
        elif _SIGN.search(line) and not is_benign(line):
            yield line.strip()
    yield from _verdict(traceback)


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
    """Say whether *line* is known noise."""
    return any(pattern in line for pattern in BENIGN)


def _verdict(traceback: List[str]) -> Iterator[str]:
    if traceback and not any(map(is_benign, traceback)):
        yield traceback[-1].strip() or _HEADER
