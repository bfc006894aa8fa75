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
import io
import json
import os
from dataclasses import dataclass, replace
from typing import IO, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ..core import files, locks
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, ShareFault
from . import csv_score, merge, metric_kinds, selection_json
from .candidates import Candidate, Node, found, nodes_in, refusal_of, score_of, scored
from .csv_score import plain
from .selection_json import FACTS, FILE, VERSION, Selection, read

POLICIES = ("richest", "merge")
VERDICTS = ("ok", "partial", "empty", "missing", "job_failed")
_LOCK = ".settle.lock"
_MOST_ROUNDS = 20
_OF_A_MODEL = ("name", "verdict", "reason", "selected", "best", "merged", "candidates", "lacking")


@dataclass(frozen=True)
class Choice:
    """What ``selection.json`` says and the bytes that it is about.

    :param name: under which name the result is published; empty if there is none.
    :param source: the chosen CSV's path, or None.
    :param merged: the merged CSV, or None.
    :param others: the choices for the job's further models, each with a name of its own.
    """

    selection: Selection
    name: str
    source: Optional[str]
    merged: Optional[bytes]
    others: Tuple[Choice, ...] = ()

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Give the result's bytes.

        :raises JobFault: the chosen CSV is gone.
        """
        with files.opened(self.source) if self.source is not None else io.BytesIO(self.merged or b"") as stream:
            yield stream


def settle(
    collection_dir: str, name: str, policy: str, facts: Mapping[str, Any], wait_seconds: float = 60.0, further: Sequence[str] = ()
) -> Dict[str, Any]:
    """Rank all candidates that are there, publish the best one and ``selection.json``; again changes nothing.

    All nodes may do it at once; it may be killed at any instant and repeated. Plain values in, plain values out.

    :param name: the CSV's name (``multiple_results``); empty: every CSV of a node is a candidate.
    :param policy: ``richest`` or ``merge``.
    :param facts: ``job_id``, ``attempt``, ``nodes`` (names, rank 0 first), ``failed``, ``exit_code``, ``since`` (seconds since
        the epoch, for files that no epilog has gathered), ``newer_than`` (the same for all files); each of them optional.
    :param further: the names of the CSVs of the job's further models.
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
    nodes = nodes_in(collection_dir)
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
    merged, notes = merge.merge(_shares(collection_dir, usable)) if is_merged else (None, [])
    selected = _selected(chosen, notes if is_merged else None, published)
    described = Selection(
        version=VERSION,
        job_id=str(facts.get("job_id") or _said(nodes, facts, "job_id")),
        attempt=facts.get("attempt"),
        exit_code=_exit_code(nodes, facts),
        name=name,
        policy=policy,
        **_verdict(chosen, usable, nodes, facts, policy, others),
        selected=selected,
        best=_best(selected),
        merged=notes,
        candidates=[candidate.to_dict() for candidate in ranked],
        further=[{key: getattr(other.selection, key) for key in _OF_A_MODEL} for other in others],
        elsewhere=_elsewhere(nodes, facts),
        artifacts="as the job wrote them, readable by its user alone (0600)",
        **_images(nodes, facts),
        facts={key: facts.get(key) for key in FACTS},
        basis=question,
    )
    source = os.path.join(collection_dir, chosen.path) if chosen and merged is None else None
    return Choice(replace(described, reason=_sentence(described)), published, source, merged, tuple(others))


def choose(usable: Sequence[Candidate]) -> Optional[Candidate]:
    """Return the best of *usable*, or None if none of them has a row; the order in which they come never matters."""
    best = min(usable, key=Candidate.order, default=None)
    return best if best is not None and best.score.rows else None


def publish(choice: Choice, collection_dir: str, name: str = "") -> bool:
    """Put the result and ``selection.json`` into *collection_dir*, each at once and for good.

    A result that this job's earlier ``selection.json`` there has named and that counts no more is taken away.

    :param name: another name for the result than its own.
    :returns: whether anything changed.
    :raises ShareFault: it cannot be written.
    """
    name = (name or choice.name) if choice.name else ""
    changed = put(choice, os.path.join(collection_dir, name)) if name else False
    for other in choice.others:
        changed = (bool(other.name) and put(other, os.path.join(collection_dir, other.name))) or changed
    with _explained(os.path.join(collection_dir, FILE)):
        changed = _withdraw(choice, collection_dir, name) or changed
        return selection_json.write(choice.selection, collection_dir) or changed


def put(choice: Choice, target: str) -> bool:
    """Put the result under *target*, at once and for good.

    :returns: whether anything changed.
    :raises ShareFault: it cannot be written.
    """
    if is_same(choice, target):
        return False
    with _explained(target), choice.open() as source, files.new(target) as stream:
        for block in iter(lambda: source.read(1 << 20), b""):
            stream.write(block)
    return True


def write(target: str, content: bytes) -> None:
    """Put *content* under *target*, at once and for good.

    :raises ShareFault: it cannot be written.
    """
    with _explained(target):
        files.write(target, content)


def is_same(choice: Choice, target: str) -> bool:
    """Say whether *target* holds the choice's bytes already."""
    try:
        with choice.open() as wanted, files.opened(target) as present:
            while True:
                block = wanted.read(1 << 20)
                if block != present.read(1 << 20):
                    return False
                if not block:
                    return True
    except (Fault, OSError):
        return False


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
    nodes = nodes_in(collection_dir)
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


def _verdict(
    chosen: Optional[Candidate],
    usable: Sequence[Candidate],
    nodes: Sequence[Node],
    facts: Mapping[str, Any],
    policy: str,
    others: Sequence[Choice] = (),
) -> Dict[str, Any]:
    lacking = _lacking(nodes, usable, facts, policy)
    is_lacking = bool(lacking) or any(other.selection.verdict != "ok" for other in others)
    has_number = chosen is not None and chosen.score.scored > 0
    # An exit status alone does not make a number wrong; without a number it is the reason why there is none.
    has_failed = _has_failed(nodes, facts) or (not has_number and _exit_code(nodes, facts) not in ("", "0:0"))
    return {"verdict": verdict(chosen, usable, is_lacking, has_failed), "lacking": lacking}


def _exit_code(nodes: Sequence[Node], facts: Mapping[str, Any]) -> str:
    return str(facts.get("exit_code") or _said(nodes, facts, "exit_code"))


def verdict(chosen: Optional[Candidate], usable: Sequence[Candidate], is_lacking: bool, has_failed: bool) -> str:
    """Return the one word for the job: ``job_failed``, ``missing``, ``empty``, ``partial`` or ``ok``."""
    if has_failed:
        return "job_failed"
    if not usable:
        return "missing"
    if chosen is None or not chosen.score.scored:
        return "empty"
    return "partial" if is_lacking else "ok"


def _has_failed(nodes: Sequence[Node], facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("failed")) or any(node.facts.get("failed") is True for node in nodes if not refusal_of(node, facts))


def _lacking(nodes: Sequence[Node], usable: Sequence[Candidate], facts: Mapping[str, Any], policy: str) -> List[Dict[str, Any]]:
    """Return the nodes without data, each with the reason; when shares are merged, rows that do not count are none."""
    present = {node.rank: node for node in nodes if not refusal_of(node, facts)}
    names: Dict[int, str] = {rank: plain(str(name)) for rank, name in enumerate(facts.get("nodes") or [])}
    names.update((rank, node.name) for rank, node in present.items() if rank not in names)
    lacking = []
    for rank, name in sorted(names.items()):
        mine = [item.score for item in usable if item.rank == rank]
        if any(score.scored if policy == "merge" else score.rows for score in mine):
            continue
        reason = mine[0].reason if mine else "no CSV" if rank in present else "nothing came from this node"
        lacking.append({"node": name, "rank": rank, "reason": reason})
    return lacking


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
    ranked = sorted((-(rank + 2 * (note["value"] != 0)), place) for place, (rank, note) in enumerate(rates) if rank)
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


def _images(nodes: Sequence[Node], facts: Mapping[str, Any]) -> Dict[str, Any]:
    images = {
        node.name: {"image": plain(str(node.facts.get("image") or "")), "image_id": plain(str(node.facts.get("image_id") or ""))}
        for node in nodes
        if not refusal_of(node, facts)
    }
    known: Set[str] = {image["image_id"] for image in images.values() if image["image_id"]}
    return {"images": images, "images_agree": len(known) <= 1}


def _elsewhere(nodes: Sequence[Node], facts: Mapping[str, Any]) -> List[str]:
    """Return where further files of nodes are that share no directory with the others, as ``node:path``."""
    said = (node.facts.get("elsewhere") for node in nodes if not refusal_of(node, facts))
    return [plain(str(place)) for place in said if place]


def _said(nodes: Sequence[Node], facts: Mapping[str, Any], key: str) -> str:
    """Return what the first node that counts says, when nobody else has told us."""
    return next((plain(str(node.facts[key])) for node in nodes if node.facts.get(key) is not None and not refusal_of(node, facts)), "")


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
        return f"{selected['rows']} rows merged from {count} candidates{lacking}"
    return f"{selected['path']}: {selected['scored']} of {selected['rows']} rows count, the most of {count} candidates{lacking}"


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        seen = error.strerror or str(error)
        raise ShareFault(
            "results: cannot write the choice", "make room there and collect the results again", path=path, error=seen
        ) from error


def _withdraw(choice: Choice, folder: str, name: str) -> bool:
    """Take away what an earlier choice for the same job has published under another name."""
    earlier = read(folder)
    old = str(earlier.selected.get("published")) if earlier.selected is not None else ""
    if not old or old == name or os.path.basename(old) != old or earlier.job_id != choice.selection.job_id:
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, old))
        return True
    return False
