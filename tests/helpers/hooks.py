# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell hooks, run as SLURM runs them, on a node that is a directory.

The hooks name their places by absolute path and let no variable change that; a copy of each, in which those places lie
below a directory of the test, is what runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = ("/etc/madengine", "/run/madengine", "/var/lib/madengine", "/opt/madengine-hooks", "/usr/bin/python3")
_PATH_LINE = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ABSOLUTE = re.compile(r"(?<![\w$}/.*\"-])/[a-z][\w./-]*")

# What a hook may find as /bin/sh; bash as /bin/sh is in POSIX mode.
SHELLS: Dict[str, List[str]] = {
    name: [str(shutil.which(name)), *options]
    for name, options in (("dash", []), ("bash", ["--posix"]), ("busybox", ["sh"]))
    if shutil.which(name)
}


class GateNode:
    """A node in *root*, with the hooks installed.

    :param shell: what its ``/bin/sh`` is.
    """

    def __init__(self, root: Path, shell: List[str]) -> None:
        self.root, self.shell = root, shell
        self.current = root / "opt/madengine-hooks/current"
        self.python = root / "usr/bin/python3"
        self.work_dir = root / "home"
        for folder in (
            "etc/madengine",
            "run/madengine/jobs",
            "usr/bin",
            "opt/madengine-hooks/current/prolog",
            "opt/madengine-hooks/current/epilog",
            "home",
        ):
            (root / folder).mkdir(parents=True)
        environment = self.current / "prolog/task_environment.sh"
        environment.write_text(moved((REPOSITORY / "prolog/task_environment.sh").read_text(), root))
        for name in ("NCCL_FILE", "MAD_SECRETS_FILE", "A"):
            (self.work_dir / name).touch()

    def job(self, job_id: int = 4711) -> Path:
        """Return the state directory of a job."""
        return self.root / "run/madengine/jobs" / str(job_id)

    def installed(self, hook: str) -> Path:
        """Return the copy of *hook* (``prolog/50-madengine``, …) that knows this node."""
        path = self.root / "hooks" / hook
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(moved((REPOSITORY / hook).read_text(), self.root))
        path.chmod(0o755)
        return path

    def run(self, hook: str, env: Optional[Mapping[Any, Any]] = None) -> subprocess.CompletedProcess[bytes]:
        """Run *hook* with the environment *env* and nothing else, in a directory whose files look like names of variables."""
        return subprocess.run(
            [*self.shell, str(self.installed(hook))], env=dict(env or {}), cwd=self.work_dir, capture_output=True, timeout=60, check=False
        )


def moved(text: str, root: Path) -> str:
    """Return the hook *text* with its places below *root*.

    :raises AssertionError: the hook names a place that is not in `PLACES`.
    """
    lines = []
    for line in text.splitlines(keepends=True):
        if not line.lstrip().startswith("#") and line.strip() != _PATH_LINE:
            for path in _ABSOLUTE.findall(line):
                assert path.startswith(PLACES), f"unknown place {path} in {line!r}"
            for place in PLACES:
                line = re.sub(rf"(?<![\w.-]){re.escape(place)}", str(root) + place, line)
        lines.append(line)
    return "".join(lines)
