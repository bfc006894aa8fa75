# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer's reader sees the end of it only if every byte was right."""

from __future__ import annotations

import gzip
import io

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine import layer
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.errors import ShareFault
from helpers.images import digest, pieces
from hypothesis import given
from hypothesis import strategies as st

DATA = st.binary(max_size=5000)
SIZES = st.integers(1, 700)


@given(DATA, SIZES)
def test_the_right_bytes_pass_unchanged(data: bytes, size: int) -> None:
    assert b"".join(layer.verified(pieces(data, size), digest(data), len(data))) == data
    assert b"".join(layer.verified(pieces(data, size), digest(data))) == data
    assert layer.digest_of(pieces(data, size)) == digest(data)


@given(DATA.filter(len), SIZES, st.data())
def test_one_wrong_bit_is_a_fault(data: bytes, size: int, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    with pytest.raises(ShareFault, match="digest differs"):
        list(layer.verified(pieces(wrong, size), digest(data), len(data), "here"))


@given(DATA.filter(len), SIZES, st.data())
def test_a_cut_or_longer_layer_is_a_fault(data: bytes, size: int, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(ShareFault, match="size differs"):
        list(layer.verified(pieces(data[:cut], size), digest(data), len(data)))
    with pytest.raises(ShareFault, match="size differs"):
        list(layer.verified(pieces(data + b"x", size), digest(data), len(data)))


@given(DATA.filter(len), SIZES, st.data())
def test_a_reader_that_proves_the_digest_itself_is_told_of_wrong_sizes(data: bytes, size: int, draw: st.DataObject) -> None:
    assert b"".join(layer.measured(pieces(data, size), digest(data), len(data))) == data
    cut = draw.draw(st.integers(0, len(data) - 1))
    for wrong in (data[:cut], data + b"x"):
        with pytest.raises(ShareFault, match="size differs"):
            list(layer.measured(pieces(wrong, size), digest(data), len(data)))


def test_a_blob_without_end_is_not_read_to_its_end() -> None:
    def endless():
        for _ in range(3):
            yield b"x" * 10
        raise AssertionError("read on and on")

    with pytest.raises(ShareFault, match="size differs"):
        list(layer.verified(endless(), digest(b""), 25))


@given(DATA, DATA, SIZES)
def test_gzip_members_in_a_row_are_one_stream(one: bytes, two: bytes, size: int) -> None:
    assert b"".join(layer.inflated(pieces(gzip.compress(one) + gzip.compress(two), size))) == one + two


def test_a_small_gzip_that_is_large_inside_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(32 << 20))
    assert max(map(len, layer.inflated([bomb]))) <= layer.CHUNK_BYTES
    assert sum(map(len, layer.inflated([bomb]))) == 32 << 20


@given(DATA, st.data())
def test_a_cut_gzip_stream_is_a_fault(data: bytes, draw: st.DataObject) -> None:
    packed = gzip.compress(data)
    with pytest.raises(ShareFault):
        list(layer.inflated([packed[: draw.draw(st.integers(0, len(packed) - 1))]]))


def test_what_is_no_gzip_is_a_fault() -> None:
    with pytest.raises(ShareFault, match="not a gzip stream"):
        list(layer.inflated([b"plain text"]))


def test_a_file_comes_in_bounded_pieces() -> None:
    data = bytes(layer.CHUNK_BYTES + 7)
    assert list(map(len, layer.chunks_of(io.BytesIO(data)))) == [layer.CHUNK_BYTES, 7]


def test_oci_and_docker_media_types_are_known() -> None:
    assert layer.is_known(layer.PLAIN)
    assert layer.is_known("application/vnd.docker.image.rootfs.diff.tar.gzip")
    assert layer.is_gzip(layer.GZIP)
    assert not layer.is_gzip(layer.PLAIN)
    assert not layer.is_known("application/vnd.oci.image.layer.v1.tar+zstd")
