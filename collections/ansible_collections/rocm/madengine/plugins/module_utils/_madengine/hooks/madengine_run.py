# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `madengine run` on a node of ours reads instead of the manifest that its job script has copied there.

The job script copies the manifest from where the job was submitted and makes one for the node of it, so a manifest that was
restored elsewhere is never read. Here that last file is restored, as the job's user, with the task's own environment as the
run's; what comes of it is this user's and this node's, and the user's files stay as they are.

Source: madengine 2.1 and later, job.sh.j2: ``$MAD_CLI_COMMAND run --manifest-file build_manifest_local.json …`` in a bash, after
``deployment_config`` was stripped of the scheduler; the manifest that still has one is for the submission.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..core import files
from ..manifest import environment, job_spec
from ..manifest.schema import Document, section_of
from .job_state import READY, JobState

_OPTIONS = ("--manifest-file", "-m")
_SCHEDULERS = ("slurm", "k8s", "kubernetes")


def replaced(words: Sequence[str], environ: Mapping[str, str], state: JobState, folder: str) -> Tuple[List[str], Dict[str, str]]:
    """Return madengine's arguments with a manifest that the node can run, and variables that it needs beside *environ*.

    What is not `madengine run` of a manifest on this node, for a job that we have helped, stays as it is.

    :param words: the arguments, without the program's name.
    :param environ: the task's; it is the environment of the run.
    :param folder: where the task may write.
    :raises Fault: the manifest cannot be restored; the message says why.
    """
    same: Tuple[List[str], Dict[str, str]] = (list(words), {})
    found = _manifest_in(words)
    status = state.status()
    if found is None or status.status != READY:
        return same
    place, option, path = found
    document = job_spec.read(path)
    if any(section_of(section_of(document, "deployment_config"), name) for name in _SCHEDULERS):
        return same
    staged = {str(image.get("reference")) for image in status.images}
    needed = {str(image["reference"]) for image in job_spec.images(document)}
    models = job_spec.models("", beside=os.path.abspath(path))
    form = "neutral" if needed and needed <= staged else "keep"
    restored = job_spec.restore(document, environ, models, form, directory=os.getcwd())
    target = os.path.join(folder, f"manifest.{os.getpid()}.json")
    files.write(target, job_spec.text(restored.document), mode=0o600)
    return [*words[:place], option + target, *words[place + 1 :]], _secrets(document, environ)


def _manifest_in(words: Sequence[str]) -> Optional[Tuple[int, str, str]]:
    """Return which of *words* holds the manifest of a run, what stands before it there, and the manifest."""
    if list(words[:1]) != ["run"]:
        return None
    for place, word in enumerate(words):
        if word in _OPTIONS and place + 1 < len(words):
            return place + 1, "", words[place + 1]
        if word.startswith("--manifest-file="):
            option, equals, path = word.partition("=")
            return place, option + equals, path
    return None


def _secrets(document: Document, environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the secrets that stand in the manifest and nowhere else: restored, a container takes them from the environment."""
    given: Mapping[str, Any] = section_of(section_of(document, "context"), "docker_env_vars")
    return {
        name: value
        for name, value in given.items()
        if isinstance(value, str) and value and "$" not in value and environment.is_secret(name) and not environ.get(name)
    }
