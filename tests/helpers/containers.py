# SPDX-License-Identifier: GPL-3.0-or-later
"""Real containers for integration tests, and a docker command that keeps a log of how it was called."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Dict, List, Mapping, Optional

IMAGE = "debian:trixie"


def clients() -> List[str]:
    """Return every docker command on PATH that is a program of its own; machines may have two versions."""
    found: Dict[str, str] = {}
    for folder in os.environ["PATH"].split(os.pathsep):
        path = shutil.which("docker", path=folder)
        if path:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def version(client: str) -> str:
    command = [client, "version", "--format", "{{.Client.Version}}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def logging_docker(folder: Path, client: Optional[str] = None) -> Path:
    """Put a ``docker`` into *folder* that writes its arguments to ``folder/calls``, NUL-separated lines, and then is docker."""
    real = client or shutil.which("docker")
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\n{{ printf "%s\\0" "$@"; printf "\\n\\0"; }} >>"{folder}/calls"\nexec {real} "$@"\n')
    script.chmod(0o755)
    return folder / "calls"


def calls(log: Path) -> List[List[str]]:
    """Return the argument lists that `logging_docker` has noted."""
    text = log.read_text() if log.exists() else ""
    return [part.split("\0")[:-1] for part in text.split("\n\0") if part]


def variables(client: str, arguments: List[str], environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment of a container that is started with *arguments* by a client with *environ* and no more.

    :raises subprocess.CalledProcessError: Docker refused.
    """
    command = [client, "run", "--rm", "--network", "none", *arguments, IMAGE, "env", "-0"]
    known = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
    done = subprocess.run(command, capture_output=True, check=True, env={**known, **environ})
    pairs = (part.partition(b"=") for part in done.stdout.split(b"\0")[:-1])
    found = {name.decode(): value.decode("utf-8", "surrogateescape") for name, _, value in pairs}
    return {name: value for name, value in found.items() if name not in ("PATH", "HOME", "HOSTNAME")}


def packed(**files: str) -> bytes:
    """Return the archive that Docker makes of a directory with *files*; in a name, ``__`` is a slash and ``_`` a point."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()
