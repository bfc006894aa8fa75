# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an image comes from, if this node's daemon does not have it: the store, an archive, a registry, a Dockerfile."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from dataclasses import dataclass
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..docker import archive, build
from ..docker.answers import Refused
from ..docker.engine import Engine
from ..oci import digests, lease
from ..oci.folder import Foreign, require_owner
from ..oci.image import Identity, Reference
from ..oci.root import SITE
from ..oci.store import ImageStore
from . import conflict, load
from .save import digests_of, intact

SOURCES = ("local", "store", "archive", "registry", "hub", "build")


@dataclass(frozen=True)
class ImageRequest:
    """An image that a job needs, and how to come by it.

    :param registry: where it can be pulled from, if not under its own name.
    :param recipe: how it can be built.
    """

    reference: Reference
    registry: Optional[Reference] = None
    recipe: Optional[build.Recipe] = None

    @classmethod
    def of(cls, image: Union[str, Mapping[str, Any]]) -> ImageRequest:
        """Return what a name, or an entry of ``manifest.images`` with its ``work_dir``, asks for.

        :raises JobFault: it names no image.
        """
        if isinstance(image, str):
            return cls(Reference.parse(image))
        registry = image.get("registry_image")
        recipe = build.Recipe.of(image) if image.get("dockerfile") else None
        return cls(Reference.parse(image["reference"]), Reference.parse(registry) if registry else None, recipe)


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
        if self.store is not None and not name.digest:  # of that, Docker keeps only what it pulled from its registry
            ways["store"] = (f"store {self.store.path} ({', '.join(self.namespaces)})", functools.partial(self._from_store, self.store))
            ways["archive"] = (os.path.join(self.store.path, _archive_names(name)[0]), functools.partial(self._from_archive, self.store))
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
        with lease.held(store, digests_of(stored)):
            load.load(self.engine, load.FromStore(store, stored), self.request.reference, self.deadline)
        return ""

    def _from_archive(self, store: ImageStore) -> str:
        """Publish and load what a plain archive in the store's directory holds, if there is one."""
        name = self.request.reference
        with _archive_of(store, name) as stream:
            if stream is None:
                return "no"
            store.ensure()
            store.require_space(os.fstat(stream.fileno()).st_size)
            unpacked = archive.unpack(digests.chunks_of(stream), store, name, {})
        stored = store.commit(name, self.namespaces[0], unpacked.config, unpacked.layers)
        load.load(self.engine, load.FromStore(store, stored), name, self.deadline)
        return ""

    def _from_registry(self) -> str:
        registry, name = self.request.registry or self.request.reference, self.request.reference
        try:
            self.engine.pull(registry, self.deadline.left())
        except Refused as fault:
            return str(fault.seen.get("answer"))
        if registry != name:
            self.engine.tag(str(registry), name)
        return ""

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
    first, decision = _decided(engine, store if "store" in sources else None, request.reference, namespaces, on_conflict)
    for source in (each for each in [*first, *sources] if each in ways):
        place, bring = ways[source]
        try:
            reason = bring()
        except Foreign:
            raise
        except (JobFault, ShareFault) as fault:  # the next place may have it all the same
            if source in first:  # it was decided for this one: another image must not run in its place
                raise
            reason, faults[source] = str(fault), fault
        identity = None if reason else engine.identity(request.reference)
        if identity is not None and source != "build" and _is_stale(engine, request):
            said = f"the image {request.reference} of {place} was built from another Dockerfile or other arguments than the manifest's"
            if "build" not in sources:
                return source, identity, "; ".join(filter(None, (decision, said + "; it runs, for this site lets no job build")))
            ways["build"][1]()
            return "build", _present(engine, request.reference), "; ".join(filter(None, (decision, said + "; it was built anew")))
        if identity is not None:
            return source, identity, decision
        looked.append(place + (f": {reason}" if reason not in ("", "no") and source not in faults else ""))
    if len(faults) == 1:
        raise next(iter(faults.values()))
    raise nowhere(str(request.reference), looked, **{source: str(fault) for source, fault in faults.items()})


def _is_stale(engine: Engine, request: ImageRequest) -> bool:
    """Say whether the daemon's image was built from something else than the manifest says now, as far as its labels tell."""
    if request.recipe is None:
        return False
    labels = ((engine.inspect(str(request.reference)) or {}).get("Config") or {}).get("Labels") or {}
    return build.is_stale(request.recipe, labels)


def _present(engine: Engine, name: Reference) -> Identity:
    identity = engine.identity(name)
    if identity is None:
        raise nowhere(str(name), ["docker of this node, after it was built there"])
    return identity


def _decided(
    engine: Engine, store: Optional[ImageStore], name: Reference, namespaces: Sequence[str], on_conflict: str
) -> Tuple[Tuple[str, ...], str]:
    """Return where to look first, if the daemon and the store disagree about *name*, and why.

    :raises JobFault: they do, and it cannot be decided.
    """
    document = engine.inspect(str(name)) if store is not None and not name.digest else None
    stored = intact(store, name, namespaces) if store is not None and document is not None else None
    if store is None or document is None or stored is None:
        return (), ""
    local = conflict.Holder("docker of this node", Identity.of_inspect(document).digest, str(document.get("Created") or ""))
    kept = conflict.Holder(f"the store {store.path}", stored.identity.digest, stored.created)
    remedy = "name the image by digest, remove the wrong one, or set OnConflict=newest or leader"
    chosen, decision = conflict.decide(str(name), (local, kept), on_conflict, remedy)
    tagged = conflict.seconds_of(str((document.get("Metadata") or {}).get("LastTagTime") or ""))
    if decision and chosen is kept and tagged > _published(store, name, namespaces):
        # An older build that has come back from a cache, or an old image that was loaded again: whose intention counts?
        raise JobFault("image: an older image got this name after the newer one", remedy, image=str(name), holders=f"{local}; {kept}")
    return (("store",) if chosen is kept else ()), decision


def _published(store: ImageStore, name: Reference, namespaces: Sequence[str]) -> float:
    """Return when the store's image got its name or was last used by its publisher, in seconds since the epoch."""
    for namespace in namespaces:
        with contextlib.suppress(OSError):
            return store.published(name, namespace).st_mtime
    return 0.0


def nowhere(image: str, looked: Sequence[str], **reasons: str) -> JobFault:
    """Return the fault of an image that is in none of the places where it was *looked* for.

    :param reasons: source → why it could not give the image, though it may have it.
    """
    remedy = "build or pull it on the job's first node, or publish it into the store"
    return JobFault("image: nobody has it", remedy, image=image, looked_in="; ".join(looked), **reasons)


@contextlib.contextmanager
def _archive_of(store: ImageStore, name: Reference) -> Iterator[Optional[IO[bytes]]]:
    """Open the archive of *name* in the store's directory, or give None.

    :raises Foreign: neither this user nor the store's owner has put it there.
    :raises JobFault: it is no plain file, or cannot be read.
    """
    with contextlib.ExitStack() as stack:
        folder = None
        with contextlib.suppress(FileNotFoundError):
            folder = stack.enter_context(store.root.folder())
        for file in _archive_names(name) if folder else ():
            path = os.path.join(store.path, file)
            try:
                stream = stack.enter_context(folder.opened(file))  # type: ignore[union-attr]
            except FileNotFoundError:
                continue
            except OSError as error:
                remedy = "give a plain file that this user can read"
                raise JobFault("archive: cannot read", remedy, path=path, error=error.strerror or str(error)) from error
            require_owner(path, os.fstat(stream.fileno()), store.root.user, store.root.owner, 0)
            yield stream
            return
        yield None


def _archive_names(name: Reference) -> List[str]:
    """Return what madengine, or a person, calls the archive of *name*."""
    untagged = [name.familiar] if name.tag == "latest" and not name.digest else []
    stems = dict.fromkeys(re.sub(r"[^A-Za-z0-9.-]", "_", text) for text in [str(name), name.full, *untagged])
    return [stem + suffix for stem in stems for suffix in (".tar", ".tar.gz", ".tgz", ".tar.zst")]
