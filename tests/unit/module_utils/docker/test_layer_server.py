# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's reader answers what it is asked, says when it cannot, and ends with the last who could ask."""

from __future__ import annotations

import http.server
import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any, ClassVar, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import layer_server, layerdb
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import docker_root, images
from helpers.pinned import by_registry

IMAGE = images.make(b"base" * 300000, b"middle", b"base" * 300000, b"top")


class _Info(http.server.BaseHTTPRequestHandler):
    document: ClassVar[Any] = {}

    def do_GET(self) -> None:
        data = json.dumps(self.document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return ""

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def docker_socket(tmp_path: Path) -> Iterator[str]:
    """A socket that tells where the daemon's files are."""
    _Info.document = {"Driver": "overlay2", "DockerRootDir": str(tmp_path / "docker"), "DriverStatus": [["Backing Filesystem", "x"]]}
    (tmp_path / "docker" / "image" / "overlay2").mkdir(parents=True)
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "s"), _Info) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield str(tmp_path / "s")
        server.shutdown()
        thread.join()


@pytest.fixture
def remote(docker_socket: str) -> Iterator[layer_server.LayerClient]:
    made = layer_server.LayerClient(layer_server.start(docker_socket))
    yield made
    made.close()


def test_what_root_reads_arrives_as_it_is(remote: layer_server.LayerClient, tmp_path: Path) -> None:
    image_id = docker_root.classic(tmp_path / "docker", IMAGE)
    assert remote.config(image_id) == IMAGE.config
    assert [b"".join(remote.layer(image_id, index)) for index in range(4)] == list(IMAGE.layers)
    assert remote.sizes(image_id) == [len(each) for each in IMAGE.layers]
    assert [remote.length(image_id, index) for index in range(4)] == [len(each) for each in IMAGE.layers]


def test_an_answer_that_fails_leaves_the_next_one_whole(remote: layer_server.LayerClient, tmp_path: Path) -> None:
    image_id = docker_root.classic(tmp_path / "docker", IMAGE)
    for _ in range(2):
        with pytest.raises(layerdb.Unexpected):
            list(remote.layer(image_id, 9))
        with pytest.raises(layerdb.Unexpected):
            remote.config("../../etc/shadow")
        with pytest.raises(layerdb.Unexpected):
            list(remote.layer(image_id, "x"))  # type: ignore[arg-type]
        assert remote.config(image_id) == IMAGE.config


def test_a_file_that_ends_too_soon_is_told_in_the_middle(remote: layer_server.LayerClient, tmp_path: Path) -> None:
    image_id = docker_root.classic(tmp_path / "docker", IMAGE)
    (tmp_path / "docker" / "overlay2" / f"{0:064x}" / "diff" / "file").write_bytes(b"short")
    with pytest.raises(layerdb.Unexpected, match="too short"):
        list(remote.layer(image_id, 0))


@pytest.mark.parametrize(
    "change",
    [
        {"Driver": "btrfs"},
        {"DockerRootDir": "/nonexistent"},
        {"Driver": None},
        {"DriverStatus": 5},
        {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]},
    ],
)
def test_a_daemon_of_an_unknown_kind_is_unexpected(docker_socket: str, change: Any) -> None:
    _Info.document.update(change)
    remote = layer_server.LayerClient(layer_server.start(docker_socket))
    with pytest.raises(layerdb.Unexpected):
        remote.config("sha256:" + "0" * 64)
    remote.close()


def test_no_daemon_is_unexpected(tmp_path: Path) -> None:
    remote = layer_server.LayerClient(layer_server.start(str(tmp_path / "none")))
    with pytest.raises(layerdb.Unexpected, match="not known here"):
        remote.config("sha256:" + "0" * 64)
    remote.close()


def test_the_kind_of_reader_follows_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "image" / "overlay2").mkdir(parents=True)
    assert isinstance(layer_server.source_of("overlay2", str(tmp_path), False), layerdb.GraphDriverLayers)
    assert isinstance(layer_server.source_of("overlayfs", str(tmp_path), True), layerdb.ContentStore)
    assert layer_server.source_of("btrfs", str(tmp_path), False) is None
    assert layer_server.source_of("overlay2", str(tmp_path / "none"), False) is None


def test_the_reader_ends_when_nobody_can_ask_any_more() -> None:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=layer_server.serve, args=(ours, lambda: None))
    thread.start()
    theirs.sendall(b"no json\n[]\n")
    theirs.shutdown(socket.SHUT_WR)
    thread.join(10)
    theirs.close()
    assert not thread.is_alive()
    ours.close()


def test_a_reader_that_is_gone_is_unexpected() -> None:
    for said in (b"", b"\0\0\0\5ab", b"\0\0"):
        ours, theirs = socket.socketpair()
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        remote = layer_server.LayerClient(ours.detach())
        with pytest.raises(layerdb.Unexpected):
            remote.config("x")
        remote.close()
        theirs.close()
    ours, theirs = socket.socketpair()
    theirs.close()
    remote = layer_server.LayerClient(ours.detach())
    with pytest.raises(layerdb.Unexpected, match="gone"):
        remote.config("x")
    remote.close()


class Counting(images.Daemon):
    saves: List[str]

    def save(self, name: str, timeout_seconds: float) -> Iterator[bytes]:
        self.saves = [*getattr(self, "saves", []), name]
        return super().save(name, timeout_seconds)


def publish(daemon: images.Daemon, tmp_path: Path, reader: Any) -> Any:
    return distribute.publish(daemon, str(tmp_path / "store"), "a:1", "site", Deadline(60), transports.TransportOptions(reader=reader))  # type: ignore[arg-type]


def test_layers_are_published_from_the_daemons_files_without_docker_save(tmp_path: Path) -> None:
    daemon = Counting()
    daemon.images["a:1"] = IMAGE
    docker_root.classic(tmp_path / "docker", IMAGE)
    reader = layerdb.GraphDriverLayers(str(tmp_path / "docker"))
    offer = publish(daemon, tmp_path, reader)
    assert (offer["method"], offer["layers_moved"], offer["bytes_moved"]) == ("graph", 3, sum(map(len, set(IMAGE.layers))))
    stored = ImageStore(str(tmp_path / "store")).read(offer["manifest"])
    assert stored.config_bytes == IMAGE.config
    assert not hasattr(daemon, "saves")
    assert publish(daemon, tmp_path, reader)["method"] == "none"


@pytest.mark.parametrize("damage", ["another file", "no config", "no layer"])
def test_where_the_daemons_files_are_not_as_expected_docker_save_does_it(tmp_path: Path, damage: str) -> None:
    daemon = Counting()
    daemon.images["a:1"] = IMAGE
    image_id = docker_root.classic(tmp_path / "docker", IMAGE)
    overlay = tmp_path / "docker" / "overlay2" / f"{1:064x}" / "diff" / "file"
    {
        "another file": lambda: overlay.write_bytes(b"MIDDLE"),
        "no config": lambda: (tmp_path / "docker/image/overlay2/imagedb/content/sha256" / image_id[7:]).unlink(),
        "no layer": overlay.unlink,
    }[damage]()
    offer = publish(daemon, tmp_path, layerdb.GraphDriverLayers(str(tmp_path / "docker")))
    assert (offer["method"], daemon.saves) == ("save", ["a:1"])
    assert ImageStore(str(tmp_path / "store")).read(offer["manifest"]).identity == IMAGE.identity
    assert os.listdir(tmp_path / "store" / "tmp") == []


def test_the_reader_answers_every_kind_of_question(tmp_path: Path, docker_socket: str) -> None:
    image_id = docker_root.classic(tmp_path / "docker", IMAGE)
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=layer_server.serve, args=(ours, lambda: layer_server._local(docker_socket)))
    thread.start()
    remote = layer_server.LayerClient(theirs.detach())
    assert remote.config(image_id) == IMAGE.config
    assert remote.sizes(image_id) == [len(each) for each in IMAGE.layers]
    assert b"".join(remote.layer(image_id, 3)) == IMAGE.layers[3]
    with pytest.raises(layerdb.Unexpected):
        list(remote.layer(image_id, 4))
    with pytest.raises(layerdb.Unexpected, match="not kept"):
        remote.documents(image_id)
    with pytest.raises(layerdb.Unexpected, match="not kept"):
        list(remote.packed(image_id, 0))
    remote.close()
    thread.join(10)
    ours.close()


@pytest.mark.parametrize("has_index", [False, True])
def test_what_a_registry_has_sent_arrives_as_it_came(tmp_path: Path, has_index: bool) -> None:
    has = by_registry(IMAGE, has_index)
    docker_root.content(tmp_path, has.blobs)
    source = layerdb.ContentStore((str(tmp_path),))
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=layer_server.serve, args=(ours, lambda: source))
    thread.start()
    remote = layer_server.LayerClient(theirs.detach())
    assert remote.documents(has.digest) == source.documents(has.digest)
    assert [b"".join(remote.packed(has.digest, index)) for index in range(4)] == [
        b"".join(source.packed(has.digest, index)) for index in range(4)
    ]
    remote.close()
    thread.join(10)
    ours.close()


def test_the_daemon_is_asked_by_root_itself(tmp_path: Path, docker_socket: str) -> None:
    assert isinstance(layer_server._local(docker_socket), layerdb.GraphDriverLayers)
    assert layer_server._local(str(tmp_path / "none")) is None
    _Info.document = []
    assert layer_server._local(docker_socket) is None


def test_the_reader_holds_nothing_of_its_parents_open(docker_socket: str) -> None:
    ours, theirs = socket.socketpair()
    handle = layer_server.start(docker_socket)
    ours.close()
    theirs.settimeout(10)
    assert theirs.recv(1) == b""  # no copy of the other end lives on in the reader
    os.close(handle)
    theirs.close()
