# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an image comes from, if this node's daemon does not have it: the store, an archive, a registry, a Dockerfile."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..docker import build
from ..docker.answers import Refused
from ..docker.engine import Engine
from ..oci.folder import Foreign
from ..oci.image import Identity, Reference
from ..oci.root import SITE
from ..oci.store import ImageStore
from . import conflict, holders, load, plain_archive
from .request import ImageRequest

SOURCES = ("local", "store", "archive", "registry", "hub", "build")


@dataclass(frozen=True)
class _Search:
    """One look for one image, with what each place needs."""

    engine: Engine
    store: Optional[ImageStore]
    request: ImageRequest
    namespaces: Sequence[str]
    deadline: Deadline

    def ways(self) -> Dict[str, Tuple[str, Callable[[], str]]]:
        """Return source → (the place in words, what brings the image into the daemon and returns "" or why not)."""
        name, ways = self.request.reference, {"local": (f"docker of this node ({self.engine.socket})", lambda: "")}
        if self.store is not None:
            ways["store"] = (f"store {self.store.path} ({', '.join(self.namespaces)})", functools.partial(self._from_store, self.store))
        if self.store is not None and not name.digest:  # what an archive holds is no registry's
            ways["archive"] = (
                os.path.join(self.store.path, plain_archive.names(name)[0]),
                functools.partial(self._from_archive, self.store),
            )
        registry = self.request.registry or name
        if registry.has_registry or self.request.registry:
            ways["registry"] = (f"registry {registry.name}", self._from_registry)
        elif self.request.recipe is None:
            # What the manifest knows how to build is nobody else's: a stranger may own its name in the default registry.
            ways["hub"] = (f"registry {registry.name}", self._from_registry)
        if self.request.recipe is not None:
            ways["build"] = (self.request.recipe.dockerfile, functools.partial(self._from_recipe, self.request.recipe))
        return ways

    def _from_store(self, store: ImageStore) -> str:
        stored = store.find(self.request.reference, self.namespaces)
        if stored is None:
            return "no"
        if store.missing(stored):
            return "damaged"
        load.from_store(self.engine, store, stored, self.request.reference, self.deadline)
        return ""

    def _from_archive(self, store: ImageStore) -> str:
        """Publish and load what a plain archive in the store's directory holds, if there is one."""
        name = self.request.reference
        with plain_archive.opened(store, name) as found:
            if found is None:
                return "no"
            stored = plain_archive.fetched(store, name, self.namespaces, found)
        store.point(name, self.namespaces[0], stored)
        load.from_store(self.engine, store, stored, name, self.deadline)
        return ""

    def _from_registry(self) -> str:
        """Pull by the digest that the manifest has recorded, or else by name."""
        registry, name = self.request.registry or self.request.reference, self.request.reference
        answers: List[str] = []
        for place in filter(None, (self.request.recorded, registry)):
            try:
                self.engine.pull(place, self.deadline.left())
            except Refused as fault:
                answers.append(str(fault.seen.get("answer")))
                continue
            if place != name:
                self.engine.tag(str(place), name)
            return ""
        return "; ".join(dict.fromkeys(answers))

    def _from_recipe(self, recipe: build.Recipe) -> str:
        build.run(recipe, str(self.request.reference), self.engine.socket, self.deadline)
        return ""


def ensure(
    engine: Engine,
    store: Optional[ImageStore],
    request: ImageRequest,
    namespace: str,
    deadline: Deadline,
    sources: Sequence[str] = SOURCES,
    on_conflict: str = conflict.NEWEST,
) -> Tuple[str, Identity, str]:
    """Bring the image into the local daemon; return where it came from, what it is, and what was decided on the way, if anything.

    :param on_conflict: one of `conflict.POLICIES`, for a daemon and a store that have different images under the name.
    :param namespace: whose images of the store count before the site's.
    :param sources: where it is looked for, in this order: ``local`` is the daemon; ``store``; ``archive``, a plain ``docker
        save`` file in the store's directory; ``registry``, if a name names one; ``hub``, Docker's default registry;
        ``build``, if there is a recipe.
    :raises JobFault: nobody has the image; the fault names the places.
    :raises Foreign: somebody else has made what should be this user's, or the site's.
    :raises Fault: the only one that has kept a place from giving the image.
    """
    looked: List[str] = []
    faults: Dict[str, Fault] = {}
    namespaces = list(dict.fromkeys([namespace, SITE]))
    ways = _Search(engine, store, request, namespaces, deadline).ways()
    local = engine.inspect(str(request.reference))
    first, decision = holders.decided(local, store if "store" in sources else None, request, namespaces, sources, on_conflict)
    first = tuple(each for each in first if each in ways)
    for source in (each for each in [*first, *sources] if each in ways):
        place, bring = ways[source]
        try:
            reason = bring()
        except Foreign:
            raise
        except (JobFault, ShareFault) as fault:  # the next place may have it all the same
            if source in first and source != "registry":  # it was decided for this one: another must not run in its place
                raise
            reason, faults[source] = str(fault), fault
        document = None if reason else local if source == "local" else engine.inspect(str(request.reference))
        identity = None if document is None else Identity.of_inspect(document)
        if document is not None and identity is not None and source != "build" and _is_stale(document, request):
            said = f"the image {request.reference} of {place} {holders.REBUILT}"
            if "build" not in sources:
                return source, identity, "; ".join(filter(None, (decision, said + "; it runs, for this site lets no job build")))
            ways["build"][1]()
            return "build", _present(engine, request.reference), "; ".join(filter(None, (decision, said + "; it was built anew")))
        if identity is not None:
            said = f"{ways[first[0]][0]} does not give it, so that of {place} runs" if first and source not in first else ""
            return source, identity, "; ".join(filter(None, (decision, said)))
        looked.append(place + (f": {reason}" if reason not in ("", "no") and source not in faults else ""))
    if len(faults) == 1:
        raise next(iter(faults.values()))
    raise nowhere(str(request.reference), looked, **{source: str(fault) for source, fault in faults.items()})


def _is_stale(document: Mapping[str, Any], request: ImageRequest) -> bool:
    """Say whether the daemon's image was built from something else than the manifest says now, as far as its labels tell."""
    return request.recipe is not None and request.is_stale((document.get("Config") or {}).get("Labels"))


def _present(engine: Engine, name: Reference) -> Identity:
    identity = engine.identity(name)
    if identity is None:
        raise nowhere(str(name), ["docker of this node, after it was built there"])
    return identity


def nowhere(image: str, looked: Sequence[str], **reasons: str) -> JobFault:
    """Return the fault of an image that is in none of the places where it was *looked* for.

    :param reasons: source → why it could not give the image, though it may have it.
    """
    remedy = "build or pull it on the job's first node, or publish it into the store"
    return JobFault("image: nobody has it", remedy, image=image, looked_in="; ".join(looked), **reasons)
