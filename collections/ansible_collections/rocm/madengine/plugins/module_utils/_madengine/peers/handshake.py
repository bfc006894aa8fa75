# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How two ends of a connection find out that both belong to the job: challenge, join, welcome.

They know no socket and no clock: bytes in by `receive`, bytes out in `outgoing`. What the ends say to each other once
they are sure is for `barrier_protocol` (the prologs) and the upload's protocol (the epilogs).

Source: design of the rendezvous, the table of lines.
"""

from __future__ import annotations

import enum
import json
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ..core.errors import Fault, PeerFault, from_dict
from ..slurm.allocation import Allocation
from . import framing
from .credential import Credential, derive

_LONGEST_DEADLINE = 7 * 86400.0


class State(enum.Enum):
    """What one end of a connection has been through; PRESENT, CHOSEN and LOADED are of the prolog's barrier alone."""

    CHALLENGED = "challenged"
    PROVEN = "proven"
    PRESENT = "present"
    DIALLED = "dialled"
    JOINING = "joining"
    WELCOME = "welcome"
    CHOSEN = "chosen"
    LOADED = "loaded"
    OVER = "over"

    def __str__(self) -> str:
        return str(self.value)


class End:
    """One end of one connection. What is in `outgoing` waits to be sent."""

    def __init__(self, state: State) -> None:
        self._lines, self._nonce = framing.Lines(), framing.nonce()
        self._channel: Optional[framing.Channel] = None
        self._state: object = state  # a `State`, or what a protocol has beside those
        self.outgoing = bytearray()

    @property
    def is_over(self) -> bool:
        """Whether the connection is to be closed as soon as `outgoing` is sent."""
        return self._state == State.OVER

    def receive(self, data: bytes) -> None:
        """Take what the network delivered; from a bad line on, nothing counts any more."""
        try:
            for line in self._lines.feed(data):
                if self.is_over:
                    return
                if self._channel is None:
                    self._join(line)
                else:
                    self._hear(self._channel.open(line))
        except framing.BadLine:
            self.lost()

    def lost(self) -> None:
        """Take note that the connection is gone, or as good as gone."""
        raise NotImplementedError

    def say(self, name: str, **fields: Any) -> None:
        """Put a sealed line into `outgoing`; nothing before there is a key, and nothing after the end."""
        if self._channel is not None and not self.is_over:
            self.outgoing += self._channel.sign(name, **fields)

    def _join(self, line: bytes) -> None:
        """Take the one line that comes before there is a key."""
        raise NotImplementedError

    def _hear(self, document: Dict[str, Any]) -> None:
        """Take what the other end has said.

        :raises BadLine: it makes no sense now.
        """
        raise NotImplementedError


class ServerState:
    """What the leader's ends of one session have in common.

    :param port: where the leader listens; part of every key.
    :param left: the seconds that are left, told to each member.
    :param purpose: ends of another purpose do not get in; the prolog's is empty.
    """

    def __init__(self, allocation: Allocation, credential: Credential, port: int, left: Callable[[], float], purpose: bytes = b"") -> None:
        self.allocation, self.left = allocation, left
        self.challenge = credential.challenge(left())
        self._secret, self._port = secret_for(purpose, credential, self.challenge), port
        self.pending_output: Dict[Any, None] = {}  # who has something to send, in order
        self.refused, self.other_jobs = 0, 0

    def strangers(self) -> Dict[str, object]:
        """Return, for a message, how many came who do not belong here: with another key, or for another job."""
        counts = {"refused_for_their_key": self.refused, "members_of_other_jobs": self.other_jobs}
        return {name: count for name, count in counts.items() if count}

    def keys(self, rank: int, leader_nonce: str, member_nonce: str) -> Tuple[bytes, bytes]:
        """Return the two keys of a connection, in the order of `framing.Channel`."""
        return keys_of(self.allocation, self._secret, rank, self._port, leader_nonce, member_nonce)


class ServerEnd(End):
    """The leader's end: anybody may be at the other one, until it proves itself."""

    def __init__(self, server: ServerState) -> None:
        super().__init__(State.CHALLENGED)
        self._server = server
        self.rank = 0
        self.outgoing += framing.plain("CHALLENGE", v=framing.VERSION, nonce=self._nonce, **server.challenge)

    @property
    def is_present(self) -> bool:
        """Whether this is no stranger any more, but a member at this very connection."""
        raise NotImplementedError

    def say(self, name: str, **fields: Any) -> None:
        super().say(name, **fields)
        self._server.pending_output[self] = None

    def dismiss(self, fault: Fault) -> None:
        """Say why there is nothing more to come."""
        self.say("ABORT", fault=told(fault))
        self._state = State.OVER

    def _join(self, line: bytes) -> None:
        claim = framing.parse(line)
        rank = framing.number(claim, "rank", 1, len(self._server.allocation.nodes) - 1)
        channel = framing.Channel(*self._server.keys(rank, self._nonce, framing.text(claim, "nonce", 64)))
        try:
            proven = channel.open(line)
        except framing.BadLine:
            allocation = self._server.allocation
            if (claim.get("job"), claim.get("attempt")) == (allocation.job_id, allocation.attempt):
                self._server.refused += 1
            else:
                self._server.other_jobs += 1
            raise
        if proven.get("line") != "JOIN":
            raise framing.BadLine("not a JOIN")
        self.rank, self._channel, self._state = rank, channel, State.PROVEN
        self.say("WELCOME", left=self._server.left())


class ClientEnd(End):
    """The member's end: the other one may be anybody, until the other end proves itself by its WELCOME."""

    def __init__(self, allocation: Allocation, credential: Credential, port: int, purpose: bytes = b"") -> None:
        super().__init__(State.DIALLED)
        self._allocation, self._credential, self._port, self._purpose = allocation, credential, port, purpose
        self.left_seconds = 0.0
        self.fault: Optional[PeerFault] = None

    @property
    def is_welcome(self) -> bool:
        return self._state == State.WELCOME

    @property
    def was_refused(self) -> bool:
        """Whether somebody challenged us and then did not take our proof."""
        return self.is_over and self._channel is not None and self.left_seconds == 0.0

    def _join(self, line: bytes) -> None:
        challenge, allocation = framing.parse(line), self._allocation
        if challenge.get("line") != "CHALLENGE" or framing.number(challenge, "v", 0, 1 << 20) != framing.VERSION:
            raise framing.BadLine("no challenge")
        theirs = framing.text(challenge, "nonce", 64)
        try:
            secret = secret_for(self._purpose, self._credential, challenge)
        except ValueError as error:
            raise framing.BadLine(str(error)) from None
        leader_key, member_key = keys_of(allocation, secret, allocation.node_rank, self._port, theirs, self._nonce)
        self._channel, self._state = framing.Channel(member_key, leader_key), State.JOINING
        self.say(
            "JOIN", job=allocation.job_id, attempt=allocation.attempt, rank=allocation.node_rank, node=allocation.node, nonce=self._nonce
        )

    def _welcome(self, document: Dict[str, Any]) -> None:
        self.left_seconds = framing.seconds(document, "left", _LONGEST_DEADLINE)
        self._state = State.WELCOME

    def _abort(self, document: Dict[str, Any]) -> None:
        cause = fault_in(document)
        self.fault = cause if isinstance(cause, PeerFault) else PeerFault(self._allocation.leader, cause)
        self._state = State.OVER


def secret_for(purpose: bytes, credential: Credential, challenge: Mapping[str, Any]) -> bytes:
    """Return the secret that both ends of a session for *purpose* share.

    :raises ValueError: the challenge is not of this cluster.
    """
    secret = credential.secret(challenge)
    return derive(secret, purpose) if purpose else secret


def fault_in(document: Mapping[str, Any]) -> Fault:
    """Return the fault that a line carries.

    :raises BadLine: it carries none.
    """
    fault = document.get("fault")
    try:
        return from_dict(fault if isinstance(fault, dict) else {})
    except ValueError:
        raise framing.BadLine("no fault") from None


def keys_of(allocation: Allocation, secret: bytes, rank: int, port: int, leader_nonce: str, member_nonce: str) -> Tuple[bytes, bytes]:
    """Return the keys (leader's lines, member's lines) of the connection between the leader and *rank*.

    The port is the one that the leader listens on and the member has dialled: a stranger on another port of the
    leader's node who passes lines on between the two joins ends that do not understand each other.
    """
    facts = (
        allocation.cluster,
        allocation.job_id,
        allocation.attempt,
        rank,
        allocation.nodes[rank],
        allocation.leader,
        len(allocation.nodes),
    )
    return framing.session(secret, *facts, port, leader_nonce, member_nonce)


def told(fault: Fault) -> Dict[str, Any]:
    """Return *fault* as it goes into one line, cut until it fits whatever its values hold."""
    document = fault.to_dict()
    for longest in (300, 100, 30, 10):
        cut: Dict[str, Any] = {name: value[: longest * 3] for name, value in document.items() if isinstance(value, str)}
        cut["seen"] = {name[:40]: value[:longest] for name, value in list(document["seen"].items())[:12]}
        if len(json.dumps(cut)) < framing.LONGEST_LINE - 512:
            break
    return cut
