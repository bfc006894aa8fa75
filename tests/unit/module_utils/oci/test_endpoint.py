# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint gives one image to who knows its name, piece by piece where asked, and nothing else to anybody."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process, socket_owner
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import endpoint
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.turns import Turns
from helpers.images import digest
from helpers.users import BOB, MALLORY, needs_root

MANIFEST, LAYER = b'{"schemaVersion":2}', os.urandom(300_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[endpoint.Endpoint]:
    (tmp_path / "layer").write_bytes(LAYER)
    contents = {
        digest(MANIFEST): endpoint.Document(MANIFEST, "application/manifest"),
        digest(LAYER): endpoint.File(str(tmp_path / "layer"), len(LAYER), "application/layer"),
    }
    with endpoint.Endpoint(contents) as made:
        yield made


def ask(server: endpoint.Endpoint, request: bytes) -> bytes:
    """Return all that comes in answer to the bytes of *request*."""
    port = int(server.name.partition("/")[0].rpartition(":")[2])
    with socket.create_connection((endpoint.HOST, port), timeout=30) as peer:
        peer.sendall(request)
        with peer.makefile("rb") as stream:
            return stream.read()


def get(server: endpoint.Endpoint, path: str, method: str = "GET", fields: str = "") -> Tuple[int, dict, bytes]:
    head, _blank, body = ask(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def path_of(server: endpoint.Endpoint, kind: str, data: bytes) -> str:
    return f"/v2/{server.name.partition('/')[2]}/{kind}/{digest(data)}"


def test_a_manifest_and_a_layer_come_with_their_type_length_and_digest(server: endpoint.Endpoint) -> None:
    for kind, data, media_type in (("manifests", MANIFEST, "application/manifest"), ("blobs", LAYER, "application/layer")):
        status, fields, body = get(server, path_of(server, kind, data))
        assert (status, body) == (200, data)
        assert (fields["Content-Type"], fields["Docker-Content-Digest"]) == (media_type, digest(data))
        status, fields, body = get(server, path_of(server, kind, data), "HEAD")
        assert (status, fields["Content-Length"], body) == (200, str(len(data)), b"")
    assert server.sent == {digest(MANIFEST): len(MANIFEST), digest(LAYER): len(LAYER)}


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-", slice(0, None)),
        ("bytes=299999-", slice(299999, None)),
        ("bytes=5-9", slice(5, 10)),
        ("bytes=9-9999999", slice(9, None)),
    ],
)
def test_a_download_that_broke_off_goes_on_where_it_was(server: endpoint.Endpoint, wanted: str, part: slice) -> None:
    status, fields, body = get(server, path_of(server, "blobs", LAYER), fields=f"Range: {wanted}\r\n")
    assert body == LAYER[part]
    whole = wanted == "bytes=0-"
    assert (status, "Content-Range" in fields) == ((200, False) if whole else (206, True))


@pytest.mark.parametrize("wanted", ["bytes=300000-", "bytes=300001-300002", "bytes=9-5"])
def test_a_part_that_there_is_not_is_said_so(server: endpoint.Endpoint, wanted: str) -> None:
    status, fields, body = get(server, path_of(server, "blobs", LAYER), fields=f"Range: {wanted}\r\n")
    assert (status, fields["Content-Range"], body) == (416, "bytes */300000", b"")


def test_a_stranger_who_guesses_gets_404_and_nothing_else(server: endpoint.Endpoint) -> None:
    good, known = path_of(server, "blobs", LAYER), server.name.partition("/")[2]
    for path in (
        "/", "/v2", "/v2/_catalog", f"/v2/{known}/tags/list", good.replace("blobs", "uploads"), good[:-1], good + "/", good + "/..",
        f"/v2/madengine/{'0' * 32}/blobs/{digest(LAYER)}", f"/v2/{known}x/blobs/{digest(LAYER)}", f"/v2//{known}/blobs/{digest(LAYER)}",
        f"/v2/{known}/blobs/{digest(b'other')}", f"/v2/{known}/blobs/sha256:../../etc/passwd", f"/v2/{known.upper()}/blobs/{digest(LAYER)}",
    ):  # fmt: skip
        assert get(server, path)[::2] == (404, b"")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "get"):
        assert get(server, good, method)[::2] == (404, b"")
    assert server.sent == {}


def test_a_tls_greeting_is_answered_in_plain_http(server: endpoint.Endpoint) -> None:
    # No line's end comes in a greeting, and its sender waits for us.
    assert ask(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 32).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("request_bytes", [b"nonsense\r\n\r\n", b"GET /v2/\r\n\r\n", b"GET /v2/ HTTP/2.0\r\n\r\n", b"G" * 20_000])
def test_what_is_no_request_is_a_bad_one(server: endpoint.Endpoint, request_bytes: bytes) -> None:
    try:
        answer = ask(server, request_bytes)
    except ConnectionResetError:  # it was too long, and not all of it was read
        return
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_the_version_check_is_answered(server: endpoint.Endpoint) -> None:
    status, fields, body = get(server, "/v2/")
    assert (status, fields["Docker-Distribution-Api-Version"], body) == (200, "registry/2.0", b"")


def test_more_strangers_than_there_are_slots_keep_nobody_out_for_ever(server: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(server.name.partition("/")[0].rpartition(":")[2])
    silent = [socket.create_connection((endpoint.HOST, port)) for _ in range(2 * endpoint._AT_ONCE)]
    for peer in silent:
        peer.close()
    assert get(server, path_of(server, "blobs", LAYER))[2] == LAYER


def sent_away(port: int, connections: int) -> int:
    """Return how many of so many connections, all open at a time and silent, the other end has closed."""
    silent = [socket.socket() for _ in range(connections)]
    for peer in silent:
        peer.settimeout(120)
        peer.connect((endpoint.HOST, port))
    return sum(peer.recv(1) == b"" for peer in silent)


@needs_root
def test_another_user_s_silent_connections_take_no_turn(server: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_HEAD_SECONDS", 3600.0)  # who has a turn keeps it
    port = int(server.name.partition("/")[0].rpartition(":")[2])
    mallory = process.start(MALLORY, sent_away, port, 200)
    assert mallory.result() == 200
    assert get(server, path_of(server, "blobs", LAYER))[2] == LAYER


def asked_as_user(port: int, path: str) -> str:
    with socket.socket() as peer:
        peer.settimeout(120)
        peer.connect((endpoint.HOST, port))
        peer.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        with peer.makefile("rb") as stream:
            return stream.readline().decode()


@needs_root
def test_a_daemon_that_is_not_root_s_is_answered_and_who_is_not_it_is_not() -> None:
    document = endpoint.Document(MANIFEST, "x")
    with endpoint.Endpoint({digest(MANIFEST): document}, uids=(0, BOB.uid)) as server:
        port, path = int(server.name.partition("/")[0].rpartition(":")[2]), path_of(server, "manifests", MANIFEST)
        assert process.run(BOB, asked_as_user, port, path) == "HTTP/1.1 200 OK\r\n"
        with pytest.raises(RuntimeError, match=r"ConnectionResetError|BrokenPipeError"):
            process.run(MALLORY, asked_or_reset, port, path)


def asked_or_reset(port: int, path: str) -> None:
    """Ask, and fail as one does who is cut off, whenever that is noticed."""
    if not asked_as_user(port, path):
        raise ConnectionResetError


def test_where_the_kernel_does_not_say_who_it_is_everybody_has_a_turn(server: endpoint.Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_owner, "of_peer", lambda _connection: None)
    assert get(server, path_of(server, "blobs", LAYER))[2] == LAYER


def test_a_name_is_another_each_time_and_the_port_is_free_again(server: endpoint.Endpoint) -> None:
    with endpoint.Endpoint({}) as other:
        assert other.name.partition("/")[2] != server.name.partition("/")[2]
        port = int(other.name.partition("/")[0].rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((endpoint.HOST, port)).close()


class Noted(endpoint.Document):
    """A document that notes each piece it sends, and sends none before both have been asked for."""

    pieces: List[bytes]
    both: threading.Event

    def send(self, peer: socket.socket, parts: Iterable[Tuple[int, int]]) -> None:
        for start, stop in parts:
            self.pieces.append(self.data[start : start + 1])
            self.both.wait(60)
            super().send(peer, [(start, stop)])


def test_of_two_layers_at_once_the_lower_one_is_given_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # A daemon asks for three at once, and can begin only with the lowest.
    monkeypatch.setattr(endpoint, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(endpoint, "Turns", lambda: Turns(3600.0))
    low, high = b"l" * 20_000, b"h" * 20_000
    Noted.pieces, Noted.both = [], threading.Event()
    with endpoint.Endpoint({digest(each): Noted(each, "x") for each in (low, high)}) as server:
        threads = [threading.Thread(target=get, args=(server, path_of(server, "blobs", each))) for each in (low, high)]
        for rank, thread in enumerate(threads):
            thread.start()
            while rank not in server._turns._pieces and len(Noted.pieces) <= rank:  # it neither waits nor sends
                threading.Event().wait(0.001)
        Noted.both.set()
        for thread in threads:
            thread.join()
    assert b"".join(Noted.pieces) == b"l" * 20 + b"h" * 20


class Watched(endpoint.File):
    """A file that says when somebody has looked for it in vain."""

    looked = threading.Event()

    def is_ready(self) -> bool:
        ready = super().is_ready()
        self.looked.set()
        return ready


def test_a_blob_that_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    content = Watched(str(tmp_path / "late"), len(LAYER), "x")
    box: list = []
    with endpoint.Endpoint({digest(LAYER): content}, Deadline(60)) as server:
        asking = threading.Thread(target=lambda: box.append(get(server, path_of(server, "blobs", LAYER))))
        asking.start()
        content.looked.wait(30)
        (tmp_path / "new").write_bytes(LAYER)
        os.rename(tmp_path / "new", tmp_path / "late")
        asking.join()
    assert (box[0][0], box[0][2]) == (200, LAYER)


@pytest.mark.parametrize(("after", "looks"), [(0.002, 4), (0.05, 15), (1.0, 25), (60.0, 150)])
def test_a_blob_is_found_a_quarter_of_its_time_late_at_most_and_half_a_second(after: float, looks: int) -> None:
    pauses: list = []

    class Late(endpoint.Document):
        def is_ready(self) -> bool:
            return sum(pauses) >= after

    assert endpoint.is_ready(Late(b"", "x"), Deadline(600), pauses.append)
    assert sum(pauses) - after <= max(0.001, min(0.25 * after + 0.001, 0.5))
    assert len(pauses) <= looks


@pytest.mark.parametrize("deadline", [None, Deadline(0)])
def test_a_blob_that_never_comes_is_noted(tmp_path: Path, deadline: Any) -> None:
    with endpoint.Endpoint({digest(LAYER): endpoint.File(str(tmp_path / "never"), 5, "x")}, deadline) as server:
        assert get(server, path_of(server, "blobs", LAYER))[0] == 404
    assert list(server.missed) == [digest(LAYER)]


def test_a_blob_of_another_length_or_behind_a_link_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(LAYER)
    (tmp_path / "short").write_bytes(LAYER[:-1])
    os.symlink(tmp_path / "secret", tmp_path / "link")
    for name in ("short", "link"):
        with endpoint.Endpoint({digest(LAYER): endpoint.File(str(tmp_path / name), len(LAYER), "x")}) as server:
            assert get(server, path_of(server, "blobs", LAYER))[::2] == (404, b"")
