# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes from blobs into a daemon, where no daemon is needed to see it."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import load
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images


def test_the_endpoint_gets_documents_and_then_layers_from_the_bottom_up(tmp_path: Path) -> None:
    # Of what a daemon asks for at once, the first is given first.
    image, store = images.make(b"base", b"middle", b"top"), ImageStore(str(tmp_path))
    store.ensure()
    stored = store.commit(Reference.parse("a:1"), "site", image.config, [store.put_layer([data]) for data in image.layers])
    expected = [*stored.documents, *(images.digest(data) for data in image.layers)]
    assert list(load.contents(load.FromStore(store, stored))) == expected
