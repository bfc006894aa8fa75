# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's own secret: where it is found, what is refused, and that it is used for one purpose only.

The stand-ins for munge and unmunge answer as munge 0.5.16 does (recorded in a Debian 13 container).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.peers import credential

SECRET = bytes(range(64))


def a_key(path: Path, data: bytes = SECRET, mode: int = 0o400) -> str:
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


def test_derivation_is_hkdf_as_the_rfc_has_it() -> None:
    # RFC 5869, appendix A.1 and A.3
    salt, info = bytes(range(13)), bytes(range(0xF0, 0xFA))
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert credential.derive(b"\x0b" * 22, info, salt, 42).hex() == expected
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert credential.derive(b"\x0b" * 22, b"", b"\x00" * 32, 42).hex() == expected


def test_the_key_is_not_the_file_s_content_and_another_purpose_has_another_key(tmp_path: Path) -> None:
    secret = credential.key(a_key(tmp_path / "k")).secret({})
    assert len(secret) == 32
    assert secret not in SECRET
    assert secret != credential.derive(SECRET, b"else")


def test_each_meeting_has_a_key_of_its_own_and_all_who_come_to_it_the_same(tmp_path: Path) -> None:
    path = a_key(tmp_path / "k")
    contexts: List[Tuple[object, ...]] = [
        (), ("lab", 1, 0, "start"), ("lab", 1, 0, "results"), ("lab", 1, 1, "start"), ("lab", 11, 0, "start"), ("la", "b", 1, 0, "start"),
        ("lab", 1, "0", "start"), ("n\udc80", 1, 0, "start"),
    ]  # fmt: skip
    secrets = [credential.of("key", path, *context).secret({}) for context in contexts]
    assert len({*secrets}) == len(contexts)
    assert [credential.key(path, context).secret({}) for context in contexts] == secrets


def test_munge_s_key_comes_before_slurm_s_and_a_key_file_before_both(tmp_path: Path) -> None:
    paths = [a_key(tmp_path / name, name.encode() * 20) for name in ("munge.key", "slurm.key", "own.key")]
    secrets = [credential.key(path).secret({}) for path in paths]
    assert credential.key("", (), paths[:2]).secret({}) == secrets[0]
    assert credential.key("", (), [str(tmp_path / "none"), paths[1]]).secret({}) == secrets[1]
    assert credential.key(paths[2], (), paths).secret({}) == secrets[2]
    assert len({*secrets}) == 3
    assert credential.of("key", paths[2]).secret({}) == secrets[2]
    assert isinstance(credential.of("munge"), credential.Munge)


def test_without_a_key_the_node_is_at_fault(tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match="no cluster key") as raised:
        credential.key("", (), [str(tmp_path / "a"), str(tmp_path / "b")])
    assert raised.value.part == "key"


def test_no_key_follows_from_a_set_of_keys_and_the_remedy_is_a_key_file(tmp_path: Path) -> None:
    paths, key_set = [str(tmp_path / "munge.key"), str(tmp_path / "slurm.key")], a_key(tmp_path / "slurm.jwks", b'{"keys": []}' * 9)
    with pytest.raises(NodeFault, match="no cluster key") as raised:
        credential.key("", (), paths, [key_set])
    assert (raised.value.part, raised.value.seen["key_set"]) == ("key", key_set)
    assert "KeyFile" in raised.value.remedy
    with pytest.raises(NodeFault, match="no cluster key") as raised:
        credential.key("", (), paths, [f"{key_set}.gone"])
    assert "key_set" not in raised.value.seen
    assert credential.key("", (), [*paths, a_key(tmp_path / "own.key")], [key_set])


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o420, 0o644, 0o401])
def test_a_key_that_others_may_use_is_none(tmp_path: Path, mode: int) -> None:
    with pytest.raises(NodeFault, match="others may use it") as raised:
        credential.key(a_key(tmp_path / "k", mode=mode))
    assert raised.value.part == "key"


@pytest.mark.parametrize(("size", "is_good"), [(0, False), (31, False), (32, True), (65536, True), (65537, False)])
def test_a_key_has_a_sane_length(tmp_path: Path, size: int, is_good: bool) -> None:
    path = a_key(tmp_path / "k", b"x" * size)
    if is_good:
        credential.key(path)
    else:
        with pytest.raises(NodeFault, match="bytes long"):
            credential.key(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_what_is_no_file_is_no_key_and_nobody_waits_for_it(tmp_path: Path, make: Any) -> None:
    make(str(tmp_path / "k"))
    with pytest.raises(NodeFault, match="not a plain file"):
        credential.key(str(tmp_path / "k"))


@pytest.mark.parametrize("path", ["/no/such/key", "/no\0such"])
def test_a_key_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(NodeFault, match="cannot be used") as raised:
        credential.key(path)
    assert raised.value.seen["path"] == path


def test_no_message_and_no_repr_shows_the_secret(tmp_path: Path) -> None:
    key = credential.key(a_key(tmp_path / "k"))
    assert key.secret({}).hex() not in repr(key) + str(vars(credential.Munge()))
    assert repr(key.secret({})) not in repr(key)


# MUNGE.

MUNGE = """#!/bin/sh
[ "$1 $2" = "--cipher=aes128 --restrict-uid=0" ] || exit 1
echo "$3" > "${0%/*}/ttl"
cat > "${0%/*}/payload"
echo "MUNGE:$(tr 0-9 A-J < "${0%/*}/payload" | head -c 40)==:"
"""
UNMUNGE = """#!/bin/sh
[ "$1 $2" = "--numeric --keys=STATUS,UID" ] || exit 1
echo x >> "${0%/*}/calls"
printf 'STATUS:          STATUS_HERE\\nUID:             UID_HERE\\n\\n'
cat "${0%/*}/payload"
exit STATUS_HERE
"""


def a_munge(folder: Path, status: int = 0, uid: int = 0, munge: str = MUNGE, unmunge: str = UNMUNGE) -> str:
    for name, text in (("munge", munge), ("unmunge", unmunge)):
        (folder / name).write_text(text.replace("STATUS_HERE", str(status)).replace("UID_HERE", str(uid)))
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize("status", [0, 17])
def test_with_munge_both_ends_come_to_the_same_secret_also_when_it_says_replayed(tmp_path: Path, status: int) -> None:
    path = a_munge(tmp_path, status)
    leader, member = credential.Munge(path=path), credential.Munge(path=path)
    challenge = leader.challenge(600.0)
    assert challenge["munge"].startswith("MUNGE:")
    assert leader.secret(challenge) == member.secret(challenge) == bytes.fromhex((tmp_path / "payload").read_text())
    assert leader.challenge(10.0) == challenge
    assert (tmp_path / "ttl").read_text() == "--ttl=660\n"
    member.secret(challenge)
    assert (tmp_path / "calls").read_text() == "x\n"  # asked once: a process a connection is too much
    assert credential.Munge(path=path).challenge(1.0) != challenge


@pytest.mark.parametrize(("status", "uid"), [(0, 1000), (17, 1000), (15, 0), (18, 0)])
def test_a_credential_of_a_user_or_of_another_cluster_or_time_is_refused(tmp_path: Path, status: int, uid: int) -> None:
    path = a_munge(tmp_path, status, uid)
    challenge = credential.Munge(path=path).challenge(600.0)
    with pytest.raises(ValueError, match="not a credential of this cluster's root"):
        credential.Munge(path=path).secret(challenge)


@pytest.mark.parametrize("text", [None, 5, "", "MUNGE:", "MUNGE:abc", "MUNGE:" + "A" * 9000 + ":", "x\nMUNGE:" + "A" * 40 + ":", "-h"])
def test_what_is_no_credential_never_reaches_unmunge(tmp_path: Path, text: Any) -> None:
    path = a_munge(tmp_path, unmunge="#!/bin/sh\ntouch ${0%/*}/called\n")
    with pytest.raises(ValueError, match="no credential"):
        credential.Munge(path=path).secret({"munge": text})
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("payload", ["", "00", "zz" * 32, "00" * 33])
def test_another_payload_than_a_secret_is_refused(tmp_path: Path, payload: str) -> None:
    path = a_munge(tmp_path)
    (tmp_path / "payload").write_text(payload)
    with pytest.raises(ValueError, match="not a credential"):
        credential.Munge(path=path).secret({"munge": "MUNGE:" + "A" * 40 + ":"})


def test_a_munge_that_fails_or_is_not_there_is_the_node_s_fault(tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match="MUNGE does not answer") as raised:
        credential.Munge(path=str(tmp_path)).challenge(5.0)
    assert raised.value.part == "key"
    path = a_munge(tmp_path, munge="#!/bin/sh\necho 'munge: Error: Failed to access socket' >&2\nexit 6\n")
    with pytest.raises(NodeFault, match="Failed to access socket"):
        credential.Munge(path=path).challenge(5.0)


def test_a_munge_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential, "_MUNGE_SECONDS", 0.1)
    path = a_munge(tmp_path, munge="#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(NodeFault, match="timed out"):
        credential.Munge(path=path).challenge(5.0)


def test_a_secret_never_stands_on_a_command_line(tmp_path: Path) -> None:
    path = a_munge(tmp_path, munge='#!/bin/sh\necho "$*" > ${0%/*}/seen\n' + MUNGE.partition("\n")[2])
    credential.Munge(path=path).challenge(5.0)
    assert (tmp_path / "payload").read_text() not in (tmp_path / "seen").read_text()


def test_the_clusters_own_secret_is_never_in_the_memory_from_which_users_processes_begin(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    subprocess.run(["/bin/sh", "-c", f"head -c 64 /dev/urandom > {path}"], check=True)  # this process never sees it
    made = credential.of("key", str(path), "lab", 4711, 0, "start")
    mine = made.secret({}).hex()
    # The key file, what HKDF extracts of it for any purpose, and what every context once had: none is there; this context's is.
    child = process.start(process.named("nobody"), _wait) if os.geteuid() == 0 else None
    for pid in [os.getpid()] + ([child.pid] if child else []):
        command = [sys.executable, "-c", _LOOK, str(pid), str(path), mine]
        look = subprocess.run(command, capture_output=True, text=True, check=True)
        assert look.stdout == "0 0 0 True\n"
    if child:
        child.kill()


def _wait() -> None:
    signal.pause()


_LOOK = """
import hmac, sys
key, mine = open(sys.argv[2], "rb").read(), bytes.fromhex(sys.argv[3])
extracted = hmac.digest(b"rocm.madengine rendezvous v1", key, "sha256")
looked_for = [key[:32], extracted, hmac.digest(extracted, b"session\\x01", "sha256"), mine]
found = [0] * 4
with open(f"/proc/{sys.argv[1]}/maps") as maps, open(f"/proc/{sys.argv[1]}/mem", "rb", 0) as memory:
    for line in maps:
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if line.split()[1].startswith("rw"):
            try:
                memory.seek(first)
                content = memory.read(last - first)
            except (OSError, OverflowError, ValueError):
                continue
            found = [count + content.count(one) for count, one in zip(found, looked_for)]
print(*found[:3], found[3] > 0)
"""
