# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a way of an image from the leader to the other nodes is: what it gets, and what it has to be able to do."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Sequence, Tuple

from ..core.deadline import Deadline
from ..core.errors import ShareFault
from ..docker.engine import Engine
from ..docker.layer_server import Source
from ..oci import compression, lease
from ..oci.image import Identity, Reference
from ..oci.image_manifest import Stored
from ..oci.store import ImageStore
from ..slurm import sbcast
from . import conflict, load, save, sources
from .offer import Figures, Offer
from .request import ImageRequest

AUTO = "auto"
DECLINED = "transport: this node cannot take the image this way"  # what a fault says where another way may be offered
OTHERWISE = "otherwise"  # the detail of an offer that says whether there is another way


@dataclass(frozen=True)
class TransportOptions:
    """What a leader may use.

    :param sources: where an image may come from, see `sources.ensure`.
    :param transport: how it gets to the others: one of `NAMES`, or ``auto`` for the first that works.
    :param reader: what reads the daemon's own layer files; without one, or where it fails, ``docker save`` is used.
    :param flocks: this node's locks, so that two jobs do the same work once (`locks.open_flocks`); none for no waiting.
    :param job_id: SLURM's, for sbcast; "" if there is no job.
    :param held: chain ids of layers that every member's daemon has; sbcast leaves them out.
    :param spool: a directory of every node, for sbcast's file.
    :param slurm_dir: where SLURM's ``bin`` is, if in none of the usual places.
    :param nodes: how many will read the store, so that a thousand do not arrive at once.
    :param compression: how new layers are packed where this node's daemon, and so the others', takes them so: ``none``,
        ``gzip`` or ``zstd``.
    :param on_conflict: what is done where the daemon and the store have different images: one of `conflict.POLICIES`.
    :param declined: way → node → why it could not take it, of ways that were offered before; they are not offered again.
    :param must_publish: whether an offer by which nothing is made available is a fault, although each node may have the image.
    :param is_site_s: whether only images of the site's count, see `site_images`; then no other source does.
    """

    sources: Sequence[str] = sources.SOURCES
    transport: str = AUTO
    reader: Optional[Source] = None
    flocks: Sequence[int] = ()
    job_id: str = ""
    held: Sequence[str] = ()
    spool: str = sbcast.SPOOL
    slurm_dir: str = ""
    nodes: int = 1
    compression: str = compression.NONE
    on_conflict: str = conflict.NEWEST
    must_publish: bool = False
    is_site_s: bool = False
    declined: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Publication:
    """An image that the leader's daemon has, on its way to the others."""

    engine: Engine
    store: Optional[ImageStore]
    request: ImageRequest
    namespace: str
    identity: Identity
    deadline: Deadline
    options: TransportOptions
    started: float
    early: Optional[Callable[[Offer], None]] = None  # is told of an offer whose image is still on its way; None: nobody wants to know

    @property
    def name(self) -> Reference:
        return self.request.reference

    @functools.cached_property
    def document(self) -> Mapping[str, Any]:
        """What the daemon says of the image, asked once for all who want to know something of it; empty if it is gone."""
        return self.engine.inspect(str(self.name)) or {}

    def save(
        self, store: ImageStore, namespace: str, taken: lease.Lease, early: Optional[Callable[[Stored], None]] = None
    ) -> Tuple[Stored, str, Tuple[int, int]]:
        """Bring the image into a store, as `save.publish`."""
        kind, reader = _packing(self.engine, self.options), self.options.reader
        return save.publish(
            self.engine, store, self.name, namespace, self.identity, self.document, self.deadline, reader, taken, kind, early
        )


@dataclass(frozen=True)
class Delivery:
    """An offer that a member takes."""

    engine: Engine
    offer: Offer
    deadline: Deadline
    started: float

    def detail(self, name: str) -> str:
        return str(self.offer.details.get(name))

    def load(self, supply: load.Supply) -> Figures:
        """Bring the image from *supply* into this node's daemon.

        :raises ShareFault: it is another one.
        """
        stored, name = supply.stored, self.offer.reference
        if stored.identity.digest != self.offer.identity:
            raise ShareFault("transport: the store holds another image", "publish the image again", image=str(name))
        done = load.load(self.engine, supply, name, self.deadline)
        return Figures.since(self.started, done.method, stored.layers, (done.layers, done.size_bytes), done.reason)


class Transport(Protocol):
    """One way; a value without a state."""

    name: str
    remedy: str  # what to do where `can` says no

    def can(self, image: Publication) -> bool:
        """Say whether it can be used, without doing much."""

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        """Make the image available; return what `take` needs on the other nodes.

        :raises ShareFault: it does not work here; another way may.
        """

    def take(self, delivery: Delivery) -> Figures:
        """Get the image, which this node lacks."""

    def skip(self, delivery: Delivery) -> None:
        """Let the image pass, which this node has."""

    def taken(self, offer: Offer) -> None:
        """Clear away what the offer brought to this node, whether it was taken or not."""

    def release(self, offer: Offer) -> None:
        """Clear away what the leader held for the others, once they all have the image."""

    def forget(self, job_id: str, store_path: str, spool: str) -> None:
        """Clear away what a job that is over has left on this node or in the store."""


class Way:
    """What most transports need not say."""

    def skip(self, delivery: Delivery) -> None:
        """Nothing is on its way."""

    def taken(self, offer: Offer) -> None:
        """Nothing came to this node."""

    def release(self, offer: Offer) -> None:
        """Nothing was held."""

    def forget(self, job_id: str, store_path: str, spool: str) -> None:
        """Nothing was left."""


def _packing(engine: Engine, options: TransportOptions) -> str:
    """Return how layers are packed: as the site wants, if this node can and its daemon would take them so."""
    if options.compression == compression.ZSTD and not engine.info().takes_zstd:
        return compression.NONE
    return options.compression if compression.can(options.compression) else compression.NONE
