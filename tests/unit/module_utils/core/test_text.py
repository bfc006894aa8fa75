# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever somebody else wrote is shown as text, and there is one place that makes it so."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import text
from hypothesis import given
from hypothesis import strategies as st

LIBRARY = Path(text.__file__).parent.parent


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(text).failed == 0


@given(st.text())
def test_what_is_shown_is_printable(words: str) -> None:
    assert text.printable(words).isprintable()
    assert len(text.printable(words)) == len(words)
    assert text.visible(words).isprintable()
    assert all(char.isprintable() or char in "\n\t" for char in text.visible(words, keeps_lines=True))


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_what_can_be_shown_is_not_touched(words: str) -> None:
    assert text.printable(words) == text.visible(words) == words


def test_no_other_file_of_the_library_cleans_words_in_its_own_way() -> None:
    cleaning = re.compile(r"(\w+) if \1\.isprintable\(\) else")  # a word that is judged and not changed is another matter
    found = [path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py") if cleaning.search(path.read_text(encoding="utf-8"))]
    assert found == [Path("core/text.py")]
