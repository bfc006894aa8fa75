# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how much of the branches of the library the unit tests took: ``coverage json -o - | branches.py FOLDER AT_LEAST``.

FOLDER is the part of a path that tells whose files count; AT_LEAST is the share in percent below which the exit status is 1.
Coverage's own ``fail_under`` mixes lines with branches, and lets many easy lines hide the branches that nobody took.
"""

from __future__ import annotations

import json
import sys
from typing import Dict, Mapping, Tuple

Counts = Dict[str, Tuple[int, int]]


def of(report: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]], folder: str) -> Counts:
    """Return path → (branches taken, branches) for the files of *folder* in what ``coverage json`` wrote."""
    found = {path: each["summary"] for path, each in report["files"].items() if folder in path}
    return {path: (summary["covered_branches"], summary["num_branches"]) for path, summary in found.items()}


def verdict(counts: Counts, at_least: float) -> Tuple[bool, str]:
    """Return whether enough was taken, and the line that says so; with no branch at all there is nothing to be content with."""
    taken, there = (sum(each) for each in zip(*counts.values())) if counts else (0, 0)
    percent = 100 * taken / there if there else 0.0
    worst = sorted((100 * part / whole, path.rpartition("/")[2]) for path, (part, whole) in counts.items() if whole)[:3]
    least = ", ".join(f"{name} {share:.0f} %" for share, name in worst)
    return (
        percent >= at_least,
        f"branches: {taken} of {there} taken in {len(counts)} files: {percent:.1f} % (at least {at_least:g} %); least: {least}",
    )


def main() -> int:
    is_enough, line = verdict(of(json.load(sys.stdin), sys.argv[1]), float(sys.argv[2]))
    print(line)
    return 0 if is_enough else 1


if __name__ == "__main__":
    sys.exit(main())
