# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a madengine build manifest fit for every node of a job, as the module manifest_restore does, without Ansible.

Exit status: 0; 1 where the manifest cannot be restored, with one line that says why; 2 for a call that is none.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Dict, Iterator, List

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import errors, files, text
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec, lint, restore


def called() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="madengine-restore",
        description="Make a madengine build manifest fit for every node of a job. Run it in the submit directory, before `madengine run`, "
        "in the shell that calls it: what this shell has set wins over the manifest.",
    )
    parser.add_argument("manifest", nargs="?", default="build_manifest.json", help="the manifest (%(default)s)")
    parser.add_argument("--output", metavar="FILE", help="where the restored manifest goes; in place if not given")
    parser.add_argument("--check", action="store_true", help="say what would become of it, and write nothing")
    return parser.parse_args()


def report(made: restore.Restored, warnings: List[Dict[str, str]]) -> Iterator[str]:
    """Give a line for each thing that the user may have to know; no value stands in one."""
    for mount in made.dropped_mounts:
        yield f"dropped: mount of {mount['target']} ({mount['where']}): {mount['reason']}"
    for variable in made.dropped_env:
        yield f"dropped: {variable['name']} ({variable['where']}): {variable['reason']}"
    for secret in made.masked:
        yield f"masked: {secret['name']} ({secret['where']}): {secret['reason']}"
    for warning in warnings:
        yield f"warning: {warning['where']}: {warning['message']} [{warning['name']}]"


def main() -> int:
    asked = called()
    path = os.path.abspath(asked.manifest)
    try:
        original = job_spec.read(path)
        made = restore.restore(original, os.environ, job_spec.models("", beside=path), directory=os.path.dirname(path))
        if not asked.check and (made.restored or asked.output):
            write(asked.output or path, job_spec.text(made.document))
    except errors.Fault as fault:
        print(fault.line(), file=sys.stderr)
        return 1
    verb = "would be restored" if asked.check else "restored"
    said = [*report(made, lint.check(original)), f"{len(made.restored)} places {verb}" if made.restored else "nothing to restore"]
    print("\n".join("madengine-restore: " + text.printable(line) for line in said))
    return 0


def write(path: str, document: str) -> None:
    try:
        files.write(path, document, 0o600)
    except OSError as error:
        raise errors.JobFault("files: cannot write", "check the path and its permissions", path=path, error=error.strerror) from None


if __name__ == "__main__":
    sys.exit(main())
