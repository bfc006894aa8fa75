# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real daemon pulls from its own loopback: odd images whole, damaged ones never, and no name of ours is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.engine import Engine, Refused
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute, load, plain_archive, transports
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images.offer import Offer
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import endpoint
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image_manifest import Layer, Stored
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images


@pytest.fixture
def name(engine: Engine) -> Iterator[Reference]:
    made = Reference.parse(f"mad-test-{os.urandom(4).hex()}/a:1")
    yield made
    engine.untag(str(made))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(str(tmp_path / "store"))
    made.ensure()
    return made


def within() -> Deadline:
    return Deadline(120)


def stored(store: ImageStore, image: images.Image) -> Stored:
    layers = [store.put_layer([data]) for data in image.layers]
    return store.commit(Reference.parse("a:1"), "site", image.config, layers)


def loopback(engine: Engine) -> List[str]:
    """Return all names that an endpoint has left, looked for without the daemon's help."""
    found = engine._client().images(all=True)
    names = (name for each in found for key in ("RepoTags", "RepoDigests") for name in each.get(key) or ())
    return [each for each in dict.fromkeys(names) if each.startswith("127.0.0.1:")]


def fresh(*sizes: int) -> images.Image:
    return images.make(*map(random.randbytes, sizes), Env=["A=b"])


def take(engine: Engine, store: ImageStore, image: images.Image, name: Reference) -> load.Loaded:
    return load.load(engine, load.FromStore(store, stored(store, image)), name, within())


def test_an_image_looks_as_if_it_had_been_loaded(engine: Engine, store: ImageStore, name: Reference) -> None:
    image = fresh(3000, 300_000)
    done = take(engine, store, image, name)
    assert (done.method, done.layers, done.size_bytes, done.reason) == ("pull", 2, sum(map(len, image.layers)), "")
    document = engine.inspect(str(name)) or {}
    assert document["RepoTags"] == [str(name)]
    assert [each for each in document["RepoDigests"] if not each.startswith(name.familiar + "@")] == []
    assert engine.identity(name) == image.identity
    assert loopback(engine) == []


def test_a_layer_that_was_pulled_once_is_not_fetched_again(engine: Engine, store: ImageStore, name: Reference) -> None:
    base = random.randbytes(100_000)
    take(engine, store, images.make(base), name)
    done = take(engine, store, images.make(base, random.randbytes(5000)), name)
    assert (done.method, done.layers) == ("pull", 1)


@pytest.mark.parametrize("kind", ["equal", "empty", "many"])
def test_odd_images_arrive_whole(engine: Engine, store: ImageStore, name: Reference, kind: str) -> None:
    one, nothing = images.tar({"a": random.randbytes(3000)}), images.tar({})
    layers = {"equal": (one, images.tar({"b": b"b"}), one), "empty": (one, nothing), "many": tuple(
        images.tar({"file": b"%d" % number + random.randbytes(9)}) for number in range(125)  # Docker's own limit: "max depth exceeded"
    )}[kind]  # fmt: skip
    root = {"type": "layers", "diff_ids": [images.digest(each) for each in layers]}
    document = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}
    image = images.Image(json.dumps(document).encode(), layers)
    assert take(engine, store, image, name).method == "pull"
    assert engine.identity(name) == image.identity


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_wrong_blob_is_named_and_leaves_nothing(engine: Engine, store: ImageStore, name: Reference, damage: str) -> None:
    image = fresh(3000, 200_000)
    supply = load.FromStore(store, stored(store, image))
    victim = Path(store.blobs.path_of(image.diff_ids[1]))
    data = victim.read_bytes()
    victim.unlink()
    if damage != "gone":
        victim.write_bytes(data[:-1] if damage == "short" else data[:9000] + b"!" + data[9001:])
    with pytest.raises(ShareFault) as caught:
        load.load(engine, supply, name, within())
    assert image.diff_ids[1] in str(caught.value)
    assert (engine.inspect(str(name)), loopback(engine)) == (None, [])


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_wrong_blob_in_an_archive_is_named_and_leaves_nothing(
    engine: Engine, store: ImageStore, name: Reference, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint.Endpoint, "name", property(lambda _self: f"127.0.0.1:9/madengine/{'0' * 32}"))
    test_a_wrong_blob_is_named_and_leaves_nothing(engine, store, name, damage)


def test_two_pulls_at_once_end_well(engine: Engine, store: ImageStore, name: Reference) -> None:
    supply, box = load.FromStore(store, stored(store, fresh(300_000, 3_000_000))), []  # type: ignore[var-annotated]
    engines = [Engine(engine.socket) for _ in range(3)]
    threads = [threading.Thread(target=lambda each=each: box.append(load.load(each, supply, name, within()))) for each in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in engines:
        each.close()
    assert {done.method for done in box} == {"pull"}
    assert len(box) == 3
    assert engine.identity(name) == supply.stored.identity
    assert loopback(engine) == []


class Slow(endpoint.File):
    """A blob of which the first half comes, and then nothing."""

    def send(self, peer: Any, parts: Iterable[Tuple[int, int]]) -> None:
        start, stop = next(iter(parts))
        super().send(peer, [(start, start + (stop - start) // 2)])
        os.write(int(os.environ["MADENGINE_TEST_PIPE"]), b"x")
        threading.Event().wait()


class HalfSupply(load.FromStore):
    def content(self, layer: Any) -> endpoint.Content:
        return Slow(self.store.blobs.path_of(layer.digest), layer.size_bytes, layer.media_type)


def test_a_loader_that_is_killed_leaves_no_name_and_the_next_one_finishes(engine: Engine, store: ImageStore, name: Reference) -> None:
    image = fresh(2_000_000)
    kept = stored(store, image)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.environ["MADENGINE_TEST_PIPE"] = str(writer)
        load.load(Engine(engine.socket), HalfSupply(store, kept), name, within())
        os._exit(0)
    assert os.read(reader, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (engine.inspect(str(name)), loopback(engine)) == (None, [])
    assert load.load(engine, load.FromStore(store, kept), name, within()).method == "pull"
    assert engine.identity(name) == image.identity


def test_the_name_of_an_endpoint_that_was_killed_goes_with_the_next_load(engine: Engine, store: ImageStore, name: Reference) -> None:
    kept = stored(store, fresh(3000))
    with endpoint.Endpoint(load.contents(load.FromStore(store, kept))) as server:
        left = f"{server.name}@{kept.manifest_digest}"
        engine.pull(Reference.parse(left), 60, has_login=False)
        assert loopback(engine) == [left]
        take(engine, store, fresh(3000), name)
        assert loopback(engine) == [left]  # it listens: somebody is at it
    take(engine, store, fresh(3000), name)
    assert loopback(engine) == []


def test_a_daemon_that_does_not_come_to_the_loopback_gets_an_archive(
    engine: Engine, store: ImageStore, name: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a daemon of another network namespace sees it: nobody listens there.
    monkeypatch.setattr(endpoint.Endpoint, "name", property(lambda _self: f"127.0.0.1:9/madengine/{'0' * 32}"))
    image = fresh(3000, 200_000)
    done = take(engine, store, image, name)
    assert (done.method, done.layers) == ("load", 2)
    assert "does not come to this node's loopback" in done.reason
    assert engine.identity(name) == image.identity


def test_a_daemon_does_not_keep_an_image_that_is_another_one(engine: Engine, store: ImageStore, name: Reference) -> None:
    supply, other = load.FromStore(store, stored(store, fresh(3000))), stored(store, fresh(3000))
    with endpoint.Endpoint(load.contents(load.FromStore(store, other))) as server, pytest.raises(Refused):
        engine.pull(Reference.parse(f"{server.name}@{supply.stored.manifest_digest}"), 60, has_login=False)
    assert loopback(engine) == []


def test_no_credential_helper_of_the_users_is_asked_for_the_loopback(
    engine: Engine, store: ImageStore, name: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "not-on-this-node"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with contextlib.closing(Engine(engine.socket)) as other:
        assert take(other, store, fresh(3000), name).method == "pull"


@pytest.mark.parametrize("tag", ["", ":1"])
def test_an_image_by_digest_arrives_from_its_registry_under_that_name(engine: Engine, store: ImageStore, tag: str) -> None:
    kept = stored(store, fresh(3000))
    with endpoint.Endpoint(load.contents(load.FromStore(store, kept))) as registry:
        pinned = f"{registry.name}{tag}@{kept.manifest_digest}"
        try:
            offer = distribute.publish(engine, store.path, pinned, "1001", within())
            assert (offer["source"], offer["transport"]) == ("registry", "registry")
            engine.untag(f"{registry.name}@{kept.manifest_digest}")
            assert engine.identity(Reference.parse(pinned)) is None
            done = distribute.obtain(engine, offer, within())
            assert (done["method"], done["identity"]) == ("pull", kept.identity.digest)
            assert created(engine, pinned)
        finally:
            engine.untag(f"{registry.name}@{kept.manifest_digest}")


def put(store: ImageStore, name: Reference, image: images.Image) -> str:
    """Put an archive of *image* where the store's plain archives lie, as a person does: the old one is replaced."""
    path = os.path.join(store.path, plain_archive.names(name)[0])
    Path(path + ".new").write_bytes(images.saved_25(image, [str(name)]))
    os.rename(path + ".new", path)
    return path


def test_an_archive_that_was_replaced_is_what_the_daemon_has_then(engine: Engine, store: ImageStore, name: Reference) -> None:
    old, new = (images.dated(fresh(3000), f"{year}-01-01T00:00:00Z") for year in (2001, 2002))
    put(store, name, old)
    assert distribute.publish(engine, store.path, str(name), "site", within())["source"] == "archive"
    assert engine.identity(name) == old.identity
    path = put(store, name, new)
    offer = distribute.publish(engine, store.path, str(name), "site", within())
    assert (offer["identity"], engine.identity(name)) == (new.identity.digest, new.identity)
    assert offer["decision"].endswith(f"that of the archive {path} runs, it is the newest")
    assert "decision" not in distribute.publish(engine, store.path, str(name), "site", within())


@pytest.mark.parametrize("otherwise", [True, False])
def test_a_registry_that_is_out_of_reach_is_declined_where_there_is_another_way(engine: Engine, name: Reference, otherwise: bool) -> None:
    with socket.socket() as nobody:  # it is bound, and does not listen
        nobody.bind(("127.0.0.1", 0))
        pull = f"127.0.0.1:{nobody.getsockname()[1]}/lab/a@sha256:{'ab' * 32}"
        details = {"pull": pull, **({"otherwise": True} if otherwise else {})}
        offer = Offer(name, fresh(9).identity.digest, "registry", details=details).to_dict()
        with pytest.raises(ShareFault if otherwise else Refused, match="dial tcp") as caught:
            distribute.obtain(engine, offer, within())
    assert (caught.value.what == transports.DECLINED) is otherwise
    assert engine.identity(name) is None


def created(engine: Engine, name: str) -> bool:
    """Say whether the daemon makes a container of what it has by that name, and pulls nothing for it."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"}
    words = ["docker", "create", "--pull=never", name, "x"]
    made = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    return made.returncode == 0 and engine.remove(made.stdout.strip())


def test_the_daemon_runs_what_was_pulled(engine: Engine, store: ImageStore, name: Reference) -> None:
    take(engine, store, fresh(3000), name)
    assert created(engine, str(name))


class Written:
    """An image whose documents lie in the store, and whose layers come when a test says so."""

    def __init__(self, store: ImageStore, image: images.Image) -> None:
        self._store, self._image = store, image
        self.stored = store.put_documents(image.config, [Layer(each, each, len(data)) for each, data in zip(image.diff_ids, image.layers)])

    def layer(self, index: int) -> None:
        self._store.put_layer([self._image.layers[index]])

    def supply(self, seconds: float = 120) -> load.FromStore:
        return load.FromStore(self._store, self.stored, Deadline(seconds))


class Asked(load.FromStore):
    """Says which layer a daemon has come for before it is there."""

    asked: List[threading.Event]

    def content(self, layer: Layer) -> endpoint.Content:
        index = [each.digest for each in self.stored.layers].index(layer.digest)
        return _Told(super().content(layer), self.asked[index])  # type: ignore[return-value]


class _Told:
    def __init__(self, content: Any, asked: threading.Event) -> None:
        self._content, self._asked = content, asked

    def __getattr__(self, name: str) -> Any:
        if name == "is_ready":
            self._asked.set()
        return getattr(self._content, name)


def test_layers_that_come_while_the_daemon_pulls_arrive_whole(engine: Engine, store: ImageStore, name: Reference) -> None:
    image = fresh(300_000, 400_000, 500_000)
    written, box = Written(store, image), []  # type: ignore[var-annotated]
    supply = Asked(store, written.stored, within())
    object.__setattr__(supply, "asked", [threading.Event() for _ in image.layers])
    pulling = threading.Thread(target=lambda: box.append(load.load(engine, supply, name, within())))
    pulling.start()
    for index in range(3):
        assert supply.asked[index].wait(60)
        written.layer(index)
    pulling.join()
    assert [(each.method, each.layers) for each in box] == [("pull", 3)]
    assert engine.identity(name) == image.identity
    assert loopback(engine) == []


def test_a_blob_that_never_comes_is_named_and_leaves_nothing(engine: Engine, store: ImageStore, name: Reference) -> None:
    image = fresh(3000, 4000)
    written = Written(store, image)
    written.layer(0)
    with pytest.raises(ShareFault) as caught:
        load.load(engine, written.supply(3), name, within())
    assert image.diff_ids[1] in str(caught.value)
    assert (engine.inspect(str(name)), loopback(engine)) == (None, [])


def test_a_pull_that_is_dropped_for_another_offer_leaves_no_name_and_the_other_one_is_taken(
    engine: Engine, store: ImageStore, name: Reference
) -> None:
    # What a withdrawn offer and a leader that was killed in the middle of a layer look like to a member: its child is killed.
    written, image = Written(store, fresh(300_000, 400_000)), fresh(5000)
    written.layer(0)
    supply = Asked(store, written.stored, within())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        object.__setattr__(supply, "asked", [threading.Event() for _ in range(2)])
        threading.Thread(target=lambda: supply.asked[1].wait(60) and os.write(writer, b"x")).start()
        load.load(Engine(engine.socket), supply, name, within())
        os._exit(0)
    assert os.read(reader, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (engine.inspect(str(name)), loopback(engine)) == (None, [])
    assert take(engine, store, image, name).method == "pull"
    assert engine.identity(name) == image.identity
