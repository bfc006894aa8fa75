# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several images under one name: which one is meant, by a rule that can be explained, and in words for who wants to know.

A tag says nothing of what it names, and the wrong image gives wrong numbers without a word. The times at which images were made
tell the newer one; images that do not say when (reproducible builds, the epoch) are in no order, and then nobody guesses.

Source: OCI image-spec v1.1, config.md ("created", RFC 3339); ``docker image inspect`` ("Created").
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Sequence, Tuple

from ..core.errors import JobFault

NEWEST, LEADER, FAIL = "newest", "leader", "fail"
POLICIES = (NEWEST, LEADER, FAIL)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?(?:[Zz]|([+-]\d\d:\d\d))")


@dataclass(frozen=True)
class Holder:
    """Who has which image under the name.

    :param who: in words, e.g. ``docker of this node``.
    :param created: when it was made, as it says itself.
    :param named: since when it has the name, in seconds since the epoch; 0 where nobody knows.
    :param objection: why the manifest means another one, or "".
    :param is_recorded: whether it is the very one whose digest the manifest has recorded.
    """

    who: str
    identity: str
    created: str = ""
    named: float = 0.0
    objection: str = ""
    is_recorded: bool = False

    def __str__(self) -> str:
        return f"{self.who} has {self.identity[:19]} ({self.created[:19] or 'no date'})"


def decide(image: str, holders: Sequence[Holder], policy: str, remedy: str) -> Tuple[Holder, str]:
    """Return the holder whose image is meant, and, if they have several, one line that says why it is that one.

    :param holders: at least one; the first is the leader, or who comes first.
    :param remedy: what to do where nothing is decided.
    :raises JobFault: they have several, and *policy* is ``fail`` or cannot put them in an order.

    What the manifest says comes first: an image whose digest it has recorded, and then whatever it does not object to.
    """
    if len({each.identity for each in holders}) == 1:
        return holders[0], ""
    who = "; ".join(map(str, holders))
    recorded = next((each for each in holders if each.is_recorded), None)
    if recorded is not None:
        return recorded, f"several images are called {image}: {who}; that of {recorded.who} runs, the manifest has recorded its digest"
    if policy == LEADER:
        return holders[0], f"several images are called {image}: {who}; that of {holders[0].who} runs, by OnConflict=leader"
    if policy == NEWEST and len({each.identity for each in holders if not each.objection}) == 1:
        meant = next(each for each in holders if not each.objection)
        other = next(each for each in holders if each.identity != meant.identity)
        return meant, f"several images are called {image}: {who}; that of {meant.who} runs, for that of {other.who} {other.objection}"
    holders = [each for each in holders if not each.objection] or holders
    by_age = sorted(holders, key=lambda each: seconds_of(each.created), reverse=True)
    first, second = by_age[0], next(each for each in by_age if each.identity != by_age[0].identity)
    known = all(seconds_of(each.created) > 0 for each in holders)
    if policy == FAIL or not known or seconds_of(first.created) == seconds_of(second.created):
        raise JobFault("image: several images have this name", remedy, image=image, holders=who)
    return first, f"several images are called {image}: {who}; that of {first.who} runs, it is the newest"


def lost(image: str, before: Holder, now: Holder) -> str:
    """Return one line for who had a newer image under the name than the one that has the name now, "" for who had none.

    >>> lost("a:1", Holder("x", "sha256:1", "2026-01-01T00:00:00Z"), Holder("y", "sha256:2", "2026-01-02T00:00:00Z"))
    ''
    """
    if before.identity == now.identity or seconds_of(before.created) <= seconds_of(now.created):
        return ""
    return f"a newer image was called {image} here: {before}; {now}, and that one runs"


def seconds_of(created: str) -> float:
    """Return a time of RFC 3339 in seconds since the epoch, or 0 for what is none or says nothing.

    >>> seconds_of("1970-01-01T01:00:02.5+01:00"), seconds_of("0001-01-01T00:00:00Z"), seconds_of("")
    (2.5, 0.0, 0.0)
    """
    match = _TIME.fullmatch(created)
    if not match:
        return 0.0
    try:
        whole = datetime.datetime.fromisoformat(f"{match[1]}T{match[2]}{match[4] or '+00:00'}").timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, whole + float(match[3] or 0))
