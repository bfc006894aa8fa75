# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a node: what is there is found, what is not is said with a remedy, and nothing is changed or waited for."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import probes
from helpers.dockerinfo import daemon
from helpers.hooks import REPOSITORY

INFO: Dict[str, Any] = {"ServerVersion": "26.1.5", "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_all_begin_at_once_and_what_hangs_costs_its_own_answer_alone(tmp_path: Path) -> None:
    def hang(path: str) -> Dict[str, Any]:
        Path(path).touch()
        time.sleep(60)
        return {}

    def wait_for(path: str) -> Dict[str, Any]:
        while not os.path.exists(path):
            time.sleep(0.01)
        return {"seen": True}

    mark, begin = str(tmp_path / "mark"), time.monotonic()
    found = probes.gather({"slow": (hang, (mark,), 1.0), "quick": (wait_for, (mark,), 10.0)})
    assert time.monotonic() - begin < 30  # half of what hangs
    assert found["quick"] == {"seen": True}
    assert isinstance(found["slow"], Fault)
    assert "hangs" in found["slow"].remedy


def test_a_fault_and_a_defect_are_answers_too() -> None:
    def refuse() -> Dict[str, Any]:
        raise NodeFault("a: b", "c", seen="d")

    def break_down() -> Dict[str, Any]:
        raise ZeroDivisionError("by nought")

    found = probes.gather({"refused": (refuse, (), 10), "broken": (break_down, (), 10)})
    assert str(found["refused"]) == "a: b (seen='d'); c"
    assert found["broken"].seen["error"] == "ZeroDivisionError: by nought"


@pytest.mark.parametrize(
    ("status", "is_containerd"), [([["driver-type", "io.containerd.snapshotter.v1"]], True), (INFO["DriverStatus"], False)]
)
def test_docker_is_asked_without_its_sdk(tmp_path: Path, status: Any, is_containerd: bool) -> None:
    with daemon(tmp_path / "sock", {**INFO, "DriverStatus": status, "DockerRootDir": str(tmp_path)}) as path:
        seen = probes.docker(config.Site(docker_socket=path), [], 5)
    assert (seen["version"], seen["driver"], seen["is_containerd"]) == ("26.1.5", "overlay2", is_containerd)
    assert seen["free_gib"][str(tmp_path)] > 0


@pytest.mark.parametrize("document", ["not JSON", "silence", "[1]"])
def test_a_docker_that_does_not_answer_well_is_a_fault_within_the_time(tmp_path: Path, document: str) -> None:
    with daemon(tmp_path / "sock", document) as path, pytest.raises(NodeFault) as raised:
        probes.docker(config.Site(docker_socket=path), [], 0.3)
    assert raised.value.what.startswith("docker: no ")
    assert "start docker" in raised.value.remedy


def test_a_docker_that_refuses_is_a_fault_with_its_status(tmp_path: Path) -> None:
    with daemon(tmp_path / "sock", {"message": "no"}, status=500) as path, pytest.raises(NodeFault, match="status='500'"):
        probes.docker(config.Site(docker_socket=path), [], 5)


def test_a_docker_that_is_not_there_is_a_fault_with_the_systems_reason(tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match="No such file"):
        probes.docker(config.Site(docker_socket=str(tmp_path / "sock")), [], 5)


def test_docker_unpacks_where_its_environment_says_or_in_its_root(tmp_path: Path) -> None:
    assert probes.docker_temporary("/var/lib/docker", str(tmp_path / "none")) == "/var/lib/docker/tmp"
    (tmp_path / "pid").write_text("77\n")
    (tmp_path / "77").mkdir()
    (tmp_path / "77/environ").write_bytes(b"PATH=/bin\0DOCKER_TMPDIR=/scratch\0")
    assert probes.docker_temporary("/var/lib/docker", str(tmp_path / "pid"), str(tmp_path)) == "/scratch"


def test_a_filesystem_is_counted_once_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert list(probes.free_gib([str(tmp_path), str(tmp_path / "sub"), str(tmp_path / "gone"), "/proc"])) == [str(tmp_path), "/proc"]


def test_pigz_is_found_by_its_unpacker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probes.pigz() == {"path": ""}
    program = script(tmp_path / "unpigz", "exit 0")
    assert probes.pigz() == {"path": program}


def test_python_tells_its_version_and_its_docker_sdk(tmp_path: Path) -> None:
    seen = probes.python(sys.executable, 20)
    assert seen["version"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert probes.python(script(tmp_path / "python3", "printf '3.13\\n7.1.0\\n'"), 5) == {"version": "3.13", "docker": "7.1.0"}
    assert probes.python(script(tmp_path / "python3", "echo 3.13"), 5) == {"version": "3.13", "docker": ""}


@pytest.mark.parametrize(("text", "what"), [("exit 3", "does not run"), ("sleep 60", "no answer in time")])
def test_a_python_that_does_not_run_is_a_fault(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(NodeFault, match=what):
        probes.python(script(tmp_path / "python3", text), 0.5)
    with pytest.raises(NodeFault, match="cannot start it"):
        probes.python(str(tmp_path / "gone"), 1)


def test_users_are_told_apart_by_what_the_socket_lets_them_do(tmp_path: Path) -> None:
    path, me = tmp_path / "sock", getpass.getuser()
    path.touch()
    found = {}
    for mode in (0o600, 0o000, 0o660, 0o666):
        path.chmod(mode)
        seen = probes.users([me, "nobody", "nobody-of-this-name"], config.Site(docker_socket=str(path)))
        assert seen["unknown"] == ["nobody-of-this-name"]
        found[mode] = (seen["may"], seen["barred"])
    assert found == {0o600: ([me], ["nobody"]), 0o000: ([], [me, "nobody"]), 0o660: ([me], ["nobody"]), 0o666: ([me, "nobody"], [])}


def test_a_group_may_use_the_socket_by_its_own_bits(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    path.touch()
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    group = probes.process.named("nobody").gid
    os.chown(path, 0, group)
    for mode, may in ((0o660, ["nobody"]), (0o606, [])):
        path.chmod(mode)
        assert probes.users(["nobody"], config.Site(docker_socket=str(path)))["may"] == may
    os.chown(path, 0, 54321)
    assert probes.users(["nobody"], config.Site(docker_socket=str(path)))["group"] == "54321"


def test_without_a_socket_nobody_can_be_asked_about(tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match="no Docker socket"):
        probes.users(["root"], config.Site(docker_socket=str(tmp_path / "gone")))
    assert probes.users([], config.Site(docker_socket=str(tmp_path / "gone")))["may"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_users_with_a_docker_of_their_own_are_looked_at_each_at_theirs(tmp_path: Path) -> None:
    site, one = config.Site(docker_socket=f"{tmp_path}/%u-%U.sock"), probes.process.named("nobody")
    path = tmp_path / f"nobody-{one.uid}.sock"
    assert probes.users(["nobody", "daemon"], site) == {**NOBODY, "barred": ["nobody", "daemon"], "group": ""}
    with daemon(path, {"ServerVersion": "26.1.5", "DockerRootDir": "/"}):
        os.chown(path, one.uid, one.gid)
        path.chmod(0o600)
        assert probes.users(["nobody", "daemon"], site) == {**NOBODY, "may": ["nobody"], "barred": ["daemon"], "group": ""}
        assert probes.docker(site, ["no-such-user", "nobody"], 5)["version"] == "26.1.5"
    assert probes.docker(site, ["no-such-user"], 5) == {}
    with pytest.raises(NodeFault):
        probes.docker(site, ["nobody"], 5)


def test_settings_that_mean_the_same_have_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "hooks.conf"
    nothing = probes.settings(str(path), str(tmp_path / "disabled"))
    assert (nothing["is_there"], nothing["is_disabled"]) == (False, False)
    path.write_text("# as by default\ndeadline = 600\n")
    same = probes.settings(str(path), str(tmp_path / "disabled"))
    assert (same["is_there"], same["digest"]) == (True, nothing["digest"])
    path.write_text("Deadline=601\n")
    (tmp_path / "disabled").touch()
    other = probes.settings(str(path), str(tmp_path / "disabled"))
    assert other["is_disabled"]
    assert other["digest"] != same["digest"]


def test_settings_with_a_mistake_are_a_fault_although_the_hooks_would_live_with_it(tmp_path: Path) -> None:
    (tmp_path / "hooks.conf").write_text("Dedline=3\n")
    assert config.read(str(tmp_path / "hooks.conf")).warnings
    with pytest.raises(JobFault, match="unknown key"):
        probes.settings(str(tmp_path / "hooks.conf"), str(tmp_path / "disabled"))


def test_a_release_is_judged_by_its_own_library(tmp_path: Path) -> None:
    place = tmp_path / "50-madengine"
    assert probes.hook_release(str(tmp_path), [str(place)], 20) == {"current": "", "broken": "", "missing": [str(place)]}
    library = tmp_path / "releases/0.9.0+0/lib/ansible_collections/rocm/madengine/plugins/module_utils/_madengine/release.py"
    library.parent.mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/0.9.0+0")
    place.touch()
    # This older release has fewer files than the present one, and is content.
    library.write_text("def prove(path):\n    assert path.endswith('0.9.0+0')\n")
    assert probes.hook_release(str(tmp_path), [str(place)], 20) == {"current": "0.9.0+0", "broken": "", "missing": []}
    library.write_text("def prove(path):\n    raise RuntimeError('release: a file is missing')\n")
    assert probes.hook_release(str(tmp_path), [str(place)], 20)["broken"] == "release: a file is missing"
    library.unlink()
    assert "ImportError" in probes.hook_release(str(tmp_path), [str(place)], 20)["broken"]


def test_slurm_is_asked_twice_for_all_nodes(tmp_path: Path) -> None:
    ready = REPOSITORY / "tests/helpers/slurm/24.11-ready.txt"
    log = tmp_path / "log"
    text = f'echo "$LC_ALL $*" >>{log}; [ "$1" = show ] && cat {ready} || printf "NodeName=n1 Arch=x\\nNodeName=n2 Arch=x\\n"'
    seen = probes.slurm_settings(script(tmp_path / "scontrol", text), 10)
    assert (seen["nodes"], seen["settings"]["PrologFlags"]) == (["n1", "n2"], "Alloc,DeferBatch")
    assert log.read_text() == "C show config\nC --oneliner show nodes\n"
    with pytest.raises(NodeFault, match="Unable to contact"):
        probes.slurm_settings(script(tmp_path / "scontrol", "echo 'Unable to contact' >&2; exit 1"), 10)


def test_equal_keys_have_equal_fingerprints_for_one_session_and_tell_nothing_else(tmp_path: Path) -> None:
    paths = {}
    for name, secret in (("a", b"s" * 32), ("b", b"s" * 32), ("c", b"t" * 32)):
        paths[name] = tmp_path / name
        paths[name].write_bytes(secret)
        paths[name].chmod(0o400)
    seen = {(name, session): probes.key("key", str(path), session)["fingerprint"] for name, path in paths.items() for session in ("x", "y")}
    assert seen["a", "x"] == seen["b", "x"] != seen["c", "x"]
    assert seen["a", "y"] == seen["b", "y"] != seen["a", "x"]
    assert len(seen["a", "x"]) == 16
    paths["a"].chmod(0o444)
    with pytest.raises(NodeFault, match="mode 0444"):
        probes.key("key", str(paths["a"]), "x")


def test_munge_must_answer_where_it_is_the_proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Answers:
        def challenge(self, seconds: float) -> Dict[str, str]:
            return {"munge": "x"}

        def secret(self, challenge: Dict[str, str]) -> bytes:
            return b""

    monkeypatch.setattr(probes.credential, "Munge", Answers)
    monkeypatch.setattr(probes.credential, "key", lambda path, context: probes.credential.Key(b"k" * 32))
    assert len(probes.key("munge", "", "x")["fingerprint"]) == 16

    def unreadable(path: str, context: Any) -> probes.credential.Key:
        raise NodeFault("credential: no", "x", part="key")

    monkeypatch.setattr(probes.credential, "key", unreadable)
    assert probes.key("munge", "", "x") == {"fingerprint": ""}


def test_a_port_that_somebody_holds_is_seen_with_its_holder_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        held = sorted((server.getsockname()[1], other.getsockname()[1]))
        seen = probes.ports(held[0], held[-1])["taken"]
        mine = {port: holder for port, holder in seen.items() if int(port) in held}
    assert set(mine) == {str(port) for port in held}
    assert all(holder.endswith(f"(pid {os.getpid()})") for holder in mine.values())
    assert str(held[0]) not in probes.ports(held[0], held[0])["taken"]


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
    assert probes.ports(27800, 27999, proc)["taken"] == {"27800": ""}
    (tmp_path / "41/fd").mkdir(parents=True)
    (tmp_path / "41/fd/3").symlink_to("socket:[7]")
    (tmp_path / "41/cmdline").write_bytes(b"/usr/bin/nc\0-l\0")
    assert probes.ports(27800, 27999, proc)["taken"] == {"27800": "nc (pid 41)"}
    (tmp_path / "41/cmdline").write_bytes(b"/usr/bin/python3\0-I\0/opt/madengine-hooks/releases/1/prolog/prolog.py\0")
    assert probes.ports(27800, 27999, proc)["taken"] == {}


def test_ports_that_the_kernel_hands_out_are_counted_unless_they_are_reserved(tmp_path: Path) -> None:
    proc = table(tmp_path)
    assert probes.ports(27800, 27999, proc)["handed_out"] == 0
    assert probes.ports(32760, 32777, proc)["handed_out"] == 10
    (tmp_path / "sys/net/ipv4/ip_local_reserved_ports").write_text("9000-9010,32768-32770,32777\n")
    assert probes.ports(32760, 32777, proc)["handed_out"] == 6
    (tmp_path / "sys/net/ipv4/ip_local_port_range").unlink()
    assert probes.ports(32760, 32777, proc)["handed_out"] == 0


def test_ports_that_are_meant_for_root_are_open_to_users_where_the_kernel_was_told_so(tmp_path: Path) -> None:
    proc = table(tmp_path)
    assert not probes.ports(288, 307, proc)["is_open_to_users"]
    for first, is_open in (("1024", False), ("308", False), ("307", True), ("80", True), ("0", True)):
        (tmp_path / "sys/net/ipv4/ip_unprivileged_port_start").write_text(f"{first}\n")
        assert probes.ports(288, 307, proc)["is_open_to_users"] == is_open
        assert not probes.ports(27800, 27999, proc)["is_open_to_users"]  # a range that is anybody's anyway


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
    assert probes.own_addresses(str(tmp_path)) == ["10.0.0.5", "fd00::7"]
    assert probes.own_addresses(str(tmp_path / "gone")) == []


def test_a_name_that_leads_to_the_loopback_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = probes.names("localhost", "", str(tmp_path))
    assert (seen["is_loopback"], seen["addresses"]) == (True, [])
    assert "127.0.0.1" in seen["named_so"]
    assert probes.names("no-such-node.invalid", "", str(tmp_path))["named_so"] == []


def test_peers_are_found_by_any_address_that_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"n2": ["10.0.0.2", "fd00::2"], "n3": ["10.9.9.9"]}

    def resolve(name: str) -> list[tuple[int, str]]:
        if name not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(2, number) for number in known[name]]

    monkeypatch.setattr(probes.addresses, "resolve", resolve)
    others = [{"node": name, "addresses": numbers} for name, numbers in (("n1", []), ("n2", ["fd00::2"]), ("n3", ["10.0.0.3"]), ("n4", []))]
    assert probes.peers("n1", others) == {"unknown": ["n4"], "wrong": {"n3": ["10.9.9.9"]}}


NODE_ADDRESSES = "NodeName=one.invalid NodeAddr=127.0.0.1\nNodeName=two.invalid NodeAddr=127.0.0.2\nNodeName=three.invalid CPUs=2\n"


def test_a_node_that_dns_does_not_know_is_looked_for_under_its_node_addr(tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    conf.write_text(NODE_ADDRESSES)
    own = probes.names("one.invalid", str(conf), str(tmp_path))
    assert (own["address"], own["named_so"]) == ("127.0.0.1", ["127.0.0.1"])
    others = [{"node": f"{name}.invalid", "addresses": ["127.0.0.1"]} for name in ("one", "two", "three")]
    # Of the second, slurm.conf says another address than it has; of the third, nothing.
    assert probes.peers("me", others, str(conf)) == {"unknown": ["three.invalid"], "wrong": {"two.invalid": ["127.0.0.2"]}}
    assert probes.peers("me", others)["unknown"] == ["one.invalid", "two.invalid", "three.invalid"]


def test_a_firewall_is_looked_for_where_node_addr_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm.conf").write_text(NODE_ADDRESSES)
    tried = []
    monkeypatch.setattr(probes, "_unreached", lambda name, _ports, _seconds: tried.append(name) or "")
    probes.reach("one.invalid", [{"node": f"{name}.invalid"} for name in ("one", "two", "three")], (288, 307), str(tmp_path / "slurm.conf"))
    assert tried == ["127.0.0.2", "three.invalid"]


def test_madengine_is_asked_without_a_model_dir_and_in_an_empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", "/models")
    text = 'echo "$*:${MODEL_DIR-unset}:$MAD_SETUP_MODEL_DIR:$([ "$PWD" = "$HOME" ] && ls | wc -l)"'
    seen = probes.madengine(script(tmp_path / "madengine", text), 10)
    assert seen == {"status": 0, "said": "--version:unset:false:0", "left": []}
    assert probes.madengine("", 10) == {}


def test_what_madengine_leaves_behind_is_seen_and_removed(tmp_path: Path) -> None:
    seen = probes.madengine(script(tmp_path / "madengine", "pwd; mkdir $HOME/models; touch perf.csv; echo oops >&2; pwd; exit 4"), 10)
    assert (seen["status"], seen["left"]) == (4, ["models", "perf.csv"])
    assert not os.path.exists(seen["said"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_madengine_is_asked_as_nobody(tmp_path: Path) -> None:
    folder = Path("/tmp")  # nobody may not enter pytest's own
    program = folder / f"madengine-of-{os.getpid()}"
    try:
        found = probes.gather({"madengine": (probes.madengine, (script(program, "id -un"), 10), 15)})
    finally:
        program.unlink()
    assert found["madengine"]["said"] == "nobody"


def test_a_port_that_refuses_has_been_reached_and_one_that_is_silent_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"n2": ["127.0.0.1"], "n3": ["127.0.0.2"]}
    monkeypatch.setattr(probes.addresses, "resolve", lambda name: [(socket.AF_INET, number) for number in known[name]])
    others = [{"node": name, "addresses": []} for name in ("n1", "n2", "n3")]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        port = server.getsockname()[1]
        assert probes.reach("n1", others, (port, port), seconds=5) == {}  # n2 refuses, n3 answers
        for _ in range(4):  # whoever comes after these gets no answer, as from behind a firewall that drops
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))
        assert list(probes.reach("n1", others, (port, port), seconds=0.2)["blocked"]) == ["n3"]


def test_each_node_tries_the_next_ones_so_that_all_are_tried_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: Dict[str, List[str]] = {}
    others = [{"node": f"n{number}", "addresses": []} for number in range(40)]
    for other in others:
        me = other["node"]
        monkeypatch.setattr(probes, "_unreached", lambda name, ports, seconds, me=me: tried.setdefault(name, []).append(me) or "")
        probes.reach(me, others, (27800, 27999))
    assert {len(askers) for askers in tried.values()} == {8}
    assert all(name not in askers for name, askers in tried.items())


def test_containerd_is_looked_for_where_it_was_moved_to(tmp_path: Path) -> None:
    assert probes.containerd_roots("/d", str(tmp_path / "none")) == ["/var/lib/containerd", "/d/containerd"]
    (tmp_path / "config.toml").write_text('version = 2\n# root = "/old"\nroot = "/data/containerd"\n[plugins]\n  root = "/other"\n')
    assert probes.containerd_roots("/d", str(tmp_path / "config.toml")) == ["/data/containerd", "/d/containerd"]


def test_who_asks_is_one_of_the_users_where_the_node_knows_the_name(tmp_path: Path) -> None:
    (tmp_path / "sock").touch()
    assert probes.users([], config.Site(docker_socket=str(tmp_path / "sock")), "nobody-of-this-name") == {
        **NOBODY,
        "group": probes._group(os.getgid()),
    }
    seen = probes.users(["root"], config.Site(docker_socket=str(tmp_path / "sock")), "root")
    assert [*seen["may"], *seen["barred"]] == ["root"]


NOBODY: Dict[str, Any] = {"may": [], "barred": [], "unknown": []}
