# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the store into the local daemon: what the daemon lacks, and the whole image if it turns out to lack more.

Source: that the daemon proves each layer: moby, image/tarexport/load.go ("invalid diffID"); containerd, images/archive
(blobs are stored under the digest of what came); the integration tests try it on both.
"""

from __future__ import annotations

from typing import Iterator, Set, Tuple

from ..core.deadline import Deadline
from ..core.errors import JobFault, ShareFault
from ..docker import archive
from ..docker.engine import Engine, Refused
from ..oci.image import Reference
from ..oci.store import ImageStore, Stored


def load(engine: Engine, store: ImageStore, stored: Stored, name: Reference, deadline: Deadline) -> Tuple[str, Tuple[int, int]]:
    """Load what the daemon lacks and prove that it has the image now.

    :returns: how (``thin`` or ``full``), and how many layers and bytes it took.
    :raises ShareFault: a blob is missing or damaged.
    :raises JobFault: the daemon refuses the image, or has another one after all.
    """
    for absent in store.missing(stored):
        store.blobs.set_aside(absent.digest)
        raise ShareFault("layout: a blob is missing", "publish the image again", digest=absent.digest, image=str(name), store=store.path)
    info = engine.info()
    omit = engine.layers_held(stored.identity.diff_ids, info.is_containerd_store)
    for left_out in _attempts(omit):
        sent = archive.wanted(stored, left_out)
        try:
            # The daemon proves every layer: on a busy node, doing it here as well costs a tenth of the whole load.
            engine.load(archive.write(store, stored, name, left_out, is_proved=False), deadline.left())
        except Refused:
            # What the daemon has in the end is what counts: it may have hung up when it had all it wanted.
            if not is_here(engine, name, stored.identity.digest):
                if not left_out:
                    _blame(store, stored)
                    raise
                continue
        if is_here(engine, name, stored.identity.digest):
            return ("thin" if left_out else "full"), (len(sent), sum(each.size_bytes for each in sent))
    raise _another(name)


def _blame(store: ImageStore, stored: Stored) -> None:
    """Do nothing if all layers are what they should be; then the daemon has another reason.

    :raises ShareFault: one is damaged; it is named, and set aside if this user may.
    """
    for each in archive.wanted(stored, set()):
        for _chunk in store.chunks(each):
            pass


def _attempts(omit: Set[str]) -> Iterator[Set[str]]:
    if omit:
        yield omit
    yield set()


def is_here(engine: Engine, name: Reference, wanted: str) -> bool:
    """Say whether the daemon has, under *name*, the image of the identity *wanted*."""
    identity = engine.identity(name)
    return identity is not None and identity.digest == wanted


def require(engine: Engine, name: Reference, wanted: str) -> None:
    """Do nothing if the daemon has the image now.

    :raises JobFault: it has another one, or none.
    """
    if not is_here(engine, name, wanted):
        raise _another(name)


def _another(name: Reference) -> JobFault:
    return JobFault("loading: the daemon has another image after loading", "remove the image there and try again", image=str(name))
