# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the nodes of a job share no work directory: their epilogs bring what they have to the first node's.

The epilogs of one job start at nearly the same time, but any of them may come late or never: both sides wait a few
seconds for each other and no longer. A bundle is delivered when the leader has it on its disk, and not before; whoever
is told nothing keeps what it has.

Source: results.md, "Choose".
"""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Collection, Dict, Mapping, Optional, Tuple

from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from ..core.process import Child
from ..peers.addresses import PORTS
from ..peers.client import Client
from ..peers.credential import Credential
from ..peers.server import Server
from ..slurm.allocation import Allocation
from .bundle import LONGEST_TEXT
from .upload_protocol import UploadClientEnd, UploadServerEnd, UploadState

_FAREWELL_SECONDS = 1.0
_PATIENCE = 2  # whoever has come while it was waited for may take as long again to bring it

Store = Callable[[int, Any], Child]


def collect(
    allocation: Allocation,
    credential: Credential,
    awaited: Collection[int],
    store: Store,
    wait_seconds: float,
    *,
    refusal: Optional[Fault] = None,
    ports: Tuple[int, int] = PORTS,
) -> Dict[int, bool]:
    """Let the other nodes' epilogs bring their bundles, until all that are *awaited* have come or the time is up.

    :param awaited: ranks; if there are none, nobody is waited for and no socket is opened.
    :param store: begins to put the bundle of a rank where it belongs; what its child raises is told to that rank alone.
    :param wait_seconds: for how long they may come; whoever is there by then has as long again.
    :param refusal: why nothing can be taken: each who comes is told so at once.
    :returns: the ranks that came, each with whether its bundle was taken.
    :raises NodeFault: there is no port to listen on (part ``network``).
    """
    if not awaited:
        return {}
    receiver = Receiver(allocation, credential, awaited, wait_seconds, refusal, ports)
    with receiver:
        return receiver.take(store)


def deliver(
    allocation: Allocation, credential: Credential, bundle: Mapping[str, Any], wait_seconds: float, *, ports: Tuple[int, int] = PORTS
) -> None:
    """Bring this node's bundle to the first node's epilog, and come back when it is on that node's disk.

    :param wait_seconds: how long to look for that epilog; once it is found, its clock counts.
    :raises PeerFault: nobody was there, or it could not take the bundle.
    :raises ShareFault: there was no word in time.
    :raises JobFault: the bundle is too large.
    """
    text = json.dumps(bundle, separators=(",", ":"))
    if len(text) > LONGEST_TEXT:
        raise JobFault("upload: the bundle is too large", "fetch it by hand", characters=len(text), limit=LONGEST_TEXT)
    sender = Sender(allocation, credential, text, wait_seconds, ports)
    with sender:
        sender.end()


class Receiver(Server[UploadState, UploadServerEnd]):
    """The upload as the first node sees it."""

    def __init__(
        self,
        allocation: Allocation,
        credential: Credential,
        awaited: Collection[int],
        wait_seconds: float,
        refusal: Optional[Fault],
        ports: Tuple[int, int],
    ) -> None:
        super().__init__(allocation, Deadline(_PATIENCE * wait_seconds), ports, at_end=True)
        self._credential, self._awaited, self._refusal = credential, awaited, refusal
        self._coming = Deadline(wait_seconds)

    def take(self, store: Store) -> Dict[int, bool]:
        """Take what comes, one bundle after the other; see `collect`."""
        while self._is_worth_while():
            end = self._state.next()
            if end is None:
                self._turn(min(self._tidy(), (self._limit if self._state.is_busy else self._coming).left()))
            else:
                self._state.settle(end, self._stored(store, end))
                self._flush()
        self._state.close(self._late())
        self._is_done = True
        return self._state.delivered

    def _is_worth_while(self) -> bool:
        if self._state.is_busy:
            return not self._limit.has_passed()
        return bool(self._state.awaited) and not self._coming.has_passed()

    def _stored(self, store: Store, end: UploadServerEnd) -> Optional[Fault]:
        """Return why the bundle could not be put away; None if it is there."""
        try:
            self.run_child(store(end.rank, _parsed(end.text())))
        except Fault as fault:
            return fault
        return None

    def _new_state(self) -> UploadState:
        return UploadState(self.allocation, self._credential, self.port, self._limit.left, self._awaited, self._refusal)

    def _new_end(self) -> UploadServerEnd:
        return UploadServerEnd(self._state)

    def _check(self) -> None:
        if self._limit.has_passed():
            raise self._late()

    def _late(self) -> ShareFault:
        return ShareFault("upload: the time is up", "raise ResultsWait", waited_seconds=round(self._limit.spent(), 1))

    def _tell(self, fault: Fault) -> None:
        self._state.close(fault)

    def _farewell(self) -> None:
        """Let those who are known have the last word."""
        until = time.monotonic() + _FAREWELL_SECONDS
        self._flush()
        while len(self._connections) > len(self._strangers) and time.monotonic() < until:
            self._turn(min(self._tidy(), 0.1))


class Sender(Client[UploadClientEnd]):
    """The upload as any node but the first sees it."""

    def __init__(self, allocation: Allocation, credential: Credential, text: str, wait_seconds: float, ports: Tuple[int, int]) -> None:
        super().__init__(allocation, Deadline(wait_seconds), ports, wait_seconds, at_end=True)
        self._credential, self._text = credential, text

    def end(self) -> None:
        """Come back when the bundle is taken; see `deliver`."""
        self._serve(lambda: self._end.is_taken)
        self._is_done = True

    def _new_end(self, port: int) -> UploadClientEnd:
        return UploadClientEnd(self.allocation, self._credential, port, self._text)

    def _choose(self, end: UploadClientEnd) -> None:
        end.choose()


def _parsed(text: str) -> Dict[str, Any]:
    """Return the bundle that a member sent.

    :raises JobFault: it is none.
    """
    try:
        bundle = json.loads(text)
    except (ValueError, RecursionError):
        bundle = None
    if not isinstance(bundle, dict):
        raise JobFault("upload: no bundle", "compare the hooks' releases on the two nodes", characters=len(text))
    return bundle
