# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prune the image store, as systemd's timer asks for it; what is to go is what the module image_prune would remove."""

from __future__ import annotations

import argparse
import sys

sys.path.insert(0, "/opt/madengine-hooks/current/lib")

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import prune
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--older-than-days", type=float)
    parser.add_argument("--budget-gib", type=float)
    given = parser.parse_args()
    older = None if given.older_than_days is None else given.older_than_days * 86400
    budget = None if given.budget_gib is None else int(given.budget_gib * (1 << 30))
    store = ImageStore(given.store)
    try:
        done = prune.carry_out(store, prune.plan(store, older, budget))
    except Fault as fault:
        print(fault.line(), file=sys.stderr)
        return 1
    for entry in done.images:
        print(f"removed {entry.reference} of {entry.namespace}")
    print(f"freed {done.freed_bytes / (1 << 30):.1f} GiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
