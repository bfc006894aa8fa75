# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the nodes of a job come together in the prolog: order, agreement and shared fate, without a shared filesystem.

Nobody loads before it is published, nobody runs before all have loaded, and when one fails, all know within a second,
and why. The first node of the node list leads and decides for all; every other one is a member and does as it says.

Source: design of the rendezvous.
"""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any, Callable, List, NoReturn, Optional, Sequence, Tuple, Type

from ..core.deadline import Deadline
from ..core.errors import Fault, PeerFault, ShareFault
from ..core.process import Child
from ..slurm.allocation import Allocation
from . import addresses
from .barrier_faults import absent, ended, hookless, late
from .barrier_protocol import LeaderEnd, LeaderState, MemberEnd
from .client import Client
from .credential import Credential
from .server import Server
from .session import Session, SoloBarrier, Withdrawn, check_offers, peer_fault
from .watch import Question, Watch

PORTS = addresses.PORTS
GRACE_SECONDS = 60.0  # ArrivalGrace
_ABORT_SECONDS = 3.0  # a node that gives up before it has joined looks for its peers no longer than this
_FAREWELL_SECONDS = 1.0
_LATECOMER_SECONDS = 2.0
_ASKED_MACHINES = 4
_PROMPT_SECONDS = 3.0  # a node that has not come by then is looked at: SLURM starts all prologs of a job at once


class Barrier:
    """Where the nodes of one job wait for each other; use it as a context manager, and `join` it once.

    Leaving the block by an exception tells all other nodes why, also where this node has not joined: it looks for them
    for a moment then, since they would wait for it until the deadline.

    :param credential: gives this node's proof that it belongs to the cluster; a node that is alone needs none, and no key.
    :param deadline: the leader's is the one deadline of all; a member's own counts until it is welcome.
    :param ports: first and last, the same on all nodes.
    :param grace_seconds: how long the leader waits for members that do not come, and a member for a leader.
    """

    def __init__(
        self,
        allocation: Allocation,
        credential: Callable[[], Credential],
        deadline: Deadline,
        *,
        ports: Tuple[int, int] = PORTS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._allocation, self._credential, self._deadline = allocation, credential, deadline
        self._ports, self._grace_seconds = ports, grace_seconds
        self._session: Optional[Session] = None
        self._has_tried = False

    def __enter__(self) -> Barrier:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if self._session is not None:
            self._session.__exit__(kind, error, trace)
        elif isinstance(error, Exception) and not self._has_tried:
            self.abort(error)

    def join(
        self, have: Sequence[str] = (), *, bare: Optional[Callable[[], Child]] = None, over: Optional[Callable[[], Child]] = None
    ) -> Session:
        """Return the session with the other nodes: the leader listens then, a member is welcome.

        :param have: the layers that a member has, a text of at most 90 characters each.
        :param bare: begins a child that returns the nodes that have no hooks. The leader asks once, where some node has not come
            within seconds: one that has them may be slow, and is waited for.
        :param over: begins a child that returns in which state the job is over for SLURM, or "". A leader that waits asks, so
            that no node is held for a job that is no more.
        :raises PeerFault: nobody was there.
        :raises NodeFault: this node has no key, or no port to listen on (part ``key`` or ``network``).
        """
        self._has_tried = True  # where nobody was found, or no port, nobody is looked for again
        self._session = self._session_for(have, self._grace_seconds, bare, over).__enter__()
        return self._session

    def abort(self, error: Exception) -> None:
        """Tell the other nodes why this one does not join, if they can be found within seconds."""
        with contextlib.suppress(Exception), self._session_for((), _ABORT_SECONDS):
            raise error

    def _session_for(
        self,
        have: Sequence[str],
        grace_seconds: float,
        bare: Optional[Callable[[], Child]] = None,
        over: Optional[Callable[[], Child]] = None,
    ) -> Session:
        if len(self._allocation.nodes) == 1:
            return SoloBarrier(self._allocation, self._deadline)
        if self._allocation.is_leader:
            return Leader(self._allocation, self._credential(), self._deadline, self._ports, grace_seconds, bare, over)
        return Member(self._allocation, self._credential(), self._deadline, have, self._ports, grace_seconds)


class Leader(Server[LeaderState, LeaderEnd]):
    """The barrier as the first node sees it."""

    def __init__(
        self,
        allocation: Allocation,
        credential: Credential,
        deadline: Deadline,
        ports: Tuple[int, int],
        grace_seconds: float,
        bare: Optional[Callable[[], Child]] = None,
        over: Optional[Callable[[], Child]] = None,
    ) -> None:
        super().__init__(allocation, deadline, ports)
        self._credential, self._arrival = credential, deadline.sooner(grace_seconds)
        self._have_all_come = False
        self._prompt, self._bare = deadline.sooner(_PROMPT_SECONDS), bare
        self._hooks = Question(self._selector)
        self._job = Watch(self._selector, over)

    def publish(self, offers: Sequence[Any]) -> None:
        check_offers(offers)
        self._state.publish(offers)
        self._flush()

    def common(self) -> List[str]:
        self._serve(self._state.has_all)
        return sorted(self._state.common())

    def declined(self, can_help: Callable[[Fault], bool] = lambda fault: False) -> List[PeerFault]:
        def have_all_answered() -> bool:
            for fault in self._state.declined():
                if not can_help(fault):
                    raise fault
            return self._state.have_all_answered()

        self._serve(have_all_answered)
        return self._state.declined()

    def finish(self, identities: Optional[Sequence[Any]] = None) -> None:
        """Wait until all have loaded, compare, and release all.

        :param identities: what this node has, an identity an offer; None: the offers' own ``identity``, and where they
            have none, the members are compared with each other.
        :raises PeerFault: a member gave up, vanished, cannot load what is offered, or loaded something else.
        :raises ShareFault: the time is up; it names the nodes that everybody waited for.
        """
        self.declined()
        odd = self._state.first_mismatch(identities)
        if odd is not None:
            raise odd
        self._state.go()
        self._is_done = True
        self._flush()

    def _new_state(self) -> LeaderState:
        return LeaderState(self.allocation, self._credential, self.port, self._limit.left)

    def _new_end(self) -> LeaderEnd:
        return LeaderEnd(self._state)

    def _check(self) -> None:
        if self._state.fault is not None:
            raise self._state.fault
        if self._limit.has_passed():
            raise late(self._state, self._limit.spent())
        if self._are_bare(self._state.missing()):  # all who can come are here, and are told
            raise hookless(self._state)
        if self._job.reason:
            raise ended(self._state, self._job.reason)
        self._have_all_come = self._have_all_come or self._state.has_all()
        if self._arrival.has_passed() and not self._have_all_come:
            raise absent(self._state, self._arrival.spent(), self._silent())

    def _tidy(self) -> float:
        if self._bare is not None and self._prompt.has_passed():
            begin, self._bare = self._bare, None
            if self._state.missing() and not self._have_all_come:
                self._hooks.ask(begin)
        if not self._state.is_over:
            self._job.look()
        return super()._tidy()

    def _are_bare(self, missing: List[str]) -> bool:
        """Say whether it is known that none of *missing* has hooks; where nothing can be known, the grace decides."""
        bare = self._hooks.answer or []
        # Who has the hooks for certain proves the answer.
        return bool(missing) and self.allocation.node not in bare and set(missing) <= set(bare)

    def _close(self) -> None:
        super()._close()
        self._job.close()
        self._hooks.close()

    def _silent(self) -> List[str]:
        """Return those of the first few who are missing whose machines do not answer at all."""
        return [node for node in self._state.missing()[:_ASKED_MACHINES] if not addresses.answers(self.allocation.address_of(node))]

    def _tell(self, fault: Fault) -> None:
        self._state.abort(peer_fault(self.allocation.node, fault))

    def _farewell(self) -> None:
        """Let everybody have the last word; who is just on the way here after an abort, too."""
        until = time.monotonic() + _FAREWELL_SECONDS
        until_latest = time.monotonic() + (self._limit.at_most(_LATECOMER_SECONDS) if self._state.fault else 0.0)
        self._flush()
        while True:
            now = time.monotonic()
            waits_for_known = len(self._connections) > len(self._strangers) and now < until
            if not waits_for_known and not (self._state.missing() and now < until_latest):
                return
            self._turn(min(self._tidy(), 0.1))


class Member(Client[MemberEnd]):
    """The barrier as any node but the first sees it."""

    def __init__(
        self,
        allocation: Allocation,
        credential: Credential,
        deadline: Deadline,
        have: Sequence[str],
        ports: Tuple[int, int],
        grace_seconds: float,
    ) -> None:
        super().__init__(allocation, deadline, ports, grace_seconds)
        self._credential, self._have = credential, have
        self._taken: Optional[int] = None  # the generation of the offers that `images` has returned

    def images(self) -> List[Any]:
        """Wait for the leader's images.

        :returns: what the leader published, in its order.
        :raises PeerFault: another node gave up, or the leader vanished.
        :raises ShareFault: no word from the leader in time.
        """
        self._taken = None
        self._serve(lambda: self._end.offers is not None)
        self._taken = self._end.generation
        return list(self._end.offers or [])

    def loaded(self, identities: Sequence[Any]) -> None:
        """Say what this node has loaded, an identity an image, and wait until all nodes have.

        :raises Withdrawn: the leader offers something else by now.
        :raises PeerFault: another node gave up, or the leader vanished, or the images differ.
        :raises ShareFault: no word from the leader in time.
        """
        self._check()
        self._end.loaded(identities)
        self._flush()
        self._serve(lambda: self._end.is_released)
        self._is_done = True

    def decline(self, fault: Fault) -> NoReturn:
        try:
            self._check()
            self._end.declined(fault)
            self._flush()
            self._serve(lambda: False)
        except Withdrawn:
            raise
        except PeerFault as said:
            if said.node != self.allocation.node:
                raise
        except ShareFault:
            pass  # no word in time: this node knows better what was wrong
        raise fault

    def _check(self) -> None:
        super()._check()
        if self._taken not in (None, self._end.generation):
            raise Withdrawn

    def _new_end(self, port: int) -> MemberEnd:
        return MemberEnd(self.allocation, self._credential, port)

    def _choose(self, end: MemberEnd) -> None:
        end.choose(self._have)

    def _tell(self, fault: Fault) -> None:
        self._end.failed(fault)

    def _farewell(self) -> None:
        until = time.monotonic() + _FAREWELL_SECONDS
        self._flush()
        while self._chosen is not None and not self._chosen.is_closed and not self._is_done and time.monotonic() < until:
            self._turn(0.1)
