# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has an image under a name on the leader, and whose is meant: this node's daemon, the store, an archive that lies in it.

What the manifest says of the image counts before any date: the digest that was recorded when it was pushed, and the fingerprint of
what it was built from.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ..core.errors import JobFault, ShareFault
from ..oci.folder import Foreign
from ..oci.image import Identity, Reference
from ..oci.store import ImageStore
from . import conflict, plain_archive
from .conflict import Holder
from .request import ImageRequest
from .save import intact

_OTHERWISE = "name the image by digest, remove the wrong one, or set OnConflict=newest or leader"
_REPLACED = "has another digest in its registry than the manifest has recorded"
REBUILT = "was built from another Dockerfile or other arguments than the manifest's"


def decided(
    document: Optional[Mapping[str, Any]],
    store: Optional[ImageStore],
    request: ImageRequest,
    namespaces: Sequence[str],
    sources: Sequence[str],
    on_conflict: str,
) -> Tuple[Tuple[str, ...], str]:
    """Return where to look first, if those who have an image of this name do not agree, and why.

    An archive that is meant has the name in the store by then.

    :param document: what the daemon says of the image of this name, if it has one (`Engine.inspect`).
    :param store: None where it is no source.
    :raises JobFault: they do not agree, and it cannot be decided.
    :raises ShareFault: an archive that is meant cannot be stored.
    """
    name = request.reference
    if name.digest:
        return (), ""
    local = _of_daemon(document, request) if document is not None else None
    kept = _of_store(store, request, namespaces, local is not None) if store is not None else None
    known = [each for each in (local, kept) if each is not None]
    archived, said = None, ""
    if store is not None and known and "archive" in sources and on_conflict != conflict.LEADER:
        archived, said = _of_archive(store, name, namespaces, known, on_conflict == conflict.FAIL)
    known += [archived] if archived else []
    if not known:
        return (), ""
    chosen, decision = conflict.decide(str(name), known, on_conflict, _OTHERWISE)
    said = "; ".join(filter(None, (decision, said)))
    if chosen is local:
        return _recorded_instead(request, local, sources, on_conflict, said)
    if decision and local is not None and local.named > chosen.named and not local.objection:
        # An older build that has come back from a cache, or an old image that was loaded again: whose intention counts?
        who = "; ".join(map(str, known))
        raise JobFault("image: an older image got this name after the newer one", _OTHERWISE, image=str(name), holders=who)
    if store is not None and chosen is archived:
        _give_name(store, name, namespaces)
    return ("store",) if decision else (), said


def _recorded_instead(
    request: ImageRequest, local: Holder, sources: Sequence[str], on_conflict: str, said: str
) -> Tuple[Tuple[str, ...], str]:
    """Return the registry as the first place, where the daemon's image is not the one that the manifest has recorded there."""
    recorded = request.recorded
    source = "registry" if request.registry or request.reference.has_registry else "hub"
    if recorded is None or local.objection != _REPLACED or source not in sources or on_conflict == conflict.LEADER:
        return (), said
    return (source,), "; ".join(filter(None, (said, f"{local}, which {_REPLACED}: {recorded} is asked for")))


def _give_name(store: ImageStore, name: Reference, namespaces: Sequence[str]) -> None:
    with plain_archive.opened(store, name) as found:
        if found is not None:
            store.point(name, namespaces[0], plain_archive.fetched(store, name, namespaces, found))


def _of_daemon(document: Mapping[str, Any], request: ImageRequest) -> Holder:
    tagged = conflict.seconds_of(str((document.get("Metadata") or {}).get("LastTagTime") or ""))
    here, recorded = _in_registry(request, document), request.recorded
    is_recorded = recorded is not None and recorded in here
    # The containerd store gives every name a digest, that of the image here, whatever its registry has.
    is_replaced = not is_recorded and any(each.digest != document.get("Id") for each in here)
    objection = _REPLACED if is_replaced else _objection(request, (document.get("Config") or {}).get("Labels"))
    identity, created = Identity.of_inspect(document).digest, str(document.get("Created") or "")
    return Holder("docker of this node", identity, created, tagged, objection, is_recorded)


def _in_registry(request: ImageRequest, document: Mapping[str, Any]) -> List[Reference]:
    """Return under which digests the manifest's registry has what the daemon has, if the manifest has recorded one."""
    found: List[Reference] = []
    recorded = request.recorded
    for text in document.get("RepoDigests") or [] if recorded else []:
        with contextlib.suppress(JobFault):
            found.append(Reference.parse(str(text)))
    return [each for each in found if recorded is not None and each.name == recorded.name]


def _of_store(store: ImageStore, request: ImageRequest, namespaces: Sequence[str], is_in_doubt: bool) -> Optional[Holder]:
    """Return the store's image if it is whole; where it may be preferred to another one, it is proved to be."""
    stored = None
    with contextlib.suppress(ShareFault):
        stored = intact(store, request.reference, namespaces) if is_in_doubt else store.find(request.reference, namespaces)
    if stored is None:
        return None
    labels = (json.loads(stored.config_bytes).get("config") or {}).get("Labels")
    named = _published(store, request.reference, namespaces)
    return Holder(f"the store {store.path}", stored.identity.digest, stored.created, named, _objection(request, labels))


def _of_archive(
    store: ImageStore, name: Reference, namespaces: Sequence[str], known: Sequence[Holder], reads_all: bool
) -> Tuple[Optional[Holder], str]:
    """Return what the archive of *name* holds, read if it may be newer than what is *known*, and why it could not be, if so."""
    try:
        with plain_archive.opened(store, name) as found:
            if found is None:
                return None, ""
            note = plain_archive.noted(store, name, namespaces, found)
            if note is None and not reads_all and found.written <= max(conflict.seconds_of(each.created) for each in known):
                return None, ""
            if note is None:
                stored = plain_archive.read(store, name, namespaces[0], found)
                note = plain_archive.Note(stored.identity.digest, stored.created, stored.manifest_digest)
            return Holder(f"the archive {found.path}", note.identity, note.created, found.arrived), ""
    except Foreign:  # whoever may write there must not stop others' jobs
        return None, ""
    except (JobFault, ShareFault) as fault:
        return None, f"the archive of {name} was passed over: {fault}"


def _objection(request: ImageRequest, labels: object) -> str:
    return REBUILT if request.is_stale(labels) else ""


def _published(store: ImageStore, name: Reference, namespaces: Sequence[str]) -> float:
    """Return when the store's image got its name or was last used by its publisher, in seconds since the epoch."""
    for namespace in namespaces:
        with contextlib.suppress(OSError):
            return store.published(name, namespace).st_mtime
    return 0.0
