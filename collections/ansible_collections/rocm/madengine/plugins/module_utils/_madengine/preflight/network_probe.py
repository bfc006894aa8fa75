# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at one node's network: its names and addresses, the ports of the rendezvous, and the way to its peers.

As `probes`: nothing is judged, and nothing is bound or written.

Source: proc(5), ip-sysctl (``ip_local_port_range``).
"""

from __future__ import annotations

import contextlib
import glob
import ipaddress
import os
import socket
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from ..core.deadline import Deadline
from ..peers import addresses, reserved

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_MOST_PEERS = 8
_OURS = "the hooks"


def ports(low: int, high: int, proc: str = "/proc") -> Dict[str, Any]:
    """Return which ports of the range are listened on and by whom, how many of them the kernel hands out to anybody, and
    whether users can bind some of a range that is meant for root.

    Nothing is bound: that could take its port from a job that starts at this moment. Who meets for a job is no stranger.
    """
    inodes = _listening(proc, low, high)
    holders = _holders(proc, set(inodes.values())) if inodes else {}
    taken = {str(port): holders.get(inode, "") for port, inode in sorted(inodes.items())}
    return {
        "taken": {port: holder for port, holder in taken.items() if holder != _OURS},
        "handed_out": _handed_out(proc, low, high),
        "is_open_to_users": reserved.is_reserved(high) and _first_of_users(proc) <= high,
    }


def names(node: str, conf: str = "", slurm_dir: str = "", proc: str = "/proc") -> Dict[str, Any]:
    """Return this node's own addresses, and where its own name leads.

    :param conf: slurm.conf, whose ``NodeAddr`` stands for the name, as it does for the hooks.
    :param slurm_dir: where the site has SLURM, to ask of a node that is in no slurm.conf.
    """
    address = addresses.given(conf, [node], slurm_dir).get(node, node)
    try:
        found = addresses.resolve(address)
    except (OSError, UnicodeError):
        found = []
    return {
        "node": node,
        "address": address,
        "addresses": own_addresses(proc),
        "named_so": [number for _family, number in found],
        "is_loopback": bool(found) and all(addresses.is_loopback(one) for one in found),
    }


def own_addresses(proc: str = "/proc") -> List[str]:
    """Return the addresses of this node that somebody else could reach, as the kernel lists them."""
    found = []
    last = ""
    for line in _lines(f"{proc}/net/fib_trie"):
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.append(last)
    found += [str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in _lines(f"{proc}/net/if_inet6")]
    return [address for address in dict.fromkeys(found) if not _is_internal(address)]


def peers(me: str, others: Sequence[Mapping[str, Any]], conf: str = "", slurm_dir: str = "") -> Dict[str, Any]:
    """Return which *others* this node cannot find by their names.

    :param others: ``{"node": name, "addresses": [number]}`` each.
    :param conf: slurm.conf: a peer that has a ``NodeAddr`` there is looked for under that.
    :returns: ``unknown``: names that lead nowhere; ``wrong``: by name, addresses of which the peer has none.
    """
    unknown: List[str] = []
    wrong: Dict[str, List[str]] = {}
    known = addresses.given(conf, [str(other["node"]) for other in others], slurm_dir)
    for other in others:
        name = str(other["node"])
        if name == me:
            continue
        try:
            found = [number for _family, number in addresses.resolve(known.get(name, name))]
        except (OSError, UnicodeError):
            unknown.append(name)
        else:
            if not set(found) & set(other["addresses"]):
                wrong[name] = found
    return {"unknown": unknown, "wrong": wrong}


def reach(
    me: str, others: Sequence[Mapping[str, Any]], ports: Tuple[int, int], conf: str = "", slurm_dir: str = "", seconds: float = 5.0
) -> Dict[str, Any]:
    """Return which of the next nodes in line do not let this one connect to a port of the range.

    Nobody need listen there: a node that refuses has been reached. What a firewall drops is silence, and what it rejects is
    "no route to host". Each node tries some that follow it, so all are tried by some, however many there are.

    :param others: ``{"node": name, "addresses": [number]}`` each, in one order on all nodes.
    :param conf: slurm.conf, for their ``NodeAddr``.
    :returns: ``blocked``: by name, what the system says; nothing where all can be reached.
    """
    names = [str(other["node"]) for other in others]
    place = names.index(me) + 1 if me in names else 0
    following = [name for name in [*names[place:], *names[:place]] if name != me][:_MOST_PEERS]
    known = addresses.given(conf, following, slurm_dir)
    blocked: Dict[str, str] = {}
    within = Deadline(seconds * _MOST_PEERS)
    for name in following:
        said = _unreached(known.get(name, name), ports, min(seconds, max(0.1, within.left())))
        if said:
            blocked[name] = said
    return {"blocked": blocked} if blocked else {}


def _unreached(name: str, ports: Tuple[int, int], seconds: float) -> str:
    """Return why no packet comes back from *name*, "" if one does; a name that leads nowhere is another check's."""
    try:
        found = addresses.resolve(name)
    except (OSError, UnicodeError):
        return ""
    said = ""
    for family, number in found:
        with socket.socket(family, socket.SOCK_STREAM) as link:
            link.settimeout(seconds)
            try:
                link.connect((number, ports[0]))
            except ConnectionRefusedError:
                return ""
            except OSError as error:
                said = f"{number} port {ports[0]}: {error.strerror or 'no answer'}"
            else:
                return ""
    return said


def _listening(proc: str, low: int, high: int) -> Dict[int, str]:
    """Return the ports of the range that somebody listens on, each with its socket's inode."""
    found: Dict[int, str] = {}
    for table in ("tcp", "tcp6"):
        for line in _lines(f"{proc}/net/{table}"):
            words = line.split()
            if len(words) > 9 and words[3] == _LISTEN and low <= int(words[1].rpartition(":")[2], 16) <= high:
                found[int(words[1].rpartition(":")[2], 16)] = words[9]
    return found


def _holders(proc: str, inodes: Set[str]) -> Dict[str, str]:
    """Return who holds the sockets *inodes*, as far as this account may look."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found = {}
    for path in glob.iglob(f"{proc}/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            inode = wanted.get(os.readlink(path))
            if inode is not None:
                found[inode] = _process(proc, path.split("/")[-3])
    return found


def _process(proc: str, pid: str) -> str:
    with open(f"{proc}/{pid}/cmdline", "rb") as stream:
        words = os.fsdecode(stream.read(4096)).split("\0")
    if any(word.endswith("/prolog/prolog.py") for word in words):
        return _OURS
    return f"{os.path.basename(words[0])} (pid {pid})"


def _first_of_users(proc: str) -> int:
    words = " ".join(_lines(f"{proc}/sys/net/ipv4/ip_unprivileged_port_start")).split()
    return int(words[0]) if words else reserved.FIRST_OF_USERS


def _handed_out(proc: str, low: int, high: int) -> int:
    words = " ".join(_lines(f"{proc}/sys/net/ipv4/ip_local_port_range")).split()
    if len(words) != 2:
        return 0
    ours = set(range(low, high + 1)) & set(range(int(words[0]), int(words[1]) + 1))
    for part in "".join(_lines(f"{proc}/sys/net/ipv4/ip_local_reserved_ports")).split(","):
        first, _dash, last = part.strip().partition("-")
        if first:
            ours -= set(range(int(first), int(last or first) + 1))
    return len(ours)


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read().splitlines()
    except OSError:
        return []


def _is_internal(address: str) -> bool:
    number = ipaddress.ip_address(address)
    return number.is_loopback or number.is_link_local
