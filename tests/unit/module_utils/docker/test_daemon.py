# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is believed of a daemon without the SDK. That it answers, or not, is in the tests of who asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.docker import daemon


def test_containerd_is_looked_for_where_it_was_moved_to(tmp_path: Path) -> None:
    assert daemon.containerd_root(str(tmp_path / "none")) == "/var/lib/containerd"
    config = tmp_path / "config.toml"
    config.write_text('version = 2\n# root = "/old"\n[plugins]\n')
    assert daemon.containerd_root(str(config)) == "/var/lib/containerd"
    config.write_text('version = 2\n# root = "/old"\nroot = "/data/containerd"\n[plugins]\n  root = "/other"\n')
    assert daemon.containerd_root(str(config)) == "/data/containerd"


@pytest.mark.parametrize(("is_there", "is_containerd_store", "wanted"), [(True, True, "/moved"), (True, False, "/d"), (False, True, "/d")])
def test_images_lie_with_the_node_s_containerd_if_docker_has_found_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool, is_containerd_store: bool, wanted: str
) -> None:
    monkeypatch.setattr(daemon, "_CONTAINERD_SOCKET", str(tmp_path if is_there else tmp_path / "none"))
    monkeypatch.setattr(daemon, "containerd_root", lambda: "/moved")
    assert daemon.Info("26.1.5", "overlayfs", "/d", is_containerd_store).data_dir == wanted
