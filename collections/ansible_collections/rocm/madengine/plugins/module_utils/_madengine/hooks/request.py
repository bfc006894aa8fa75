# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job's user asks of us.

`concerns_us` fails on nothing that a user wrote; `read` takes the user's words and fails with a line for that user.

Source: ``--comment`` and ``--extra`` of sbatch(1).
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from typing import Dict, Tuple

from ..core.errors import JobFault
from ..images import transports
from ..oci import image
from ..slurm.allocation import Allocation

WORD = "madengine"
KEYS = ("manifest", "image", "store", "results", "transport", "keep")
DEFAULT_MANIFEST = "build_manifest.json"
KEEP = ("builds", "manifest")
_ALTERNATIVES = "+"  # a comma ends an option
_MODEL = re.compile(WORD + r"-(.+?)(?:_%[jJA].*|\.out|\.err)?")


@dataclass(frozen=True)
class Request:
    """What the job asks of us; empty where it asks nothing.

    :param manifests: build manifests; several for runs to compare on the same nodes.
    :param images: instead of those of the manifests.
    :param keep: what is to be left as the user has it: of `KEEP`.
    :param is_explicit: whether the job itself asks; else it is one of ``madengine run``, and *manifests* are a guess.
    :param model: of an implicit request: the model that the job's output is named for.
    :param script: of an implicit request: the job script that madengine has written, which names the manifest.
    """

    manifests: Tuple[str, ...] = ()
    images: Tuple[str, ...] = ()
    store: str = ""
    results: str = ""
    transport: str = ""
    keep: Tuple[str, ...] = ()
    is_explicit: bool = True
    model: str = ""
    script: str = ""

    @property
    def manifest(self) -> str:
        """The first manifest; empty if there is none."""
        return self.manifests[0] if self.manifests else ""


def concerns_us(job: Allocation) -> bool:
    """Say whether *job* is ours; only then may it be `read`.

    A job opts in by its comment, or by ``--extra``; one that ``madengine run`` has submitted over several nodes need
    not. ``madengine=off`` opts out of everything.
    """
    if is_off(job.comment) or is_off(job.extra):
        return False
    return is_ours(job.comment) or is_ours(job.extra) or _is_of_madengine(job)


def read(job: Allocation) -> Request:
    """Return what *job*, which concerns us, asks.

    :raises JobFault: it asks for something that does not exist; the message names it.
    """
    for words in (job.comment, job.extra):
        if is_ours(words):
            return _request(job, words)
    return _implicit(job)


def is_explicit(job: Allocation) -> bool:
    """Say whether *job*, which concerns us, has asked for it itself."""
    return is_ours(job.comment) or is_ours(job.extra)


def is_ours(words: str) -> bool:
    """Say whether *words* (a comment or an extra) opt in."""
    return words == WORD or words.startswith(WORD + ":")


def is_off(words: str) -> bool:
    return words == WORD + "=off"


def _is_of_madengine(job: Allocation) -> bool:
    return len(job.nodes) > 1 and os.path.basename(job.stdout).startswith(WORD + "-")


def _request(job: Allocation, words: str) -> Request:
    options = _options(words[len(WORD) + 1 :])
    if options.get("transport", "auto") not in transports.NAMES:
        raise _refused("transport", options["transport"], "one of " + " ".join(transports.NAMES))
    if options.get("store", "/")[:1] != "/":
        raise _refused("store", options["store"], "an absolute path")
    if options.get("results") in ("", ".", "..") or "/" in options.get("results", ""):
        raise _refused("results", options["results"], "a file name without a directory")
    images, keep = _several(options, "image"), _several(options, "keep")
    for name in images:
        image.Reference.parse(name)
    if not set(keep) <= set(KEEP):
        raise _refused("keep", options["keep"], f"{_ALTERNATIVES.join(KEEP)}, or one of them")
    manifests = _several(options, "manifest") or (() if images else (DEFAULT_MANIFEST,))
    return Request(
        manifests=tuple(job.path(name) for name in manifests),
        images=images,
        store=options.get("store", ""),
        results=options.get("results", ""),
        transport=options.get("transport", ""),
        keep=keep,
    )


def _several(options: Dict[str, str], key: str) -> Tuple[str, ...]:
    names = tuple(dict.fromkeys(options[key].split(_ALTERNATIVES))) if key in options else ()
    if "" in names:
        raise _refused(key, options[key], f"names with one {_ALTERNATIVES} between them")
    return names


def _implicit(job: Allocation) -> Request:
    """Return what a job of `madengine run` is taken to ask: SLURM_JOB_STDOUT names the output directory and the model."""
    folder, name = os.path.split(job.path(job.stdout))
    found = _MODEL.fullmatch(name)
    model = found.group(1) if found else ""
    script = os.path.join(folder, f"{WORD}_{model}.sh")
    return Request(manifests=(job.path(DEFAULT_MANIFEST),), is_explicit=False, model=model, script=script)


def _options(text: str) -> Dict[str, str]:
    options: Dict[str, str] = {}
    for part in text.split(",") if text else []:
        key, equals, value = part.strip().partition("=")
        if key not in KEYS or not equals:
            raise JobFault("request: unknown key", f"use {WORD}:key=value,… with the keys {' '.join(KEYS)}", key=key)
        if key in options:
            raise JobFault("request: a key is given twice", "give each key once", key=key)
        if not value or not value.isprintable():
            raise _refused(key, value, "a value")
        options[key] = value
    return options


def _refused(key: str, value: str, expected: str) -> JobFault:
    return JobFault("request: not a value for this key", f"give {expected}", key=key, value=value)
