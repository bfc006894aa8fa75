# SPDX-License-Identifier: GPL-3.0-or-later
"""A filesystem whose server takes every question and answers none, as a dead NFS server or a user's own FUSE program does.

It is a real mount: who asks is in uninterruptible sleep, and no signal ends it before the server does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator

_INIT_OUT = struct.pack("<IIIIHHI", 7, 31, 65536, 0, 12, 10, 65536) + bytes(36)
_MNT_DETACH = 2


def is_possible() -> bool:
    return os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)


@contextlib.contextmanager
def deaf(path: Path, uid: int = 0) -> Iterator[Callable[[], bytes]]:
    """Mount it on the directory *path*, as *uid*'s; give what waits until somebody has asked, who cannot be ended from then on."""
    words = [sys.executable, "-m", "helpers.fuse", str(path), str(uid)]
    server = subprocess.Popen(words, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"mounted\n"
    try:
        yield server.stdout.readline
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stdout.close()
        ctypes.CDLL(None).umount2(os.fsencode(path), _MNT_DETACH)


def _serve(path: str, uid: int) -> None:
    handle = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={handle},rootmode=40000,user_id={uid},group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"deaf", os.fsencode(path), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    (unique,) = struct.unpack_from("<8xQ", os.read(handle, 1 << 17))
    os.write(handle, struct.pack("<IiQ", 16 + len(_INIT_OUT), 0, unique) + _INIT_OUT)
    print("mounted", flush=True)
    while True:
        os.read(handle, 1 << 17)
        print("asked", flush=True)  # a question that was read is one that its asker cannot take back


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
