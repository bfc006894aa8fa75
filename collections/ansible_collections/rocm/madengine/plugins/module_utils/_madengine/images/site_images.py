# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image counts where the site's account brings it to users who have no Docker of their own.

All jobs share the daemon's names there, so a name is no proof. A name with a digest proves itself: Docker keeps it of what it
pulled under that very name. One with a tag is what the site has distributed: what lies in the store under ``site``, or what
root has written down on this node when it loaded it from there. What a user has written (a manifest's other name of an
image, an archive, a Dockerfile) is no source.

Source: architecture.md, "Identities".
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Dict, Optional, Tuple

from ..core import files, locks
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault
from ..docker.answers import Refused
from ..docker.engine import Engine
from ..oci.image import Identity, Reference, is_digest
from ..oci.root import SITE
from ..oci.store import ImageStore
from . import load
from .save import intact

RECORD = "/var/lib/madengine/site_images.json"
_LARGEST_BYTES = 1 << 20


def ensure(engine: Engine, store: Optional[ImageStore], name: Reference, deadline: Deadline, record: str = "") -> Tuple[str, Identity]:
    """Bring the image into the local daemon; return where it came from (``local``, ``store`` or ``registry``) and what it is.

    :param store: the site's, or None.
    :param record: where this node's root has written down what it loaded, if not in `RECORD`.
    :raises JobFault: the site has not distributed it, and its name has no digest; or its registry does not give it.
    """
    if name.digest:
        return _pinned(engine, store, name, deadline)
    local, stored = engine.identity(name), intact(store, name, [SITE]) if store is not None else None
    wanted = stored.identity.digest if stored is not None else recorded(record).get(str(name))
    if local is not None and local.digest == wanted:
        return "local", local
    if store is not None and stored is not None:
        load.from_store(engine, store, stored, name, deadline)
        return "store", stored.identity
    remedy = "name it by its digest, or have the site distribute it (image_distribute)"
    raise JobFault("image: none that the site has distributed", remedy, image=str(name))


def note(name: Reference, identity: str, record: str = "") -> None:
    """Write down that the site has distributed the image of this *identity*, as root; whatever had the name before counts no more.

    :raises Fault: it cannot be written.
    """
    path = record or RECORD
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with locks.flock(f"{path}.lock"):
            known = recorded(path)
            if known.get(str(name)) != identity:
                files.write(path, json.dumps({**known, str(name): identity}, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise files.local_fault("image", path, error) from error


def recorded(record: str = "") -> Dict[str, str]:
    """Return name → identity of what root has written down; nothing where it cannot be read."""
    with contextlib.suppress(Fault, ValueError, AttributeError):
        known = json.loads(files.read(record or RECORD, _LARGEST_BYTES))
        return {str(name): identity for name, identity in known.items() if is_digest(identity)}
    return {}


def _pinned(engine: Engine, store: Optional[ImageStore], name: Reference, deadline: Deadline) -> Tuple[str, Identity]:
    identity = engine.identity(name)
    if identity is not None:
        return "local", identity
    stored = intact(store, name, [SITE]) if store is not None and engine.info().is_containerd_store else None
    if store is not None and stored is not None:
        load.from_store(engine, store, stored, name, deadline)
        return "store", stored.identity
    return _pulled(engine, name, deadline)


def _pulled(engine: Engine, name: Reference, deadline: Deadline) -> Tuple[str, Identity]:
    try:
        engine.pull(name, deadline.left())
    except Refused as fault:
        remedy = "look at the name and at the registry"
        raise JobFault("image: its registry does not give it", remedy, image=str(name), answer=fault.seen.get("answer")) from fault
    identity = engine.identity(name)
    if identity is None:
        raise JobFault("image: it is gone again", "look at who removes images on this node", image=str(name))
    return "registry", identity
