# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first node's part of a meeting: it decides for all."""

from __future__ import annotations

import time
from typing import Any, List, Optional, Sequence, Tuple

from ..core.deadline import Deadline
from ..core.errors import Fault
from ..slurm.allocation import Allocation
from .credential import Credential
from .host import LeaderEnd, LeaderState, late
from .server import Server
from .session import check_offers, peer_fault

_FAREWELL_SECONDS = 1.0
_LATECOMER_SECONDS = 2.0


class Leader(Server[LeaderState, LeaderEnd]):
    """The meeting as the first node sees it."""

    def __init__(self, allocation: Allocation, credential: Credential, within: Deadline, ports: Tuple[int, int]) -> None:
        super().__init__(allocation, within, ports)
        self._credential = credential

    def publish(self, offers: Sequence[Any]) -> None:
        check_offers(offers)
        self._host.publish(offers)
        self._flush()

    def common(self) -> List[str]:
        self._serve(self._host.has_all)
        return sorted(self._host.common())

    def finish(self, identities: Optional[Sequence[Any]] = None) -> None:
        """Wait until all have loaded, compare, and release all.

        :param identities: what this node has, an identity an offer; None: the offers' own ``identity``, and where they
            have none, the members are compared with each other.
        :raises PeerFault: a member gave up, vanished or loaded something else.
        :raises ShareFault: the time is up; it names the nodes that everybody waited for.
        """
        self._serve(self._host.has_all_loaded)
        odd = self._host.first_mismatch(identities)
        if odd is not None:
            raise odd
        self._host.go()
        self._is_done = True
        self._flush()

    def _hall(self) -> LeaderState:
        return LeaderState(self.allocation, self._credential, self.port, self._limit.left)

    def _guest(self) -> LeaderEnd:
        return LeaderEnd(self._host)

    def _check(self) -> None:
        if self._host.fault is not None:
            raise self._host.fault
        if self._limit.has_passed():
            raise late(self._host, self._limit.spent())

    def _tell(self, fault: Fault) -> None:
        self._host.abort(peer_fault(self.allocation.node, fault))

    def _farewell(self) -> None:
        """Let everybody have the last word; who is just on the way here after an abort, too."""
        until = time.monotonic() + _FAREWELL_SECONDS
        until_latest = time.monotonic() + (self._limit.at_most(_LATECOMER_SECONDS) if self._host.fault else 0.0)
        self._flush()
        while True:
            now = time.monotonic()
            waits_for_known = len(self._connections) > len(self._strangers) and now < until
            if not waits_for_known and not (self._host.missing() and now < until_latest):
                return
            self._turn(min(self._tidy(), 0.1))
