# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader's and a member's session have in common: one loop for sockets and for the work of a child.

There are no threads, since root forks children while a session is open.
"""

from __future__ import annotations

import selectors
import socket
from types import TracebackType
from typing import Any, Callable, List, NoReturn, Optional, Sequence, Type

from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, PeerFault, ShareFault
from ..core.process import Child
from ..slurm.allocation import Allocation
from . import framing

_LAST_WORD_SECONDS = 2.0
IDLE_SECONDS = 1.0  # the longest sleep: timers are looked at this often at least


class Withdrawn(ShareFault):
    """The leader has taken its offers back, for others: what is being loaded is not wanted any more."""

    def __init__(self) -> None:
        super().__init__("rendezvous: the offer was withdrawn", "load what is offered now")


class Session:
    """A job's nodes come together; use it as a context manager.

    Leaving the block by an exception tells all others why, whatever it is.
    """

    def __init__(self, allocation: Allocation, deadline: Deadline) -> None:
        self.allocation, self._limit = allocation, deadline
        self._selector = selectors.DefaultSelector()
        self._is_done = False

    @property
    def is_leader(self) -> bool:
        return self.allocation.is_leader

    def __enter__(self) -> Session:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self._leave(error)

    def run_child(self, child: Child, heard: Optional[Callable[[Any], None]] = None) -> Any:
        """Return the child's answer, while the session goes on.

        A child that is at work when the time is up has a moment for its own reason: it knows what was slow.

        :param heard: is called with what the child tells meanwhile.
        :raises Withdrawn: the leader offers something else than `images` has returned; the child is dead then.
        :raises PeerFault: another node gave up; the child is dead then.
        :raises ShareFault: the time is up, or the other end vanished; the child is dead then.
        :raises Fault: the child's own; the others are told by leaving the block.
        """
        ended: List[bool] = []

        def receive(_mask: int) -> None:
            if child.receive():
                ended.append(True)
            for news in child.news():
                if heard is not None:
                    heard(news)

        self._selector.register(child, selectors.EVENT_READ, receive)
        try:
            self._serve(lambda: bool(ended))
        except BaseException:
            self._selector.unregister(child)
            if self._limit.has_passed() and child.ends(Deadline(_LAST_WORD_SECONDS)):
                child.result()
            child.kill()
            raise
        self._selector.unregister(child)
        return child.result()

    def agree(self, identities: Sequence[Any]) -> None:
        """Say what this node has, an identity an offer, and come back when all nodes have the same."""
        if self.is_leader:
            self.finish(identities)
        else:
            self.loaded(identities)

    # The leader's part.

    def publish(self, offers: Sequence[Any]) -> None:
        """Tell all members, also those who are still to come, which images there are and where.

        It may be called again until the end: then the members drop what they are loading, and load these.
        """
        raise TypeError("only the leader publishes")

    def common(self) -> List[str]:
        """Wait for all members; return the layers that every one of them has (its ``have``), sorted."""
        raise TypeError("only the leader asks")

    def declined(self, can_help: Callable[[Fault], bool] = lambda fault: False) -> List[PeerFault]:
        """Wait until each member has loaded what is offered or said that it cannot; return why those cannot who said so.

        :param can_help: says of a reason whether another offer can help.
        :raises PeerFault: none can, so nobody waits for those who are still loading.
        """
        raise TypeError("only the leader asks")

    def finish(self, identities: Optional[Sequence[Any]] = None) -> None:
        """Wait until all have loaded, compare, and release all."""
        raise TypeError("only the leader finishes")

    # The member's part.

    def images(self) -> List[Any]:
        """Wait for the leader's images, the newest that it has offered."""
        raise TypeError("only a member asks for images")

    def loaded(self, identities: Sequence[Any]) -> None:
        """Say what this node has loaded and wait until all nodes have.

        :raises Withdrawn: the leader offers something else, which `images` returns.
        """
        raise TypeError("only a member reports")

    def decline(self, fault: Fault) -> NoReturn:
        """Say why this node cannot load what is offered, and wait for something else.

        :raises Withdrawn: the leader offers it, which `images` returns.
        :raises Fault: *fault*, where the leader has nothing else.
        :raises PeerFault: another node gave up.
        """
        raise TypeError("only a member declines")

    # What an end fills in.

    def _open(self) -> None:
        """Get ready to be used."""

    def _check(self) -> None:
        """Raise what ended the session, if something did."""

    def _tidy(self) -> float:
        """Do what the clock asks for; return the seconds until the next time."""
        return IDLE_SECONDS

    def _tell(self, fault: Fault) -> None:
        """Tell the others why this node gives up."""

    def _farewell(self) -> None:
        """Let the last words reach the others, for a bounded time."""

    def _serve(self, is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            self._check()
            self._turn(min(self._tidy(), self._limit.left()))
        self._check()

    def _turn(self, seconds: float) -> None:
        for key, mask in self._selector.select(max(0.0, seconds)):
            key.data(mask)

    def _leave(self, error: Optional[BaseException]) -> None:
        try:
            if not self._is_done:
                self._tell(reason(error))
            self._farewell()
        finally:
            self._close()

    def _close(self) -> None:
        for key in list((self._selector.get_map() or {}).values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()


class SoloBarrier(Session):
    """The session of a job of one node: the same words, and nobody to wait for."""

    def publish(self, offers: Sequence[Any]) -> None:
        check_offers(offers)

    def common(self) -> List[str]:
        return []

    def declined(self, can_help: Callable[[Fault], bool] = lambda fault: False) -> List[PeerFault]:
        return []

    def finish(self, identities: Optional[Sequence[Any]] = None) -> None:
        self._is_done = True

    def _check(self) -> None:
        self._limit.check("rendezvous: this node's own work")


def check_offers(offers: Sequence[Any]) -> None:
    """Do nothing if each of *offers* goes into one line, and they are not too many.

    :raises JobFault: one does not, or they are.
    """
    if len(offers) > framing.MOST_IMAGES:
        raise JobFault("rendezvous: too many images", "split the job", images=len(offers), limit=framing.MOST_IMAGES)
    for offer in offers:
        try:
            framing.Channel(b"", b"").sign("IMAGE", index=0, of=len(offers), offer=offer)
        except ValueError:
            raise JobFault("rendezvous: an image's description is too long", "shorten its names", image=str(offer)[:100]) from None


def reason(error: Optional[BaseException]) -> Fault:
    """Return what the others are told when *error* ends this node's part."""
    if isinstance(error, Fault):
        return error
    seen = {} if error is None else {"error": type(error).__name__}
    return ShareFault("rendezvous: the hook of this node ended early", "read its log there", **seen)


def peer_fault(node: str, fault: Fault) -> PeerFault:
    """Return *fault* as the other nodes see it."""
    return fault if isinstance(fault, PeerFault) else PeerFault(node, fault)
