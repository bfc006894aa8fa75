# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words from outside (users, peers, registries, containers) made fit to be shown: one line, or as what they are.

Source: Unicode's general categories, as `str.isprintable` reads them: controls, escapes, direction marks, halves of characters,
private characters and blanks other than the space are not printable.
"""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")


def printable(text: str, instead: str = " ") -> str:
    """Return *text* with *instead* for every character that is not printable; the length stays where *instead* is one character.

    >>> printable("a\\x1b[31mb\\nc\\u202ed"), printable("a/b\\0", "_")
    ('a [31mb c d', 'a/b_')
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else instead for char in text)


def cut(text: str, longest: int) -> str:
    """Return *text*, or its beginning and its end where it is longer: who passes an error on puts words before the cause.

    >>> cut("resolve: request: connection refused", 27), cut("short", 5)
    ('resolve: …onnection refused', 'short')
    """
    head = longest // 3
    return text if len(text) <= longest else text[:head] + "…" + text[head + 1 - longest :]


def visible(text: str, keeps_lines: bool = False) -> str:
    """Return *text* so that it shows as what it is: controls as pictures, direction marks by their number, no colours.

    :param keeps_lines: whether line ends and tabulators stay.

    >>> visible("a\\x1b[31mb\\x1b[0m\\x07\\u202ec"), visible("a\\tb\\nc", keeps_lines=True)
    ('ab␇⟨U+202E⟩c', 'a\\tb\\nc')
    """
    plain = _COLOUR.sub("", text)
    return plain if plain.isprintable() else "".join(_visible(char, keeps_lines) for char in plain)


def _visible(char: str, keeps_lines: bool) -> str:
    if char.isprintable() or (keeps_lines and char in "\n\t"):
        return char
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    return " " if char.isspace() else f"⟨U+{code:04X}⟩"
