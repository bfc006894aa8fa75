# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one word for a job's results, and what the nodes themselves say to it: who lacks data, who failed, which image ran.

Source: results.md, "Choose".
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set

from .candidates import Candidate, Node, refusal_of
from .csv_score import plain

VERDICTS = ("ok", "partial", "empty", "missing", "job_failed")


def judged(
    chosen: Optional[Candidate],
    usable: Sequence[Candidate],
    nodes: Sequence[Node],
    facts: Mapping[str, Any],
    policy: str,
    further: Sequence[str] = (),
) -> Dict[str, Any]:
    """Return the ``verdict`` and who is ``lacking``.

    :param further: the verdicts on the job's further models.
    """
    lacking = _lacking(nodes, usable, facts, policy)
    is_lacking = bool(lacking) or any(word != "ok" for word in further)
    has_number = chosen is not None and chosen.score.scored > 0
    # An exit status alone does not make a number wrong; without a number it is the reason why there is none.
    has_failed = _has_failed(nodes, facts) or (not has_number and exit_code(nodes, facts) not in ("", "0:0"))
    return {"verdict": word(chosen, usable, is_lacking, has_failed), "lacking": lacking}


def exit_code(nodes: Sequence[Node], facts: Mapping[str, Any]) -> str:
    return str(facts.get("exit_code") or said(nodes, facts, "exit_code"))


def word(chosen: Optional[Candidate], usable: Sequence[Candidate], is_lacking: bool, has_failed: bool) -> str:
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
    """Return the nodes without data, each with the reason; when shares are merged, rows that do not count are none.

    A node that had no part in this run has nothing to lack.
    """
    outside = set(facts.get("outside") or [])
    present = {node.rank: node for node in nodes if not refusal_of(node, facts)}
    names: Dict[int, str] = {rank: plain(str(name)) for rank, name in enumerate(facts.get("nodes") or [])}
    names.update((rank, node.name) for rank, node in present.items() if rank not in names)
    lacking = []
    for rank, name in sorted(names.items()):
        if rank in outside:
            continue
        mine = [item.score for item in usable if item.rank == rank]
        if any(score.scored if policy == "merge" else score.rows for score in mine):
            continue
        reason = mine[0].reason if mine else "no CSV" if rank in present else "nothing came from this node"
        lacking.append({"node": name, "rank": rank, "reason": reason})
    return lacking


def images(nodes: Sequence[Node], facts: Mapping[str, Any]) -> Dict[str, Any]:
    """Return which image ran on each node, and whether it was the same one."""
    found = {
        node.name: {"image": plain(str(node.facts.get("image") or "")), "image_id": plain(str(node.facts.get("image_id") or ""))}
        for node in nodes
        if not refusal_of(node, facts)
    }
    known: Set[str] = {image["image_id"] for image in found.values() if image["image_id"]}
    return {"images": found, "images_agree": len(known) <= 1}


def elsewhere(nodes: Sequence[Node], facts: Mapping[str, Any]) -> List[str]:
    """Return where further files of nodes are that share no directory with the others, as ``node:path``."""
    said = (node.facts.get("elsewhere") for node in nodes if not refusal_of(node, facts))
    return [plain(str(path)) for path in said if path]


def said(nodes: Sequence[Node], facts: Mapping[str, Any], key: str) -> str:
    """Return what the first node that counts says, when nobody else has told us."""
    return next((plain(str(node.facts[key])) for node in nodes if node.facts.get(key) is not None and not refusal_of(node, facts)), "")
