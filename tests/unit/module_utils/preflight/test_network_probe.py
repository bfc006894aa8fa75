# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes of a node's network: real sockets, and tables as the kernel writes them."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import network_probe

INFO: Dict[str, Any] = {"ServerVersion": "26.1.5", "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}


def test_a_port_that_somebody_holds_is_seen_with_its_holder_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        held = sorted((server.getsockname()[1], other.getsockname()[1]))
        seen = network_probe.ports(held[0], held[-1])["taken"]
        mine = {port: holder for port, holder in seen.items() if int(port) in held}
    assert set(mine) == {str(port) for port in held}
    assert all(holder.endswith(f"(pid {os.getpid()})") for holder in mine.values())
    assert str(held[0]) not in network_probe.ports(held[0], held[0])["taken"]


def table(folder: Path, *lines: str) -> str:
    (folder / "net").mkdir(parents=True, exist_ok=True)
    (folder / "sys/net/ipv4").mkdir(parents=True, exist_ok=True)
    (folder / "net/tcp").write_text("  sl  local_address …\n" + "".join(f"{line}\n" for line in lines))
    (folder / "sys/net/ipv4/ip_local_port_range").write_text("32768\t60999\n")
    (folder / "sys/net/ipv4/ip_local_reserved_ports").write_text("\n")
    return str(folder)


def test_a_meeting_of_the_hooks_and_a_mere_connection_are_no_strangers(tmp_path: Path) -> None:
    listens = "0: 00000000:6C98 00000000:0000 0A 0:0 0:0 0 0 0 {inode} 1 0 100 0"  # 27800
    talks = "0: 0100007F:6C99 0100007F:0016 01 0:0 0:0 0 0 0 9 1 0 100 0"
    proc = table(tmp_path, listens.format(inode=7), talks)
    assert network_probe.ports(27800, 27999, proc)["taken"] == {"27800": ""}
    (tmp_path / "41/fd").mkdir(parents=True)
    (tmp_path / "41/fd/3").symlink_to("socket:[7]")
    (tmp_path / "41/cmdline").write_bytes(b"/usr/bin/nc\0-l\0")
    assert network_probe.ports(27800, 27999, proc)["taken"] == {"27800": "nc (pid 41)"}
    (tmp_path / "41/cmdline").write_bytes(b"/usr/bin/python3\0-I\0/opt/madengine-hooks/releases/1/prolog/prolog.py\0")
    assert network_probe.ports(27800, 27999, proc)["taken"] == {}


def test_ports_that_the_kernel_hands_out_are_counted_unless_they_are_reserved(tmp_path: Path) -> None:
    proc = table(tmp_path)
    assert network_probe.ports(27800, 27999, proc)["handed_out"] == 0
    assert network_probe.ports(32760, 32777, proc)["handed_out"] == 10
    (tmp_path / "sys/net/ipv4/ip_local_reserved_ports").write_text("9000-9010,32768-32770,32777\n")
    assert network_probe.ports(32760, 32777, proc)["handed_out"] == 6
    (tmp_path / "sys/net/ipv4/ip_local_port_range").unlink()
    assert network_probe.ports(32760, 32777, proc)["handed_out"] == 0


def test_ports_that_are_meant_for_root_are_open_to_users_where_the_kernel_was_told_so(tmp_path: Path) -> None:
    proc = table(tmp_path)
    assert not network_probe.ports(288, 307, proc)["is_open_to_users"]
    for first, is_open in (("1024", False), ("308", False), ("307", True), ("80", True), ("0", True)):
        (tmp_path / "sys/net/ipv4/ip_unprivileged_port_start").write_text(f"{first}\n")
        assert network_probe.ports(288, 307, proc)["is_open_to_users"] == is_open
        assert not network_probe.ports(27800, 27999, proc)["is_open_to_users"]  # a range that is anybody's anyway


FIB = """\
Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 10.0.0.0
        /24 link UNICAST
     |-- 10.0.0.5
        /32 host LOCAL
     |-- 10.0.0.255
        /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
Local:
     |-- 10.0.0.5
        /32 host LOCAL
"""


def test_own_addresses_are_those_that_others_can_reach(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/fib_trie").write_text(FIB)
    (tmp_path / "net/if_inet6").write_text(
        "00000000000000000000000000000001 01 80 10 80 lo\n"
        "fe80000000000000d45e41fffeda71f3 02 40 20 80 eth0\n"
        "fd000000000000000000000000000007 02 40 00 80 eth0\n"
    )
    assert network_probe.own_addresses(str(tmp_path)) == ["10.0.0.5", "fd00::7"]
    assert network_probe.own_addresses(str(tmp_path / "gone")) == []


def test_a_name_that_leads_to_the_loopback_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = network_probe.names("localhost", "", "", str(tmp_path))
    assert (seen["is_loopback"], seen["addresses"]) == (True, [])
    assert "127.0.0.1" in seen["named_so"]
    assert network_probe.names("no-such-node.invalid", "", "", str(tmp_path))["named_so"] == []


def test_peers_are_found_by_any_address_that_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"n2": ["10.0.0.2", "fd00::2"], "n3": ["10.9.9.9"]}

    def resolve(name: str) -> list[tuple[int, str]]:
        if name not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(2, number) for number in known[name]]

    monkeypatch.setattr(network_probe.addresses, "resolve", resolve)
    others = [{"node": name, "addresses": numbers} for name, numbers in (("n1", []), ("n2", ["fd00::2"]), ("n3", ["10.0.0.3"]), ("n4", []))]
    assert network_probe.peers("n1", others) == {"unknown": ["n4"], "wrong": {"n3": ["10.9.9.9"]}}


NODE_ADDRESSES = "NodeName=one.invalid NodeAddr=127.0.0.1\nNodeName=two.invalid NodeAddr=127.0.0.2\nNodeName=three.invalid CPUs=2\n"


def test_a_node_that_dns_does_not_know_is_looked_for_under_its_node_addr(tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    conf.write_text(NODE_ADDRESSES)
    own = network_probe.names("one.invalid", str(conf), "", str(tmp_path))
    assert (own["address"], own["named_so"]) == ("127.0.0.1", ["127.0.0.1"])
    others = [{"node": f"{name}.invalid", "addresses": ["127.0.0.1"]} for name in ("one", "two", "three")]
    # Of the second, slurm.conf says another address than it has; of the third, nothing.
    assert network_probe.peers("me", others, str(conf)) == {"unknown": ["three.invalid"], "wrong": {"two.invalid": ["127.0.0.2"]}}
    assert network_probe.peers("me", others)["unknown"] == ["one.invalid", "two.invalid", "three.invalid"]


def test_a_firewall_is_looked_for_where_node_addr_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm.conf").write_text(NODE_ADDRESSES)
    tried = []
    monkeypatch.setattr(network_probe, "_unreached", lambda name, _ports, _seconds: tried.append(name) or "")
    network_probe.reach(
        "one.invalid", [{"node": f"{name}.invalid"} for name in ("one", "two", "three")], (288, 307), str(tmp_path / "slurm.conf")
    )
    assert tried == ["127.0.0.2", "three.invalid"]


def test_a_port_that_refuses_has_been_reached_and_one_that_is_silent_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"n2": ["127.0.0.1"], "n3": ["127.0.0.2"]}
    monkeypatch.setattr(network_probe.addresses, "resolve", lambda name: [(socket.AF_INET, number) for number in known[name]])
    others = [{"node": name, "addresses": []} for name in ("n1", "n2", "n3")]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        port = server.getsockname()[1]
        assert network_probe.reach("n1", others, (port, port), seconds=5) == {}  # n2 refuses, n3 answers
        for _ in range(4):  # whoever comes after these gets no answer, as from behind a firewall that drops
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))
        assert list(network_probe.reach("n1", others, (port, port), seconds=0.2)["blocked"]) == ["n3"]


def test_each_node_tries_the_next_ones_so_that_all_are_tried_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: Dict[str, List[str]] = {}
    others = [{"node": f"n{number}", "addresses": []} for number in range(40)]
    monkeypatch.setattr(network_probe.addresses, "given", lambda *_asked: {})  # no name server is asked of them
    for other in others:
        me = other["node"]
        monkeypatch.setattr(network_probe, "_unreached", lambda name, ports, seconds, me=me: tried.setdefault(name, []).append(me) or "")
        network_probe.reach(me, others, (27800, 27999))
    assert {len(askers) for askers in tried.values()} == {8}
    assert all(name not in askers for name, askers in tried.items())


NOBODY: Dict[str, Any] = {"may": [], "barred": [], "unknown": []}
