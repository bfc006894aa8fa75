# SPDX-License-Identifier: GPL-3.0-or-later
"""Each probe says what it finds, and one that is added to the list is asked."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import container_probes


def test_listening_sockets_are_those_of_the_processs_network() -> None:
    with socket.socket() as one, socket.socket(socket.AF_INET6) as two, socket.socket() as quiet:
        one.bind(("127.0.0.1", 0))
        two.bind(("::1", 0))
        quiet.bind(("127.0.0.1", 0))
        one.listen()
        two.listen()
        lines = container_probes.listening(os.getpid())
        assert f"tcp   127.0.0.1:{one.getsockname()[1]}  uid {os.getuid()}\n" in lines
        assert f"tcp6  [::1]:{two.getsockname()[1]}  uid {os.getuid()}\n" in lines
        assert f":{quiet.getsockname()[1]} " not in lines
    assert container_probes.listening(2**22 + 1) == ""


def test_the_kernels_lines_are_filtered(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text(
        "6,1,1,-;usb 1-1: new device\n3,2,2,-;amdgpu 0000:03:00.0: ring gfx timeout\n3,3,3,-;Out of memory: Killed process 17 (python)\n"
    )
    assert container_probes.kernel_lines(str(path)) == [
        "amdgpu 0000:03:00.0: ring gfx timeout",
        "Out of memory: Killed process 17 (python)",
    ]
    assert container_probes.kernel_lines(str(tmp_path / "missing")) == []
