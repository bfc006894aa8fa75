# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at one node: small functions that gather facts and judge nothing. Only the store is written to, and tidied up.

Each is meant to run in a child process with a limit of its own (`gather`), so it takes plain values, returns what JSON can
hold, and raises a `Fault` where it can see nothing. What hangs (a dead share, a deaf daemon) costs its own answer alone.

What Docker and the network say is in `docker_probe` and `network_probe`, what the store says in `store_probe`, and what SLURM
starts is looked at by `program_probe`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from ..core import files, process
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, NodeFault
from ..hooks import config, release
from ..peers import credential
from ..slurm import nodes as slurm_nodes
from ..slurm import settings as slurm

PYTHON = "/usr/bin/python3"
Probe = Tuple[Callable[..., Dict[str, Any]], Tuple[Any, ...], float]


def gather(probes: Mapping[str, Probe]) -> Dict[str, Any]:
    """Return what each probe found, or the `Fault` that kept it from finding anything.

    :param probes: by name: a function, its arguments and its limit in seconds. All begin at once.
    """
    started = {name: (_started(name, work, arguments), Deadline(seconds)) for name, (work, arguments, seconds) in probes.items()}
    return {name: _outcome(child, within) for name, (child, within) in started.items()}


def python(program: str, seconds: float) -> Dict[str, Any]:
    """Return the version of the Python that runs the hooks, and of the Docker SDK that it finds.

    :raises NodeFault: it does not run.
    """
    code = (
        "import sys; print('%d.%d' % sys.version_info[:2])\n"
        "try:\n import docker; print(getattr(docker, '__version__', 'unknown'))\nexcept ImportError: pass"
    )
    done = _run([program, "-I", "-c", code], seconds)
    lines = done.stdout.split()
    if done.returncode != 0 or not lines:
        raise NodeFault("python: it does not run", "repair the package python3", program=program, said=_end(done.stderr))
    return {"version": lines[0], "docker": lines[1] if len(lines) > 1 else ""}


def settings(path: str, disabled: str) -> Dict[str, Any]:
    """Return whether hooks.conf is there, and a digest of what holds by it, which is the same on nodes that agree.

    :raises JobFault: a key in it is unknown, or a value means nothing.
    """
    is_there = os.path.lexists(path)
    site = config.parse(files.read(path, 1 << 20).decode("utf-8-sig", "replace"), path, strict=True) if is_there else config.Site()
    shown = json.dumps(config.settings_of(site), sort_keys=True)
    digest = hashlib.sha256(shown.encode()).hexdigest()[:12]
    return {"path": path, "is_there": is_there, "is_disabled": os.path.lexists(disabled), "digest": digest}


def hook_release(root: str, places: Sequence[str], seconds: float, python_path: str = PYTHON) -> Dict[str, Any]:
    """Return the release that new jobs run, what it says of itself, and which files that SLURM starts are not there.

    :param places: what SLURM starts, each with its full path.
    :returns: ``broken``: why this node's Python cannot run the release, by its own proof; empty if it can.
    """
    releases = release.Releases(root)
    current = releases.named("current") or ""
    broken = _disproved(releases.path(current), seconds, python_path) if current else ""
    return {"current": current, "broken": broken, "missing": [path for path in places if not os.path.isfile(path)]}


def slurm_settings(program: str, seconds: float) -> Dict[str, Any]:
    """Return what the controller says of its settings, and the names of its nodes: two questions for the whole cluster.

    :returns: ``nodes``: their NodeNames; ``names``: those, and the names and addresses that lead to them as well;
        ``is_exclusive``: whether no two jobs ever share a node, asked only where it matters.
    :raises NodeFault: it does not answer.
    """
    found = slurm.parse(_scontrol(program, ["show", "config"], seconds))
    known = slurm_nodes.parse(_scontrol(program, ["--oneliner", "show", "nodes"], seconds))
    is_serial = "serial" in found.get("PrologFlags", "").lower()
    partitions = _scontrol(program, ["--oneliner", "show", "partitions"], seconds) if is_serial else ""
    return {
        "settings": found,
        "nodes": [node.name for node in known],
        "names": sorted({name for node in known for name in node.names}),
        "is_exclusive": slurm.is_exclusive(found, partitions),
    }


def key(auth: str, path: str, session: str) -> Dict[str, Any]:
    """Return a fingerprint of the cluster's key that is good for this *session* alone; equal keys have equal fingerprints.

    :raises NodeFault: the key cannot be used, or MUNGE does not answer (part ``key``).
    """
    if auth == "munge":
        munge = credential.Munge()
        munge.secret(munge.challenge(60))
        # With MUNGE the hooks need not read its key; where root can, it is compared all the same.
        with contextlib.suppress(NodeFault):
            return {"fingerprint": _fingerprint("", session)}
        return {"fingerprint": ""}
    return {"fingerprint": _fingerprint(path, session)}


def madengine(program: str, seconds: float) -> Dict[str, Any]:
    """Return what ``madengine --version`` says, and which files it leaves in an empty directory that is its home as well.

    ``MODEL_DIR`` is not set and ``MAD_SETUP_MODEL_DIR`` is false: else it would copy all of MODEL_DIR before it answers.
    """
    if not program:
        return {}
    with tempfile.TemporaryDirectory(prefix="madengine-preflight.") as folder:
        environment = {"PATH": process.PATH, "HOME": folder, "LC_ALL": "C.UTF-8", "MAD_SETUP_MODEL_DIR": "false"}
        done = _run([program, "--version"], seconds, cwd=folder, env=environment)
        left = sorted(os.listdir(folder))
    said = _end(done.stdout) or _end(done.stderr)
    return {"status": done.returncode, "said": said, "left": left}


def _started(name: str, work: Callable[..., Dict[str, Any]], arguments: Tuple[Any, ...]) -> process.Child:
    # Somebody else's program does not run as root.
    user = _nobody() if name == "madengine" else None
    return process.start(user or _self(), work, *arguments)


def _outcome(child: process.Child, within: Deadline) -> Any:
    try:
        return child.result(within)
    except Fault as fault:
        return fault
    except RuntimeError as error:  # a defect of one probe does not cost the others' answers
        return NodeFault("preflight: the check itself is broken", "report this", error=_end(str(error)))


def _self() -> process.Account:
    return process.Account("root", os.getuid(), os.getgid(), tuple(os.getgroups()), "/")


def _nobody() -> Optional[process.Account]:
    with contextlib.suppress(JobFault):
        return process.named("nobody") if os.getuid() == 0 else None
    return None


def _run(words: Sequence[str], seconds: float, **named: Any) -> subprocess.CompletedProcess[str]:
    try:
        return process.command(words, seconds, **named)
    except subprocess.TimeoutExpired:
        raise NodeFault("preflight: no answer in time", "look why it hangs", program=words[0], waited_seconds=seconds) from None
    except OSError as error:
        raise NodeFault("preflight: cannot start it", "look at the file", program=words[0], error=error.strerror) from error


def _end(text: str) -> str:
    """Return the last line of *text* that says something, as that is where programs put the reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _scontrol(program: str, words: Sequence[str], seconds: float) -> str:
    done = _run([program, *words], seconds, env={"PATH": process.PATH, "LC_ALL": "C"})
    if done.returncode != 0:
        raise NodeFault("slurm: the controller does not answer", "start slurmctld", said=_end(done.stderr))
    return done.stdout


def _disproved(path: str, seconds: float, python_path: str) -> str:
    # Its own library knows what belongs to it; this one may be of a newer version.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/lib')\n"
        "from ansible_collections.rocm.madengine.plugins.module_utils._madengine import release\n"
        "try: release.prove(sys.argv[1])\n"
        "except Exception as fault: sys.exit(str(fault))"
    )
    done = _run([python_path, "-I", "-B", "-c", code, path], seconds)
    return "" if done.returncode == 0 else _end(done.stderr) or f"status {done.returncode}"


def _fingerprint(path: str, session: str) -> str:
    # Derived twice, under its own label and with the session: of no use for anything, nor for another day's comparison.
    return credential.derive(credential.key(path, ("preflight", session)).secret({}), b"fingerprint", size_bytes=8).hex()
