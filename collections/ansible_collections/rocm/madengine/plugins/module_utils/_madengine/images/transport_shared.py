# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``shared``: a store that all nodes see, which a member proves by a lease's number.

The offer may go out while the layers are still being written: a member's endpoint lets the daemon wait for each.
"""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any, Dict, List, Tuple

from ..core import locks
from ..core.errors import Fault, ShareFault
from ..oci import lease
from ..oci.image_manifest import Stored
from ..oci.store import ImageStore
from . import load
from .offer import COMING, Figures, Offer
from .transport import Delivery, Publication, Way

_AT_ONCE, _LONGEST_SPREAD = 16, 5.0  # readers that any share bears; seconds


class Shared(Way):
    """The leader writes the store, the others read it."""

    name, remedy = "shared", "name a store"

    def can(self, image: Publication) -> bool:
        return image.store is not None

    def offer(self, image: Publication) -> Tuple[Dict[str, Any], Figures]:
        store = image.store
        if store is None:
            raise ShareFault("transport: no store", self.remedy)
        store.ensure()
        held = lease.take(store, image.identity.diff_ids, image.options.job_id)
        spread = round(min(_LONGEST_SPREAD, max(0, image.options.nodes - _AT_ONCE) * 0.01), 2)
        common = {"where": store.path, "lease": held.name, "nonce": held.nonce, "spread_seconds": spread}
        told: List[Offer] = []

        def foretell(stored: Stored) -> None:
            if image.early is not None:
                details = {**common, "manifest": stored.manifest_digest, COMING: True}
                told.append(Offer(image.name, image.identity.digest, self.name, details=details))
                image.early(told[0])

        try:
            with locks.try_flock(image.options.flocks, f"publish.{image.identity.digest[7:]}", image.deadline):
                stored, method, moved = image.save(store, image.namespace, held, None if image.early is None else foretell)
        except BaseException:
            # Who was told of it proves the store by it until another offer comes, or the word that there is none; the epilog ends it.
            if not told:
                lease.give_back(store, held.name)
            raise
        return {**common, "manifest": stored.manifest_digest}, Figures.since(image.started, method, stored.layers, moved)

    def take(self, delivery: Delivery) -> Figures:
        spread = delivery.offer.details.get("spread_seconds")
        if isinstance(spread, (int, float)) and spread > 0:
            time.sleep(random.uniform(0, min(_LONGEST_SPREAD, spread, delivery.deadline.left() / 10)))  # noqa: S311  not a secret
        store = ImageStore(delivery.detail("where"))
        lease.prove(store, lease.Lease(delivery.detail("lease"), delivery.detail("nonce")))
        stored = store.read(delivery.detail("manifest"), delivery.offer.reference.digest)
        if delivery.offer.is_coming:
            return delivery.load(load.FromStore(store, stored, delivery.deadline))
        load.require_whole(store, stored, delivery.offer.reference)
        return delivery.load(load.FromStore(store, stored))

    def release(self, offer: Offer) -> None:
        with contextlib.suppress(Fault):
            lease.give_back_after(ImageStore(str(offer.details.get("where"))), str(offer.details.get("lease")))

    def forget(self, job_id: str, store_path: str, spool: str) -> None:
        if store_path:
            with contextlib.suppress(Fault, OSError):
                lease.give_back_all(ImageStore(store_path), job_id)
