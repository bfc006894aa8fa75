# SPDX-License-Identifier: GPL-3.0-or-later
"""A pattern is for the names that it would be if it were one, and no pattern waits in vain without a word."""

from __future__ import annotations

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import patterns
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from hypothesis import given
from hypothesis import strategies as st

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("*", ["debian", "r.io:5000/a/b:1", f"a/b@{DIGEST}"], []),
        ("docker.io/rocm/*", ["rocm/vllm:1.0", "docker.io/rocm/a/b", f"rocm/vllm@{DIGEST}"], ["r.io/rocm/vllm", "rocmx/a", "x/rocm/a"]),
        ("index.docker.io/rocm/*", ["rocm/vllm:1.0"], ["r.io/rocm/vllm"]),
        ("docker.io/*", ["debian", "rocm/vllm"], ["r.io/a", "localhost/a"]),
        ("docker.io/library/*", ["debian:12"], ["rocm/vllm", "r.io/library/debian"]),
        ("library/debian", ["debian", "debian:12"], ["r.io/library/debian", "rocm/debian"]),
        ("debian", ["debian", "debian:12", f"debian@{DIGEST}", "docker.io/library/debian:12"], ["debian-slim", "a/debian", "r.io/debian"]),
        ("docker://debian:12", ["debian:12"], ["debian:13"]),
        ("rocm/vllm:1.*", ["rocm/vllm:1.0"], ["rocm/vllm:2", f"rocm/vllm:1.0@{DIGEST}", f"rocm/vllm@{DIGEST}", "rocm/vllm"]),
        ("rocm/vllm:*", ["rocm/vllm", "rocm/vllm:2", f"rocm/vllm@{DIGEST}"], ["rocm/vllm2"]),
        (f"rocm/vllm@{DIGEST}", [f"rocm/vllm@{DIGEST}", f"rocm/vllm:1@{DIGEST}"], ["rocm/vllm:1", "rocm/vllm@sha256:" + "0" * 64]),
        ("rocm/vllm@sha256:*", [f"rocm/vllm@{DIGEST}"], ["rocm/vllm:1"]),
        ("r.io:5000/*", ["r.io:5000/a:1"], ["r.io/a:1", "r.io:5001/a"]),
        ("*.example.org/*", ["r.example.org/a/b"], ["example.org/a", "docker.io/a"]),
        ("d*", ["debian"], ["rocm/vllm", "quay.io/a"]),
        ("*/vllm*", ["rocm/vllm:1", "r.io/x/vllm-dev"], ["vllm"]),
        ("rocm/[vx]*:[12]", ["rocm/vllm:1", "rocm/x:2"], ["rocm/a:1", "rocm/vllm:3"]),
    ],
)
def test_a_pattern_is_read_as_a_name_is(pattern: str, names: list, others: list) -> None:
    assert {name: patterns.matches(pattern, Reference.parse(name)) for name in [*names, *others]} == {
        **dict.fromkeys(others, False),
        **dict.fromkeys(names, True),
    }
    assert patterns.can_match(pattern)


HOPELESS = "ROCm/vllm|docker.io/ROCm/*|rocm/vllm@sha512:*|rocm/vllm:a b|rocm//vllm|rocm/|a/b:|https://r.io/a|r.io/|a@1.0|rocm\\a|"


@pytest.mark.parametrize("pattern", HOPELESS.split("|"))
def test_a_pattern_that_is_for_no_name_at_all_is_known(pattern: str) -> None:
    assert not patterns.can_match(pattern)


@given(st.from_regex(r"(r\.io(:5000)?/)?[a-z0-9]{1,5}(/[a-z0-9]{1,5})?(:[a-z0-9]{1,5})?", fullmatch=True))
def test_each_name_is_a_pattern_for_itself_in_each_of_its_spellings(name: str) -> None:
    reference = Reference.parse(name)
    for spelling in (name, str(reference), reference.full, reference.name):
        assert patterns.matches(spelling, reference)
        assert patterns.can_match(spelling)
