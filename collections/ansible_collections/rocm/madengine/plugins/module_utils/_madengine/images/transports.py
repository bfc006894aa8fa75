# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image gets from the node that has it to the nodes that need it, moving only what is missing.

`publish` runs on the leader and returns an offer; `obtain` runs on each member and takes that offer. Both are meant for
a child process that is the job's user: plain values go in, dictionaries that fit into JSON come out.

``shared``: the offer names a store that all nodes see, which the member proves by a lease's number.
``registry``: the offer names an image of a registry by digest.
``sbcast``: the offer names a file that SLURM has brought to every node.
``none``: there is no way, so every node must have the image.
"""

from __future__ import annotations

import contextlib
import glob
import os
import random
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ..core import files, turn
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..docker import archive
from ..docker.engine import Engine
from ..docker.layer_server import Source
from ..oci import compression, digests, lease
from ..oci.image import Identity, Reference, chain_ids, is_digest
from ..oci.store import ImageStore, Layer, Stored
from ..slurm import sbcast
from . import load as loading
from . import save as saving
from . import sources
from .sources import Wanted

FIGURES = ("method", "layers_total", "layers_moved", "bytes_total", "bytes_moved", "seconds")
_AT_ONCE, _LONGEST_SPREAD = 16, 5.0  # readers that any share bears; seconds
_WAYS = ("shared", "registry", "sbcast", "none")

Offer = Dict[str, Any]
Done = Dict[str, Any]
Image = Union[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TransportOptions:
    """What a leader may use.

    :param sources: where an image may come from, see `sources.ensure`.
    :param transport: how it gets to the others: ``shared``, ``registry``, ``sbcast``, or ``auto`` for the first that works.
    :param reader: what reads the daemon's own layer files; without one, or where it fails, ``docker save`` is used.
    :param turns: a directory of this node for locks, so that two jobs do the same work once; "" for none.
    :param job_id: SLURM's, for sbcast; "" if there is no job.
    :param held: chain ids of layers that every member's daemon has; sbcast leaves them out.
    :param spool: a directory of every node, for sbcast's file.
    :param nodes: how many will read the store, so that a thousand do not arrive at once.
    :param compression: how new layers are packed where this node's daemon, and so the others', takes them so: ``none``,
        ``gzip`` or ``zstd``.
    """

    sources: Sequence[str] = sources.SOURCES
    transport: str = "auto"
    reader: Optional[Source] = None
    turns: str = ""
    job_id: str = ""
    held: Sequence[str] = ()
    spool: str = sbcast.SPOOL
    nodes: int = 1
    compression: str = compression.NONE


def publish_all(
    engine: Engine, store_path: str, images: Sequence[Image], namespace: str, deadline: Deadline, means: Optional[TransportOptions] = None
) -> List[Offer]:
    """Publish each of *images* once, in their order; arguments and faults as `publish`."""
    return [publish(engine, store_path, wanted, namespace, deadline, means) for wanted in _distinct(images)]


def ensure_all(
    engine: Engine, store_path: str, images: Sequence[Image], namespace: str, deadline: Deadline, means: Optional[TransportOptions] = None
) -> List[Done]:
    """See that this node has each of *images*, for a job of one node: nothing is published.

    :param store_path: a store to look in, or "".
    :returns: reference, identity and source of each.
    :raises JobFault: nobody has one of them.
    """
    found, store = [], ImageStore(store_path) if store_path else None
    for wanted in _distinct(images):
        source, identity = sources.ensure(engine, store, wanted, namespace, deadline, (means or TransportOptions()).sources)
        found.append({"reference": str(wanted.reference), "identity": identity.digest, "source": source, "method": "none"})
    return found


def obtain_all(engine: Engine, offers: Sequence[Offer], deadline: Deadline, turns: str = "") -> List[Done]:
    """Obtain what each of *offers* offers; arguments and faults as `obtain`."""
    return [obtain(engine, offer, deadline, turns) for offer in offers]


def publish(
    engine: Engine,
    store_path: str,
    image: Union[Image, Wanted],
    namespace: str,
    deadline: Deadline,
    means: Optional[TransportOptions] = None,
) -> Offer:
    """See that this node has *image*, make it available to the other nodes, and return the offer for them.

    :param store_path: the store's directory, which is made if it is not there; or "" if there is none.
    :param image: a name, or an entry of ``manifest.images`` with its ``work_dir``.
    :param namespace: whose images are published: ``site`` or one per uid.
    :returns: reference, identity, transport and what that needs; source (one of `sources.SOURCES`), method (``none``,
        ``graph``, ``save`` or ``registry``), bytes_total, bytes_moved, layers_total, layers_moved, seconds.
    :raises JobFault: nobody has the image; the fault names the places. No Docker access.
    :raises ShareFault: the store cannot be used, or the broadcast failed.
    """
    started, means = time.monotonic(), means or TransportOptions()
    wanted = image if isinstance(image, Wanted) else Wanted.of(image)
    store = ImageStore(store_path) if store_path else None
    source, identity = sources.ensure(engine, store, wanted, namespace, deadline, means.sources)
    offer = {"reference": str(wanted.reference), "identity": identity.digest, "source": source}
    pull = _registry_name(engine, wanted)
    way = _way(means, store, pull)
    if way == "shared" and store is not None:
        return {**offer, **_shared(engine, store, wanted.reference, namespace, identity, deadline, means, started)}
    if way == "sbcast":
        return {**offer, **_broadcast(engine, wanted.reference, identity, deadline, means, started)}
    return {**offer, "transport": way, "pull": pull, **_figures("registry" if pull else "none", None, 0, 0, started)}


def obtain(engine: Engine, offer: Mapping[str, Any], deadline: Deadline, turns: str = "") -> Done:
    """See that this node has the very image that *offer* offers, under its name.

    Nothing is read if it is here already. Otherwise the daemon gets an archive of what it lacks, and if it turns out to lack
    more, the whole image.

    :param turns: as in `TransportOptions`.
    :returns: reference, identity, transport, method (``none``, ``thin``, ``full`` or ``pull``), bytes_total, bytes_moved,
        layers_total, layers_moved, seconds.
    :raises ShareFault: the store is not the leader's, or the image in it is damaged.
    :raises JobFault: the daemon refuses the image.
    :raises NodeFault: no daemon, no space.
    """
    started = time.monotonic()
    name, wanted = _checked(offer)
    done = {"reference": str(name), "identity": wanted, "transport": offer["transport"]}
    with contextlib.ExitStack() as stack:
        if offer["transport"] == "sbcast":
            stack.enter_context(_removed(_pieces(offer)))  # they came for this job alone
        if loading.is_here(engine, name, wanted):
            return {**done, **_figures("none", None, 0, 0, started)}
        stack.enter_context(turn.of(turns, f"load.{wanted[7:]}", deadline))
        if turns and loading.is_here(engine, name, wanted):
            return {**done, **_figures("none", None, 0, 0, started)}
        return {**done, **_TAKERS[offer["transport"]](engine, name, offer, deadline, started)}


def release(offers: Iterable[Mapping[str, Any]]) -> None:
    """Give back the leases of offers that every node has taken; harmless if called twice."""
    for offer in offers:
        with contextlib.suppress(Fault):
            lease.give_back(ImageStore(str(offer.get("where"))), str(offer.get("lease")))


def forget(store_path: str, job_id: str, spool: str = sbcast.SPOOL) -> None:
    """Remove what a job that is over has left on its images' way, if anything: leases in a store, pieces of a broadcast.

    :param store_path: the store, or "" if there is none.
    """
    if store_path:
        with contextlib.suppress(Fault, OSError):
            lease.give_back_all(ImageStore(store_path), job_id)
    for path in glob.glob(os.path.join(glob.escape(spool), _spooled(job_id) + "*")):
        with contextlib.suppress(OSError):  # another user's, or gone
            if os.path.isdir(path):
                files.remove_tree(path)
            else:
                os.unlink(path)


def load(engine: Engine, store_path: str, reference: str, namespaces: Sequence[str], deadline: Deadline) -> Done:
    """Load *reference* from the store into this node's daemon, if it is not there as the store has it.

    :raises JobFault: the store has no such image.
    """
    started = time.monotonic()
    name, store = Reference.parse(reference), ImageStore(store_path)
    stored = store.find(name, namespaces)
    if stored is None:
        raise sources.nowhere(str(name), [f"store {store.path} ({', '.join(namespaces)})"])
    done = {"reference": str(name), "identity": stored.identity.digest}
    if loading.is_here(engine, name, stored.identity.digest):
        return {**done, **_figures("none", stored, 0, 0, started)}
    with lease.held(store, saving.digests_of(stored)):
        method, moved = loading.load(engine, store, stored, name, deadline)
    return {**done, **_figures(method, stored, *moved, started)}


def compare(engine: Engine, store_path: str, reference: str, namespaces: Sequence[str]) -> Dict[str, Any]:
    """Say what this node's daemon and the store hold under *reference*, and change nothing.

    :returns: reference; local and stored, each an identity or None; layers_local and layers_stored; layers_lacking_in_store
        and layers_lacking_in_daemon: how many of them the other side would get.
    """
    name, store = Reference.parse(reference), ImageStore(store_path)
    local, stored = engine.identity(name), saving.intact(store, name, namespaces)
    diff_ids = local.diff_ids if local else ()
    held = engine.layers_held(stored.identity.diff_ids, engine.info().is_containerd_store) if stored else set()
    return {
        "reference": str(name),
        "local": local.digest if local else None,
        "stored": stored.identity.digest if stored else None,
        "layers_local": len(diff_ids),
        "layers_stored": len(stored.layers) if stored else 0,
        "layers_lacking_in_store": len(set(diff_ids) - set(saving.present(store, local, namespaces) if local else ())),
        "layers_lacking_in_daemon": len(archive.wanted(stored, held)) if stored else 0,
    }


def _distinct(images: Sequence[Image]) -> List[Wanted]:
    found: Dict[Reference, Wanted] = {}
    for image in images:
        wanted = Wanted.of(image)
        found.setdefault(wanted.reference, wanted)
    return list(found.values())


def _way(means: TransportOptions, store: Optional[ImageStore], pull: str) -> str:
    """Return how the others get the image; what is asked for but cannot be is a fault."""
    can = {"shared": store is not None, "registry": bool(pull), "sbcast": bool(means.job_id), "none": True}
    if means.transport == "auto":
        return next(way for way in _WAYS if can[way])
    if not can.get(means.transport):
        remedy = {"shared": "name a store", "registry": "use an image of a registry", "sbcast": "start it in a SLURM job"}
        raise JobFault("transport: it cannot be used here", remedy.get(means.transport, "use auto"), transport=means.transport)
    return means.transport


def _packing(engine: Engine, means: TransportOptions) -> str:
    """Return how layers are packed: as the site wants, if this node can and its daemon would take them so."""
    if means.compression == compression.ZSTD and not engine.info().takes_zstd:
        return compression.NONE
    return means.compression if compression.can(means.compression) else compression.NONE


def _registry_name(engine: Engine, wanted: Wanted) -> str:
    """Return under which name and digest a registry has the image that is here, or ""."""
    registry = wanted.registry or wanted.reference
    for text in (engine.inspect(str(wanted.reference)) or {}).get("RepoDigests") or []:
        with contextlib.suppress(JobFault):
            if Reference.parse(str(text)).name == registry.name and (registry.has_registry or wanted.registry):
                return Reference.parse(str(text)).full
    return ""


def _shared(
    engine: Engine,
    store: ImageStore,
    name: Reference,
    namespace: str,
    identity: Identity,
    deadline: Deadline,
    means: TransportOptions,
    started: float,
) -> Offer:
    store.ensure()
    taken = lease.take(store, identity.diff_ids, means.job_id)
    try:
        with turn.of(means.turns, f"publish.{identity.digest[7:]}", deadline):
            kind = _packing(engine, means)
            stored, method, moved = saving.publish(engine, store, name, namespace, identity, deadline, means.reader, taken, kind)
    except BaseException:
        lease.give_back(store, taken.name)
        raise
    offer: Offer = {
        "transport": "shared",
        "where": store.path,
        "manifest": stored.manifest_digest,
        "lease": taken.name,
        "nonce": taken.nonce,
    }
    offer.update(spread_seconds=round(min(_LONGEST_SPREAD, max(0, means.nodes - _AT_ONCE) * 0.01), 2))
    return {**offer, **_figures(method, stored, *moved, started)}


def _broadcast(engine: Engine, name: Reference, identity: Identity, deadline: Deadline, means: TransportOptions, started: float) -> Offer:
    """Send an archive of the layers that not every member has, by way of a store of its own that goes at once."""
    # Everybody may write there: under a name that nobody can guess lies neither another user's file or link nor an older attempt's.
    target = os.path.join(means.spool, f"{_spooled(means.job_id)}{os.urandom(8).hex()}.tar")
    with tempfile.TemporaryDirectory(prefix=_spooled(means.job_id), dir=means.spool) as folder:
        store = ImageStore(os.path.join(folder, "store"))
        store.ensure()
        taken = lease.take(store, [])
        kind = _packing(engine, means)
        stored, method, _moved = saving.publish(engine, store, name, "site", identity, deadline, means.reader, taken, kind)
        omitted = {diff_id for diff_id, chain in zip(identity.diff_ids, chain_ids(identity.diff_ids)) if chain in means.held}
        sent = archive.wanted(stored, omitted)
        files.require_space(folder, 2 * sum(each.size_bytes for each in sent))  # the pieces, and this node's own copy of them
        content, plan = digests.Hashed(archive.write(store, stored, name, omitted)), sbcast.plan(means.nodes, deadline)
        pieces = sbcast.cut(content, folder, plan.pieces)
        size_bytes = sum(os.path.getsize(each) for each in pieces)
        with _removed(sbcast.targets(target, len(pieces))):  # this node's own copy
            sbcast.send(pieces, target, means.job_id, deadline, plan.width)
    offer = {"transport": "sbcast", "path": target, "pieces": len(pieces), "digest": content.digest, "size_bytes": size_bytes}
    return {**offer, **_figures(method, stored, len(sent), sum(each.size_bytes for each in sent), started)}


def _spooled(job_id: str) -> str:
    """Return how the names of a job's files in the spool begin."""
    return f"madengine-{job_id}-"


def _take_shared(engine: Engine, name: Reference, offer: Mapping[str, Any], deadline: Deadline, started: float) -> Dict[str, Any]:
    spread = offer.get("spread_seconds")
    if isinstance(spread, (int, float)) and spread > 0:
        time.sleep(random.uniform(0, min(_LONGEST_SPREAD, spread, deadline.left() / 10)))  # noqa: S311  not a secret
    store = ImageStore(str(offer.get("where")))
    lease.prove(store, lease.Lease(str(offer.get("lease")), str(offer.get("nonce"))))
    stored = store.read(str(offer.get("manifest")))
    if stored.identity.digest != offer["identity"]:
        raise ShareFault("transport: the store holds another image", "publish the image again", image=str(name), store=store.path)
    method, moved = loading.load(engine, store, stored, name, deadline)
    return _figures(method, stored, *moved, started)


def _take_registry(engine: Engine, name: Reference, offer: Mapping[str, Any], deadline: Deadline, started: float) -> Dict[str, Any]:
    pull = Reference.parse(str(offer.get("pull")))
    engine.pull(pull, deadline.left())
    engine.tag(str(pull), name)
    loading.require(engine, name, offer["identity"])
    return _figures("pull", None, 0, 0, started)


def _take_broadcast(engine: Engine, name: Reference, offer: Mapping[str, Any], deadline: Deadline, started: float) -> Dict[str, Any]:
    path, digest, size_bytes = str(offer.get("path")), str(offer.get("digest")), offer.get("size_bytes")
    chunks = sbcast.joined(_pieces(offer))
    engine.load(digests.verified(chunks, digest, size_bytes if isinstance(size_bytes, int) else None, path), deadline.left())
    loading.require(engine, name, offer["identity"])
    figures = _figures("full", None, 0, 0, started)
    return {**figures, **{key: offer[key] for key in ("layers_total", "layers_moved", "bytes_total", "bytes_moved") if key in offer}}


def _take_nothing(engine: Engine, name: Reference, offer: Mapping[str, Any], deadline: Deadline, started: float) -> Dict[str, Any]:
    remedy = "set ImageStore, or store= in the job's comment"
    raise JobFault("transport: this node lacks the image and no store is shared", remedy, image=str(name))


_TAKERS = {"shared": _take_shared, "registry": _take_registry, "sbcast": _take_broadcast, "none": _take_nothing}


def _checked(offer: Mapping[str, Any]) -> Tuple[Reference, str]:
    """Return the name and the identity of an offer that came over the wire."""
    name, wanted = Reference.parse(str(offer.get("reference"))), str(offer.get("identity"))
    if not is_digest(wanted) or offer.get("transport") not in _WAYS:
        raise ShareFault("transport: not an offer", "install the same release on all nodes", offer=str(dict(offer))[:200])
    return name, wanted


def _pieces(offer: Mapping[str, Any]) -> List[str]:
    """Return the files in which a broadcast came; their number came over the wire."""
    pieces = offer.get("pieces")
    if not isinstance(pieces, int) or not 1 <= pieces <= sbcast.MOST_PIECES:
        raise ShareFault("transport: not an offer", "install the same release on all nodes", pieces=pieces)
    return sbcast.targets(str(offer.get("path")), pieces)


@contextlib.contextmanager
def _removed(paths: Iterable[str]) -> Iterator[None]:
    """Remove files when the block ends, however it ends."""
    try:
        yield
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _figures(method: str, stored: Optional[Stored], layers_moved: int, bytes_moved: int, started: float) -> Dict[str, Any]:
    layers: Sequence[Layer] = stored.layers if stored else ()
    return {
        "method": method,
        "bytes_total": sum(each.size_bytes for each in layers),
        "bytes_moved": bytes_moved,
        "layers_total": len(layers),
        "layers_moved": layers_moved,
        "seconds": round(time.monotonic() - started, 3),
    }
