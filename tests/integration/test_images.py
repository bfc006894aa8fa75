# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on real daemons: what they say, what they send, and that nothing wrong or half is ever left behind.

The daemons are those of MADENGINE_DOCKER_SOCKETS (paths separated by colons), else this machine's.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import locks, process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import layer_server, layerdb
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine, Refused
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config, job_images
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import compression, digests, lease
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Identity, Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images
from helpers.daemon_fixtures import SOCKETS, answering


class Docker:
    """One daemon, the names that this test uses there, and the docker command for it."""

    def __init__(self, socket: str) -> None:
        self.engine = Engine(socket)
        self.prefix = f"mad-test-{uuid.uuid4().hex[:8]}"
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
        self.replaced: List[str] = []

    def __call__(self, *words: str, data: Optional[bytes] = None) -> bytes:
        done = subprocess.run(["docker", *words], input=data, env=self.environment, check=False, capture_output=True)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def name(self, tag: str = "1") -> str:
        return f"{self.prefix}/a:{tag}"

    def load(self, image: images.Image, tag: str = "1") -> str:
        old = self.engine.inspect(self.name(tag))
        self.replaced += [old["Id"]] if old else []
        archive, name = images.saved_20(image, [self.name(tag)]), self.name(tag)
        try:
            self("load", data=archive)
        except AssertionError:  # containerd collects what an earlier test removed, and at times what is just coming
            self("load", data=archive)
        return name

    def remove(self) -> None:
        names = self("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"{self.prefix}/*").decode().split()
        for name in [*names, *self.replaced]:
            subprocess.run(["docker", "image", "rm", "--force", name], env=self.environment, check=False, capture_output=True)

    @property
    def loopback(self) -> List[str]:
        """Return what is left of the names under which an endpoint on the loopback was asked."""
        names = self("image", "ls", "--all", "--digests", "--format", "{{.Repository}}").decode().split()
        return [name for name in names if name.startswith("127.0.0.1:")]

    @property
    def leftovers(self) -> List[str]:
        return self("image", "ls", "--quiet", f"{self.prefix}/*").decode().split()


@pytest.fixture(params=SOCKETS)
def docker(request: Any) -> Iterator[Docker]:
    answering(request.param).close()
    made = Docker(request.param)
    yield made
    made.remove()
    made.engine.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def within() -> Deadline:
    return Deadline(120)


def rnd(size: int = 3000) -> bytes:
    return random.randbytes(size)


def publish(docker: Docker, path: str, name: str, **means: Any) -> Any:
    return distribute.publish(docker.engine, path, name, "1001", within(), transports.TransportOptions(**means))


def test_daemon_and_config_blob_agree_on_what_an_image_is(docker: Docker) -> None:
    everything = {
        "Env": ["A=b c", "PATH=/bin"], "Entrypoint": ["/x"], "Cmd": ["y"], "User": "daemon", "WorkingDir": "/w", "Labels": {"a": "b"},
        "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}, "StopSignal": "9", "Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**9},
        "OnBuild": ["RUN x"], "Shell": ["/bin/bash", "-c"],
    }  # fmt: skip
    for number, image in enumerate((images.make(rnd(), rnd(), **everything), images.make(rnd()), images.make(rnd(), Env=[], Labels={}))):
        name = docker.load(image, str(number))
        assert docker.engine.identity(Reference.parse(name)) == image.identity


def test_what_was_published_loads_again_as_the_same_image(docker: Docker, path: str) -> None:
    image = images.make(rnd(), rnd(), rnd(), Env=["A=b"])
    name = docker.load(image)
    offer = publish(docker, path, name)
    assert (offer["method"], offer["layers_moved"]) == ("save", 3)
    docker.remove()
    assert docker.engine.identity(Reference.parse(name)) is None
    done = distribute.obtain(docker.engine, offer, within())
    assert done["method"] == "pull"
    assert docker.loopback == []
    assert docker.engine.identity(Reference.parse(name)) == image.identity
    assert distribute.obtain(docker.engine, offer, within())["method"] == "none"
    assert publish(docker, path, name)["method"] == "none"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_packed_layers_load_as_the_same_image(docker: Docker, path: str, kind: str) -> None:
    if not compression.can(kind):
        pytest.skip(f"no program for {kind}")
    image = images.make(rnd(), b"text " * 100_000, Env=["A=b"])
    name = docker.load(image)
    offer = publish(docker, path, name, compression=kind)
    may = kind == "gzip" or docker.engine.info().takes_zstd
    assert {each.media_type.partition("+")[2] for each in ImageStore(path).read(offer["manifest"]).layers} == {kind if may else ""}
    assert (offer["bytes_moved"] < 100_000) is may
    docker.remove()
    distribute.obtain(docker.engine, offer, within())
    assert docker.engine.identity(Reference.parse(name)) == image.identity


def test_a_new_top_layer_moves_alone_and_a_reused_tag_is_replaced(docker: Docker, path: str) -> None:
    base = [rnd(), rnd()]
    old, new = images.make(*base, Env=["V=1"]), images.make(*base, rnd(5000), Env=["V=2"])
    name = docker.load(old)
    publish(docker, path, name)
    docker.load(new)
    offer = publish(docker, path, name)
    assert offer["layers_moved"] == 1
    docker.remove()
    docker.load(old)
    done = distribute.obtain(docker.engine, offer, within())
    # The classic store knows layers that were loaded by their chain only: it gets an archive without them.
    is_classic = not docker.engine.info().is_containerd_store
    assert (done["method"], done["layers_moved"]) == ("load" if is_classic else "pull", 1)
    assert done.get("reason", "") == ("the daemon has layers that it did not pull" if is_classic else "")
    assert docker.engine.identity(Reference.parse(name)) == new.identity


def test_a_layer_that_was_left_out_wrongly_fails_cleanly_and_then_the_whole_image_comes(
    docker: Docker, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = docker.load(images.make(rnd(), rnd()))
    offer = publish(docker, path, name)
    docker.remove()
    subprocess.run(["sync"], check=False)
    docker.load(images.make(rnd()), "other")  # what a daemon without this image's layers looks like
    monkeypatch.setattr(docker.engine, "layers_held", lambda diff_ids, kind: {diff_ids[0]})
    done = distribute.obtain(docker.engine, offer, within())
    assert done["method"] in ("load", "pull")
    assert docker.engine.identity(Reference.parse(name)).digest == offer["identity"]  # type: ignore[union-attr]


def test_a_damaged_layer_is_never_loaded(docker: Docker, path: str) -> None:
    image = images.make(rnd(), rnd(200_000))
    name = docker.load(image)
    offer = publish(docker, path, name)
    docker.remove()
    victim = Path(path, "blobs", "sha256", image.diff_ids[1][7:])
    data = bytearray(victim.read_bytes())
    data[1000] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ShareFault, match="digest differs"):
        distribute.obtain(docker.engine, offer, within())
    assert docker.leftovers == []
    docker.load(image)
    assert publish(docker, path, name)["layers_moved"] == 1


def test_an_archive_that_is_none_is_refused(docker: Docker) -> None:
    with pytest.raises(Refused):
        docker.engine.load([b"x" * 10240], 30)


def test_an_image_that_nobody_has_is_one_line(docker: Docker, path: str) -> None:
    with pytest.raises(JobFault, match="nobody has it") as caught:
        publish(docker, path, f"{docker.prefix}/none:1")
    assert "\n" not in caught.value.line()


def test_two_publishers_and_two_loaders_at_once_do_no_harm(docker: Docker, path: str, tmp_path: Path) -> None:
    image = images.make(rnd(), rnd(300_000), rnd())
    name = docker.load(image)
    offers = [_started(lambda: publish(Docker(docker.engine.socket), path, name)) for _ in range(3)]
    assert {each()["identity"] for each in offers} == {image.identity.digest}
    offer = publish(docker, path, name)
    docker.remove()
    engines = [Engine(docker.engine.socket) for _ in range(3)]

    def obtain(one: Engine) -> Any:
        with locks.open_flocks(str(tmp_path / "locks"), 0) as flocks:
            return distribute.obtain(one, offer, within(), flocks)

    done = [_started(functools.partial(obtain, one)) for one in engines]
    methods = sorted(each()["method"] for each in done)
    assert methods.count("none") == 2
    for one in engines:
        one.close()
    assert os.listdir(Path(path, "tmp")) == []


def _started(work: Callable[[], Any]) -> Callable[[], Any]:
    box: List[Any] = []
    thread = threading.Thread(target=lambda: box.append(work()))
    thread.start()

    def result() -> Any:
        thread.join()
        return box[0]

    return result


def test_a_publisher_killed_at_any_instant_leaves_nothing_half(docker: Docker, path: str) -> None:
    image = images.make(rnd(), random.randbytes(3 << 20), rnd())
    name = docker.load(image)
    begun = time.monotonic()
    publish(docker, path + ".trial", name)
    took = time.monotonic() - begun
    for part in range(8):
        _killed_after(took * part / 7, lambda: publish(Docker(docker.engine.socket), path, name))
        store = ImageStore(path)
        for digest in store.blobs.names() if os.path.isdir(store.blobs.path) else []:
            assert b"".join(store.blobs.stream(digest)) is not None  # each is what its name says
        stored = store.find(Reference.parse(name), ["1001"])
        assert stored is None or store.missing(stored) == []
    assert publish(docker, path, name)["identity"] == image.identity.digest


def test_a_loader_killed_at_any_instant_leaves_the_old_image_or_the_new_one(docker: Docker, path: str) -> None:
    old, new = images.make(rnd()), images.make(rnd(), random.randbytes(3 << 20))
    name = docker.load(new)
    offer = publish(docker, path, name)
    docker.remove()
    docker.load(old)
    for part in range(6):
        _killed_after(part * 0.03, lambda: distribute.obtain(Engine(docker.engine.socket), offer, within()))
        assert docker.engine.identity(Reference.parse(name)) in (old.identity, new.identity)
    distribute.obtain(docker.engine, offer, within())
    assert docker.engine.identity(Reference.parse(name)) == new.identity


def _killed_after(seconds: float, work: Callable[[], Any]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_user_without_access_to_docker_is_told_so(docker: Docker) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            Engine(docker.engine.socket).info()
        except JobFault as fault:
            code = 0 if "no Docker access" in fault.what else 2
        except NodeFault:
            code = 3
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with hardly any room."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "none", str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_store_is_named_before_anything_is_written(docker: Docker, small_disk: Path) -> None:
    name = docker.load(images.make(random.randbytes(8 << 20)))
    with pytest.raises(ShareFault, match="too little space"):
        publish(docker, str(small_disk / "store"), name)
    assert os.listdir(small_disk / "store" / "blobs" / "sha256") == os.listdir(small_disk / "store" / "tmp") == []


def test_a_store_that_fills_up_in_the_middle_keeps_nothing_half(docker: Docker, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = images.make(rnd(), random.randbytes(8 << 20))
    name = docker.load(image)
    monkeypatch.setattr(ImageStore, "require_space", lambda self, needed: None)  # as if somebody else took the room meanwhile
    (small_disk / "other").write_bytes(bytes(65 << 20))
    with pytest.raises(ShareFault, match="no space left"):
        publish(docker, str(small_disk / "store"), name)
    store = ImageStore(str(small_disk / "store"))
    assert store.find(Reference.parse(name), ["1001"]) is None
    assert os.listdir(store.temporary) == []
    (small_disk / "other").unlink()
    assert publish(docker, store.path, name)["identity"] == image.identity.digest


def odd_layer() -> bytes:
    """Return a tar with all that makes tars hard to write again byte by byte."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", target: str = "", **more: Any) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname, info.mtime = kind, len(data), target, 1_600_000_000.123456
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))

        add("dir", tarfile.DIRTYPE, mode=0o1777)
        add("dir/file", data=rnd(100_000), mode=0o4755, uid=70000, gid=80000)
        add("dir/empty")
        add("dir/hard", tarfile.LNKTYPE, target="dir/file")
        add("dir/soft", tarfile.SYMTYPE, target="/etc/passwd")
        add("dir/" + "l" * 200, data=b"long")
        add("dir/ünï", data=b"unicode")
        add("dir/raw\udcff", data=b"no utf-8")
        add("dir/space and 'quote'\n", data=b"x")
        add("xattr", data=b"x", pax_headers={"SCHILY.xattr.user.a": "b"})
        add("fifo", tarfile.FIFOTYPE)
        for number in range(300):
            add(f"many/{number % 7}/{number}", data=rnd(number))
    return out.getvalue()


@pytest.mark.skipif(os.getuid() != 0, reason="reads the daemon's own files")
def test_the_daemons_own_files_give_the_bytes_of_docker_save(docker: Docker, path: str) -> None:
    info = docker.engine.info()
    reader = layer_server.source_of(*info.storage)
    whiteouts = images.tar({".wh.xattr": b"", "dir/.wh..wh..opq": b"", "dir/new": b"new"})
    layers = (odd_layer(), whiteouts, odd_layer())
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [images.digest(x) for x in layers]},
    }
    image = images.Image(json.dumps(document).encode(), layers)
    name = docker.load(image)
    image_id = (docker.engine.inspect(name) or {})["Id"]
    try:
        found = [b"".join(reader.layer(image_id, index)) for index in range(3)] if reader else None
    except layerdb.Unexpected:
        found = None
    if found is None:
        pytest.skip("the daemon's files are not on this machine")
    assert found == list(layers)
    offer = publish(docker, path, name, reader=reader)
    assert (offer["method"], offer["bytes_moved"]) == ("graph", sum(map(len, layers)))
    docker.remove()
    distribute.obtain(docker.engine, offer, within())
    assert docker.engine.identity(Reference.parse(name)) == Identity.of_config(document)
    assert lease.leased(ImageStore(path), time.time()) >= set(image.diff_ids)
    assert digests.digest_of(ImageStore(path).blobs.stream(image.diff_ids[0])) == image.diff_ids[0]


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_root_reads_the_layers_and_the_user_writes_the_store(docker: Docker) -> None:
    name = docker.load(images.make(rnd(), random.randbytes(3 << 20), Env=["A=b"]))
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    user = process.of(65534, os.stat(docker.engine.socket).st_gid)
    try:
        os.chown(folder, user.uid, user.gid)
        site = config.Site(docker_socket=docker.engine.socket)
        here = job_images.JobImages(site, str(folder / "store"), user, within(), work_dir="/")
        [offer] = here.stage([{"reference": name, "registry_image": ""}], alone=False).result()
        info = docker.engine.info()
        is_local = os.path.exists(info.root_dir) and docker.engine.socket == "/var/run/docker.sock"
        assert offer["method"] == ("graph" if is_local else "save")
        assert {path.lstat().st_uid for path in (folder / "store").rglob("*")} == {user.uid}
        docker.remove()
        [done] = here.load([offer]).result()
        assert (done["identity"], done["layers_moved"]) == (offer["identity"], 2)
        here.release([offer]).result()
        assert os.listdir(folder / "store" / "leases") == []
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_store_that_the_user_may_not_write_is_the_shares_fault(docker: Docker, tmp_path: Path) -> None:
    name = docker.load(images.make(rnd()))
    user = process.of(65534, os.stat(docker.engine.socket).st_gid)
    here = job_images.JobImages(config.Site(docker_socket=docker.engine.socket), "/root/no/store", user, within())
    with pytest.raises(ShareFault, match="cannot write the store"):
        here.stage([name], alone=False).result()
