# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the nodes' CSVs is the job's result, and why.

The choice depends on nothing but the files in the collection directory: every node's epilog ranks all that is there and
replaces the choice, so the last one to come leaves the right answer and a lost node costs nothing. The chosen CSV stands
in the collection directory itself, where madengine looks first, and ``selection.json`` (`selection_json`) beside it.

Source: results.md, "Choose".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..core import files, locks
from ..core.deadline import Deadline
from ..core.errors import JobFault
from . import csv_score, merge, metric_kinds, verdict
from .candidates import Candidate, Node, expected, found, nodes_in, score_of, scored
from .csv_score import plain
from .publish import Choice, publish, publish_beside
from .selection_json import FACTS, VERSION, Selection, read

POLICIES = ("richest", "merge")
_LOCK = ".settle.lock"
_MOST_ROUNDS = 20
_OF_A_MODEL = ("name", "verdict", "reason", "selected", "best", "merged", "left_out", "candidates", "lacking")


def settle(
    collection_dir: str,
    name: str,
    policy: str,
    facts: Mapping[str, Any],
    wait_seconds: float = 60.0,
    further: Sequence[str] = (),
    beside: Mapping[str, str] = MappingProxyType({}),
) -> Dict[str, Any]:
    """Rank all candidates that are there, publish the best one and ``selection.json``; again changes nothing.

    All nodes may do it at once; it may be killed at any instant and repeated. Plain values in, plain values out.

    :param name: the CSV's name (``multiple_results``); empty: every CSV of a node is a candidate.
    :param policy: ``richest`` or ``merge``.
    :param facts: ``job_id``, ``attempt``, ``nodes`` (names, rank 0 first), ``failed``, ``exit_code``, ``since`` (seconds since
        the epoch, for files that no epilog has gathered), ``newer_than`` (the same for all files), ``outside`` (the ranks of nodes
        that had no part in what is judged); each of them optional.
    :param further: the names of the CSVs of the job's further models.
    :param beside: where else some of those CSVs go, {name: directory}.
    :returns: the document of ``selection.json``.
    :raises JobFault: *name* is no CSV's name, the policy is unknown, or there is too much to merge.
    :raises ShareFault: the choice cannot be written; the candidates stay where they are.
    """
    _check(name, policy)

    def is_done() -> bool:
        return _is_current(collection_dir, basis(collection_dir, name, policy, facts, further))

    previous = read(collection_dir)
    with locks.lock_file(os.path.join(collection_dir, _LOCK), Deadline(wait_seconds), is_done) as is_due:
        for _round in range(_MOST_ROUNDS if is_due else 0):
            choice = select(collection_dir, name, policy, facts, previous, further)
            publish(choice, collection_dir)
            publish_beside(choice, beside)
            # A node may have come while we ranked, or a slower holder may have published what it saw before.
            if is_done():
                break
            previous = choice.selection
    return read(collection_dir).to_dict()


def select(
    collection_dir: str,
    name: str,
    policy: str,
    facts: Mapping[str, Any],
    known: Optional[Selection] = None,
    further: Sequence[str] = (),
) -> Choice:
    """Return the choice among the candidates in *collection_dir*; nothing is written.

    :param known: an earlier selection: what it says of files that have not changed since is not read again.
    :raises JobFault: as `settle`.
    """
    _check(name, policy)
    names = [each for each in dict.fromkeys(further) if each and each != name]
    # First: what comes while we look must make this choice look old, not current without it.
    question = basis(collection_dir, name, policy, facts, names)
    nodes = nodes_in(collection_dir, expected(facts))
    present = found(collection_dir, name, facts, nodes)
    others = [select(collection_dir, each, policy, facts, known) for each in names]
    ranked = scored(collection_dir, present, _listed(known or Selection()))
    usable = [candidate for candidate in ranked if not candidate.refusal]
    chosen = choose(usable)
    if chosen is not None and not chosen.score.values:  # an earlier score knows no values
        chosen = replace(chosen, score=score_of(os.path.join(collection_dir, chosen.path)))
    published = (name or os.path.basename(chosen.path)) if chosen else ""
    # Where no row counts there is nothing to merge: the richest of the empty ones shows best what is wrong.
    is_merged = policy == "merge" and chosen is not None and chosen.score.scored > 0
    merged, notes, left_out = merge.merge(_shares(collection_dir, usable)) if is_merged else (None, [], [])
    selected = _selected(chosen, notes if is_merged else None, published)
    described = Selection(
        version=VERSION,
        job_id=str(facts.get("job_id") or verdict.said(nodes, facts, "job_id")),
        attempt=facts.get("attempt"),
        exit_code=verdict.exit_code(nodes, facts),
        name=name,
        policy=policy,
        **verdict.judged(chosen, usable, nodes, facts, policy, [other.selection.verdict for other in others]),
        selected=selected,
        best=_best(selected),
        merged=notes,
        left_out=left_out,
        candidates=[candidate.to_dict() for candidate in ranked],
        further=[{key: getattr(other.selection, key) for key in _OF_A_MODEL} for other in others],
        elsewhere=verdict.elsewhere(nodes, facts),
        artifacts="as the job wrote them, readable by its user alone (0600)",
        **verdict.images(nodes, facts),
        facts={key: facts.get(key) for key in FACTS},
        basis=question,
    )
    source = os.path.join(collection_dir, chosen.path) if chosen and merged is None else None
    return Choice(replace(described, reason=_sentence(described)), published, source, merged, tuple(others))


def choose(usable: Sequence[Candidate]) -> Optional[Candidate]:
    """Return the best of *usable*, or None if none of them has a row; the order in which they come never matters."""
    best = min(usable, key=Candidate.order, default=None)
    return best if best is not None and best.score.rows else None


def recalled(collection_dir: str) -> Dict[str, Any]:
    """Return the facts that the last `settle` there was given, for whoever asks again later.

    Where there was none, the latest attempt that any node knows of is the one that counts.
    """
    kept = read(collection_dir).facts
    if kept:
        return dict(kept)
    attempts = [node.facts.get("attempt") for node in nodes_in(collection_dir)]
    known = [attempt for attempt in attempts if isinstance(attempt, int)]
    return {"attempt": max(known)} if known else {}


def asked(collection_dir: str) -> Tuple[str, str]:
    """Return the name and the policy that the last `settle` there was given; every CSV, and the richest, if there was none."""
    kept = read(collection_dir)
    name, policy = kept.name, kept.policy or POLICIES[0]
    try:
        _check(name, policy)
    except JobFault:  # the job's user may have written it
        return "", POLICIES[0]
    return name, policy


def further(collection_dir: str) -> List[str]:
    """Return the names of the CSVs of the job's further models, as the last `settle` there was given them."""
    names = [str(each.get("name")) for each in read(collection_dir).further]
    with contextlib.suppress(JobFault):
        for name in names:
            _check(name, POLICIES[0])
        return names
    return []


def basis(collection_dir: str, name: str, policy: str, facts: Mapping[str, Any], further: Sequence[str] = ()) -> str:
    """Return the digest of all that a choice depends on: the question, the nodes' facts, the files' sizes and times."""
    nodes = nodes_in(collection_dir, expected(facts))
    names = [name, *(each for each in dict.fromkeys(further) if each and each != name)]
    present = [candidate for each in names for candidate in found(collection_dir, each, facts, nodes)]
    return _digest(names, policy, facts, nodes, present)


def _digest(names: Sequence[str], policy: str, facts: Mapping[str, Any], nodes: Sequence[Node], present: Sequence[Candidate]) -> str:
    # Each node has its own clock and so its own `since`: two nodes that saw the same files must agree that they did.
    question = [VERSION, list(names), policy, [facts.get(key) for key in FACTS if key != "since"]]
    answer = [[node.rank, node.facts] for node in nodes], [[item.path, item.size_bytes, item.mtime_ns] for item in present]
    return hashlib.sha256(json.dumps([question, answer], sort_keys=True, default=str).encode()).hexdigest()


def _check(name: str, policy: str) -> None:
    is_csv = name.endswith(".csv") and os.path.basename(name) == name and not name.startswith(".") and name.isprintable()
    if name and not is_csv:
        raise JobFault("results: not the name of a CSV", "set multiple_results to a plain name such as perf_llama.csv", name=name)
    if policy not in POLICIES:
        raise JobFault("results: unknown policy", "use " + " or ".join(POLICIES), policy=policy)


def _is_current(collection_dir: str, wanted: str) -> bool:
    present = read(collection_dir)
    if present.basis != wanted:
        return False
    return present.selected is None or os.path.isfile(os.path.join(collection_dir, str(present.selected.get("published"))))


def _listed(known: Selection) -> List[Any]:
    listed = [known.candidates, *(each.get("candidates") for each in known.further)]
    return [item for candidates in listed if isinstance(candidates, list) for item in candidates]


def _selected(chosen: Optional[Candidate], notes: Optional[Sequence[Any]], published: str) -> Optional[Dict[str, Any]]:
    if chosen is None:
        return None
    if notes is not None:
        count = len(notes)
        return {
            "path": published,
            "published": published,
            "node": "all",
            "rank": None,
            "rows": count,
            "scored": count,
            "values": _values(notes),
            "headline": _headline(notes),
        }
    facts = {key: value for key, value in chosen.to_dict().items() if key in ("path", "node", "rank", "rows", "scored", "size_bytes")}
    return {**facts, "published": published, "values": list(chosen.score.values), "headline": chosen.score.headline}


def _values(notes: Sequence[Any]) -> List[Dict[str, Any]]:
    return [{key: note[key] for key in ("model", "performance", "metric", "value")} for note in notes[: csv_score.MOST_VALUES]]


def _headline(notes: Sequence[Any]) -> Optional[Dict[str, Any]]:
    """Return the merged row that heads a report: of the whole rather than of a GPU, a number rather than a zero, the first."""
    rates = [(metric_kinds.headline(note["metric"]), note) for note in notes]
    ranked = sorted((-(rank + 2 * (note["value"] > 0)), row) for row, (rank, note) in enumerate(rates) if rank)
    return _values([notes[ranked[0][1]]])[0] if ranked else None


def _best(selected: Optional[Mapping[str, Any]]) -> Optional[Dict[str, Any]]:
    """Return the row to show when there is room for one, None where no row is a rate or a throughput."""
    if selected is None or selected["headline"] is None:
        return None
    return {**{key: selected[key] for key in ("path", "node", "rank", "rows")}, **selected["headline"]}


def _shares(collection_dir: str, usable: Sequence[Candidate]) -> Iterator[merge.Share]:
    mine: Dict[int, Candidate] = {}
    for candidate in sorted(usable, key=Candidate.order):
        mine.setdefault(candidate.rank, candidate)  # one CSV a node: its best
    for rank in sorted(mine):
        with files.opened(os.path.join(collection_dir, mine[rank].path)) as stream:
            yield mine[rank].node, stream


def _sentence(chosen: Selection) -> str:
    told = "" if chosen.exit_code in ("", "0:0") else f"; the job's exit status was {plain(chosen.exit_code)}"
    others = "".join(f"; {each['name']}: {each['verdict']}" for each in chosen.further)
    return _choice_in_words(chosen) + others + told


def _choice_in_words(chosen: Selection) -> str:
    count, selected = len(chosen.candidates), chosen.selected
    if selected is None:
        return f"none of {count} candidates has a row" if count else "no node left a CSV"
    lacking = f"; {len(chosen.lacking)} nodes lack data" if chosen.lacking else ""
    if chosen.merged:
        left_out = f"; {len(chosen.left_out)} rows have no number on any node" if chosen.left_out else ""
        return f"{selected['rows']} rows merged from {count} candidates{lacking}{left_out}"
    return f"{selected['path']}: {selected['scored']} of {selected['rows']} rows count, the most of {count} candidates{lacking}"
