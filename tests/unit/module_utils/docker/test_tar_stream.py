# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar of anybody's is read as Python reads it, but in memory of bounded size; what is malformed is named."""

from __future__ import annotations

import io
import tarfile
from typing import Any, Iterator, List, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker.tar_stream import TarStream
from helpers import images
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=300)


def read(data: bytes, size: int = 700) -> List[Tuple[str, bytes, str]]:
    stream = TarStream(images.pieces(data, size))
    return [(each.name, b"".join(stream.chunks()), each.target) for each in stream.members()]


def made(members: Any, form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@given(st.lists(st.tuples(NAMES, st.binary(max_size=2000), NAMES), max_size=6), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_files_and_links_are_read_as_python_reads_them(members: Any, form: int) -> None:
    given_members = [(name, data, tarfile.REGTYPE, "") for name, data, _target in members]
    given_members += [(name, b"", kind, target) for name, _data, target in members for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)]
    data = made(given_members, form)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        wanted = [(each.name, "" if each.isreg() else each.linkname) for each in archive]
    found = read(data)
    assert [(name.rstrip("/"), target) for name, _data, target in found] == [(name.rstrip("/"), target) for name, target in wanted]
    assert [content for _name, content, _target in found[: len(members)]] == [content for _name, content, _target in members]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read(kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 3 << 30
    taken = 0

    def holes() -> Iterator[bytes]:
        nonlocal taken
        yield info.tobuf(tarfile.GNU_FORMAT)
        while True:
            taken += 1 << 20
            yield bytes(1 << 20)

    with pytest.raises(JobFault, match="a header is too long"):
        list(TarStream(holes()).members())
    assert taken == 0


def test_headers_without_end_are_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 0
    with pytest.raises(JobFault, match="too many headers"):
        read(info.tobuf(tarfile.GNU_FORMAT) * 100)


@pytest.mark.parametrize("record", [b"x", b"9999 a=b\n", b"3 a", b"18 size=99999999999", b"12 size=-10\n"])
def test_a_malformed_pax_header_is_named(record: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    data = info.tobuf(tarfile.GNU_FORMAT) + record + bytes(-len(record) % 512) + images.tar({"a": b"b"})
    with pytest.raises(ShareFault, match="cut off or damaged"):
        read(data)


@given(st.integers(0, 5000))
def test_every_truncation_is_whole_or_a_named_fault(cut: int) -> None:
    data = made([("a" * 200, b"x" * 700, tarfile.REGTYPE, ""), ("b", b"", tarfile.SYMTYPE, "c" * 150)], tarfile.PAX_FORMAT)
    whole = read(data)
    try:
        assert read(data[:cut]) == whole[: len(read(data[:cut]))]
    except Fault:
        return
