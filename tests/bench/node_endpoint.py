# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint of one node of the bench, and who reads a blob from it as a Docker daemon would: all of it, and proved.

``node_endpoint.py DIGEST BYTES FILE…``: the blob lies, or will lie, in one file or in the pieces of a broadcast. It says that it
is ready, begins when its standard input ends, and succeeds when it has the whole blob.
"""

from __future__ import annotations

import hashlib
import sys
import urllib.request
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images.transport_sbcast import Part
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import endpoint
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import sbcast

TYPE = "application/octet-stream"


def main(digest: str, size: str, names: Sequence[str]) -> int:
    content: endpoint.Content = endpoint.File(names[0], int(size), TYPE)
    if len(names) > 1 or names[0].endswith(".0"):
        content = Part(sbcast.Striped(tuple(names)), 0, int(size), TYPE)
    running, left = hashlib.sha256(), int(size)
    with endpoint.Endpoint({digest: content}, Deadline(600)) as server:
        host, _slash, repository = server.name.partition("/")
        print("ready", flush=True)
        sys.stdin.read()
        with urllib.request.urlopen(f"http://{host}/v2/{repository}/blobs/{digest}") as answer:
            while chunk := answer.read(1 << 20):
                running.update(chunk)
                left -= len(chunk)
    return int(left != 0 or f"sha256:{running.hexdigest()}" != digest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
