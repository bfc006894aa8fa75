# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules about build manifests share: keeping values out of their output, and writing a user's file.

Source: ansible-core, ``AnsibleModule._return_formatted``: a result holds the parameters, and every ``no_log_values`` is
replaced wherever it occurs, so a harmless value of ``1`` among them would eat each 1 of the result.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule

from ._madengine.core import files
from ._madengine.core.errors import JobFault
from ._madengine.manifest import environment, redaction, schema

HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def taken_environment(module: AnsibleModule) -> Dict[str, str]:
    """Return the ``environment`` option, and leave names without values in its place for the invocation's log.

    Where it is not given it is the caller's own environment.
    """
    option = module.params["environment"]
    given = {str(name): str(value) for name, value in (os.environ if option is None else option).items() if value is not None}
    module.params["environment"] = None if option is None else dict.fromkeys(given, HIDDEN)
    module.no_log_values = set()
    hide(module, redaction.values({}, given))
    return given


def hide(module: AnsibleModule, secrets: Iterable[str]) -> None:
    """Keep *secrets* out of whatever the module returns, failures included."""
    module.no_log_values |= {secret for secret in secrets if secret}


def shown(document: Dict[str, Any], secrets: Iterable[str]) -> str:
    """Return *document* for a diff: of variables the names alone, of all else what is no secret."""
    copy = redaction.masked(document, list(secrets))
    for keys in (("context", "docker_env_vars"), ("context", "docker_build_arg"), ("deployment_config", "env_vars")):
        holder = copy
        for key in keys:
            holder = holder.get(key) or {}
        holder.update({name: environment.MASK for name, value in holder.items() if not _is_empty(value)})
    return json.dumps(copy, indent=4) + "\n"


def mode_of(value: Any) -> int:
    """Return permissions given as ``'0600'`` or as the number that YAML makes of an unquoted 0600.

    :raises JobFault: it is neither.
    """
    try:
        mode = value if isinstance(value, int) else int(str(value), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise JobFault("files: no permissions", "give octal digits in quotes, such as '0600'", mode=value)
    return mode


def write(path: str, text: str, mode: int, like: str) -> None:
    """Put *text* under *path* at once; its owner stays, or is that of *like* if *path* is new."""
    files.write(path, text, mode, owner=_owner(path, like))


def back_up(path: str, secrets: Iterable[str]) -> str:
    """Copy *path* beside itself without its secrets, for its owner alone, and return the copy's path.

    What lies in a submit directory madengine copies to every node of the job.
    """
    copy = f"{path}.{time.strftime('%Y-%m-%d@%H:%M:%S')}.{os.getpid()}~"
    text, hidden = files.read(path, schema.LARGEST_BYTES).decode("utf-8", "surrogateescape"), set(secrets)
    with contextlib.suppress(JobFault, UnicodeEncodeError):  # what is no JSON has no names; what is known to be secret goes all the same
        document = schema.load(text.encode(), path)
        hidden |= redaction.values(document, {}) if isinstance(document, dict) else set()
        text = json.dumps(redaction.masked(document, sorted(hidden)), indent=4) + "\n"
    files.write(copy, environment.mask(text, hidden), 0o600, owner=_owner(path, path))
    return copy


def is_current(path: str, text: str, mode: int) -> bool:
    """Say whether *path* already is a plain file with this *text* and *mode*."""
    try:
        with files.opened(path) as stream:
            status = os.fstat(stream.fileno())
            return status.st_mode & 0o7777 == mode and stream.read() == text.encode("utf-8", "surrogateescape")
    except JobFault:
        return False


def entrypoint_of(module: AnsibleModule) -> Optional[Callable[[str], Optional[List[str]]]]:
    """Return what asks this host's Docker for an image's ENTRYPOINT, or None where there is no docker command."""
    docker = module.get_bin_path("docker")
    if docker is None:
        return None

    def ask(reference: str) -> Optional[List[str]]:
        command = [docker, "image", "inspect", "--format", "{{json .Config.Entrypoint}}", "--", reference]
        status, output, _errors = module.run_command(command)
        return json.loads(output) if status == 0 else None

    return ask


def _owner(path: str, like: str) -> Tuple[int, int]:
    status = os.lstat(path if os.path.lexists(path) else like)
    return status.st_uid, status.st_gid


def _is_empty(value: Any) -> bool:
    return value == "" or (isinstance(value, str) and value.startswith("${"))
