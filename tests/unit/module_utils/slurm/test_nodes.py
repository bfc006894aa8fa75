# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's nodes: who is reached by which name, and who does not count because no job starts there."""

from __future__ import annotations

from typing import List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import nodes

# As 24.11.5 prints them, shortened.
TEXT = """\
NodeName=n1 Arch=x86_64 CoresPerSocket=2 NodeAddr=10.0.0.1 NodeHostName=rack1-1 Version=24.11.5 State=IDLE ThreadsPerCore=1
NodeName=n2 CPUAlloc=0 NodeAddr=n2.site.example NodeHostName=n2 State=IDLE+DRAIN+NOT_RESPONDING ThreadsPerCore=1 Reason=disk State=bad
NodeName=n3 NodeAddr=n3 NodeHostName=n3 State=MIXED+DRAIN ThreadsPerCore=1
NodeName=cloud7 NodeAddr=cloud7 NodeHostName=cloud7 State=IDLE+CLOUD+POWERED_DOWN ThreadsPerCore=1

"""


def beyond(*hosts: str, absent: List[str] = []) -> List[str]:  # noqa: B006
    return [node.name for node in nodes.beyond(nodes.parse(TEXT), hosts, absent)]


def test_a_node_is_reached_by_any_of_its_names() -> None:
    assert beyond("n1", "n2", "n3", "cloud7") == []
    assert beyond("rack1-1.site.example", "N2", "n3.other", "cloud7") == []
    assert beyond("10.0.0.1", "n2.site.example") == ["n3", "cloud7"]


def test_an_address_is_no_name_with_a_domain() -> None:
    assert beyond("10.0.0.2", "10") == ["n1", "n2", "n3", "cloud7"]


def test_nodes_that_are_left_out_on_purpose_are_named_as_slurm_names_them() -> None:
    assert beyond("n1", absent=["n[2-3]", "cloud[1-9]"]) == []
    with pytest.raises(JobFault):
        beyond("n1", absent=["n[2-"])


@pytest.mark.parametrize(("state", "in_use"), [
    ("IDLE", True), ("ALLOCATED", True), ("MIXED+DRAIN", True), ("ALLOCATED+DRAIN", True), ("IDLE+MAINT", True), ("IDLE+CLOUD", True),
    ("IDLE*", True), ("UNKNOWN", True), ("IDLE+POWERING_UP", True), ("", True),
    ("DOWN", False), ("DOWN*", False), ("DOWN+DRAIN", False), ("IDLE+DRAIN", False), ("IDLE*+DRAIN", False), ("FUTURE", False),
    ("IDLE+CLOUD+POWERED_DOWN", False), ("IDLE+CLOUD+POWERING_DOWN", False), ("DOWN+NOT_RESPONDING", False),
])  # fmt: skip
def test_a_node_counts_where_a_job_runs_or_may_start(state: str, in_use: bool) -> None:
    (node,) = nodes.parse(f"NodeName=n1 State={state} ThreadsPerCore=1")
    assert node.is_in_use() is in_use


def test_the_first_of_a_key_counts_for_a_reason_is_anybodys_text() -> None:
    assert nodes.parse(TEXT)[1].states == ("IDLE", "DRAIN", "NOT_RESPONDING")
