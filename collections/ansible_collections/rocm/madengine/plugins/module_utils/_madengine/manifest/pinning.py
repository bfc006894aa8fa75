# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image an entry of a manifest runs: a pinned one by its digest, slurm_multi's own, and no placeholder.

Source: madengine after 2.1.3, ``require_pinned_image`` and ``image_digest`` (``<name without a tag>@<digest>`` is pulled, and
a run without a recorded digest is refused); the ``slurm_multi`` launcher.
"""

from __future__ import annotations

import re
from typing import Any, List

from ..core.errors import JobFault
from ..oci import image
from . import schema
from .schema import Document, Entry

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLACEHOLDER = re.compile(r"\s*<[^<>]*>\s*|.*<(FILL|TODO|YOUR)[^<>]*>.*")
_SLURM_MULTI = ("slurm_multi", "slurm-multi")


def is_required(document: Document) -> bool:
    """Say whether the images of *document* must be those that were pushed when it was built."""
    deployment = schema.section_of(document, "deployment_config")
    places = (document, schema.section_of(document, "context"), deployment, schema.section_of(deployment, "additional_context"))
    return any(place.get("require_pinned_image") in (True, "true", "True", "1", 1) for place in places)


def written(document: Document, entry: Entry) -> str:
    """Return the image that a container of *entry* is made of, as its author wrote it; empty where nobody has filled it in.

    :raises JobFault: it must be pinned, and cannot be.
    """
    text = next((text for text in _candidates(document, entry) if text and not is_placeholder(text)), "")
    return pinned(entry, text) if text and is_required(document) else text


def is_placeholder(text: str) -> bool:
    """Say whether *text* waits for somebody to fill it in.

    >>> is_placeholder("<FILL_IMAGE>"), is_placeholder("rocm/vllm:1")
    (True, False)
    """
    return _PLACEHOLDER.fullmatch(text) is not None


def pinned(entry: Entry, text: str) -> str:
    """Return *text*, or where it can be had from, by the digest that was recorded when it was pushed.

    :raises JobFault: no digest was recorded, and *text* has none.
    """
    origin = str(entry.image.get("registry_image") or entry.image.get("source_image") or text)
    reference, digest = image.Reference.parse(origin), entry.image.get("image_digest")
    if isinstance(digest, str) and _DIGEST.fullmatch(digest):
        return f"{reference.familiar}@{digest}"
    if reference.digest:
        return origin
    raise JobFault(
        "manifest: an image must be pinned, and no digest is recorded",
        "build and push it again, or take require_pinned_image away",
        where=entry.where + ".image_digest",
        image=text,
    )


def pin(document: Document) -> None:
    """Have each entry of *document* run what it is pinned to, whatever form it is given afterwards; twice is once.

    :raises JobFault: as `pinned`.
    """
    if is_required(document):
        for entry in schema.entries(document):
            text = written(document, entry)
            for name in ("docker_image", "registry_image") if is_slurm_multi(document, entry) else ("docker_image",):
                entry.image[name] = text or entry.image.get(name)


def _candidates(document: Document, entry: Entry) -> List[str]:
    if not is_slurm_multi(document, entry):
        return [entry.written]
    variables = (
        schema.section_of(entry.model, "env_vars"),
        schema.section_of(schema.section_of(document, "deployment_config"), "env_vars"),
    )
    named = [str(each.get("DOCKER_IMAGE_NAME") or "") for each in variables]
    return [str(entry.image.get("registry_image") or entry.image.get("source_image") or ""), *named, entry.written]


def is_slurm_multi(document: Document, entry: Entry) -> bool:
    """Say whether the user's own script starts *entry*; it looks for its image in an order of its own."""
    return launcher(document, entry) in _SLURM_MULTI


def launcher(document: Document, entry: Entry) -> str:
    """Return who starts the processes of *entry*; empty where nothing says so."""
    places: List[Any] = [entry.model, schema.section_of(document, "deployment_config"), document]
    return next((str(found) for found in (schema.section_of(place, "distributed").get("launcher") for place in places) if found), "")
