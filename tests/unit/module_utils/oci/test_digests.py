# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer's reader sees the end of it only if every byte was right."""

from __future__ import annotations

import io

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import digests
from helpers.images import digest, pieces
from hypothesis import given
from hypothesis import strategies as st

DATA = st.binary(max_size=5000)
SIZES = st.integers(1, 700)


@given(DATA, SIZES)
def test_the_right_bytes_pass_unchanged(data: bytes, size: int) -> None:
    assert b"".join(digests.verified(pieces(data, size), digest(data), len(data))) == data
    assert b"".join(digests.verified(pieces(data, size), digest(data))) == data
    assert digests.digest_of(pieces(data, size)) == digest(data)


@given(DATA.filter(len), SIZES, st.data())
def test_one_wrong_bit_is_a_fault(data: bytes, size: int, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    with pytest.raises(ShareFault, match="digest differs"):
        list(digests.verified(pieces(wrong, size), digest(data), len(data), "here"))


@given(DATA.filter(len), SIZES, st.data())
def test_a_cut_or_longer_layer_is_a_fault(data: bytes, size: int, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(ShareFault, match="size differs"):
        list(digests.verified(pieces(data[:cut], size), digest(data), len(data)))
    with pytest.raises(ShareFault, match="size differs"):
        list(digests.verified(pieces(data + b"x", size), digest(data), len(data)))


@given(DATA.filter(len), SIZES, st.data())
def test_a_reader_that_proves_the_digest_itself_is_told_of_wrong_sizes(data: bytes, size: int, draw: st.DataObject) -> None:
    assert b"".join(digests.measured(pieces(data, size), digest(data), len(data))) == data
    cut = draw.draw(st.integers(0, len(data) - 1))
    for wrong in (data[:cut], data + b"x"):
        with pytest.raises(ShareFault, match="size differs"):
            list(digests.measured(pieces(wrong, size), digest(data), len(data)))


def test_a_blob_without_end_is_not_read_to_its_end() -> None:
    def endless():
        for _ in range(3):
            yield b"x" * 10
        raise AssertionError("read on and on")

    with pytest.raises(ShareFault, match="size differs"):
        list(digests.verified(endless(), digest(b""), 25))


def test_a_file_comes_in_bounded_pieces() -> None:
    data = bytes(digests.CHUNK_BYTES + 7)
    assert list(map(len, digests.chunks_of(io.BytesIO(data)))) == [digests.CHUNK_BYTES, 7]
