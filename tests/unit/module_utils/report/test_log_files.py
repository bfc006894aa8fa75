# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of logs are read within bounds, from whatever is given as one."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Iterator, List

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import log_files
from helpers import containers
from hypothesis import given
from hypothesis import strategies as st


def test_the_newest_logs_are_taken(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{number}.log"
        path.write_text("x")
        os.utime(path, (number + 1, number + 1))
    assert [Path(path).name for path in log_files.newest_logs(str(tmp_path), 3)] == ["19.log", "18.log", "17.log"]


@given(st.binary(max_size=3000))
def test_no_archive_makes_it_fail(data: bytes) -> None:
    list(log_files.logs_in([data], 10))
    good = containers.packed(a_log="1\n2\n")
    assert list(log_files.logs_in([good[:700] + data], 10)) is not None


def test_only_so_much_of_an_archive_is_read() -> None:
    given_out: List[int] = []

    def endless() -> Iterator[bytes]:
        yield containers.packed(a_log="1\n")[:1024]
        model = tarfile.TarInfo("model.bin")
        model.size = 1 << 40
        yield model.tobuf()
        while len(given_out) < 1000:
            given_out.append(1)
            yield b"\1" * 65536

    assert [path for path, _ in log_files.logs_in(endless(), 5, at_most_bytes=1 << 20)] == ["a.log"]
    assert len(given_out) <= 17


def test_the_tail_of_a_large_file_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"y\n" * (2 << 20) + "\xfcber\n".encode("latin-1") + b"end")
    assert log_files.tail(str(path), 2) == "\ufffdber\nend"
