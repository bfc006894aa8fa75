# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real daemons of the integration tests: those of MADENGINE_DOCKER_SOCKETS (paths separated by colons), else this machine's."""

from __future__ import annotations

import os
from typing import Any, Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine

SOCKETS = os.environ.get("MADENGINE_DOCKER_SOCKETS", "/var/run/docker.sock").split(":")


def answering(socket: str) -> Engine:
    """Return the engine behind *socket*; a test that has none is skipped."""
    made = Engine(socket)
    try:
        made.info()
    except Fault as fault:
        pytest.skip(f"no daemon: {fault}")
    return made


@pytest.fixture(params=SOCKETS)
def engine(request: Any) -> Iterator[Engine]:
    made = answering(request.param)
    yield made
    made.close()
