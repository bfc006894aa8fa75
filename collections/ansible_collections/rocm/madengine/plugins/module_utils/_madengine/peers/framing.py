# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines between two ends that share a secret: JSON, bounded, numbered, and sealed under a key of this connection alone.

A sealed line is one JSON object whose last two members are its number ``n`` and its ``mac``, the HMAC-SHA256 of the
object without ``mac``, byte for byte as it was sent, so that nothing has to be brought into a canonical form.

Source: RFC 2104 (HMAC), RFC 8259 (JSON).
"""

from __future__ import annotations

import hmac
import json
import secrets
from typing import Any, Dict, Iterator, Tuple

LONGEST_LINE = 8192  # bytes, with its newline
MOST_IMAGES = 256
VERSION = 1

_MAC = b',"mac":"'
_SEAL_BYTES = len(_MAC) + 64 + len(b'"}')


class BadLine(ValueError):
    """What came is no line of ours: the connection is worth nothing from here on."""


class Lines:
    """Bytes in, as the network cuts them; whole lines out."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each line that is whole now, without its newline.

        :raises BadLine: a line is too long; what was yielded before stands.
        """
        self._rest += data
        while True:
            end = self._rest.find(b"\n")
            if end >= LONGEST_LINE or (end < 0 and len(self._rest) >= LONGEST_LINE):
                raise BadLine("too long")
            if end < 0:
                return
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            yield line


class Channel:
    """The sealed part of a connection, seen from one end.

    :param sending: the key of the lines that this end sends; *receiving*, of those that it gets.
    """

    def __init__(self, sending: bytes, receiving: bytes) -> None:
        self._sending, self._receiving = sending, receiving
        self._sent = self._received = 0

    def sign(self, name: str, **fields: Any) -> bytes:
        """Return the next line to send.

        :raises ValueError: it would be longer than `LONGEST_LINE`, or *fields* do not fit into JSON.
        """
        text = _text({"line": name, **fields, "n": self._sent})
        mac = hmac.digest(self._sending, text, "sha256").hex().encode()
        line = b"".join((text[:-1], _MAC, mac, b'"}\n'))
        if len(line) > LONGEST_LINE:
            raise ValueError(f"a line of {len(line)} bytes")
        self._sent += 1
        return line

    def open(self, line: bytes) -> Dict[str, Any]:
        """Return what *line* says.

        :raises BadLine: it was not sent by the other end of this connection, or not as its next line.
        """
        if line[-_SEAL_BYTES : 8 - _SEAL_BYTES] != _MAC or line[-2:] != b'"}':
            raise BadLine("no seal")
        text = line[:-_SEAL_BYTES] + b"}"
        mac = hmac.digest(self._receiving, text, "sha256").hex().encode()
        if not hmac.compare_digest(mac, line[8 - _SEAL_BYTES : -2]):
            raise BadLine("wrong seal")
        document = parse(text)
        if number(document, "n", 0, 1 << 40) != self._received:
            raise BadLine("out of order")
        self._received += 1
        return document


def plain(name: str, **fields: Any) -> bytes:
    """Return a line without a seal: the CHALLENGE, which comes before there is a key."""
    return _text({"line": name, **fields}) + b"\n"


def parse(line: bytes) -> Dict[str, Any]:
    """Return the object in *line*, which anybody may have sent.

    :raises BadLine: it is no JSON object, or is built to hurt (nested too deep, numbers too long).
    """
    try:
        document = json.loads(line.decode("ascii"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BadLine("no JSON") from None
    if not isinstance(document, dict):
        raise BadLine("no object")
    return document


def number(document: Dict[str, Any], name: str, low: int, high: int) -> int:
    """Return the integer *name* of *document*.

    :raises BadLine: it is missing, of another type (a bool is), or outside *low* … *high*.
    """
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadLine(f"{name} is no number between {low} and {high}")
    return value


def seconds(document: Dict[str, Any], name: str, most: float) -> float:
    """Return the time *name* of *document*, cut to *most*.

    :raises BadLine: it is missing, no number, or negative.
    """
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise BadLine(f"{name} is no time")
    return float(min(value, most))


def text(document: Dict[str, Any], name: str, longest: int) -> str:
    """Return the string *name* of *document*.

    :raises BadLine: it is missing, of another type, empty or longer than *longest*.
    """
    value = document.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BadLine(f"{name} is no text of 1 to {longest} characters")
    return value


def nonce() -> str:
    """Return a number that was never used before, as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def session(secret: bytes, *facts: object) -> Tuple[bytes, bytes]:
    """Return this connection's two keys: of the lines that the leader sends, and of those that the member sends.

    :param facts: all that both ends must agree upon; whoever knows another value gets another key.
    """
    context = _text([VERSION, *facts])
    return hmac.digest(secret, b"leader " + context, "sha256"), hmac.digest(secret, b"member " + context, "sha256")


def _text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _refuse(constant: str) -> object:
    raise ValueError(constant)
