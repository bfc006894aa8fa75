# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A string of ``docker run`` options that ``sh -c`` will read: its words, and what each option means.

The string is never run and never rewritten as a whole: a change touches one value, all else stays as its author wrote it.
Expansions (``$NAME``, ``$(…)``) are kept as such; they are known to be there, not what they will be.

Source: POSIX.1-2017, Shell Command Language, 2.2 Quoting and 2.6 Word Expansions; spf13/pflag, "Command line flag syntax";
``docker run --help`` of 20.10.24 and 28.2.2 (the same flags take values; every flag without one is listed below).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

from ..core.errors import JobFault

# An expansion's characters are moved up to here, so that no ":" or "," in it is taken for the option's own.
_HIDDEN = 0xF0000
_NO_VALUE = frozenset(
    (
        *("detach", "disable-content-trust", "help", "init", "interactive", "no-healthcheck", "oom-kill-disable", "privileged"),
        *("publish-all", "quiet", "read-only", "rm", "sig-proxy", "tty", "use-api-socket"),
    )
)
_SHORT = dict(
    zip(
        "acdehilmPpqtuvw",
        (
            *("attach", "cpu-shares", "detach", "env", "hostname", "interactive", "label", "memory"),
            *("publish-all", "publish", "quiet", "tty", "user", "volume", "workdir"),
        ),
    )
)
_BLANKS = re.compile(r"[ \t]+")
_PLAIN = re.compile(r"[^\s'\"\\$`;|&<>()]+")
# What stands together while lines are joined: a pair with a backslash, plain text, or one character that may open or close.
_JOINING = re.compile(r"\\.|[^'\"\\$`(){}]+|.", re.DOTALL)
_CONTINUED = "\\\n"
_PLAIN_QUOTED = re.compile(r"[^\"\\$`]+")
_NAME = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])\}|([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]))")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_WITHIN = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|[(){}]|[^'\"\\(){}]+", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """A word as sh cuts it: its place, its value with expansions hidden (`shown`), and it with a ``q`` for what is quoted or expanded."""

    start: int
    end: int
    value: str
    bare: str


@dataclass(frozen=True)
class Option:
    """One option: its long name, its value, and where the value stands.

    :ivar name: empty for a word that an expansion begins: it may become any option, or several.
    :ivar value: with expansions hidden; None for an option without a value.
    :ivar start: where the option begins in the string; *end* is behind its value.
    :ivar value_start: where the word with the value begins; *lead* is what that word holds before the value.
    """

    name: str
    value: Optional[str]
    start: int
    end: int
    value_start: int
    lead: str


class Origin:
    """Where a string stands in a document, for faults. The string itself is never shown: it may hold a secret."""

    def __init__(self, where: str, text: str, written: str) -> None:
        self.where, self.text, self.written = where, text, written

    def fault(self, what: str, remedy: str, at: int) -> JobFault:
        """Return a fault at a character of the joined text, told by its place in what was written."""
        flags = re.findall(r"(?<!\S)-[A-Za-z-]+", self.text[:at])
        character = _written_at(self.written, at) + 1
        return JobFault(f"options: {what}", remedy, where=self.where, character=character, after=flags[-1] if flags else "the beginning")


def parse(text: str, where: str = "options") -> List[Option]:
    """Return the options that *text* holds, in its order.

    :param where: how a fault names the string, such as ``built_models.x.additional_docker_run_options``.
    :raises JobFault: a quote is not closed, sh would see an operator or a comment, an option has no value, or a word is no
        option (Docker would take it for the image); the message names the place.

    >>> [(option.name, option.value) for option in parse("-itv /a:/b --rm")]
    [('interactive', None), ('tty', None), ('volume', '/a:/b'), ('rm', None)]
    """
    found: List[Option] = []
    origin, listed = Origin(where, joined(text), text), words(text, where)
    position = 0
    while position < len(listed):
        word, following = listed[position], listed[position + 1] if position + 1 < len(listed) else None
        used = _long(word, following, origin, found) if word.value.startswith("--") else _short(word, following, origin, found)
        position += used
    return found


def words(text: str, where: str = "options") -> List[Word]:
    """Return the words that sh would make of *text*; their places are those in `joined`. Faults as `parse`."""
    origin, at = Origin(where, joined(text), text), 0
    text = origin.text
    found: List[Word] = []
    if any(char == "\0" or ord(char) >= _HIDDEN for char in text):
        raise JobFault("options: a character that no shell takes", "remove it", where=where)
    while True:
        blanks = _BLANKS.match(text, at)
        at = blanks.end() if blanks else at
        if at >= len(text):
            return found
        if text[at] == "#":
            raise origin.fault("sh takes the rest for a comment", "quote the #", at)
        start, value, bare = at, "", ""
        while at < len(text) and not _BLANKS.match(text, at):
            is_bare = text[at] not in "'\"\\`$"
            is_dollar = text[at] == "$"
            piece, at = _piece(text, at, origin)
            value, bare = value + piece, bare + (piece if is_bare or (is_dollar and piece == "$") else "q")
        found.append(Word(start, at, value, bare))


def joined(text: str) -> str:
    """Return *text* with its continued lines made one, as sh does before it cuts words: what is behind may belong to the same word.

    >>> joined("--ipc=host\\\\\\n--rm 'a\\\\\\nb'") == "--ipc=host--rm 'a\\\\\\nb'"
    True
    """
    return "".join(piece for piece in _joining(text) if piece != _CONTINUED) if _CONTINUED in text else text


def trimmed(text: str) -> str:
    """Return *text*, joined, without the blanks around it; a blank behind a backslash is none.

    >>> trimmed(" --name a\\\\  ")
    '--name a\\\\ '
    """
    whole = joined(text).lstrip(" \t")
    bare = whole.rstrip(" \t")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return whole[: len(bare) + backslashes % 2]


def shown(value: str) -> str:
    """Return *value* with its expansions as sh would read them."""
    return "".join(chr(ord(char) - _HIDDEN) if ord(char) >= _HIDDEN else char for char in value)


def hidden(text: str) -> str:
    """Return *text*, an expansion as sh reads it, hidden; see `shown`."""
    return "".join(chr(_HIDDEN + min(ord(char), 0xFFFD)) for char in text)


def has_expansion(value: str) -> bool:
    return any(ord(char) >= _HIDDEN for char in value)


def is_expansion(value: str) -> bool:
    """Say whether all of *value* is what sh expands, and nothing of it a text of its own."""
    return bool(value) and all(ord(char) >= _HIDDEN for char in value)


def expandable(text: str, where: str) -> str:
    """Return *text*, which is no shell word but may hold ``$NAME`` or ``${NAME}``, with these hidden.

    :raises JobFault: it holds another kind of expansion, which would run a command or mean something else.
    """
    value, at = "", 0
    for match in _VARIABLE.finditer(text):
        value += text[at : match.start()] + hidden(f"${{{match.group(1) or match.group(2)}}}")
        at = match.end()
    value += text[at:]
    if "$" in value or "`" in value or "\0" in value or "\n" in value or any(ord(char) >= _HIDDEN for char in text):
        raise JobFault("options: more than a name is to be expanded", "use $NAME or plain text", where=where)
    return value


def quoted(value: str) -> str:
    """Return *value* as one word for sh, in which nothing but the hidden expansions is expanded."""
    if not has_expansion(value) and re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", value):
        return value
    return '"' + shown(re.sub(r'([\\"$`])', r"\\\1", value)) + '"'


def replaced(text: str, changes: List[Tuple[Option, str]]) -> str:
    """Return *text*, joined, with the values of some of its options changed; *changes* are (option, the new value as sh reads it)."""
    text = joined(text)
    for option, value in sorted(changes, key=lambda change: change[0].start, reverse=True):
        text = text[: option.value_start] + option.lead + value + text[option.end :]
    return text


def _long(word: Word, following: Optional[Word], origin: Origin, found: List[Option]) -> int:
    name, equals, value = word.value[2:].partition("=")
    if not name:
        raise origin.fault("a word that is no option", "remove it: Docker would take what follows for the image", word.start)
    if equals:
        found.append(Option(name, value, word.start, word.end, word.start, f"--{name}="))
    elif name in _NO_VALUE:
        found.append(Option(name, None, word.start, word.end, word.end, ""))
    else:
        return _with_following(name, word, following, origin, found)
    return 1


def _short(word: Word, following: Optional[Word], origin: Origin, found: List[Option]) -> int:
    if has_expansion(word.value[:1]):
        found.append(Option("", word.value, word.start, word.end, word.start, ""))
        return 1
    if not word.value.startswith("-") or word.value == "-":
        raise origin.fault("a word that is no option", "quote it, or remove it: Docker would take it for the image", word.start)
    for index, letter in enumerate(word.value[1:], start=1):
        name, rest = _SHORT.get(letter, letter), word.value[index + 1 :]
        if name in _NO_VALUE and not rest.startswith("="):
            found.append(Option(name, None, word.start, word.end, word.end, ""))
        elif not rest:
            return _with_following(name, word, following, origin, found)
        else:
            equals = "=" if rest.startswith("=") else ""
            found.append(Option(name, rest[len(equals) :], word.start, word.end, word.start, word.value[: index + 1] + equals))
            break
    return 1


def _with_following(name: str, word: Word, following: Optional[Word], origin: Origin, found: List[Option]) -> int:
    if following is None:
        raise origin.fault("an option without its value", "give the value, or remove the option", word.start)
    found.append(Option(name, following.value, word.start, following.end, following.start, ""))
    return 2


def has_opaque(text: str, where: str = "options") -> bool:
    """Say whether *text* has a word that an expansion begins, and so may hold options that nobody can know."""
    return any(not option.name for option in parse(text, where))


def _piece(text: str, at: int, origin: Origin) -> Tuple[str, int]:
    """Return the value of the next piece of a word, and where it ends."""
    char = text[at]
    plain = _PLAIN.match(text, at)
    if plain:
        return plain.group(), plain.end()
    if char == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise _unbalanced(origin, at)
        return text[at + 1 : end], end + 1
    if char == '"':
        return _double_quoted(text, at, origin)
    if char == "\\":
        if at + 1 == len(text):
            raise origin.fault("a backslash at the end", "remove it", at)
        if text[at + 1] == "\r":
            raise origin.fault("sh joins no lines that end with a carriage return", "end them with a newline alone", at)
        return text[at + 1], at + 2
    if char in "$`":
        return _expansion(text, at, origin)
    if char.isspace() and char != "\n":
        raise origin.fault("a blank that sh takes for a part of the word", "write a space", at)
    raise origin.fault(f"sh would end the command at {char!r}", "quote the character, or remove it", at)


def _double_quoted(text: str, opening: int, origin: Origin) -> Tuple[str, int]:
    value, at = "", opening + 1
    while at < len(text):
        plain = _PLAIN_QUOTED.match(text, at)
        if plain:
            piece, at = plain.group(), plain.end()
        elif text[at] == '"':
            return value, at + 1
        elif text[at] == "\\":
            piece, at = _escaped_in_quotes(text[at : at + 2]), at + 2
        else:
            piece, at = _expansion(text, at, origin)
        value += piece
    raise _unbalanced(origin, opening)


def _escaped_in_quotes(pair: str) -> str:
    """Inside double quotes a backslash quotes a few characters alone; before any other it is itself."""
    return pair[1:] if pair[1:] in ("$", "`", '"', "\\") else pair


def _expansion(text: str, at: int, origin: Origin) -> Tuple[str, int]:
    name = _NAME.match(text, at)
    if name:
        return hidden(f"${{{name.group(1) or name.group(2)}}}"), name.end()
    if text[at] == "`":
        end = re.compile(r"`(?:\\.|[^`\\])*`", re.DOTALL).match(text, at)
        if end is None:
            raise _unbalanced(origin, at)
        return hidden(end.group()), end.end()
    if text[at + 1 : at + 2] in ("(", "{"):
        end_at = _closing(text, at + 1, origin)
        return hidden(text[at:end_at]), end_at
    return "$", at + 1


def _closing(text: str, opening: int, origin: Origin) -> int:
    """Return what is behind the bracket that closes the one at *opening*."""
    begin, end = text[opening], {"(": ")", "{": "}"}[text[opening]]
    at, depth = opening, 0
    while at < len(text):
        match = _WITHIN.match(text, at)
        if match is None:
            raise _unbalanced(origin, at)
        depth += (match.group() == begin) - (match.group() == end)
        at = match.end()
        if depth == 0:
            return at
    raise _unbalanced(origin, opening)


def _joining(text: str) -> Iterator[str]:
    """Give *text* in pieces; a continued line is one of its own, unless it stands in single quotes and so stays."""
    at, before, inside = 0, "", [""]
    while at < len(text):
        match = _JOINING.match(text, at)
        piece = match.group() if match else text[at]
        if piece == "'" and [mode for mode in inside if mode != "}"][-1] != '"':
            piece = text[at : text.find("'", at + 1) + 1] or text[at:]
        elif piece == inside[-1]:
            inside.pop()
        elif piece in ('"', "`"):
            inside.append(piece)
        elif (piece in ("(", "{") and before == "$") or (piece, inside[-1]) == ("(", ")"):
            inside.append(")" if piece == "(" else "}")
        at, before = at + len(piece), before if piece == _CONTINUED else piece
        yield piece


def _written_at(written: str, joined_at: int) -> int:
    """Return the place in *written* of the character that is at *joined_at* when its lines are joined."""
    at = seen = 0
    for piece in _joining(written):
        if piece != _CONTINUED and seen + len(piece) > joined_at:
            return at + joined_at - seen
        at, seen = at + len(piece), seen + (0 if piece == _CONTINUED else len(piece))
    return at


def _unbalanced(origin: Origin, at: int) -> JobFault:
    return origin.fault("a quote or bracket is not closed", "close it", at)
