# SPDX-License-Identifier: GPL-3.0-or-later
"""An image store as the role makes it, and images in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference

from . import images

NAME, NAME_BIG = Reference.parse("rocm/vllm:1.0"), Reference.parse("big:1")
FOLDERS = ("blobs", "blobs/sha256", "images", "images/site", "tmp", "leases")


def make(path: str, owner: int = 0, blobs_mode: int = 0o1777) -> str:
    """Make a store as the role makes it."""
    for name in ("", *FOLDERS):
        folder = Path(path, name)
        folder.mkdir()
        folder.chmod({"": 0o755, "blobs": 0o755, "blobs/sha256": blobs_mode, "images/site": 0o755}.get(name, 0o1777))
        os.chown(folder, owner, owner)
    return path


def publish(path: str, image: images.Image, namespace: str, name: str = str(NAME)) -> Dict[str, Any]:
    daemon = images.Daemon()
    daemon.images[name] = image
    return distribute.publish(daemon, path, name, namespace, Deadline(60))  # type: ignore[arg-type]


def use(path: str, image: images.Image, namespace: str) -> List[str]:
    """Publish and load on another node, as this user; say how much moved, and what the other node has then."""
    offer = publish(path, image, namespace)
    done = distribute.obtain(images.Daemon(), offer, Deadline(60))  # type: ignore[arg-type]
    distribute.release([offer])
    return [offer["method"], str(offer["layers_moved"]), done["identity"]]
