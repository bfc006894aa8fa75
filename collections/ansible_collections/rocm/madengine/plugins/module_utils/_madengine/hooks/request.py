# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job's user asks of us.

`concerns_us` fails on nothing that a user wrote; `read` takes the user's words and fails with a line for that user.

Source: ``--comment`` and ``--extra`` of sbatch(1).
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from typing import Dict

from ..core.errors import JobFault
from ..images import transports
from ..oci import image
from ..slurm.allocation import Allocation

WORD = "madengine"
KEYS = ("manifest", "image", "store", "results", "transport")
DEFAULT_MANIFEST = "build_manifest.json"


@dataclass(frozen=True)
class Request:
    """What the job asks of us; an empty text where it asks nothing."""

    manifest: str
    image: str = ""
    store: str = ""
    results: str = ""
    transport: str = ""
    is_explicit: bool = True


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
    return Request(manifest=job.path(DEFAULT_MANIFEST), is_explicit=False)


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
    if "image" in options:
        image.Reference.parse(options["image"])
    manifest = options.get("manifest", "" if "image" in options else DEFAULT_MANIFEST)
    return Request(
        manifest=job.path(manifest) if manifest else "",
        image=options.get("image", ""),
        store=options.get("store", ""),
        results=options.get("results", ""),
        transport=options.get("transport", ""),
    )


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
