# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job wants of an image: its name, and what its manifest says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Union

from ..docker import build
from ..oci.image import Reference, is_digest


@dataclass(frozen=True)
class ImageRequest:
    """An image that a job needs, and how to come by it.

    :param registry: where it can be pulled from, if not under its own name.
    :param recipe: how it can be built.
    :param digest: what the manifest has recorded when it was pushed there, or "".
    """

    reference: Reference
    registry: Optional[Reference] = None
    recipe: Optional[build.Recipe] = None
    digest: str = ""

    @classmethod
    def of(cls, image: Union[str, Mapping[str, Any]]) -> ImageRequest:
        """Return what a name, or an entry of ``manifest.images`` with its ``work_dir``, asks for.

        :raises JobFault: it names no image.
        """
        if isinstance(image, str):
            return cls(Reference.parse(image))
        registry = image.get("registry_image")
        recipe = build.Recipe.of(image) if image.get("dockerfile") else None
        digest = str(image.get("image_digest") or "")
        known = digest if is_digest(digest) else ""
        return cls(Reference.parse(image["reference"]), Reference.parse(registry) if registry else None, recipe, known)

    def is_stale(self, labels: object) -> bool:
        """Say whether an image with these *labels* was built from something else than the recipe says now, as far as they tell."""
        known = {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}
        return self.recipe is not None and build.is_stale(self.recipe, known)

    @property
    def recorded(self) -> Optional[Reference]:
        """Return under which name and digest its registry has it, if the manifest has recorded that."""
        place = self.registry or self.reference
        return Reference.parse(f"{place.name}@{self.digest}") if self.digest and not self.reference.digest else None
