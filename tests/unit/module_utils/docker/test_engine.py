# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon says, and what its silence means, in our own words: one scripted daemon on a real socket."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import unquote

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import engine
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Identity, Reference

pytest.importorskip("docker")
A, B, C = ("sha256:" + letter * 64 for letter in "abc")


class Daemon:
    """Answers by a table of (method, path without version) → (status, body); notes what it was asked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: Dict[Tuple[str, str], Tuple[int, Any]] = {("GET", "/version"): (200, {"ApiVersion": "1.41"})}
        self.asked: List[Tuple[str, str]] = []
        self.bodies: List[bytes] = []
        self.hangs_up_on = ""
        self.api_version = "1.41"

    def answer(self, method: str, path: str, body: Any, status: int = 200) -> None:
        self.answers[method, path] = (status, body)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        daemon = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                path, _, query = self.path.partition("?")
                path = unquote("/" + path.split("/", 2)[2] if path.startswith("/v1.") else path)
                daemon.asked.append((self.command, path + ("?" + unquote(query) if query else "")))
                if path == daemon.hangs_up_on:
                    self.close_connection = True
                    return
                daemon.bodies.append(self.body())
                unknown = (200, b"OK") if path == "/_ping" else (404, {"message": f"no such thing: {path}"})
                status, body = daemon.answers.get((self.command, path), unknown)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
                if daemon.api_version:
                    self.send_header("Api-Version", daemon.api_version)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = handle_any

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                data = b""
                while size := int(self.rfile.readline() or b"0", 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def address_string(self) -> str:
                return "socket"

            def log_message(self, *_args: Any) -> None:
                pass

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_args: Any) -> None:
                pass

        with Server(self.path, Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield
            server.shutdown()
            thread.join()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(str(tmp_path / "docker.sock"))
    with made.running():
        yield made


@pytest.fixture
def docker(daemon: Daemon) -> Iterator[engine.Engine]:
    made = engine.Engine(daemon.path, timeout_seconds=5)
    yield made
    made.close()
    made.close()


def inspected(*layers: str, **config: Any) -> Dict[str, Any]:
    return {"Id": A, "Config": config, "Os": "linux", "Architecture": "amd64", "RootFS": {"Type": "layers", "Layers": list(layers)}}


def test_an_image_is_what_the_daemon_inspects(daemon: Daemon, docker: engine.Engine) -> None:
    daemon.answer("GET", "/images/a:1/json", inspected(B, Env=["X=y"]))
    assert docker.identity(Reference.parse("a:1")) == Identity.of_inspect(inspected(B, Env=["X=y"]))
    assert docker.identity(Reference.parse("b:1")) is None
    assert docker.inspect("b:1") is None


@pytest.mark.parametrize(
    ("ping", "said", "asked"),
    [
        (200, "1.41", []),
        (200, "", ["/version"]),  # something in front of the daemon that leaves it out
        (200, "one", ["/version"]),
        (403, "1.30", ["/version"]),  # an authorization plugin
    ],
)
def test_the_version_of_the_api_costs_the_daemon_no_work(
    daemon: Daemon, docker: engine.Engine, ping: int, said: str, asked: List[str]
) -> None:
    daemon.answer("GET", "/_ping", b"OK", ping)
    daemon.answer("GET", "/images/a:1/json", inspected(B))
    daemon.api_version = said
    assert docker.inspect("a:1") == docker.inspect("a:1") == inspected(B)
    assert [path for _method, path in daemon.asked] == ["/_ping", *asked, "/images/a:1/json", "/images/a:1/json"]
    assert docker._client().api_version == "1.41"


def test_names_are_looked_for_by_the_daemon(daemon: Daemon, docker: engine.Engine) -> None:
    by_tag, by_digest = {"RepoTags": ["r/a:1"], "RepoDigests": ["r/a@" + A]}, {"RepoTags": None, "RepoDigests": ["r/a@" + A]}
    daemon.answer("GET", "/images/json", [by_tag, by_digest])
    assert docker.names("r/*") == ["r/a:1", "r/a@" + A]
    assert daemon.asked[-1][1].replace("+", " ") == '/images/json?only_ids=0&all=0&filters={"reference": ["r/*"]}'


def test_the_kind_of_store_is_told_apart(daemon: Daemon, docker: engine.Engine) -> None:
    daemon.answer(
        "GET",
        "/info",
        {"ServerVersion": "20.10", "Driver": "overlay2", "DockerRootDir": "/d", "DriverStatus": [["Backing Filesystem", "extfs"]]},
    )
    assert docker.info() == engine.Info("20.10", "overlay2", "/d", False)
    daemon.answer(
        "GET",
        "/info",
        {
            "ServerVersion": "29",
            "Driver": "overlayfs",
            "DockerRootDir": "/d",
            "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        },
    )
    assert docker.info() == engine.Info("29", "overlayfs", "/d", True)


@pytest.mark.parametrize(
    ("local", "wanted", "classic", "containerd"),
    [
        ([[A, B]], [A, B, C], {A, B}, {A, B}),
        ([[B, C], [A]], [A, B, C], {A}, {A, B, C}),
        ([[B]], [A, B], set(), {B}),
        ([[A]], [A, B, A], set(), {A}),  # one archive member for both: the upper one's chain is not there
        ([[A, B, A]], [A, B, A], {A, B}, {A, B}),
        ([], [A], set(), set()),
        ([[]], [A], set(), set()),
    ],
)
def test_the_classic_store_holds_a_layer_only_on_top_of_those_below(
    daemon: Daemon, docker: engine.Engine, local: List[List[str]], wanted: List[str], classic: set, containerd: set
) -> None:
    daemon.answer("GET", "/images/json", [{"Id": f"i{number}"} for number in range(len(local))] + [{"Id": "vanished"}])
    for number, layers in enumerate(local):
        daemon.answer("GET", f"/images/i{number}/json", inspected(*layers))
    assert docker.layers_held(wanted, is_containerd_store=False) == classic
    assert docker.layers_held(wanted, is_containerd_store=True) == containerd
    assert ("GET", "/images/json?only_ids=1&all=0") in daemon.asked  # a step of a build is in what was built of it


def test_an_archive_streams_both_ways(daemon: Daemon, docker: engine.Engine) -> None:
    data = bytes(range(256)) * 20000
    daemon.answer("GET", "/images/a:1/get", data)
    assert b"".join(docker.save("a:1", 5)) == data
    daemon.answer("POST", "/images/load", {"stream": "Loaded image: a:1"})
    docker.load((data[start : start + 70000] for start in range(0, len(data), 70000)), 5)
    assert daemon.bodies[-1] == data


@pytest.mark.parametrize("status", [200, 500])
def test_an_archive_that_the_daemon_does_not_like_is_refused(daemon: Daemon, docker: engine.Engine, status: int) -> None:
    body = {"error": "layer sha256:x not found"} if status == 200 else {"message": "layer sha256:x not found"}
    daemon.answer("POST", "/images/load", body, status)
    with pytest.raises(engine.Refused) as caught:
        docker.load([b"x"], 5)
    assert "layer sha256:x not found" in caught.value.seen["answer"]


@pytest.mark.parametrize("status", [200, 500])
def test_the_cause_stands_at_the_end_of_a_long_answer_and_is_not_cut_off(daemon: Daemon, docker: engine.Engine, status: int) -> None:
    text = "failed to resolve: " + "a" * 400 + ": connection refused"
    daemon.answer("POST", "/images/create", {"error": text} if status == 200 else {"message": text}, status)
    with pytest.raises(engine.Refused, match=r"failed to resolve.*connection refused'"):
        docker.pull(Reference.parse("r.io/a:1"), 5)


@pytest.mark.parametrize("status", [200, 500])
def test_a_full_disk_of_the_daemon_is_the_nodes_fault(daemon: Daemon, docker: engine.Engine, status: int) -> None:
    text = f"write /var/lib/docker/tmp/{'x' * 400}: no space left on device"
    daemon.answer("POST", "/images/load", {"error": text} if status == 200 else {"message": text}, status)
    with pytest.raises(NodeFault) as caught:
        docker.load([b"x"], 5)
    assert caught.value.part == "disk"


def test_a_daemon_that_hangs_up_on_an_archive_and_still_answers_has_refused_it(daemon: Daemon, docker: engine.Engine) -> None:
    daemon.answer("GET", "/info", {"ServerVersion": "20.10.24", "Driver": "overlay2"})
    daemon.hangs_up_on = "/images/load"
    with pytest.raises(engine.Refused, match="cut short"):
        docker.load([b"x" * (1 << 20)] * 8, 5)


def test_an_empty_piece_does_not_end_an_archive(docker: engine.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: List[bytes] = []
    monkeypatch.setattr("docker.APIClient.load_image", lambda _client, data, quiet: sent.extend(data))
    docker.load([b"x", b"", b"y", b""], 5)
    assert sent == [b"x", b"y"]


def test_a_source_that_fails_fails_the_load_with_its_own_fault(daemon: Daemon, docker: engine.Engine) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise ShareFault("layer: digest differs", "publish the image again")

    with pytest.raises(ShareFault, match="digest differs"):
        docker.load(source(), 5)


def test_a_pull_names_tag_or_digest_and_follows_the_progress(daemon: Daemon, docker: engine.Engine) -> None:
    daemon.answer("POST", "/images/create", {"status": "done"})
    docker.pull(Reference.parse("r.io/a:1"), 5)
    docker.pull(Reference.parse(f"r.io/a:1@{A}"), 5)
    assert [path for method, path in daemon.asked if method == "POST"] == [
        "/images/create?tag=1&fromImage=r.io/a",
        f"/images/create?tag={A}&fromImage=r.io/a",
    ]
    daemon.answer("POST", "/images/create", {"error": "manifest unknown"})
    with pytest.raises(engine.Refused, match="manifest unknown"):
        docker.pull(Reference.parse("r.io/a:1"), 5)
    daemon.answer("POST", "/images/create", {"message": "no basic auth credentials"}, 500)
    with pytest.raises(engine.Refused, match="no basic auth"):
        docker.pull(Reference.parse("r.io/a:1"), 5)


def test_a_tag_is_given(daemon: Daemon, docker: engine.Engine) -> None:
    daemon.answer("POST", f"/images/{A}/tag", b"", 201)
    docker.tag(A, Reference.parse("r.io/a:1"))
    assert daemon.asked[-1][1] == f"/images/{A}/tag?tag=1&repo=r.io/a&force=1"


@pytest.mark.parametrize(
    ("source", "destination", "kind", "is_of_job_7"),
    [
        ("/tmp/madengine_job_7_node_1", "/myworkspace", "bind", True),
        ("/tmp/madengine_job_7", "/myworkspace/", "bind", True),
        ("/scratch/x/madengine_job_7_20261006120000_a1b2c3_node_0", "/myworkspace", "bind", True),
        ("/tmp/madengine_job_7_node_1/sub", "/myworkspace", "bind", True),
        ("/tmp/madengine_job_77_node_1", "/myworkspace", "bind", False),
        ("/tmp/madengine_job_8_node_1", "/myworkspace", "bind", False),
        ("/tmp/madengine_job_7_node_1", "/data", "bind", False),
        ("/tmp/my_madengine_job_7", "/myworkspace", "bind", False),
        ("/var/lib/docker/volumes/madengine_job_7", "/myworkspace", "volume", False),
    ],
)
def test_a_jobs_containers_are_known_by_the_workspace_that_they_work_in(
    daemon: Daemon, docker: engine.Engine, source: str, destination: str, kind: str, is_of_job_7: bool
) -> None:
    daemon.answer("GET", "/containers/json", [{"Id": "c1", "Names": ["/a"], "Image": "i", "State": "running", "Labels": {}}])
    mount = {"Type": kind, "Source": source, "Destination": destination}
    daemon.answer("GET", "/containers/c1/json", {"Config": {"Env": ["A=b"]}, "Mounts": [mount], "State": {"Pid": 0}})
    assert bool(docker.containers_of("7")) is is_of_job_7
    daemon.answer("GET", "/containers/c1/json", {"Config": {"Env": ["SLURM_JOB_ID=9"]}, "Mounts": [mount], "State": {"Pid": 0}})
    assert docker.containers_of("7") == []  # what it says itself comes first


def test_a_jobs_containers_are_known_by_label_environment_or_cgroup_in_this_order(daemon: Daemon, docker: engine.Engine) -> None:
    listed = [
        {"Id": "c1", "Names": ["/one"], "Image": "a:1", "State": "running", "Labels": {"madengine.job": "7"}},
        {"Id": "c2", "Names": ["/two"], "Image": "a:1", "State": "exited", "Labels": {}},
        {"Id": "c3", "Names": ["/three"], "Image": "a:1", "State": "running", "Labels": {"madengine.job": "77"}},
        {"Id": "c4", "Names": ["/four"], "Image": "a:1", "State": "running", "Labels": None},
        {"Id": "c5", "Names": None, "Image": "a:1", "State": "running", "Labels": {}},
        {"Id": "c6", "Names": ["/six"], "Image": "a:1", "State": "exited", "Labels": {}},
        {"Id": "c7", "Names": ["/seven"], "Image": "a:1", "State": "exited", "Labels": {}},
    ]
    placed = {"HostConfig": {"CgroupParent": "/slurm/uid_2000/job_7"}}
    daemon.answer("GET", "/containers/json", listed)
    daemon.answer("GET", "/containers/c2/json", {"Config": {"Env": ["A=b", "SLURM_JOB_ID=7"]}})
    daemon.answer("GET", "/containers/c3/json", {"Config": {"Env": ["SLURM_JOB_ID=7"]}})  # the label says whose it is
    daemon.answer("GET", "/containers/c4/json", {"Config": {"Env": ["SLURM_JOB_ID=77"]}})
    daemon.answer("GET", "/containers/c6/json", placed)
    daemon.answer("GET", "/containers/c7/json", {**placed, "Config": {"Env": ["SLURM_JOB_ID=8"]}})  # it says whose it is
    assert docker.containers_of("7") == [
        {"id": "c1", "name": "one", "image": "a:1", "state": "running"},
        {"id": "c2", "name": "two", "image": "a:1", "state": "exited"},
        {"id": "c6", "name": "six", "image": "a:1", "state": "exited"},
    ]


def test_stopping_and_removing_say_whether_it_was_there(daemon: Daemon, docker: engine.Engine) -> None:
    daemon.answer("POST", "/containers/c1/stop", b"", 204)
    daemon.answer("DELETE", "/containers/c1", b"", 204)
    assert (docker.stop("c1", 3), docker.remove("c1")) == (True, True)
    assert (docker.stop("c2"), docker.remove("c2")) == (False, False)
    assert ("POST", "/containers/c1/stop?t=3") in daemon.asked
    assert any(method == "DELETE" and "force=True" in path and "v=True" in path for method, path in daemon.asked)


def test_processes_and_output_are_text_even_of_a_dead_container(daemon: Daemon, docker: engine.Engine) -> None:
    daemon.answer("GET", "/containers/c1/top", {"Titles": ["PID", "CMD"], "Processes": [["1", "sleep 9"]]})
    assert docker.top("c1") == "PID  CMD\n1  sleep 9"
    daemon.answer("GET", "/containers/c2/top", {"message": "not running"}, 409)
    assert docker.top("c2") == ""
    daemon.answer("GET", "/containers/c1/json", {"Config": {"Tty": True}})
    daemon.answer("GET", "/containers/c1/logs", b"hello \xff\n")
    assert docker.logs("c1", 5) == "hello \ufffd\n"
    assert docker.logs("gone") == ""


def test_no_daemon_is_the_nodes_fault(tmp_path: Path) -> None:
    with pytest.raises(NodeFault) as caught:
        engine.Engine(str(tmp_path / "none.sock")).info()
    assert caught.value.part == "docker"
    assert caught.value.seen["socket"] == str(tmp_path / "none.sock")


def test_a_daemon_that_hangs_is_the_nodes_fault(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(NodeFault, match="no answer"):
            engine.Engine(str(tmp_path / "s"), timeout_seconds=0.1).info()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK forgets its socket then
def test_a_daemon_that_speaks_no_http_is_the_nodes_fault(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def talk() -> None:
            for _ in range(2):  # the first only knocks
                peer, _address = listener.accept()
                with peer:
                    if peer.recv(100):
                        peer.sendall(b"\0\1\2 hello\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(NodeFault, match="no answer"):
            engine.Engine(str(tmp_path / "s"), timeout_seconds=2).info()
        thread.join()


def test_a_daemon_that_dies_in_the_middle_is_the_nodes_fault(tmp_path: Path) -> None:
    import socket

    version = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{"ApiVersion":"1.41"}'
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def serve() -> None:
            knock, _address = listener.accept()
            knock.close()
            for answer in (version, b""):
                peer, _address = listener.accept()
                with peer:
                    peer.recv(100_000)
                    peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        docker = engine.Engine(str(tmp_path / "s"), timeout_seconds=5)
        with pytest.raises(NodeFault, match="no answer to docker load") as caught:
            docker.load((b"x" * 100_000 for _ in range(100)), 5)
        assert caught.value.part == "docker"
        thread.join()
        docker.close()


@pytest.mark.skipif(os.getuid() != 0, reason="gives root away in a child")
def test_a_user_without_docker_access_is_told_so(daemon: Daemon) -> None:
    os.chmod(daemon.path, 0o600)
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            engine.Engine(daemon.path).info()
        except JobFault as fault:
            os._exit(0 if "no Docker access" in str(fault) else 3)
        finally:
            os._exit(4)
    assert os.waitpid(pid, 0)[1] == 0


def test_each_process_gets_its_own_connection(daemon: Daemon, docker: engine.Engine) -> None:
    docker.inspect("a:1")
    mine = docker._client()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if docker._client() is not mine else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert docker._client() is mine


def test_a_missing_sdk_is_the_nodes_fault(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(NodeFault, match="no Docker SDK"):
        engine.Engine(daemon.path).info()


def test_a_defect_of_ours_is_no_fault(docker: engine.Engine) -> None:
    with pytest.raises(ZeroDivisionError), docker._mapped("x"):
        raise ZeroDivisionError
    with pytest.raises(Fault), docker._mapped("x"):
        raise JobFault("a: b", "c")


def test_the_sdk_is_imported_by_the_first_question_only() -> None:
    code = (
        "import sys; sys.path.insert(0, 'collections')\n"
        "from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import engine\n"
        "from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute\n"
        "engine.Engine()\n"
        "assert not {'docker', 'requests', 'urllib3', 'ssl', 'asyncio'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4])


CONFIGS = {
    "headers": {".docker/config.json": b'{"HttpHeaders": {"X": 5}}'},
    "auths": {".docker/config.json": b'{"auths": {"x": 5}}'},
    "auths of a registry": {".docker/config.json": b'{"auths": {"r.example": 5}}'},
    "no helper": {".docker/config.json": b'{"credsStore": "there-is-none", "credHelpers": {"r.example": "none-either"}}'},
    "no json": {".docker/config.json": b"\xff{"},
    "a list": {".docker/config.json": b"[]"},
    "legacy": {".dockercfg": b"x = y"},
    "netrc": {".netrc": b"machine \xff\xfe"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_user_has_configured_breaks_no_question_to_the_local_daemon(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for path, content in CONFIGS[name].items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://nobody.example:1")
    daemon.answer("GET", "/info", {"ServerVersion": "26.1.5", "Driver": "overlay2", "DockerRootDir": "/d"})
    daemon.answer("POST", "/images/create", b'{"status": "done"}')
    with contextlib.closing(engine.Engine(daemon.path, timeout_seconds=5)) as docker:
        assert docker.info().version == "26.1.5"
        docker.pull(Reference.parse("r.example/x:1"), 5)  # and asks as anybody, where the login is no good
    assert os.environ["HOME"] == str(tmp_path)
    assert "DOCKER_CONFIG" not in os.environ


def test_a_login_of_the_user_s_goes_to_its_registry_and_to_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / "elsewhere.json").write_text('{"auths": {"r.example": {"auth": "YWxpY2U6c2VjcmV0"}}, "HttpHeaders": {"X": 5}}')
    (tmp_path / ".docker/config.json").symlink_to(tmp_path / "elsewhere.json")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert engine.credentials("r.example/x") == {"username": "alice", "password": "secret", "serveraddress": "r.example"}
    assert engine.credentials("other.example/x") == {}
    assert engine.credentials("x") == {}


def test_a_configuration_that_never_ends_is_read_no_further_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").symlink_to("/dev/zero")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert engine.credentials("r.example/x") == {}


def test_a_share_that_breaks_while_an_image_is_loaded_is_the_shares_fault(docker: engine.Engine, daemon: Daemon) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise OSError(5, "Input/output error", "/shared/blob")

    daemon.answer("POST", "/images/load", b"")
    with pytest.raises(ShareFault, match="cannot read what was to be loaded"):
        docker.load(chunks(), 5)


@pytest.mark.parametrize("how", ["label", "environment"])
@pytest.mark.parametrize(("is_known", "escapes"), [(False, False), (True, True)])
def test_a_container_that_names_another_job_is_of_that_one_only_if_the_job_is_there(
    daemon: Daemon, docker: engine.Engine, how: str, is_known: bool, escapes: bool
) -> None:
    labels = {"madengine.job": "8"} if how == "label" else {}
    words = ["SLURM_JOB_ID=8"] if how == "environment" else []
    daemon.answer("GET", "/containers/json", [{"Id": "c1", "Names": ["/one"], "Image": "a:1", "State": "exited", "Labels": labels}])
    daemon.answer("GET", "/containers/c1/json", {
        "Config": {"Env": words}, "State": {"Pid": 0}, "HostConfig": {"CgroupParent": "/slurm/uid_2000/job_7/step_batch"},
    })  # fmt: skip
    asked: List[str] = []
    found = docker.containers_of("7", lambda job_id: asked.append(job_id) is None and is_known)
    assert ([each["id"] for each in found], asked) == ([] if escapes else ["c1"], ["8"])


def test_clients_made_at_once_leave_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    inside = threading.Barrier(2, timeout=0.5)

    def change() -> None:
        with engine._environment(HOME="/none", DOCKER_CONFIG="/none"), contextlib.suppress(threading.BrokenBarrierError):
            inside.wait()  # two that are inside at once meet here

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (os.environ["HOME"], os.environ.get("DOCKER_CONFIG")) == ("/home/alice", None)
    assert inside.broken
