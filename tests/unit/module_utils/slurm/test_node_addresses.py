# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where SLURM was told addresses, the nodes of a job use them; where it was not, names have to do."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import node_addresses, slurm_conf

CONF = """\
ClusterName=c
NodeName=DEFAULT CPUs=4 NodeAddr=ignored
NodeName=n[1-3] NodeAddr=10.0.0.[11-13] CPUs=4
nodename=login NodeHostname=l1 \\
  NODEADDR=192.0.2.9 # by hand
NodeName=plain CPUs=2
NodeName=six NodeAddr=fd00::6
NodeName=odd[1-3] NodeAddr=10.1.0.[1-2]
# NodeName=n1 NodeAddr=192.0.2.1
"""


@pytest.mark.parametrize(("node", "address"), [
    ("n1", "10.0.0.11"), ("n3", "10.0.0.13"), ("login", "192.0.2.9"), ("six", "fd00::6"),
    ("plain", None), ("odd1", None), ("unknown", None),
])  # fmt: skip
def test_a_node_is_reached_where_slurm_was_told_so(tmp_path: Path, node: str, address: str) -> None:
    (tmp_path / "slurm.conf").write_text(CONF)
    assert node_addresses.of(str(tmp_path / "slurm.conf"), [node]).get(node) == address


def test_files_that_are_included_count_and_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("Include nodes.conf\ninclude slurm.conf\ninclude absent.conf\n")
    (tmp_path / "nodes.conf").write_text(f"Include {tmp_path}/slurm.conf\nNodeName=a NodeAddr=10.0.0.1\n")
    assert node_addresses.of(str(tmp_path / "slurm.conf"), ["a", "b"]) == {"a": "10.0.0.1"}


def test_a_link_is_followed_and_names_without_a_directory_are_beside_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/slurm.conf").write_text("Include nodes.conf\n")
    (tmp_path / "shared/other.conf").write_text("NodeName=a NodeAddr=10.0.0.1\n")
    (tmp_path / "slurm.conf").symlink_to("shared/slurm.conf")
    (tmp_path / "nodes.conf").symlink_to("shared/other.conf")
    assert node_addresses.of(str(tmp_path / "slurm.conf"), ["a"]) == {"a": "10.0.0.1"}


@pytest.mark.parametrize("path", ["", "/nonexistent/slurm.conf", "/proc", "/dev/zero"])
def test_what_cannot_be_read_says_nothing(path: str) -> None:
    assert node_addresses.of(path, ["n1"]) == {}


def test_the_example_is_true() -> None:
    assert doctest.testmod(slurm_conf).failed == 0


def test_what_slurmd_was_sent_comes_before_what_was_installed(tmp_path: Path) -> None:
    sent, installed, own = (tmp_path / name for name in ("sent.conf", "installed.conf", "opt/etc/slurm.conf"))
    own.parent.mkdir(parents=True)
    found = []
    for path in (installed, own, sent):
        found.append(node_addresses.conf_file(f"{tmp_path}/opt/", str(sent), str(installed)))
        path.touch()
    found.append(node_addresses.conf_file(f"{tmp_path}/opt", str(sent), str(installed)))
    assert found == [str(installed), str(installed), str(own), str(sent)]


# As 24.11.5 prints a node that came up with ``slurmd -Z``, shortened.
DYNAMIC = "NodeName=d1 Arch=x86_64 NodeAddr=10.7.0.1 NodeHostName=rack7 Version=24.11.5 State=IDLE+DYNAMIC_NORM"


def scontrol(folder: Path, text: str) -> str:
    (folder / "bin").mkdir()
    (folder / "bin/scontrol").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "bin/scontrol").chmod(0o755)
    return str(folder)


def test_of_nodes_that_are_in_no_file_the_controller_is_asked_once_for_all(tmp_path: Path) -> None:
    script = f'echo "$SLURM_CONF $*" >>{tmp_path}/asked; echo "{DYNAMIC}"; echo "{DYNAMIC}" | sed s/d1/d2/; echo "Node d3 not found"'
    slurm_dir = scontrol(tmp_path, script)
    assert node_addresses.asked(["d1", "d3"], "/etc/slurm/slurm.conf", slurm_dir) == {"d1": "10.7.0.1"}
    assert (tmp_path / "asked").read_text() == "/etc/slurm/slurm.conf --oneliner show node d1,d3\n"


@pytest.mark.parametrize("text", ["echo 'Unable to contact slurm controller' >&2; exit 1", "exec sleep 60", "echo NodeName=d1 State=DOWN"])
def test_a_controller_that_does_not_say_costs_a_moment_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(node_addresses, "_ASK_SECONDS", 0.2)
    assert node_addresses.asked(["d1"], "", scontrol(tmp_path, text)) == {}
