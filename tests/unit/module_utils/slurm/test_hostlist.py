# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host lists: what SLURM expands, we expand alike; what is none is the job's fault, shown, and quickly refused."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from typing import Any, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import hostlist
from hypothesis import given, settings
from hypothesis import strategies as st

# Recorded: `scontrol show hostnames` of Slurm 24.11.5 (Debian 13).
ORACLE = {
    "n1": "n1",
    "n[08-10],login1": "n08 n09 n10 login1",
    "n[1-3,5,7-8]": "n1 n2 n3 n5 n7 n8",
    "n[001-003]": "n001 n002 n003",
    "n[9-11]": "n9 n10 n11",
    "n[09-11]": "n09 n10 n11",
    "n[098-102]": "n098 n099 n100 n101 n102",
    "n[00-1]": "n00 n01",
    "n[0-0]": "n0",
    "n[0001-10]": "n0001 n0002 n0003 n0004 n0005 n0006 n0007 n0008 n0009 n0010",
    "dev[0-1,00-01]": "dev0 dev1 dev00 dev01",
    "n[00000000000000000001-00000000000000000002]": "n00000000000000000001 n00000000000000000002",
    "n1[01-02]": "n101 n102",
    "[1-3]": "1 2 3",
    "a,b,a": "a b a",
    "n[1-2],n[2-3]": "n1 n2 n2 n3",
    "x-1,x-2": "x-1 x-2",
    "n[1-3]suffix": "n1suffix n2suffix n3suffix",
    "gpu-a100-[1-2].cluster.local": "gpu-a100-1.cluster.local gpu-a100-2.cluster.local",
    "rack[1-2]n[1-3]": "rack1n1 rack1n2 rack1n3 rack2n1 rack2n2 rack2n3",
    "rack[01-02]-n[3-4]x": "rack01-n3x rack01-n4x rack02-n3x rack02-n4x",
    "r[1-2][3,4]": "r13 r14 r23 r24",
    # With three and more brackets the last runs fastest, then the first, then the second.
    "n[1-2][3-4][5-6]": "n135 n136 n235 n236 n145 n146 n245 n246",
    "a[1-2]b[3-4]c[5-6]d": "a1b3c5d a1b3c6d a2b3c5d a2b3c6d a1b4c5d a1b4c6d a2b4c5d a2b4c6d",
    "[1-2]x[3-4]x[5-6]x[7-8]": "1x3x5x7 1x3x5x8 2x3x5x7 2x3x5x8 1x4x5x7 1x4x5x8 2x4x5x7 2x4x5x8"
    " 1x3x6x7 1x3x6x8 2x3x6x7 2x3x6x8 1x4x6x7 1x4x6x8 2x4x6x7 2x4x6x8",
}
REFUSED_BY_BOTH = ["", "n[3-1]", "n[1-2", "n[]", "n[1,]", "n[a-b]", "n[10-9]", "n[1-2-3]"]
# SLURM forgives these when a person types them; it never writes them.
REFUSED_BY_US = [",n1", "n1,", "n1,,n2", " n1", "n1, n2", "n1]", "n[1 -2]", "n1\n", "n[[1]]", "n;reboot", "$(x)", "n/../1", "ñ1", "n١"]

NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,6}", fullmatch=True)
WIDTHS = st.integers(1, 6)


@pytest.mark.parametrize("text", ORACLE)
def test_expansion_is_slurm_s(text: str) -> None:
    assert hostlist.expand(text) == ORACLE[text].split()


@pytest.mark.skipif(not shutil.which("scontrol"), reason="no Slurm on this machine; its answers are recorded above")
def test_the_recorded_answers_are_this_machine_s_slurm_s_too() -> None:
    for text, names in ORACLE.items():
        answer = subprocess.run(["scontrol", "show", "hostnames", text], capture_output=True, text=True, check=True)
        assert (text, answer.stdout.split()) == (text, names.split())


@pytest.mark.parametrize("text", REFUSED_BY_BOTH + REFUSED_BY_US)
def test_what_is_no_host_list_is_refused_with_the_faulty_part(text: str) -> None:
    with pytest.raises(JobFault, match="hostlist: not a host list") as raised:
        hostlist.expand(text)
    assert str(raised.value.seen["part"]) in text


@settings(deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(NAMES, min_size=1, max_size=5))
def test_lists_add_up(first: List[str], second: List[str]) -> None:
    one, other = ",".join(first), ",".join(second)
    assert hostlist.expand(f"{one},{other}") == hostlist.expand(one) + hostlist.expand(other) == first + second


@settings(deadline=None)
@given(NAMES, st.integers(0, 2000), st.integers(0, 50), WIDTHS)
def test_a_range_is_its_numbers_in_order_with_their_padding(name: str, low: int, size: int, width: int) -> None:
    text = f"{name}[{low:0{width}}-{low + size:0{width}}]"
    assert hostlist.expand(text) == [f"{name}{number:0{width}}" for number in range(low, low + size + 1)]


@settings(deadline=None)
@given(st.text(alphabet="n0123456789-[],. \n\0", max_size=30))
def test_any_text_is_a_list_of_names_or_a_fault(text: str) -> None:
    try:
        names = hostlist.expand(text)
    except JobFault:
        return
    assert names
    assert all(name.strip("n0123456789-.") == "" and name for name in names)


BUILT_TO_HURT = {
    "range": "n[0-99999999]",
    "product": "n[1-1000][1-1000]",
    "digits": "n[" + "9" * 5000 + "]",
    "end": "n[1-" + "9" * 30 + "]",
    "ranges": "n[" + ",".join(["0-99999"] * 2000) + "]",
    "parts": ",".join(["n[0-60000]"] * 2000),
    "brackets": "[" * 100_000,
}


@pytest.mark.parametrize("text", BUILT_TO_HURT.values(), ids=BUILT_TO_HURT)
def test_a_list_that_is_built_to_hurt_is_refused_after_few_steps(text: str) -> None:
    steps = 0

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        with pytest.raises(JobFault):
            hostlist.expand(text)
    finally:
        sys.settrace(before)
    assert steps < 20 * hostlist._MOST_HOSTS


def test_the_largest_allocation_is_none_of_those() -> None:
    assert len(hostlist.expand("n[00000-65535]")) == 65536


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(hostlist).failed == 0


FOLDABLE = st.from_regex(r"[a-z]{1,3}[0-9]{0,4}(-ib[0-9]?)?", fullmatch=True)


@given(st.sets(FOLDABLE, min_size=1, max_size=30))
def test_folding_is_undone_by_expanding(names: set[str]) -> None:
    assert sorted(hostlist.expand(hostlist.fold(names))) == sorted(names)


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["n9", "n10", "n11"], "n[9-11]"),
        (["n07", "n08", "n10"], "n[07-08,10]"),
        (["n1"], "n1"),
        (["a", "b"], "a,b"),
        (["r1-n2", "r1-n3", "r2-n2"], "r1-n[2-3],r2-n2"),
        (["n1", "n1"], "n1"),
    ],
)
def test_names_are_folded_as_slurm_writes_them(names: List[str], folded: str) -> None:
    assert hostlist.fold(names) == folded
