# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's name is read as Docker reads it; what an image is does not depend on its name or its store."""

from __future__ import annotations

import contextlib
import json

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import image
from helpers import images
from hypothesis import given
from hypothesis import strategies as st

HEX = "0123456789abcdef" * 4
PART = st.from_regex(r"[a-z0-9]+((_|\.|__|-{1,3})[a-z0-9]+)?", fullmatch=True)
DOMAIN = st.from_regex(r"([a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?\.[a-z]{2,3}|localhost)(:[0-9]{1,5})?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
NAMES = st.builds(
    lambda domain, parts, tag, has_digest: (
        (f"{domain}/" if domain else "") + "/".join(parts) + (f":{tag}" if tag else "") + (f"@sha256:{HEX}" if has_digest else "")
    ),
    st.none() | DOMAIN,
    st.lists(PART, min_size=1, max_size=3),
    st.none() | TAG,
    st.booleans(),
).filter(lambda name: not name.startswith("sha256"))


@pytest.mark.parametrize(
    ("text", "short", "full"),
    [
        ("debian", "debian:latest", "docker.io/library/debian:latest"),
        (" debian:trixie\n", "debian:trixie", "docker.io/library/debian:trixie"),
        ("docker.io/debian", "debian:latest", "docker.io/library/debian:latest"),
        ("index.docker.io/library/debian:1", "debian:1", "docker.io/library/debian:1"),
        ("docker://rocm/vllm:1.0", "rocm/vllm:1.0", "docker.io/rocm/vllm:1.0"),
        ("library/a/b", "library/a/b:latest", "docker.io/library/a/b:latest"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"),
        ("Host/a:1", "Host/a:1", "Host/a:1"),
        ("r.example.org/a/b:V_1.x-2", "r.example.org/a/b:V_1.x-2", "r.example.org/a/b:V_1.x-2"),
        ("[::1]:5000/a:1", "[::1]:5000/a:1", "[::1]:5000/a:1"),
        (f"a@sha256:{HEX}", f"a@sha256:{HEX}", f"docker.io/library/a@sha256:{HEX}"),
        (f"a:1@sha256:{HEX}", f"a:1@sha256:{HEX}", f"docker.io/library/a:1@sha256:{HEX}"),
        ("ci-dummy_dummy.ubuntu.amd", "ci-dummy_dummy.ubuntu.amd:latest", "docker.io/library/ci-dummy_dummy.ubuntu.amd:latest"),
    ],
)
def test_every_spelling_is_read_as_docker_reads_it(text: str, short: str, full: str) -> None:
    reference = image.Reference.parse(text)
    assert (str(reference), reference.full) == (short, full)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "name"),
        ("Debian", "name"),
        ("a//b", "name"),
        ("/a", "name"),
        ("a/", "name"),
        ("../../etc", "registry"),
        ("a b", "name"),
        ("a:", "tag"),
        ("a:" + "x" * 129, "tag"),
        ("a:-x", "tag"),
        ("a:1:2", "name"),
        ("a@sha256:12", "digest"),
        ("a@md5:" + HEX, "digest"),
        (HEX, "name"),
        ("x/" * 127 + "y" * 10, "name"),
        ("-bad.host/a", "registry"),
        ("$(rm).x/a", "registry"),
        ("/path/to/image.tar", "name"),
    ],
)
def test_what_is_no_image_name_is_refused_with_its_part(text: str, part: str) -> None:
    with pytest.raises(JobFault) as caught:
        image.Reference.parse(text)
    assert caught.value.what.endswith(f"look at its {part}")
    assert caught.value.seen["image"] == text


def test_an_image_id_is_no_name() -> None:
    with pytest.raises(JobFault, match="an image id is no name"):
        image.Reference.parse(f"sha256:{HEX}")


@given(NAMES)
def test_a_reference_written_out_is_read_as_the_same(name: str) -> None:
    reference = image.Reference.parse(name)
    assert image.Reference.parse(str(reference)) == reference == image.Reference.parse(reference.full)


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_fault(text: str) -> None:
    with contextlib.suppress(JobFault):
        assert image.Reference.parse(str(image.Reference.parse(text)))


def test_only_a_named_registry_counts_as_one() -> None:
    assert [image.Reference.parse(text).has_registry for text in ("a", "docker.io/a", "r.io/a", "localhost/a")] == [
        False,
        False,
        True,
        True,
    ]


CLASSIC = {
    "Config": {
        "Hostname": "",
        "Env": ["A=b"],
        "Cmd": None,
        "Entrypoint": None,
        "Image": "sha256:x",
        "Labels": {},
        "OnBuild": None,
        "WorkingDir": "",
    },
    "Os": "linux",
    "Architecture": "amd64",
    "RootFS": {"Layers": ["sha256:" + HEX]},
}
CONTAINERD = {
    "Config": {"Env": ["A=b"], "WorkingDir": "/", "Volumes": None},
    "Os": "linux",
    "Architecture": "amd64",
    "RootFS": {"Layers": ["sha256:" + HEX]},
}
BLOB = {
    "config": {"Env": ["A=b"], "StopSignal": ""},
    "os": "linux",
    "architecture": "amd64",
    "rootfs": {"diff_ids": ["sha256:" + HEX]},
    "created": "x",
}


def test_both_stores_and_the_config_blob_tell_the_same_identity() -> None:
    wanted = image.Identity.of_config(BLOB)
    assert image.Identity.of_inspect(CLASSIC) == wanted == image.Identity.of_inspect(CONTAINERD)
    assert image.is_digest(wanted.digest)


@pytest.mark.parametrize(
    "change",
    [
        {"Env": ["A=c"]}, {"Env": ["A=b", "C=d"]}, {"Entrypoint": ["x"]}, {"Cmd": ["x"]}, {"User": "1"}, {"WorkingDir": "/w"},
        {"Labels": {"a": "b"}}, {"Volumes": {"/v": {}}}, {"ExposedPorts": {"80/tcp": {}}}, {"StopSignal": "9"},
        {"Healthcheck": {"Test": ["CMD"]}}, {"OnBuild": ["RUN x"]}, {"Shell": ["/bin/bash"]},
    ],
)  # fmt: skip
def test_whatever_a_container_sees_makes_another_image(change: dict) -> None:
    config = {**BLOB["config"], **change}
    other = image.Identity.of_config({**BLOB, "config": config})
    assert other.digest != image.Identity.of_config(BLOB).digest
    assert other == image.Identity.of_inspect({**CLASSIC, "Config": {**CLASSIC["Config"], **config}})


def test_another_layer_or_another_order_makes_another_image() -> None:
    one, two = images.make(b"a", b"b"), images.make(b"b", b"a")
    assert len({one.identity.digest, two.identity.digest, images.make(b"a").identity.digest}) == 3


def test_an_image_without_layers_or_configuration_has_an_identity() -> None:
    assert image.Identity.of_inspect({"RootFS": {"Layers": None}, "Config": None}).diff_ids == ()


@pytest.mark.parametrize(
    "document",
    [{}, {"rootfs": None}, {"rootfs": {"diff_ids": ["../x"]}}, {"rootfs": {"diff_ids": "sha256:" + HEX}}, {"rootfs": {"diff_ids": [1]}},
     {"rootfs": {}, "config": "x"}, {"rootfs": {}, "config": {"Env": 5}}, {"rootfs": {}, "config": {"Labels": ["x"]}},
     {"rootfs": {"diff_ids": ["sha256:" + HEX] * 1001}}],
)  # fmt: skip
def test_what_is_no_image_config_is_a_fault(document: dict) -> None:
    with pytest.raises(JobFault):
        image.Identity.of_config(document)


def test_chain_ids_name_a_layer_with_all_below_it() -> None:
    base, top = "sha256:" + "0" * 64, "sha256:" + "1" * 64
    chain = image.chain_ids([base, top])
    assert chain[0] == base
    assert chain[1] == image.digest_of(f"{base} {top}".encode())
    assert image.chain_ids([]) == []


def test_the_digest_is_of_the_bytes() -> None:
    assert image.digest_of(json.dumps({}).encode()) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
