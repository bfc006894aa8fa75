# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a leader listens and where its members look for it: the same place, and never everywhere."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import addresses
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation
from helpers import peers
from hypothesis import given, settings
from hypothesis import strategies as st

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Dict[str, List[str]]:
    """A directory of names: fill it in the test."""
    table: Dict[str, List[str]] = {}

    def getaddrinfo(name: str, port: Any, **_options: Any) -> List[Any]:
        if name not in table:
            raise socket.gaierror(-2, "Name or service not known")
        return [(V6 if ":" in number else V4, socket.SOCK_STREAM, 6, "", (number, 0)) for number in table[name]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(addresses, "_is_mine", lambda address: not address[1].startswith("192.0.2."))
    return table


def allocation(*nodes: str, address: str = "", job_id: int = 1) -> Allocation:
    return Allocation("c", job_id, 0, nodes or ("n0", "n1"), (nodes or ("n0",))[0], address)


@settings(deadline=None)
@given(st.integers(1024, 65000), st.integers(0, 500), st.integers(0, 1 << 31))
def test_both_sides_try_the_same_ports_of_the_range_each_once(low: int, size: int, job_id: int) -> None:
    ports = addresses.candidates((low, low + size), job_id)
    assert ports == addresses.candidates((low, low + size), job_id)
    assert len(ports) == len({*ports}) == min(size + 1, 16)
    assert all(low <= port <= low + size for port in ports)


def test_jobs_that_are_neighbours_start_apart() -> None:
    assert len({addresses.candidates(addresses.PORTS, job_id)[0] for job_id in range(20)}) == 20


def test_the_default_ports_are_none_that_a_user_can_bind_or_that_daemons_take_by_themselves() -> None:
    assert addresses.PORTS[0] <= addresses.PORTS[1] < 512


def test_a_node_listens_where_its_name_leads(names: Dict[str, List[str]]) -> None:
    names["n0"] = ["10.1.2.3", "fd00::3", "10.1.2.3"]
    assert addresses.own(allocation()) == [(V4, "10.1.2.3"), (V6, "fd00::3")]


@pytest.mark.parametrize("useless", ["0.0.0.0", "::", "224.0.0.1", "169.254.1.1", "fe80::1", "fe80::1%eth0", "127.0.1.1", "::1"])
def test_beside_a_real_address_nobody_needs_one_that_peers_cannot_reach(names: Dict[str, List[str]], useless: str) -> None:
    names["n0"] = [useless, "10.1.2.3"]
    assert addresses.own(allocation()) == [(V4, "10.1.2.3")]


def test_a_name_that_leads_home_only_is_replaced_by_the_way_to_the_members(
    names: Dict[str, List[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Debian's installer writes "127.0.1.1 n0" into n0's /etc/hosts.
    names["n0"] = ["127.0.1.1"]
    monkeypatch.setattr(addresses, "_routes_to", lambda node: [(V4, "10.1.2.3")])
    assert addresses.own(allocation("n0", "n1", "n2")) == [(V4, "10.1.2.3")]


def test_a_name_that_nobody_knows_is_replaced_by_the_way_to_the_members(
    names: Dict[str, List[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = {"n1": [], "n2": [(V6, "fd00::3")]}
    monkeypatch.setattr(addresses, "_routes_to", routes.__getitem__)
    assert addresses.own(allocation("n0", "n1", "n2")) == [(V6, "fd00::3")]


def test_nodes_of_one_machine_meet_on_its_loopback(names: Dict[str, List[str]]) -> None:
    names.update({"n0": ["127.0.1.1"], "n1": ["127.0.1.1"]})
    assert addresses.own(allocation()) == [(V4, "127.0.1.1")]


def test_an_address_that_the_site_gives_is_taken_as_it_is(names: Dict[str, List[str]]) -> None:
    names["n0-ib"] = ["127.0.0.9"]
    assert addresses.own(allocation(address="n0-ib")) == [(V4, "127.0.0.9")]


@pytest.mark.parametrize("home", [[], ["127.0.1.1"], ["0.0.0.0"]])
def test_a_node_that_nobody_can_reach_says_so_instead_of_listening_everywhere(names: Dict[str, List[str]], home: List[str]) -> None:
    if home:
        names["n0"] = home
    with pytest.raises(NodeFault, match="leads nowhere") as raised:
        addresses.listen(allocation(), peers.PORTS)
    assert raised.value.seen["node"] == "n0"


def test_the_way_to_a_node_is_found_without_sending_anything(names: Dict[str, List[str]]) -> None:
    names.update({"n1": ["127.0.0.1"], "n2": ["255.255.255.255"]})
    assert addresses._routes_to("n1") == [(V4, "127.0.0.1")]
    assert addresses._routes_to("n2") == []
    assert addresses._routes_to("n3") == []


def test_a_port_that_somebody_holds_is_passed_over() -> None:
    at = peers.address()
    first, second = peers.first_ports(peers.allocation())
    with socket.create_server((at, first)):
        listeners, port = addresses.listen(peers.allocation(at=at), peers.PORTS)
    assert (port, [one.getsockname() for one in listeners]) == (second, [(at, second)])
    for one in listeners:
        one.close()


def test_a_port_that_is_taken_on_one_of_two_addresses_is_taken(names: Dict[str, List[str]]) -> None:
    both: Tuple[str, str] = (peers.address(), peers.address())
    names["n0"] = [*both]
    first, second = peers.first_ports(peers.allocation())
    with socket.create_server((both[1], first)):
        listeners, _ = addresses.listen(peers.allocation(at="n0"), peers.PORTS)
    assert [one.getsockname() for one in listeners] == [(number, second) for number in both]
    for one in listeners:
        one.close()


def test_an_address_of_somebody_else_is_left_out(names: Dict[str, List[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    names["n0"] = ["192.0.2.1", "10.1.2.3"]
    assert addresses.own(allocation()) == [(V4, "10.1.2.3")]
    names["n0"] = ["192.0.2.1"]  # as behind a router that translates
    monkeypatch.setattr(addresses, "_routes_to", lambda node: [(V4, "10.1.2.3")])
    assert addresses.own(allocation()) == [(V4, "10.1.2.3")]


def test_an_address_is_this_node_s_if_one_can_listen_there() -> None:
    assert addresses._is_mine((V4, peers.address()))
    assert not addresses._is_mine((V4, "192.0.2.1"))


def test_when_all_ports_are_taken_the_fault_names_them() -> None:
    at = peers.address()
    with socket.create_server((at, 27800)), pytest.raises(NodeFault, match="no port to listen on") as raised:
        addresses.listen(peers.allocation(at=at), (27800, 27800))
    assert raised.value.seen == {"addresses": at, "ports": "27800-27800"}


def test_a_meeting_that_just_ended_does_not_block_its_port() -> None:
    at = peers.address()
    for _ in range(2):
        (listener,), port = addresses.listen(peers.allocation(at=at), (27801, 27801))
        with socket.create_connection((at, port)) as here, listener.accept()[0] as there:
            there.close()  # the side that closes first stays in TIME_WAIT
            assert here.recv(1) == b""
        listener.close()


def test_the_controller_is_asked_of_those_alone_that_neither_file_nor_name_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slurm.conf").write_text("NodeName=one.invalid NodeAddr=127.0.0.1\n")
    asked: List[Any] = []
    monkeypatch.setattr(addresses.node_addresses, "asked", lambda *words: asked.append(words) or {"two.invalid": "10.7.0.2"})
    nodes = ["one.invalid", "localhost", "two.invalid", "three.invalid"]
    found = addresses.given(str(tmp_path / "slurm.conf"), nodes, "/opt/slurm")
    assert found == {"one.invalid": "127.0.0.1", "two.invalid": "10.7.0.2"}
    assert asked == [(["two.invalid", "three.invalid"], str(tmp_path / "slurm.conf"), "/opt/slurm")]


def test_where_all_names_lead_somewhere_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses.node_addresses, "asked", lambda *words: pytest.fail("asked"))
    assert addresses.given("", ["localhost"]) == {}
