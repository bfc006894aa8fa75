# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every other node's part of a meeting: it does as the leader says."""

from __future__ import annotations

import time
from typing import Any, List, Sequence, Tuple

from ..core.deadline import Deadline
from ..core.errors import Fault
from ..slurm.allocation import Allocation
from .client import Client
from .credential import Credential
from .visit import MemberEnd

GRACE_SECONDS = 60.0

_FAREWELL_SECONDS = 1.0


class Member(Client[MemberEnd]):
    """The meeting as any node but the first sees it."""

    def __init__(
        self,
        allocation: Allocation,
        credential: Credential,
        within: Deadline,
        have: Sequence[str],
        ports: Tuple[int, int],
        grace_seconds: float,
    ) -> None:
        super().__init__(allocation, within, ports, grace_seconds)
        self._credential, self._have = credential, have

    def images(self) -> List[Any]:
        """Wait for the leader's images.

        :returns: what the leader published, in its order.
        :raises PeerFault: another node gave up, or the leader vanished.
        :raises ShareFault: no word from the leader in time.
        """
        self._serve(lambda: self._visit.offers is not None)
        return list(self._visit.offers or [])

    def loaded(self, identities: Sequence[Any]) -> None:
        """Say what this node has loaded, an identity an image, and wait until all nodes have.

        :raises PeerFault: another node gave up, or the leader vanished, or the images differ.
        :raises ShareFault: no word from the leader in time.
        """
        self._visit.loaded(identities)
        self._flush()
        self._serve(lambda: self._visit.is_released)
        self._is_done = True

    def _caller(self, port: int) -> MemberEnd:
        return MemberEnd(self.allocation, self._credential, port)

    def _settle(self, caller: MemberEnd) -> None:
        caller.choose(self._have)

    def _tell(self, fault: Fault) -> None:
        self._visit.failed(fault)

    def _farewell(self) -> None:
        until = time.monotonic() + _FAREWELL_SECONDS
        self._flush()
        while self._chosen is not None and not self._chosen.is_closed and not self._is_done and time.monotonic() < until:
            self._turn(0.1)
