# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the bytes of a layer's blob are packed: plain, gzip or zstd, and from one to the other while they flow.

The work is done by the programs that every distribution has, on all cores where they can; Python's own zlib, on one, undoes
gzip, so that nothing need be installed to read what a registry has sent. xz and bzip2 are only undone, as ``docker load`` does.

Source: OCI image-spec v1.1, layer.md ("Distributable", "+gzip", "+zstd"); RFC 1952, RFC 8878 (a zstd file may begin with a
skippable frame), the xz file format 1.1 and bzip2's for the first bytes; moby, pkg/archive (``DetectCompression``).
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
import zlib
from typing import IO, Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, cast

from ..core import process
from ..core.errors import ShareFault
from . import digests

NONE, GZIP, ZSTD, XZ, BZIP2 = "none", "gzip", "zstd", "xz", "bzip2"
PLAIN_TYPE = "application/vnd.oci.image.layer.v1.tar"
_DOCKER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
_KINDS = {
    PLAIN_TYPE: NONE,
    PLAIN_TYPE + "+gzip": GZIP,
    PLAIN_TYPE + "+zstd": ZSTD,
    _DOCKER_TYPE: NONE,
    _DOCKER_TYPE + ".gzip": GZIP,
    _DOCKER_TYPE + ".zstd": ZSTD,
}
_FIRST_BYTES = {
    GZIP: re.compile(rb"\x1f\x8b"),
    ZSTD: re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    XZ: re.compile(rb"\xfd7zXZ\0"),
    BZIP2: re.compile(rb"BZh[1-9]\x31\x41\x59\x26\x53\x59"),
}
_MOST_XZ_BYTES = 256 << 20  # of memory: `xz -9` takes a quarter of that to undo
_COMPRESSORS: Dict[str, Tuple[Tuple[str, ...], ...]] = {
    GZIP: (("pigz", "-c", "-n"), ("gzip", "-c", "-n")),
    ZSTD: (("zstd", "-q", "-c", "-T0"),),
}
_UNZSTD = ("zstd", "-q", "-d", "-c")


def kind_of(media_type: str) -> Optional[str]:
    """Return how a layer of this OCI or Docker media type is packed, or None if it is no layer that is known here."""
    return _KINDS.get(media_type)


def media_type_of(kind: str) -> str:
    """Return the OCI media type of a layer that is packed so."""
    return PLAIN_TYPE if kind == NONE else f"{PLAIN_TYPE}+{kind}"


def guess(head: bytes) -> str:
    """Return how a blob that begins with *head* is packed; a tar begins with a file's name."""
    return next((kind for kind, first in _FIRST_BYTES.items() if first.match(head)), NONE)


def can(kind: str, path: str = process.PATH) -> bool:
    """Say whether this node has what it takes to compress so.

    :param path: where programs are searched.
    """
    return kind == NONE or _compressor(kind, path) is not None


def compressed(chunks: Iterable[bytes], kind: str, path: str = process.PATH) -> Iterator[bytes]:
    """Give *chunks* packed as *kind* says; the same bytes and programs give the same blob.

    :raises ShareFault: the program is missing, or failed; or what *chunks* itself raises.
    """
    if kind == NONE:
        return iter(chunks)
    words = _compressor(kind, path)
    if words is None:
        raise ShareFault("compression: no program for it on this node", "install it, or set Compression=none", kind=kind)
    return _through(words, chunks, path)


def inflated(chunks: Iterable[bytes], kind: str, path: str = process.PATH) -> Iterator[bytes]:
    """Give the plain bytes of what is packed as *kind* says, in pieces of bounded size.

    :raises ShareFault: it is something else, or cut off; or the program is missing.
    """
    if kind == GZIP:
        return _gunzipped(chunks)
    if kind in (XZ, BZIP2):
        return _unpacked(chunks, kind)
    if kind == ZSTD and shutil.which(_UNZSTD[0], path=path) is None:
        raise ShareFault("compression: a layer is packed with zstd", "install zstd on this node", program=_UNZSTD[0])
    return _through(_UNZSTD, chunks, path) if kind == ZSTD else iter(chunks)


def _compressor(kind: str, path: str) -> Optional[Sequence[str]]:
    return next((words for words in _COMPRESSORS[kind] if shutil.which(words[0], path=path)), None)


def _through(words: Sequence[str], chunks: Iterable[bytes], path: str) -> Iterator[bytes]:
    """Give what a program makes of *chunks*; it ends when its reader stops early, and a fault of theirs comes before the end."""
    failures: List[BaseException] = []
    with subprocess.Popen(
        words, bufsize=0, env={"PATH": path, "LC_ALL": "C"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        into, out_of = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)  # both are pipes
        feeder = threading.Thread(target=_feed, args=(into, chunks, failures), daemon=True)
        feeder.start()
        try:
            yield from digests.chunks_of(out_of)
            feeder.join()
        except BaseException:
            process.kill()
            raise
    if failures:
        raise failures[0]
    if process.returncode:
        raise ShareFault("compression: the program failed", "publish the image again", program=words[0], status=process.returncode)


def _feed(stream: IO[bytes], chunks: Iterable[bytes], failures: List[BaseException]) -> None:
    with contextlib.suppress(BrokenPipeError), stream:  # the program has ended early; its status says why
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[stream.write(view) :]
        except BrokenPipeError:
            raise
        except BaseException as error:
            failures.append(error)


def _unpacked(chunks: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """Give the plain bytes of an xz or bzip2 file; several streams in a row are one."""
    import bz2
    import lzma

    def fresh() -> Any:
        return bz2.BZ2Decompressor() if kind == BZIP2 else lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_XZ_BYTES)

    inflater = fresh()
    try:
        for chunk in chunks:
            while chunk or not (inflater.eof or inflater.needs_input):
                if inflater.eof and chunk:
                    chunk = chunk.lstrip(b"\0")  # xz pads its streams
                if inflater.eof and chunk:
                    inflater = fresh()
                plain = inflater.decompress(chunk, digests.CHUNK_BYTES) if not inflater.eof else b""
                chunk = inflater.unused_data if inflater.eof and chunk else b""
                if plain:
                    yield plain
    except (OSError, EOFError, lzma.LZMAError) as error:
        remedy = "remove the blob and publish the image again"
        raise ShareFault(f"compression: not a file of {kind}'s", remedy, error=str(error)) from error
    if not inflater.eof:
        raise ShareFault(f"compression: file of {kind}'s ends too soon", "remove the blob and publish the image again")


def _gunzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give the plain bytes of a gzip stream; several members in a row are one stream."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        for chunk in chunks:
            while chunk:
                if inflater.eof:
                    inflater = zlib.decompressobj(wbits=31)
                plain = inflater.decompress(chunk, digests.CHUNK_BYTES)
                chunk = inflater.unconsumed_tail or inflater.unused_data
                if plain:
                    yield plain
        rest = inflater.flush()
    except zlib.error as error:
        raise ShareFault("compression: not a gzip stream", "remove the blob and publish the image again", error=str(error)) from error
    if rest:
        yield rest
    if not inflater.eof:
        raise ShareFault("compression: gzip stream ends too soon", "remove the blob and publish the image again")
