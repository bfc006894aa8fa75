# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of what the newest madengine makes of a job: its job script, its task script, and its program on a node.

Made from what is known of its layout: the task script puts other directories first in PATH, copies the whole submit directory
into a workspace whose name carries the run, makes a manifest for the node of the one that is named in it, and runs madengine
on that. The program takes an image as madengine's runner does (tests/workloads/runner.py) and notes what it was given.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

WORKLOADS = Path(__file__).parents[1] / "workloads"
_TASK = """\
#!/bin/bash
set -e
export PATH="{bin}:$PATH"
export PATH="$HOME/.local/bin:$PATH"
NODE_RANK=${{SLURM_PROCID}}
export NODE_RANK
if [ -n "$SLURM_TMPDIR" ] && [ -d "$SLURM_TMPDIR" ] && [ -w "$SLURM_TMPDIR" ]; then
    WORKSPACE=$SLURM_TMPDIR/madengine_node_${{SLURM_PROCID}}{suffix}
else
    WORKSPACE={tmp}/madengine_job_${{SLURM_JOB_ID}}{suffix}_node_${{SLURM_PROCID}}
fi
mkdir -p $WORKSPACE
cd $WORKSPACE
SUBMISSION_DIR={submit}
cp -a "$SUBMISSION_DIR/." "$WORKSPACE/"
if command -v madengine >/dev/null 2>&1; then
    MAD_VERSION=$(env -u MODEL_DIR madengine --version 2>&1)
    MAD_CLI_COMMAND="madengine"
else
    echo "ERROR: madengine not found in PATH"
    exit 1
fi
ORIGINAL_MANIFEST="{manifest}"
LOCAL_MANIFEST="build_manifest_local.json"
{python} -c "
import json
manifest = json.load(open('$ORIGINAL_MANIFEST'))
manifest.setdefault('deployment_config', {{}})['target'] = 'docker'
for name in ('slurm', 'k8s', 'kubernetes'):
    manifest['deployment_config'].pop(name, None)
json.dump(manifest, open('$LOCAL_MANIFEST', 'w'), indent=2)
"
EXEC_MANIFEST="$LOCAL_MANIFEST"
$MAD_CLI_COMMAND run \\
    --manifest-file "$EXEC_MANIFEST" \\
    --timeout 3600 \\
     \\
    > "$SUBMISSION_DIR/out_${{SLURM_PROCID}}" 2> "$SUBMISSION_DIR/err_${{SLURM_PROCID}}"
"""
_PROGRAM = """\
#!{python}
import json, os, sys
sys.path.insert(0, {workloads!r})
import runner
if sys.argv[1:2] != ["run"]:
    print("madengine 2.2")
    sys.exit(0)
path = sys.argv[sys.argv.index("--manifest-file") + 1]
manifest = json.load(open(path))
said = {{"path": path, "manifest": manifest, "words": sys.argv[1:], "env": dict(os.environ)}}
open({log!r}, "w").write(json.dumps(said))
for key, image in manifest["built_images"].items():
    runner.prepared_image(key, image)
"""


def task(submit: str, programs: str, tmp: str, suffix: str = "", manifest: str = "build_manifest.json", python: str = "python3") -> str:
    """Return the task script of a job that was submitted in *submit*; *suffix* is what a run inside an allocation adds to names."""
    return _TASK.format(bin=programs, tmp=tmp, suffix=suffix, submit=submit, manifest=manifest, python=python)


class Job:
    """A submit directory, madengine's files in it, and a docker that writes down how it was called.

    :param run: what a run inside an allocation adds to the names, or "".
    """

    def __init__(self, base: Path, manifest: str = "build_manifest.json", run: str = "") -> None:
        self.submit, self.bin, self.tmp = base / "submit", base / "venv/bin", base / "tmp"
        self.log, self.docker_log = base / "madengine.json", base / "docker.log"
        for folder in (self.submit, self.bin, self.tmp, base / "home/.local/bin", base / "bin"):
            folder.mkdir(parents=True)
        suffix = f"_{run}" if run else ""
        self.task = self.submit / f"madengine_task{suffix}.sh"
        self.task.write_text(task(str(self.submit), str(self.bin), str(self.tmp), suffix, manifest, sys.executable))
        _program(self.bin / "madengine", _PROGRAM.format(python=sys.executable, workloads=str(WORKLOADS), log=str(self.log)))
        _program(base / "bin/docker", f'#!/bin/sh\necho "$*" >>{self.docker_log}\n')
        self.env = {"PATH": f"{base / 'bin'}:/usr/bin:/bin", "HOME": str(base / "home")}

    @property
    def docker(self) -> list[str]:
        """What docker was asked, a line a call."""
        return self.docker_log.read_text().splitlines() if self.docker_log.exists() else []


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


BASH = str(shutil.which("bash"))
