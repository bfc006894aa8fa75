# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sum up several pytest runs in one line, as pytest writes it: ``summary.py DIRECTORY ERRORS SECONDS``.

DIRECTORY holds the runs' JUnit files (``*.xml``); ERRORS is the number of steps that failed, whose own failed tests
are counted once. The exit status is 1 if anything failed, or if nothing was tested at all.
"""

from __future__ import annotations

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def of(folder: pathlib.Path) -> dict[str, int]:
    """Return how many tests passed, failed, ended in an error or were skipped, over all files of *folder*."""
    counts = dict.fromkeys(("failed", "passed", "skipped", "error"), 0)
    for path in sorted(folder.glob("*.xml")):
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):  # noqa: S314 - pytest wrote it, a moment ago
            tests, failed, error, skipped = (int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped"))
            counts["failed"] += failed
            counts["error"] += error
            counts["skipped"] += skipped
            counts["passed"] += tests - failed - error - skipped
    return counts


def line(counts: dict[str, int], seconds: int) -> str:
    """Return pytest's own summary line, less its colours."""
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return f"{', '.join(parts) or 'no tests ran'} in {seconds}s"


def main() -> int:
    folder, failed_steps, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    counts = of(folder)
    if failed_steps and not counts["failed"] and not counts["error"]:
        counts["error"] = failed_steps
    print(line(counts, seconds))
    return 1 if failed_steps or counts["failed"] or counts["error"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
