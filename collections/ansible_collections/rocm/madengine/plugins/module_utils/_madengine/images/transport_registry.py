# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``registry``: an image of a registry, by digest."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Tuple

from ..core.errors import JobFault, ShareFault
from ..docker.answers import Refused
from ..oci.image import Reference
from . import load
from .offer import Figures
from .transport import DECLINED, OTHERWISE, Delivery, Publication, Way


class Registry(Way):
    """Every node pulls from the registry that the image came from."""

    name, remedy = "registry", "push the image to the registry that its name says and pull it from there once, or use transport=shared"

    def can(self, image: Publication) -> bool:
        return bool(self._digest(image))

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        pull = self._digest(image)
        # A daemon gives every image of the containerd store a digest "of its registry", which may never have heard of it.
        reason = image.engine.registry_has(Reference.parse(pull), image.deadline.left())
        if reason:
            raise ShareFault("transport: the registry does not have the image", self.remedy, image=pull, answer=reason)
        return {"pull": pull}, Figures.since(image.started, "registry")

    def take(self, delivery: Delivery) -> Figures:
        pull, name = Reference.parse(delivery.detail("pull")), delivery.offer.reference
        try:
            delivery.engine.pull(pull, delivery.deadline.left())
        except Refused as fault:  # no route, or no login, where the leader has them
            if delivery.offer.details.get(OTHERWISE) is not True:
                raise
            answer = fault.seen.get("answer")
            raise ShareFault(DECLINED, "let every node reach the registry", image=str(pull), answer=answer) from fault
        load.require(delivery.engine, pull, delivery.offer.identity)
        if not name.digest:
            delivery.engine.tag(str(pull), name)
        load.require(delivery.engine, name, delivery.offer.identity)
        return Figures.since(delivery.started, load.PULL)

    def _digest(self, image: Publication) -> str:
        """Return under which name and digest a registry may have the image that is here, or ""."""
        request = image.request
        registry = request.registry or request.reference
        is_named = registry.has_registry or request.registry or "hub" in image.options.sources
        for text in image.document.get("RepoDigests") or []:
            with contextlib.suppress(JobFault):
                if is_named and Reference.parse(str(text)).name == registry.name:
                    return Reference.parse(str(text)).full
        return ""
