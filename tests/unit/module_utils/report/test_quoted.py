# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job wrote is quoted as text that shows as what it is, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import quoted


def test_a_secret_and_a_control_character_are_quoted_as_neither() -> None:
    text = quoted.shown("HF_TOKEN=hf_0123456789abcdefgh \x1b[31m\u202eab")
    assert "hf_0123" not in text
    assert text.isprintable()


@pytest.mark.parametrize("value", [None, "x", 7, 1.5, {"a": 1}, ["b"], "y" * 5000])
def test_any_value_becomes_a_text_of_bounded_length(value: Any) -> None:
    text = quoted.field({"key": value}, "key")
    assert len(text) <= 2000
    assert bool(text) == (value is not None)


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), (True, 0.0), ("3", 0.0), (None, 0.0), (1e30, 0.0), (float("nan"), 0.0)])
def test_what_is_no_number_counts_for_nothing(value: Any, number: float) -> None:
    assert quoted.number(value) == number


def test_of_many_names_the_first_are_said_and_how_many_more_there_are() -> None:
    assert quoted.named(["n1", "n2"]) == "n1, n2"
    assert quoted.named([f"n{number}" for number in range(10)]) == "n0, n1, n2, n3, n4, n5, n6, n7 and 2 more"


def test_only_mappings_are_taken_out_of_a_list_and_nothing_out_of_anything_else() -> None:
    assert quoted.dicts([{"a": 1}, 7, None]) == [{"a": 1}]
    assert quoted.dicts({"a": 1}) == []
