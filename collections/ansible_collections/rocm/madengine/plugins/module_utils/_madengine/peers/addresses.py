# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a session takes place: the leader's addresses and the ports that both sides try, in the same order.

Source: getaddrinfo(3), ip(7), socket(7); Debian's /etc/hosts gives a host its own name as 127.0.1.1 (Debian reference,
section 5.1.1), which nobody else can reach.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Collection, Dict, List, Tuple

from ..core.errors import NodeFault
from ..slurm import node_addresses
from ..slurm.allocation import Allocation
from . import reserved

PORTS = (288, 307)  # nobody but root can bind them, and IANA has given them to nobody
_TRIED_PORTS = 16  # how many others can hold a port before the leader gives up; each costs a late member a packet
_BACKLOG = 4096
_ASKED_PEERS = 3
_ANSWER_SECONDS, _UNUSED_PORT = 0.5, 9  # discard

Address = Tuple[int, str]


def candidates(ports: Tuple[int, int], job_id: int, at_end: bool = False) -> List[int]:
    """Return the ports that a job's leader and members try, in order: jobs that are neighbours start apart.

    :param at_end: for the session of the epilogs, which begins half the range away from those of the prologs.

    >>> candidates((288, 290), 4)
    [289, 290, 288]
    >>> candidates((288, 291), 4, at_end=True)
    [290, 291, 288, 289]
    """
    low, high = ports
    size = high - low + 1
    first = job_id + (size // 2 if at_end else 0)
    return [low + (first + step) % size for step in range(min(size, _TRIED_PORTS))]


def resolve(name: str) -> List[Address]:
    """Return the (family, number) pairs that *name* leads to, without those that a peer can never be reached under.

    :raises OSError: the name is not known, now at least.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    every = dict.fromkeys((int(family), str(address[0])) for family, *_rest, address in found)
    usable = [one for one in every if _is_usable(one[1])]
    outside = [one for one in usable if not is_loopback(one)]
    return outside or usable


def given(conf: str, nodes: Collection[str], slurm_dir: str = "") -> Dict[str, str]:
    """Return name → address for those of *nodes* that are not to be reached by their names.

    slurm.conf says it; where it does not and the name leads nowhere either, as with nodes that are in no slurm.conf, the
    controller is asked, once and for a bounded time.
    """
    found = node_addresses.of(conf, nodes)
    lost = [node for node in nodes if node not in found and not _leads_anywhere(node)]
    return {**found, **node_addresses.asked(lost, conf, slurm_dir)} if lost else found


def is_loopback(address: Address) -> bool:
    return ipaddress.ip_address(address[1]).is_loopback


def own(allocation: Allocation) -> List[Address]:
    """Return the leader's addresses, as the leader sees them: never "all that there are".

    An address that the site gave may be any of this node's. A node name that leads to the loopback on its own node, or
    to a router that translates, is replaced by the address under which this node talks to its members; on a single
    machine, they are on the loopback too.

    :raises NodeFault: there is none.
    """
    try:
        named_so = resolve(allocation.leader_address)
    except (OSError, UnicodeError):
        named_so = []
    mine = [one for one in named_so if _is_mine(one)]
    is_given = bool(allocation.address) or allocation.leader_address != allocation.leader
    if mine and (is_given or not is_loopback(mine[0])):
        return mine
    routes = [route for node in allocation.nodes[1 : 1 + _ASKED_PEERS] for route in _routes_to(allocation.address_of(node))]
    outside = [route for route in dict.fromkeys(routes) if not is_loopback(route)]
    if not outside and not (routes and mine):
        raise _nowhere(allocation, named_so)
    return outside or mine


def listen(allocation: Allocation, ports: Tuple[int, int], at_end: bool = False) -> Tuple[List[socket.socket], int]:
    """Return non-blocking listeners on the leader's addresses, all on one port, and that port.

    :raises NodeFault: no address is this node's, or all ports are taken.
    """
    addresses = own(allocation)
    for port in candidates(ports, allocation.job_id, at_end):
        listeners = _listeners(addresses, port)
        if listeners:
            return listeners, listeners[0].getsockname()[1]
    shown = ", ".join(number for _family, number in addresses)
    raise NodeFault(
        "rendezvous: no port to listen on",
        "look who holds the ports of PortRange",
        addresses=shown,
        ports=f"{ports[0]}-{ports[1]}",
    )


def _listeners(addresses: List[Address], port: int) -> List[socket.socket]:
    """Return a listener an address, or none at all if somebody holds the port on one of them."""
    listeners: List[socket.socket] = []
    for family, number in addresses:
        try:
            listeners.append(_listener(family, number, port))
        except OSError:
            for listener in listeners:
                listener.close()
            return []
    return listeners


def _listener(family: int, number: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # What an earlier session left in TIME_WAIT is no obstacle; a listening socket still is one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reserved.is_reserved(port):
            reserved.admit_no_users(listener)
        listener.bind((number, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def answers(node: str) -> bool:
    """Say whether the machine *node* answers at all, be it by a refusal: one that is off does not."""
    try:
        family, number = resolve(node)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_ANSWER_SECONDS)
            return probe.connect_ex((number, _UNUSED_PORT)) in (0, errno.ECONNREFUSED)
    except (OSError, UnicodeError, IndexError):
        return False


def _leads_anywhere(name: str) -> bool:
    try:
        return bool(resolve(name))
    except (OSError, UnicodeError):
        return False


def _routes_to(node: str) -> List[Address]:
    routes = []
    try:
        for family, number in resolve(node):
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((number, _UNUSED_PORT))  # picks a route; nothing is sent
                routes.append((family, str(probe.getsockname()[0])))
    except (OSError, UnicodeError):
        return routes
    return routes


def _is_mine(address: Address) -> bool:
    try:
        with socket.socket(address[0], socket.SOCK_DGRAM) as probe:
            probe.bind((address[1], 0))
    except OSError:
        return False
    return True


def _is_usable(number: str) -> bool:
    if "%" in number:
        return False
    address = ipaddress.ip_address(number)
    return not (address.is_unspecified or address.is_multicast or address.is_link_local)


def _nowhere(allocation: Allocation, mine: List[Address]) -> NodeFault:
    return NodeFault(
        "rendezvous: this node's name leads nowhere that its peers can reach",
        "give the node's address in DNS or /etc/hosts",
        node=allocation.leader_address,
        addresses=", ".join(number for _family, number in mine) or "none",
    )
