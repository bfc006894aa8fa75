# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One image for all nodes ahead of their jobs: whose image is meant, and what became of each node.

A tag says nothing of what it names, so nothing is chosen among images that differ: somebody has to say which one is meant.

Source: what the modules image_compare_info, image_save and image_load return; Ansible's results for a host that failed
(``failed``, ``msg``) or was not reached (``unreachable``, ``msg``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..core.errors import JobFault, NodeFault, ShareFault
from ..slurm import hostlist
from . import conflict

STORE = "store"
_NOBODY = "image: nobody has it"  # as `sources.nowhere` says it of a store that is not the publisher's
_UNITS = ("B", "kB", "MB", "GB", "TB")
_HEADINGS = ("node", "had", "loaded", "bytes", "seconds")


@dataclass(frozen=True)
class Look:
    """What a node has under the image's name, and what it sees in the store: identities and when they were made, "" for nothing."""

    local: str = ""
    stored: str = ""
    failure: str = ""
    created_local: str = ""
    created_stored: str = ""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Look:
        """Return the look that a task's *result* shows; an empty one is a host that was never asked."""
        why = _failure(result) or ("" if "local" in result else "no answer")
        if why:
            return cls(failure=why)
        local, stored, *created = (str(result.get(name) or "") for name in ("local", "stored", "created_local", "created_stored"))
        return cls(local, stored, "", *created)


@dataclass(frozen=True)
class Plan:
    """Which image all nodes shall have.

    :param publisher: the host that puts it into the store; "" if it is there.
    :param identity: the image; "" if the publisher has to pull it first.
    :param decision: why it is this one, where several have the name.
    """

    publisher: str
    identity: str
    decision: str = ""


@dataclass(frozen=True)
class Publication:
    """What the publisher did; all empty if nobody had to publish."""

    host: str = ""
    identity: str = ""
    has_moved: bool = False
    layers: int = 0
    size_bytes: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, host: str, result: Mapping[str, Any]) -> Publication:
        if not host or "identity" not in result:
            return cls()
        return cls(
            host,
            str(result.get("identity") or ""),
            bool(result.get("changed")),
            _number(result, "layers_moved"),
            _number(result, "bytes_moved"),
            float(result.get("seconds") or 0),
        )


@dataclass(frozen=True)
class Row:
    """What became of a node: how many of the image's layers it had and loaded, or why it has not got the image.

    :param loaded: -1 where nothing is known before the image is published.
    """

    node: str
    had: int = 0
    loaded: int = 0
    total: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failure: str = ""

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)

    def cells(self) -> Tuple[str, ...]:
        """Return what `_HEADINGS` name behind the node, for a reader."""
        if self.loaded < 0:
            return ("?", "all it lacks", "?", "-")
        had = f"{self.had} of {self.total}" if self.had < self.total else "all"
        return (had, str(self.loaded or "-"), size(self.bytes) if self.bytes else "-", f"{self.seconds:.1f}")


@dataclass(frozen=True)
class Report:
    """The whole distribution of one image.

    :param check_mode: whether this is what would be.
    """

    image: str
    rows: Tuple[Row, ...]
    publication: Publication = Publication()
    check_mode: bool = False

    def headline(self) -> str:
        """Return the one line that says whether all nodes have the image."""
        failed = [row.node for row in self.rows if row.failure]
        good = [row for row in self.rows if not row.failure]
        loaded = [row for row in good if row.loaded]
        had = len(good) - len(loaded)
        if not failed and not loaded:
            return f"{self.image}: all {len(self.rows)} nodes had it; nothing {'would move' if self.check_mode else 'was moved to them'}"
        moved = f": {size(sum(row.bytes for row in loaded))}" if loaded and not self.check_mode else ""
        verb = "would load" if self.check_mode else "loaded"
        told = f"{had} of {len(self.rows)} nodes had it, {len(loaded)} {verb} it{moved}"
        return (
            f"{self.image}: {len(failed)} of {len(self.rows)} nodes fail: {hostlist.listed(failed)}; {told}"
            if failed
            else f"{self.image}: {told}"
        )

    def table(self) -> str:
        """Return the headline, where the image comes from, and a line a node; those that fail come last, where one looks first."""
        wide = max((len(row.node) for row in self.rows), default=0)
        good = [(f"{row.node:<{wide}}", *row.cells()) for row in self.rows if not row.failure]
        lines = [self.headline(), self._origin(), ""]
        lines += _aligned([_HEADINGS, *good]) if good else []
        lines += [f"{row.node:<{max(wide, len(_HEADINGS[0]))}}  FAILED  {row.failure}" for row in self.rows if row.failure]
        return "\n".join(lines)

    def _origin(self) -> str:
        done = self.publication
        if not done.has_moved:
            return "store: held it already"
        if self.check_mode:
            return f"store: {done.host} would publish {_layers(done.layers) if done.identity else 'what it would pull'}"
        return f"store: {done.host} published {_layers(done.layers)}, {size(done.size_bytes)}, in {done.seconds:.1f} s"


def plan(image: str, looks: Mapping[str, Look], source: str = "", pull: bool = False, on_conflict: str = conflict.NEWEST) -> Plan:
    """Return which image all nodes shall have, and who publishes it.

    :param looks: by host, in the play's order.
    :param source: the host whose image is meant, or `STORE`; "" where all who have it must have the same.
    :param pull: whether one may pull it where nobody has it.
    :param on_conflict: one of `conflict.POLICIES`, for several images of this name; ``leader`` is the first host that has one.
    :raises JobFault: nobody has it, the source does not, or there are several and it cannot be decided.
    :raises ShareFault: the nodes look into different stores.
    :raises NodeFault: no node has answered.
    """
    answered = {host: look for host, look in looks.items() if not look.failure}
    if not answered:
        reason = next((look.failure for look in looks.values()), "there is no node")
        raise NodeFault("distribution: no node answers", "look at the first of them", nodes=len(looks), said=reason)
    stored = _stored(answered)
    if source:
        return _of_source(image, looks, source, stored)
    found = _holders(answered, stored)
    if not found and not pull:
        remedy = "build or load it on one node; or set image_distribute_pull to pull it"
        raise JobFault("distribution: no node has the image, nor has the store", remedy, image=image)
    if not found:
        return Plan(next(iter(answered)), "")
    holders = [conflict.Holder(hostlist.listed(hosts), each, _created(answered, each)) for each, hosts in found.items()]
    chosen, decision = conflict.decide(image, holders, on_conflict, "say whose is meant: image_distribute_source=<host>, or store")
    return Plan("" if stored == chosen.identity else found[chosen.identity][0], chosen.identity, decision)


def row(host: str, identity: str, look: Mapping[str, Any], load: Mapping[str, Any], publisher: str = "", check_mode: bool = False) -> Row:
    """Return what became of *host*, given the results of its tasks.

    :param identity: the image that all nodes shall have, "" if not known.
    :param load: a loop's result too; nothing if check mode could not look, because the image is not in the store yet.
    :param publisher: the host that has put the image into the store just now.
    """
    load = (load.get("results") or [load])[0]
    why = Look.of(look).failure or _failure(load)
    if why:
        return Row(host, failure=_unshared(load, publisher) or why)
    if "layers_total" not in load:
        return _foreseen(host, identity, look) if check_mode else Row(host, failure="no answer")
    if identity and load.get("identity") != identity:
        return Row(
            host, failure=f"the store gave it another image ({load.get('identity')}): somebody has published meanwhile; run this again"
        )
    total, moved = _number(load, "layers_total"), _number(load, "layers_moved")
    # An image may be loaded although no layer moves: its name and configuration are new. That is no "had it".
    is_new = bool(load.get("changed"))
    return Row(host, total - moved, moved or int(is_new), total, _number(load, "bytes_moved"), float(load.get("seconds") or 0))


def size(count: int) -> str:
    """Return *count* bytes for a reader.

    >>> size(1300000000)
    '1.3 GB'
    """
    value, unit = float(count), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def _of_source(image: str, looks: Mapping[str, Look], source: str, stored: str) -> Plan:
    if source == STORE:
        if not stored:
            raise JobFault("distribution: the store does not have the image", "name a host that has it", image=image)
        return Plan("", stored)
    if source not in looks:
        raise JobFault("distribution: the source is none of the play's hosts", "name one of them, or store", source=source)
    look = looks[source]
    if look.failure or not look.local:
        raise JobFault(
            "distribution: the source does not have the image", "name a host that has it", source=source, image=image, said=look.failure
        )
    return Plan("" if look.local == stored else source, look.local)


def _created(looks: Mapping[str, Look], identity: str) -> str:
    """Return when the image was made, as those say who have it; the latest, should they not agree."""
    told = [look.created_local for look in looks.values() if look.local == identity]
    told += [look.created_stored for look in looks.values() if look.stored == identity]
    return max(told, key=conflict.seconds_of, default="")


def _stored(looks: Mapping[str, Look]) -> str:
    seen = {look.stored: host for host, look in looks.items() if look.stored}
    if len(seen) > 1:
        nodes = ",".join(seen.values())
        raise ShareFault("distribution: nodes see different images in the store", "mount the same share on all of them", nodes=nodes)
    return next(iter(seen), "")


def _holders(looks: Mapping[str, Look], stored: str) -> Dict[str, List[str]]:
    """Return who has which image, the store among them."""
    found: Dict[str, List[str]] = {}
    for host, look in looks.items():
        if look.local:
            found.setdefault(look.local, []).append(host)
    if stored:
        found.setdefault(stored, []).append(STORE)
    return found


def _foreseen(host: str, identity: str, look: Mapping[str, Any]) -> Row:
    """Return what would become of *host* once the image is in the store."""
    count = _number(look, "layers_local")
    return Row(host, had=count, total=count) if identity and look["local"] == identity else Row(host, loaded=-1)


def _failure(result: Mapping[str, Any]) -> str:
    if not result.get("failed") and not result.get("unreachable"):
        return ""
    return " ".join(str(result.get("msg") or "no reason given").split())


def _unshared(load: Mapping[str, Any], publisher: str) -> str:
    """Return the reason of a node that does not see in its store what has just been published there; "" if it is another."""
    fault = load.get("fault")
    if not publisher or not isinstance(fault, Mapping) or fault.get("what") != _NOBODY:
        return ""
    return f"does not see what {publisher} has just put into the store; mount the share on this node, or leave the node out"


def _number(result: Mapping[str, Any], name: str) -> int:
    return int(result.get(name) or 0)


def _layers(count: int) -> str:
    return f"{count} layer" + "s" * (count != 1)


def _aligned(rows: Sequence[Tuple[str, ...]]) -> List[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
