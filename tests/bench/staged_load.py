# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load an archive as ``docker load`` does, and print the seconds from when the daemon has it to when it has unpacked it.

The classic store keeps no blobs, so this is its floor: dockerd stages all of an archive before it unpacks the first layer, and has
read the last byte by then but for what a socket holds.

Source: moby, image/tarexport/load.go (``Load`` unpacks the whole archive into a folder first).
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time


class _Daemon(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")


def main() -> None:
    daemon = _Daemon("docker")
    with open(sys.argv[1], "rb") as archive:
        daemon.putrequest("POST", "/images/load?quiet=1")
        daemon.putheader("Content-Type", "application/x-tar")
        daemon.putheader("Content-Length", str(os.fstat(archive.fileno()).st_size))
        daemon.endheaders()
        daemon.sock.sendfile(archive)
    began = time.monotonic()
    answer = daemon.getresponse()
    if answer.status != http.client.OK or b'"error"' in (words := answer.read()):
        raise SystemExit(f"docker load: {answer.status} {words!r}")
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
