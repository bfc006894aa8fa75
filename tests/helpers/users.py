# SPDX-License-Identifier: GPL-3.0-or-later
"""Other users, with real uids: work is done in a child process that is one of them. The tests are root."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any, Callable, Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process

BOB = process.Account("bob", 61001, 61001, (61001,), "/")
MALLORY = process.Account("mallory", 61002, 61002, (61002,), "/")
SQUASHED = process.Account("squashed", 61003, 61003, (61003,), "/")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def run(user: process.Account, work: Callable[..., Any], *args: Any) -> Any:
    """Return what *work* returns to *user*, as JSON has it; a fault of its comes out."""
    return process.run(user, work, *args)


def shared_directory() -> Iterator[str]:
    """Give a directory that every user can reach, unlike pytest's own; for a fixture."""
    path = tempfile.mkdtemp(prefix="madengine-test-", dir="/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)
