# SPDX-License-Identifier: GPL-3.0-or-later
"""What is packed comes back as it was, in small pieces; a program that is missing or fails is a fault and never an end."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import compression, digests
from helpers.images import pieces
from hypothesis import given, settings
from hypothesis import strategies as st

DATA = st.binary(max_size=5000)
SIZES = st.integers(1, 700)
KINDS = [kind for kind in (compression.NONE, compression.GZIP, compression.ZSTD) if compression.can(kind)]


@settings(max_examples=15, deadline=None)
@given(DATA, SIZES, st.sampled_from(KINDS))
def test_what_is_packed_comes_back_as_it_was(data: bytes, size: int, kind: str) -> None:
    packed = b"".join(compression.compressed(pieces(data, size), kind))
    assert packed == b"".join(compression.compressed(pieces(data, size + 1), kind))
    assert b"".join(compression.inflated(pieces(packed, size), kind)) == data
    assert compression.guess(packed) == kind or (kind == compression.NONE)


@given(DATA, DATA, SIZES)
def test_gzip_members_in_a_row_are_one_stream(one: bytes, two: bytes, size: int) -> None:
    assert b"".join(compression.inflated(pieces(gzip.compress(one) + gzip.compress(two), size), "gzip")) == one + two


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != compression.NONE])
def test_what_is_small_packed_and_large_inside_comes_in_small_pieces(kind: str) -> None:
    bomb = b"".join(compression.compressed(iter([bytes(1 << 20)] * 32), kind))
    assert len(bomb) < 1 << 20
    assert max(map(len, compression.inflated([bomb], kind))) <= digests.CHUNK_BYTES
    assert sum(map(len, compression.inflated([bomb], kind))) == 32 << 20


@given(DATA, st.data())
def test_a_cut_gzip_stream_is_a_fault(data: bytes, draw: st.DataObject) -> None:
    packed = gzip.compress(data)
    with pytest.raises(ShareFault):
        list(compression.inflated([packed[: draw.draw(st.integers(0, len(packed) - 1))]], "gzip"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != compression.NONE])
def test_what_is_packed_otherwise_or_cut_off_is_a_fault(kind: str) -> None:
    with pytest.raises(ShareFault, match="compression: "):
        list(compression.inflated([b"plain text"], kind))
    packed = b"".join(compression.compressed([bytes(range(256)) * 100], kind))
    with pytest.raises(ShareFault, match="compression: "):
        list(compression.inflated([packed[:-3]], kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_the_bytes_comes_before_the_packed_end(kind: str) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ShareFault("layer: digest differs", "publish the image again")

    with pytest.raises(ShareFault, match="digest differs"):
        list(compression.compressed(failing(), kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != compression.NONE])
def test_a_reader_that_stops_early_leaves_no_process(kind: str) -> None:
    noise = Path("/dev/urandom").open("rb")  # noqa: SIM115  endless
    with noise:
        stream = compression.compressed(digests.chunks_of(noise), kind)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    me = str(Path("/proc/self").resolve().name)
    children = subprocess.run(["ps", "--ppid", me, "-o", "comm="], check=False, capture_output=True, text=True).stdout.split()
    assert not {"zstd", "gzip", "pigz"} & set(children)


def test_a_missing_program_is_known_before_and_named(tmp_path: Path) -> None:
    assert not compression.can("zstd", str(tmp_path))
    assert compression.can("none", str(tmp_path))
    with pytest.raises(ShareFault, match="no program"):
        compression.compressed([b""], "zstd", str(tmp_path))
    with pytest.raises(ShareFault, match="install zstd"):
        compression.inflated([b""], "zstd", str(tmp_path))


def test_the_first_of_several_programs_that_is_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "gzip").symlink_to(str(shutil.which("gzip")))
    assert gzip.decompress(b"".join(compression.compressed([b"text"], "gzip", str(tmp_path)))) == b"text"


def test_oci_and_docker_media_types_are_known() -> None:
    assert compression.kind_of(compression.PLAIN_TYPE) == "none"
    assert compression.kind_of("application/vnd.docker.image.rootfs.diff.tar.gzip") == "gzip"
    assert compression.kind_of("application/vnd.oci.image.layer.v1.tar+zstd") == "zstd"
    assert compression.kind_of("application/vnd.oci.image.layer.nondistributable.v1.tar") is None
    for kind in ("none", "gzip", "zstd"):
        assert compression.kind_of(compression.media_type_of(kind)) == kind
