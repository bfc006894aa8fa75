# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CSVs of a collection directory that may be a job's result, each with its score or the reason why it cannot be.

A collection directory holds ``node_<rank>/`` with that node's files and ``node.json`` (see `collect`). All of it is
written by the job's user, so every name, number and document in it is input like any other.

Source: results.md, "Gather" and "Choose".
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import stat
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from ..core import files
from ..core.errors import Fault, JobFault
from . import cells, csv_score, provenance
from .csv_score import Score, plain

NODE_FACTS = "node.json"
LEDGER = "madengine's own ledger"
_NO_SUCH_NODE = "the job has no such node"
LARGEST_FACTS = 1 << 20  # of one node; a job of a thousand nodes is read on each of them
LARGEST_CSV = 256 << 20  # no more is gathered; a sparse file of terabytes takes no room, and all of a job's time to read
_MOST_CANDIDATES = 10_000
_MOST_NODES, _MOST_STRANGERS = 10_000, 100
_LARGEST_DOCUMENT = 32 << 20
_NODE = re.compile(r"node_(0|[1-9][0-9]{0,5})")
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Node:
    """What one node left: *facts* is its ``node.json``, or empty; *refusal* why nothing of it counts, if it was not read."""

    rank: int
    name: str
    facts: Mapping[str, Any]
    refusal: str = ""


@dataclass(frozen=True)
class Candidate:
    """One CSV that may be the result.

    :param path: relative to the collection directory.
    :param refusal: why it cannot be chosen, whatever is in it; empty if it can.
    """

    path: str
    node: str
    rank: int
    size_bytes: int
    mtime_ns: int
    refusal: str = ""
    score: Score = Score(0, 0, "not read")

    def order(self) -> Tuple[bool, int, int, int, int, List[Any]]:
        """Return the position among all: numbers before zeros, more rows that count, more rows, lower rank, then the name."""
        score = self.score
        return score.is_zero, score.zeros - score.scored, -score.scored, -score.rows, self.rank, natural(self.path)

    def to_dict(self) -> Dict[str, Any]:
        """Return what ``selection.json`` says of it; `scored` reads it back."""
        return {
            "path": self.path,
            "node": self.node,
            "rank": self.rank,
            "rows": self.score.rows,
            "scored": self.score.scored,
            "reason": self.score.reason,
            "is_usable": not self.refusal,
            "is_zero": self.score.is_zero,
            "zeros": self.score.zeros,
            "is_history": self.score.is_history,
            "size_bytes": self.size_bytes,
            "mtime_ns": self.mtime_ns,
        }


def nodes_in(collection_dir: str, expected: int = 0) -> List[Node]:
    """Return the nodes that left something, the lowest rank first (2 before 10).

    :param expected: how many nodes the job has, 0 if that is not known. Directories of others are not read, and `_MOST_STRANGERS` of
        them are named.
    """
    ranks = sorted(_ranks(collection_dir))
    known = [rank for rank in ranks if rank < (expected or _MOST_NODES)]
    strangers = ranks[len(known) :]
    nodes = [_node(collection_dir, rank) for rank in known]
    nodes += [Node(rank, f"node_{rank}", {}, _NO_SUCH_NODE) for rank in strangers[:_MOST_STRANGERS]]
    if len(strangers) > _MOST_STRANGERS:
        nodes[-1] = replace(nodes[-1], refusal=f"{_NO_SUCH_NODE}, nor {len(strangers) - _MOST_STRANGERS} more that were left out")
    return nodes


def expected(facts: Mapping[str, Any]) -> int:
    """Return how many nodes the job of *facts* has, 0 if that is not known."""
    nodes = facts.get("nodes")
    return len(nodes) if isinstance(nodes, (list, tuple)) else 0


def _ranks(collection_dir: str) -> Iterator[int]:
    with contextlib.suppress(OSError), os.scandir(collection_dir) as entries:
        for entry in entries:
            match = _NODE.fullmatch(entry.name)
            if match and entry.is_dir(follow_symlinks=False):
                yield int(match.group(1))


def _node(collection_dir: str, rank: int) -> Node:
    path = os.path.join(collection_dir, f"node_{rank}", NODE_FACTS)
    facts = document(path, LARGEST_FACTS)
    is_too_large = False
    with contextlib.suppress(OSError):
        is_too_large = not facts and os.lstat(path).st_size > LARGEST_FACTS
    refusal = f"its {NODE_FACTS} has more than {LARGEST_FACTS} bytes" if is_too_large else ""
    return Node(rank, plain(str(facts.get("node") or f"node_{rank}")), facts, refusal)


def found(collection_dir: str, name: str, facts: Mapping[str, Any], nodes: Sequence[Node]) -> List[Candidate]:
    """Return the candidates in the order of ranks, not yet scored.

    :param name: the CSV's name; empty: every CSV is a candidate.
    :param facts: as `selection.settle` takes them.
    :raises JobFault: there are more than any job could mean.
    """
    candidates: List[Candidate] = []
    for node in nodes:
        refusal = refusal_of(node, facts)
        for path, status in _csvs(os.path.join(collection_dir, f"node_{node.rank}"), name):
            reason = (
                refusal
                or _excess(status)
                or _staleness(os.path.basename(path), status, node, facts)
                or _origin(os.path.basename(path), name, node)
            )
            relative = os.path.relpath(path, collection_dir)
            candidates.append(Candidate(relative, node.name, node.rank, status.st_size, status.st_mtime_ns, reason))
        if len(candidates) > _MOST_CANDIDATES:
            raise JobFault("results: too many candidates", "name the CSV", limit=_MOST_CANDIDATES)
    return candidates


def scored(collection_dir: str, candidates: Sequence[Candidate], known: Sequence[Any] = ()) -> List[Candidate]:
    """Return *candidates* with their scores, the best first.

    :param known: what an earlier `Candidate.to_dict` said; a file that has not changed since is not read again.
    """
    earlier = {(item.get("path"), item.get("size_bytes"), item.get("mtime_ns")): item for item in known if isinstance(item, dict)}
    done = []
    for candidate in candidates:
        seen = earlier.get((candidate.path, candidate.size_bytes, candidate.mtime_ns), {})
        if candidate.refusal:
            score = Score(0, 0, candidate.refusal)
        elif seen.get("is_usable") is True and all(_is_count(seen.get(key)) for key in ("rows", "scored", "zeros")):
            is_zero, is_history = seen.get("is_zero") is True, seen.get("is_history") is True
            reason = plain(str(seen.get("reason")))
            score = Score(seen["rows"], seen["scored"], reason, is_zero=is_zero, zeros=seen["zeros"], is_history=is_history)
        else:
            score = score_of(os.path.join(collection_dir, candidate.path))
        if score.is_history and provenance.is_ledger(os.path.basename(candidate.path)):
            refusal = f"{LEDGER}, with rows of other runs"
            candidate, score = replace(candidate, refusal=refusal), Score(0, 0, refusal)
        done.append(replace(candidate, score=score))
    return sorted(done, key=Candidate.order)


def score_of(path: str) -> Score:
    """Return the score of the file *path*; one that cannot be read is worth nothing."""
    try:
        with files.opened(path) as stream:
            return csv_score.score(stream)
    except (Fault, OSError) as error:
        return Score(0, 0, plain(f"cannot be read: {getattr(error, 'seen', {}).get('error', error)}"))


def is_candidate(file_name: str, name: str) -> bool:
    """Say whether *file_name* may hold the result called *name*: itself, one rank's part, or a copy set apart.

    >>> [is_candidate(file, "perf.csv") for file in ("perf.csv", "perf_rank3.csv", "workdir__perf.csv", "perf_old.csv")]
    [True, True, True, False]
    """
    if file_name.startswith("."):
        return False
    if not name:
        return file_name.endswith(".csv")
    stem, extension = os.path.splitext(name)
    part = re.compile(rf"(.*__)?{re.escape(stem)}(_rank[0-9]{{1,6}})?{re.escape(extension)}", re.DOTALL)
    return part.fullmatch(file_name) is not None


def refusal_of(node: Node, facts: Mapping[str, Any]) -> str:
    """Return why nothing of *node* counts for the job of *facts*, or nothing."""
    if node.refusal:
        return node.refusal
    for key, word in (("job_id", "job"), ("attempt", "attempt")):
        wanted, seen = facts.get(key), node.facts.get(key)
        if wanted is not None and seen is not None and str(wanted) != str(seen):
            return f"of {word} {plain(str(seen))}, not of {word} {plain(str(wanted))}"
    return _NO_SUCH_NODE if 0 < expected(facts) <= node.rank else ""


def moment(text: str) -> float:
    """Return the seconds since the epoch that *text* means: a number of them, or ISO 8601 (UTC if it names no zone).

    :raises JobFault: it is neither.

    >>> moment("1970-01-01T00:01:00Z"), moment("60.5")
    (60.0, 60.5)
    """
    seconds = cells.number(text)
    if seconds is not None:
        return seconds
    try:
        when = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise JobFault("results: not a time", "write seconds since the epoch or 2026-01-31T12:00:00Z", time=text) from None
    return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()


def natural(text: str) -> List[Any]:
    """Return a key that sorts ``rank10`` after ``rank2``."""
    return [int(part) if part.isdecimal() and part.isascii() else part for part in _NUMBER.split(text)]


def document(path: str, largest_bytes: int = _LARGEST_DOCUMENT) -> Dict[str, Any]:
    """Return the JSON object in the file *path*, or an empty one if there is none that can be read."""
    try:
        value = json.loads(files.read(path, largest_bytes))
    except (Fault, OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def shortened(facts: Dict[str, Any]) -> Dict[str, Any]:
    """Return a node's *facts* as long as they are read: what is no result is left out of their lists first, and counted."""
    for name, keeps in (("skipped", 0.0), ("files", 0.0), *(("files", 0.5),) * 10):
        if len(text_of(facts)) <= LARGEST_FACTS:
            break
        listed = facts[name]
        kept = listed[: int(len(listed) * keeps)] if keeps else [item for item in listed if item.get("is_result")]
        left_out = facts.get(f"{name}_left_out", 0) + len(listed) - len(kept)
        facts = {**facts, name: kept, f"{name}_left_out": left_out}
    return facts


def text_of(facts: Mapping[str, Any]) -> str:
    """Return what stands in a node's ``node.json``, ASCII alone."""
    return json.dumps(facts, indent=1, default=str) + "\n"


def _csvs(folder: str, name: str) -> Iterator[Tuple[str, os.stat_result]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        present = sorted((entry.name for entry in entries if is_candidate(entry.name, name)), key=natural)
        for file_name in present[: _MOST_CANDIDATES + 1]:
            path = os.path.join(folder, file_name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                yield path, status


def _excess(status: os.stat_result) -> str:
    return f"larger than {LARGEST_CSV} bytes" if status.st_size > LARGEST_CSV else ""


def _staleness(file_name: str, status: os.stat_result, node: Node, facts: Mapping[str, Any]) -> str:
    newer_than = facts.get("newer_than")
    if newer_than is None and file_name not in _gathered(node):
        newer_than = facts.get("since")
    return "older than the job" if newer_than is not None and status.st_mtime < float(newer_than) else ""


def _origin(file_name: str, name: str, node: Node) -> str:
    """Return why a file is no result of the job's, as far as its node knows or its name tells; nothing if it may be one."""
    known: Mapping[str, Any] = next((item for item in _listed(node) if item.get("name") == file_name), {})
    if known.get("is_result") is False:
        return plain(str(known.get("why") or "not what the job's model leaves as its result"))
    if provenance.is_always_ledger(file_name) or (provenance.is_ledger(file_name) and not name and node.facts):
        return LEDGER
    return ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _gathered(node: Node) -> List[Any]:
    """Return what the node itself has found fresh, by its own clock."""
    return [item.get("name") for item in _listed(node)]


def _listed(node: Node) -> List[Dict[str, Any]]:
    listed = node.facts.get("files")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
