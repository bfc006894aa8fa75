# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine, through the Docker SDK for Python.

The SDK is imported when the first question is asked: that takes some 150 ms, and most runs of a hook ask none. All of
the SDK's and its libraries' errors become faults in one place, `_mapped`.

Source: Docker Engine API v1.41 (``GET /_ping`` and its ``Api-Version``); Docker SDK 5.0.3 (Debian 12) and 7.1 (Debian 13).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
from functools import partial
from typing import Any, Callable, Dict, Generator, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ..core import files
from ..core.errors import Fault, NodeFault, Part
from ..oci.image import Identity, Reference, chain_ids
from . import containers
from .answers import Refused, fault_of, follow, is_hung_up, or_none, readable
from .daemon import Info

SOCKET = "/var/run/docker.sock"
_CHUNK_BYTES = 1 << 20
_LONGEST_TEXT = 1 << 20
_LARGEST_CONFIG = 1 << 20
_LONGEST_HEAD = 16 << 10
_API_VERSION = re.compile(rb"\r\nApi-Version: *(1\.[0-9]{1,3})(?=\r\n|\Z)", re.IGNORECASE)
_NOWHERE = "/dev/null/none"
_ENVIRONMENT = threading.Lock()  # of two threads that change it at once, the second would put back what the first had put there


def preload() -> None:
    """Import the SDK now, without a word to any daemon, so that a forked child need not; harmless if there is none."""
    with contextlib.suppress(ImportError):
        import docker  # noqa: F401


class Engine:
    """One Docker daemon. Making one does nothing; each process that uses it gets its own connection.

    :param socket: the path of the daemon's socket, or a URL as in ``DOCKER_HOST``.
    :param timeout_seconds: for an answer to a short question; saving, loading and pulling say their own.
    """

    def __init__(self, socket: str = SOCKET, timeout_seconds: float = 30.0) -> None:
        self.socket, self.timeout_seconds = socket, timeout_seconds
        self._connected: Optional[Tuple[int, Any]] = None

    def inspect(self, name: str) -> Optional[Dict[str, Any]]:
        """Return ``docker image inspect``'s document of *name*, or None if the daemon has no such image."""
        with self._mapped("inspect", image=name) as client:
            document: Optional[Dict[str, Any]] = or_none(lambda: client.inspect_image(name))
        return document

    def identity(self, reference: Reference) -> Optional[Identity]:
        """Return what *reference* is on this daemon, or None if it is not there."""
        document = self.inspect(str(reference))
        return None if document is None else Identity.of_inspect(document)

    def info(self) -> Info:
        """Return the daemon's version and how it stores images."""
        with self._mapped("info") as client:
            return Info.of(client.info())

    def layers_held(self, diff_ids: Sequence[str], is_containerd_store: bool) -> Set[str]:
        """Return which of *diff_ids* an archive for this daemon may leave out, as far as its images tell.

        The classic store knows a layer only on top of all the layers below it; the containerd store by its blob, which
        may be compressed and so another one: there the answer is a guess that the loading proves.
        """
        held: Set[str] = set()
        depth = 0
        for layers in self._layers_of_all():
            held.update(layers)
            depth = max(depth, _common(layers, diff_ids))
        if is_containerd_store:
            return held & set(diff_ids)
        return set(diff_ids[:depth]) - set(diff_ids[depth:])

    def chains(self) -> List[str]:
        """Return the chain ids of all layers that an archive for this daemon may surely leave out, each once.

        The containerd store knows a layer by its blob, which nobody else can name: there it is none.
        """
        if self.info().is_containerd_store:
            return []
        return list(dict.fromkeys(chain for layers in self._layers_of_all() for chain in chain_ids(layers)))

    def save(self, name: str, timeout_seconds: float) -> Iterator[bytes]:
        """Give ``docker save``'s archive of *name*, piece by piece."""
        with self._mapped("save", timeout_seconds, image=name) as client:
            yield from client.get_image(name, chunk_size=_CHUNK_BYTES)

    def load(self, chunks: Iterable[bytes], timeout_seconds: float) -> None:
        """Hand the daemon an archive, as ``docker load`` does.

        :raises Refused: it did not like it, for instance since a layer that was left out is not there.
        :raises Fault: what *chunks* itself raised; the daemon has no new image then.
        """
        try:
            with self._mapped("load", timeout_seconds) as client:
                # requests before 2.29 (Debian 12) takes an empty piece for the end of the body.
                follow(client.load_image(filter(None, readable(chunks)), quiet=True), "load")
        except NodeFault as fault:
            # A daemon that answers early, or stops reading behind the end of the archive, hangs up on our last words.
            if not is_hung_up(fault.__cause__) or not self._is_alive():
                raise
            raise Refused("engine: docker load was cut short", "read the daemon's log", socket=self.socket) from fault

    def pull(self, reference: Reference, timeout_seconds: float, has_login: bool = True) -> None:
        """Fetch *reference* from its registry, with the acting user's own credentials, or as anybody where they cannot be used.

        :param has_login: False where no credentials are wanted; then the user's Docker configuration is not asked for any.
        :raises Refused: the registry has no such image, wants another login, or cannot be reached.
        """
        login = credentials(reference.name) if has_login else {}
        with self._mapped("pull", timeout_seconds, image=str(reference)) as client:
            answers = client.pull(reference.name, tag=reference.digest or reference.tag, stream=True, decode=True, auth_config=login)
            follow(answers, "pull", str(reference))

    def registry_has(self, reference: Reference, timeout_seconds: float) -> str:
        """Ask the registry for *reference*, with the acting user's own credentials; return "" if it has it, or why not."""
        try:
            with self._mapped("inspect in registry", min(timeout_seconds, self.timeout_seconds), image=str(reference)) as client:
                client.inspect_distribution(reference.full, auth_config=credentials(reference.name))
        except (Refused, NodeFault) as fault:  # the daemon lives, or the next question will tell
            return str(fault.seen.get("answer") or fault)
        return ""

    def untag(self, name: str) -> bool:
        """Take the name *name* from its image, and remove the image if that was its last; say whether it was there."""
        with self._mapped("untag", image=name) as client:
            return or_none(lambda: client.remove_image(name) or True) is not None

    def names(self, pattern: str) -> List[str]:
        """Return all names of those images of which one matches *pattern*, those by tag and those by digest, each once.

        :param pattern: a repository, in which a ``*`` stands for anything but a slash; the daemon compares it. Listing all images
            takes the containerd store some 30 ms and more, as it adds up the sizes of them all.
        """
        with self._mapped("list images") as client:
            found = client.images(filters={"reference": pattern})
        names = (name for each in found for key in ("RepoTags", "RepoDigests") for name in each.get(key) or ())
        return list(dict.fromkeys(names))

    def tag(self, name: str, reference: Reference) -> None:
        """Give the image *name* the further name *reference*."""
        with self._mapped("tag", image=name) as client:
            client.tag(name, reference.name, reference.tag, force=True)

    def containers_of(self, job_id: str, is_job: Callable[[str], bool] = lambda job_id: True) -> List[Dict[str, str]]:
        """Return the containers of a job, as `containers.is_of` tells them, each as `containers.summary` has it."""
        with self._mapped("containers", job=job_id) as client:

            def inspect(container_id: str) -> Mapping[str, Any]:
                return or_none(lambda: client.inspect_container(container_id)) or {}

            found = client.containers(all=True)
            return [containers.summary(each) for each in found if containers.is_of(each, partial(inspect, each["Id"]), job_id, is_job)]

    def stop(self, container_id: str, grace_seconds: int = 10) -> bool:
        """Stop a container: SIGTERM, then SIGKILL after the grace; say whether it was there."""
        with self._mapped("stop", self.timeout_seconds + grace_seconds, container=container_id) as client:
            return or_none(lambda: client.stop(container_id, timeout=grace_seconds) or True) is not None

    def remove(self, container_id: str) -> bool:
        """Kill and remove a container with its anonymous volumes; say whether it was there."""
        with self._mapped("remove", container=container_id) as client:
            return or_none(lambda: client.remove_container(container_id, v=True, force=True) or True) is not None

    def container(self, container_id: str) -> Optional[Dict[str, Any]]:
        """Return ``docker inspect``'s document of a container by id or name, or None if there is none."""
        with self._mapped("inspect", container=container_id) as client:
            document: Optional[Dict[str, Any]] = or_none(lambda: client.inspect_container(container_id))
        return document

    def files_in(self, container_id: str, path: str) -> Generator[bytes, None, None]:
        """Give *path* of a container, running or not, as a tar; nothing if it is not there."""
        with self._mapped("copy", container=container_id, path=path) as client:
            answer = or_none(lambda: client.get_archive(container_id, path), (404, 409))
            yield from answer[0] if answer else ()

    def top(self, container_id: str) -> str:
        """Return the container's processes as ``ps`` shows them; empty if it does not run."""
        with self._mapped("top", container=container_id) as client:
            table = or_none(lambda: client.top(container_id), (404, 409)) or {}
        rows = [table.get("Titles") or [], *(table.get("Processes") or [])]
        return "\n".join("  ".join(map(str, row)) for row in rows)[:_LONGEST_TEXT]

    def logs(self, container_id: str, lines: int = 100) -> str:
        """Return the end of a container's output, both streams."""
        with self._mapped("logs", container=container_id) as client:
            data = or_none(lambda: client.logs(container_id, tail=lines), (404, 409)) or b""
        return str(data[-_LONGEST_TEXT:].decode("utf-8", "replace"))

    def close(self) -> None:
        """Let go of the connection; a later question makes a new one."""
        if self._connected is not None:
            self._connected[1].close()
            self._connected = None

    def _is_alive(self) -> bool:
        self.close()
        with contextlib.suppress(Fault):
            return bool(self.info())
        return False

    def _layers_of_all(self) -> Iterator[Tuple[str, ...]]:
        # Not those that are only a step on the way to another: that one has all their layers.
        with self._mapped("list images") as client:
            for image_id in client.images(quiet=True):
                document = or_none(partial(client.inspect_image, image_id)) or {}
                yield tuple((document.get("RootFS") or {}).get("Layers") or ())

    def _client(self) -> Any:
        if self._connected is None or self._connected[0] != os.getpid():
            url = self.socket if "://" in self.socket else f"unix://{self.socket}"
            version = _spoken(url[len("unix://") :], self.timeout_seconds) if url.startswith("unix://") else "auto"
            self._connected = (os.getpid(), _sdk_client(url, version, self.timeout_seconds))
        return self._connected[1]

    @contextlib.contextmanager
    def _mapped(self, doing: str, timeout_seconds: Optional[float] = None, **seen: object) -> Iterator[Any]:
        """Give the SDK's client; turn every foreign error of the block into a fault."""
        try:
            client = self._client()
            client.timeout = max(1.0, timeout_seconds or self.timeout_seconds)
            yield client
        except (Fault, GeneratorExit):
            raise
        except ImportError as error:
            raise NodeFault("engine: no Docker SDK", "install python3-docker", part=Part.DOCKER, error=str(error)) from error
        except Exception as error:
            fault = fault_of(error, doing, {**seen, "socket": self.socket})
            if fault is None:
                raise
            raise fault from error


def _sdk_client(url: str, version: str, timeout_seconds: float) -> Any:
    """Return the SDK's client of a daemon, to which nobody's configuration is a word: no proxy, no ``.netrc``, no headers of a user's."""
    import docker

    class Client(docker.APIClient):  # type: ignore[misc]
        trust_env = property(lambda self: False, lambda self, value: None)

    with _environment(DOCKER_CONFIG=_NOWHERE, HOME=_NOWHERE):
        return Client(base_url=url, version=version, timeout=timeout_seconds)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    with _ENVIRONMENT:
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def logins() -> Dict[str, Any]:
    """Return the logins of the acting user's Docker configuration, as they stand there, and nothing else of it.

    :raises Fault: it cannot be read, or is larger than `_LARGEST_CONFIG`.
    :raises ValueError: it is no JSON object.
    """
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    known = json.loads(files.read(os.path.realpath(os.path.join(folder, "config.json")), _LARGEST_CONFIG))
    if not isinstance(known, dict):
        raise ValueError("not an object")
    return {key: known[key] for key in ("auths", "credsStore", "credHelpers") if known.get(key)}


def credentials(name: str) -> Dict[str, str]:
    """Return what the acting user's Docker configuration holds for the registry of *name*; empty if it cannot be used.

    The file is the user's: it is read no further than `_LARGEST_CONFIG`, only its logins count, and a helper that this
    node lacks, or that fails, is no login.
    """
    try:
        from docker import auth

        wanted = logins()
        if not wanted:  # the SDK would look for a file of its own
            return {}
        registry, _path = auth.resolve_repository_name(name)
        found = auth.load_config(config_dict=wanted).resolve_authconfig(registry) or {}
        return {str(key): str(value) for key, value in found.items() if value}
    except Exception:  # whatever a user's file makes of the SDK
        return {}


def _spoken(path: str, timeout_seconds: float) -> str:
    """Return the version of the API that the daemon speaks, or ``auto`` where it does not say, so that the SDK asks ``/version``.

    That question has the daemon start two programs. And if nobody listens, the system's own error is clearer than the SDK's, and
    comes without its import.
    """
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(timeout_seconds)
        peer.connect(path)
        peer.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
        answer = peer.recv(_LONGEST_HEAD)
    found = _API_VERSION.search(answer.partition(b"\r\n\r\n")[0])
    return found[1].decode() if found and answer.split(None, 2)[1:2] == [b"200"] else "auto"


def _common(layers: Sequence[str], diff_ids: Sequence[str]) -> int:
    depth = 0
    while depth < min(len(layers), len(diff_ids)) and layers[depth] == diff_ids[depth]:
        depth += 1
    return depth
