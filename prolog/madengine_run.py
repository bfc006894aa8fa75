# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`madengine` in a task of a job of ours, as its user.

The TaskProlog gives bash a function of that name, which starts this with the job's state directory, its directory for what
tasks write, the program that PATH has, and the user's own arguments. Exit status: madengine's. Whatever goes wrong here is
one line, and madengine runs as it would without us.
"""

from __future__ import annotations

import os
import sys
from typing import List

RELEASE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def main(state_dir: str, task_dir: str, program: str, words: List[str]) -> None:
    """Become *program*, with a manifest that this node can run."""
    environ = dict(os.environ)
    try:
        sys.path.insert(0, os.path.join(RELEASE, "lib"))
        from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_state, madengine_run

        base, job_id = os.path.split(state_dir)
        state = job_state.JobState(int(job_id), os.path.dirname(base))
        asked = words
        words, secrets = madengine_run.replaced(words, environ, state, task_dir)
        if words != asked:
            print("madengine: the manifest of this run is restored on this node (keep=manifest leaves it alone)", file=sys.stderr)
        environ.update(secrets)
    except Exception as error:
        print(f"madengine: the manifest of this run is as it was: {error}", file=sys.stderr)
    os.execve(program, [program, *words], environ)  # noqa: S606 (as the shell would have)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
