# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building an image from a manifest's Dockerfile, by the same rules as madengine itself.

The command is a list of arguments and goes through no shell. Secrets are no part of it: a build argument with a secret name
is passed on by its name alone, so that neither ``ps`` nor a log nor the image's history shows a value.

Source: madengine 2.1, ``docker build`` of its builder: context, network, build arguments and the ``tools`` context.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Tuple

from ..core import files, process
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, NodeFault, Part, ShareFault
from . import engine

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOOLS = "docker/common"
_CONTEXT = "./docker"
LABEL = "madengine.build_fingerprint"
UPSTREAM_LABEL = "mad.build_fingerprint"
_LARGEST_DOCKERFILE = 1 << 20
_LONGEST_TAIL = 64 << 10


@dataclass(frozen=True)
class Recipe:
    """How an image is built.

    :param work_dir: what relative paths are relative to: the manifest's directory.
    :param context: the model's ``dockercontext``, or "".
    :param arguments: build arguments, name and value.
    :param secrets: names of build arguments whose values are nobody's business.
    :param fingerprint: what madengine's own label said when the manifest was written; empty where it is not recorded.
    """

    work_dir: str
    dockerfile: str
    context: str = ""
    arguments: Tuple[Tuple[str, str], ...] = ()
    secrets: Tuple[str, ...] = ()
    fingerprint: str = ""

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> Recipe:
        """Return the recipe in an entry of ``manifest.images`` that has a ``work_dir``."""
        arguments = tuple((str(name), str(value)) for name, value in (image.get("build_args") or {}).items())
        secrets = tuple(map(str, image.get("secret_build_args") or ()))
        return cls(
            str(image.get("work_dir") or "/"),
            str(image["dockerfile"]),
            str(image.get("context") or ""),
            arguments,
            secrets,
            str(image.get("build_fingerprint") or ""),
        )


def command(recipe: Recipe, name: str) -> List[str]:
    """Return the argument list that builds *name*.

    :raises JobFault: the Dockerfile or the context is not there, or an argument has no proper name.
    """
    context = _context(recipe)
    for path, kind, is_there in ((recipe.dockerfile, "Dockerfile", os.path.isfile), (context, "build context", os.path.isdir)):
        if path.startswith("-") or not is_there(os.path.join(recipe.work_dir, path)):
            raise JobFault(f"build: no such {kind}", "correct the manifest", path=path, work_dir=recipe.work_dir, image=name)
    words = ["docker", "build", "--network=host", "--tag", name, "--file", recipe.dockerfile, "--label", f"{LABEL}={fingerprint(recipe)}"]
    for argument, value in [*recipe.arguments, *((secret, None) for secret in recipe.secrets)]:
        if not _NAME.fullmatch(argument):
            raise JobFault("build: not a build argument's name", "correct docker_build_arg", name=argument, image=name)
        words += ["--build-arg", argument if value is None else f"{argument}={value}"]
    if os.path.isdir(os.path.join(recipe.work_dir, _TOOLS)):
        words += ["--build-context", f"tools={_TOOLS}"]
    return [*words, context]


def fingerprint(recipe: Recipe) -> str:
    """Return what an image that *recipe* builds now carries in its label: the Dockerfile and what is no secret of the arguments.

    :raises JobFault: the Dockerfile cannot be read.
    """
    dockerfile = files.read(os.path.join(recipe.work_dir, recipe.dockerfile), _LARGEST_DOCKERFILE)
    arguments = json.dumps([sorted(recipe.arguments), sorted(recipe.secrets)])
    return hashlib.sha256(dockerfile + b"\0" + arguments.encode()).hexdigest()


def is_stale(recipe: Recipe, labels: Mapping[str, str]) -> bool:
    """Say whether an image with these *labels* was built from something else than *recipe*, as far as a label can tell.

    An image without such a label is somebody's own, and so is one whose Dockerfile is not here.
    """
    if LABEL in labels:
        try:
            return labels[LABEL] != fingerprint(recipe)
        except Fault:
            return False
    return bool(recipe.fingerprint) and labels.get(UPSTREAM_LABEL, recipe.fingerprint) != recipe.fingerprint


def _context(recipe: Recipe) -> str:
    """Return the context as madengine chooses it; one that is not there is the Dockerfile's own directory."""
    context = recipe.context or ("." if "primus" in os.path.basename(recipe.dockerfile).lower() else _CONTEXT)
    is_there = context.startswith("-") or "://" in context or os.path.isdir(os.path.join(recipe.work_dir, context))
    return context if is_there else os.path.dirname(recipe.dockerfile) or "."


def run(recipe: Recipe, name: str, docker_socket: str, deadline: Deadline) -> None:
    """Build *name* as the acting user.

    :raises JobFault: the build failed; the fault shows the end of its output.
    :raises ShareFault: the time is up.
    """
    words = command(recipe, name)
    for path in (recipe.dockerfile, words[-1], *([_TOOLS] if "--build-context" in words else [])):
        _require_below(recipe.work_dir, path, name)
    host = docker_socket if "://" in docker_socket else f"unix://{docker_socket}"
    environment = {"PATH": process.PATH, "DOCKER_HOST": host, "LC_ALL": "C.UTF-8"}
    if shutil.which(words[0], path=process.PATH) is None:
        raise NodeFault("build: no docker command on this node", "install Docker's client", part=Part.DOCKER, image=name)
    try:
        with _home() as home:
            status, output = _finished(words, recipe.work_dir, {**environment, "HOME": home, "DOCKER_CONFIG": home}, deadline)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise JobFault("build: the work directory is gone", "leave it alone while the job starts", work_dir=recipe.work_dir) from error
    except subprocess.TimeoutExpired as error:
        raise ShareFault("build: the time is up", "build the image before the job, or raise Deadline", image=name) from error
    if status != 0:
        raise JobFault("build: docker build failed", "build it by hand to see all of it", image=name, output=_tail(output))


def _require_below(work_dir: str, path: str, name: str) -> None:
    """Do nothing if *path* lies below *work_dir*, wherever links lead: what a builder can read beyond it is not the job's to send."""
    top, place = os.path.realpath(work_dir), os.path.realpath(os.path.join(work_dir, path))
    if os.path.commonpath((top, place)) != top:
        raise JobFault("build: outside the work directory", "put it beside the manifest", path=path, work_dir=work_dir, image=name)


@contextlib.contextmanager
def _home() -> Iterator[str]:
    """Give a home for Docker's client that holds the acting user's logins and nothing else: no plugin of a user's is run."""
    with tempfile.TemporaryDirectory(prefix="madengine.") as path:
        with contextlib.suppress(Fault, ValueError):
            files.write(os.path.join(path, "config.json"), json.dumps(engine.logins()), mode=0o600)
        yield path


def _finished(words: List[str], work_dir: str, environment: Mapping[str, str], deadline: Deadline) -> Tuple[int, bytes]:
    """Run a command to its end; return its status and the end of its output, of which there may be more than memory holds."""
    with tempfile.TemporaryFile() as output:
        seconds = max(1.0, deadline.left())
        done = subprocess.run(
            words, cwd=work_dir, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=seconds, check=False
        )
        output.seek(max(0, output.tell() - _LONGEST_TAIL))
        return done.returncode, output.read()


def _tail(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return " | ".join(line.strip() for line in lines[-3:] if line.strip())[-280:]
