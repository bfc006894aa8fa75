# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a broadcast does with pieces; what an image makes of it is in test_transport.py."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path
from typing import Iterable, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import sbcast
from hypothesis import given
from hypothesis import strategies as st

STRIPE = sbcast.STRIPE


@pytest.fixture
def bin_path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def answering(folder: Path, script: str) -> str:
    """Put an sbcast into *folder* and return the PATH to find it."""
    (folder / "sbcast").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "sbcast").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def planned(folder: Path, script: str, nodes: int) -> sbcast.Plan:
    return sbcast.plan(nodes, Deadline(30), answering(folder, script))


@given(size=st.integers(1, 7 * STRIPE), pieces=st.integers(1, 5), chunk=st.integers(1, 3 * STRIPE))
def test_what_was_cut_is_joined_again(tmp_path_factory: pytest.TempPathFactory, size: int, pieces: int, chunk: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    names = cut([data[at : at + chunk] for at in range(0, size, chunk)], tmp_path_factory.mktemp("cut"), pieces)
    striped = sbcast.Striped(tuple(names))
    assert b"".join(striped.chunks(0, size)) == data
    start, stop = size // 3, size - size // 5
    assert b"".join(striped.chunks(start, stop)) == sent(striped, start, stop) == data[start:stop]
    assert (striped.has(size), striped.has(size + 1)) == (True, False)
    assert len(names) == min(pieces, -(-size // STRIPE))
    sizes = [os.path.getsize(name) for name in names]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= STRIPE


def sent(striped: sbcast.Striped, start: int, stop: int) -> bytes:
    """Return what comes out of a socket."""
    ours, theirs = socket.socketpair()
    box: List[bytes] = []
    with ours, theirs, theirs.makefile("rb") as stream:
        reader = threading.Thread(target=lambda: box.append(stream.read()))
        reader.start()
        striped.send(ours, [(start, stop)])
        ours.shutdown(socket.SHUT_WR)
        reader.join()
    return box[0]


def cut(chunks: Iterable[bytes], folder: Path, pieces: int) -> List[str]:
    return sbcast.cut(chunks, str(folder), pieces)


def test_pieces_are_nobody_elses_to_read(tmp_path: Path) -> None:
    (piece,) = cut([b"x"], tmp_path, 1)
    assert os.stat(piece).st_mode & 0o777 == 0o600


def test_what_lies_in_a_pieces_place_is_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "piece.0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ShareFault, match=r"cannot write .*File exists.*look at this node's disk"):
        cut([b"x"], tmp_path, 1)
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(STRIPE)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ShareFault, match=r"No space left.*free space on this node"):
        cut(chunks(), tmp_path, 1)


def test_a_piece_that_is_missing_is_named_and_none_of_the_others_is_read(tmp_path: Path) -> None:
    names = cut([bytes(3 * STRIPE)], tmp_path, 3)
    os.unlink(names[2])
    with pytest.raises(ShareFault, match=r"did not arrive .*piece\.2"):
        next(sbcast.Striped(tuple(names)).chunks(0, 1))


@pytest.mark.parametrize("lost", range(3))
def test_a_piece_that_is_too_short_ends_all(tmp_path: Path, lost: int) -> None:
    names = cut([bytes(6 * STRIPE)], tmp_path, 3)
    os.truncate(names[lost], STRIPE + 1)
    striped = sbcast.Striped(tuple(names))
    assert (striped.has(3 * STRIPE), striped.has(6 * STRIPE)) == (True, False)
    assert sum(map(len, striped.chunks(0, 6 * STRIPE))) < 6 * STRIPE


@pytest.mark.parametrize(("nodes", "expected"), [(2, (1, 0)), (3, (16, 1)), (32, (16, 1)), (33, (8, 2)), (1000, (8, 2))])
def test_a_chain_serves_a_few_nodes_and_a_tree_many(bin_path: Path, nodes: int, expected: tuple) -> None:
    found = planned(bin_path, "echo slurm-wlm 24.11.5", nodes)
    assert (found.pieces, found.width) == expected


@pytest.mark.parametrize(
    "script", ["echo slurm 22.05.8", "echo slurm-wlm 24.05.3", "echo slurm", "echo 24.11.5 >&2; exit 1", "exec sleep 60"]
)
def test_an_older_slurm_or_one_that_does_not_say_sends_one_piece_by_its_defaults(bin_path: Path, script: str) -> None:
    within = Deadline(0.1)
    assert sbcast.plan(17, within, answering(bin_path, script)) == sbcast.Plan(1, 0)


def test_where_there_is_no_sbcast_nothing_is_planned_of_it(bin_path: Path) -> None:
    assert sbcast.plan(17, Deadline(30), str(bin_path)) == sbcast.Plan(1, 0)


@pytest.mark.parametrize(("size", "block"), [(1, 128 << 10), (8 << 20, 1 << 20), (1 << 30, 4 << 20)])
def test_a_piece_goes_in_blocks_that_are_small_beside_it_and_never_large(tmp_path: Path, size: int, block: int) -> None:
    with open(tmp_path / "piece", "wb") as stream:
        stream.truncate(size)
    words = sbcast.command(str(tmp_path / "piece"), "/var/tmp/x.0", "7", width=1)
    assert words == ["sbcast", "--force", "--jobid=7", "--treewidth=1", f"--size={block}", str(tmp_path / "piece"), "/var/tmp/x.0"]


def test_all_pieces_are_under_way_at_once(bin_path: Path, tmp_path: Path) -> None:
    # The first waits for the second's word.
    os.mkfifo(tmp_path / "word")
    path = answering(bin_path, f'cp "$5" "$6"; case $6 in *.0) read word <{tmp_path}/word;; *) echo >{tmp_path}/word;; esac')
    names = cut([bytes(2 * STRIPE)], tmp_path, 2)
    sbcast.send(names, str(tmp_path / "target"), "7", Deadline(30), width=1, path=path)
    assert b"".join(sbcast.Striped(tuple(sbcast.targets(str(tmp_path / "target"), 2))).chunks(0, 2 * STRIPE)) == bytes(2 * STRIPE)


def test_when_the_time_is_up_no_sbcast_is_left_running(bin_path: Path, tmp_path: Path) -> None:
    path = answering(bin_path, f"echo $$ >>{tmp_path}/pids; exec sleep 60")
    began = time.monotonic()
    with pytest.raises(ShareFault, match="the time is up"):
        sbcast.send(cut([bytes(2 * STRIPE)], tmp_path, 2), "/nowhere", "7", Deadline(0), path=path)
    assert time.monotonic() - began < 30  # half of what hangs
    for pid in (tmp_path / "pids").read_text().split():
        assert not os.path.exists(f"/proc/{pid}")


def test_one_piece_that_fails_fails_all_with_its_answer(bin_path: Path, tmp_path: Path) -> None:
    path = answering(bin_path, 'case $4 in *.1) echo "error: n3 is down" >&2; exit 1;; esac')
    with pytest.raises(ShareFault, match=r"sbcast failed .*n3 is down"):
        sbcast.send(cut([bytes(3 * STRIPE)], tmp_path, 3), "/nowhere", "7", Deadline(30), path=path)


def test_a_broadcast_that_cannot_enter_the_jobs_namespace_says_what_does_without(bin_path: Path, tmp_path: Path) -> None:
    path = answering(bin_path, 'echo "sbcast: error: REQUEST_FILE_BCAST(n2): Unknown error 255" >&2; exit 255')
    with pytest.raises(ShareFault, match=r"sbcast failed .*set ImageStore, or Transport=registry"):
        sbcast.send(cut([bytes(3)], tmp_path, 1), "/nowhere", "7", Deadline(30), path=path)


# What each release says, and its status, where three nodes are asked for a file below a file; it writes nothing anywhere.
ASKED = {
    "22.05.8": ("REQUEST_FILE_BCAST(n1): Not a directory", "REQUEST_FILE_BCAST(n2): Not a directory", 2),
    "24.11.5": ("REQUEST_FILE_BCAST(n2): Not a directory", "REQUEST_FILE_BCAST(n1): Not a directory", 20),
    "26.05.5": ("REQUEST_FILE_BCAST(n1): Not a directory", "REQUEST_FILE_BCAST(n2): Not a directory", 2),
}


@pytest.mark.parametrize("release", ASKED)
def test_a_node_on_which_a_file_is_missing_is_told_by_how_a_file_below_it_cannot_be_made(bin_path: Path, release: str) -> None:
    first, last, status = ASKED[release]
    said = "".join(f"sbcast: error: {answer}\n" for answer in (first, "REQUEST_FILE_BCAST(n3): No such file or directory", last))
    path = answering(bin_path, f"[ $3 = /gate/x ] && cat >&2 <<'E'\n{said}E\nexit {status}")
    assert sbcast.without(["/gate"], "/any", "7", path) == ["n3"]
    assert sbcast.without(["/other", "/gate"], "/any", "7", path) == ["n3"]


@pytest.mark.parametrize("said", [
    "sbcast: error: REQUEST_FILE_BCAST(n3): Not a directory",
    "sbcast: error: REQUEST_FILE_BCAST(n3): Permission denied",
    "sbcast: error: REQUEST_FILE_BCAST(n3): Unknown error 255",
    "sbcast: error: REQUEST_FILE_BCAST(n3): Communication connection failure",
    "sbcast: error: Can't open `/any`: No such file or directory",
    "",
])  # fmt: skip
def test_no_other_answer_says_that_a_file_is_missing(bin_path: Path, said: str) -> None:
    assert sbcast.without(["/gate"], "/any", "7", answering(bin_path, f"echo '{said}' >&2; exit 1")) == []


def test_where_nobody_can_be_asked_no_node_is_said_to_lack_a_file(bin_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sbcast.without(["/gate"], "/any", "7", str(bin_path)) == []
    monkeypatch.setattr(sbcast, "_LOOK_SECONDS", 0.0)
    assert sbcast.without(["/gate"], "/any", "7", answering(bin_path, "exec sleep 60")) == []
