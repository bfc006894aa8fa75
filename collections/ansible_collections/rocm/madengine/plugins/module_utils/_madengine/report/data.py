# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job's report has to say, read from its collection directory into plain text and numbers.

All that the job itself wrote (names, CSVs, timelines, logs) becomes text that shows as what it is, bounded in length.

Source: the files are those of `collect`, `selection_json`, `diagnostics` and `timeline`.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..core import files
from ..core.errors import Fault
from ..results import cells, csv_score, selection, selection_json
from ..results.candidates import Node, document, expected, natural, nodes_in, refusal_of
from ..results.selection_json import Selection
from . import log_errors, log_files, phases, time_axis
from .quoted import dicts, field, named, number, shown

TIMELINE, DIAGNOSTICS = "timeline.jsonl", "diagnostics"
_MOST_ROWS = 100
_MOST_COLUMNS = 12
_MOST_MODELS = 50
_MOST_LOGS = 200
_LONGEST_CODE = 20
_LOG_LINES = 120
_LOG_BYTES = 24 << 10
_ALL_LOGS_BYTES = 6 << 20


def view(collection_dir: str) -> Dict[str, Any]:
    """Return all that the report shows of the job in *collection_dir*, as text and numbers.

    :raises Fault: never for what the job wrote; what cannot be read is left out.
    """
    chosen = selection_json.read(collection_dir)
    facts = selection.recalled(collection_dir)
    present = [node for node in nodes_in(collection_dir, expected(facts)) if not refusal_of(node, facts)]
    budget = [_ALL_LOGS_BYTES]
    nodes = [_node(collection_dir, node, budget) for node in present]
    # A run of hours is no reason to see nothing of the seconds around it: it lies across a break.
    axis = time_axis.Axis([(phase["begin"], phase["end"]) for node in nodes for phase in node["phases"] if phase["name"] != phases.RUN])
    names = list(dict.fromkeys(phase["name"] for node in nodes for phase in node["phases"] if not phase["is_folded"]))
    folded = dict.fromkeys(phase["name"] for node in nodes for phase in node["phases"] if phase["is_folded"])
    colours = phases.colours_of(names)
    for node in nodes:
        for phase in node["phases"]:
            phase["left"] = round(axis.place(phase["begin"]), 3)
            phase["width"] = round(max(axis.place(phase["end"]) - phase["left"], 0.15), 3)
            phase["colour"] = colours.get(phase["name"], phases.COLOURS - 1)
    return {
        "job_id": shown(chosen.job_id or os.path.basename(os.path.normpath(collection_dir))),
        "verdict": shown(chosen.verdict or "missing"),
        "reason": shown(chosen.reason or "no choice was made: there is no selection.json"),
        "policy": shown(chosen.policy),
        "ending": log_errors.ending(shown(chosen.exit_code[:_LONGEST_CODE])),
        "best": _best(chosen.best),
        "table": _result(collection_dir, chosen.selected),
        "further": [_of_model(collection_dir, item) for item in chosen.further[:_MOST_MODELS]],
        "candidates": _candidates(chosen),
        "outside": _outside(facts),
        "lacking": [{"node": field(item, "node"), "reason": field(item, "reason")} for item in chosen.lacking],
        "elsewhere": [shown(place[:2000]) for place in chosen.elsewhere],
        "merged": [{key: field(item, key) for key in ("model", "metric", "how", "nodes")} for item in chosen.merged[:_MOST_ROWS]],
        "images": _images(nodes),
        "decisions": _told(nodes, "decision"),
        "detours": _told(nodes, "detour"),
        "nodes": nodes,
        "phases": phases.summed(nodes, names, colours),
        "folded": ", ".join(name for name in folded if name not in names),
        "legend": phases.legend(colours),
        "axis": {"ticks": axis.ticks() if names else [], "breaks": axis.breaks(), **_rows(len(nodes))},
        "faults": _faults(nodes),
        "diagnoses": _diagnoses(nodes),
    }


def _node(collection_dir: str, node: Node, budget: List[int]) -> Dict[str, Any]:
    folder = os.path.join(collection_dir, f"node_{node.rank}")
    summary = document(os.path.join(folder, DIAGNOSTICS, "summary.json"))
    gathered = dicts(node.facts.get("files"))
    passed = phases.with_run(phases.timeline(os.path.join(folder, TIMELINE)))
    return {
        "name": shown(node.name),
        "rank": node.rank,
        "ending": log_errors.ending(field(node.facts, "exit_code")[:_LONGEST_CODE]),
        "has_failed": node.facts.get("failed") is True,
        "image": field(node.facts, "image"),
        "image_id": field(node.facts, "image_id"),
        "files": len(gathered),
        "size": time_axis.size(sum(number(item.get("size_bytes")) for item in gathered)),
        "skipped": [{"path": field(item, "path"), "reason": field(item, "reason")} for item in dicts(node.facts.get("skipped"))[:20]],
        "phases": passed,
        "folded": ", ".join(dict.fromkeys(phase["name"] for phase in passed if phase["is_folded"])),
        "total": time_axis.duration(sum(phase["seconds"] for phase in passed)),
        "diagnosis": field(summary, "summary"),
        "logs": list(_logs(folder, budget)),
    }


def _logs(folder: str, budget: List[int]) -> Iterator[Dict[str, str]]:
    """Give the tails of what there is to read: the diagnostics first, then live logs."""
    base = os.path.join(folder, DIAGNOSTICS)
    found: List[Tuple[str, str]] = []
    for place, wanted in ((base, (".log", ".txt", ".json")), (folder, (".live.log",))):
        for path, _folders, names in os.walk(place):
            for name in sorted(names, key=natural):
                is_seen = place == folder and (path + os.sep).startswith(base + os.sep)
                if name.endswith(wanted) and name != "summary.json" and not is_seen and len(found) < _MOST_LOGS:
                    found.append((os.path.relpath(os.path.join(path, name), folder), os.path.join(path, name)))
    for label, path in found:
        if budget[0] <= 0:
            return
        with contextlib.suppress(Fault, OSError):
            tail = shown(log_files.tail(path, _LOG_LINES), keeps_lines=True)[-min(_LOG_BYTES, budget[0]) :]
            budget[0] -= len(tail)
            if tail.strip():
                yield {"name": shown(label), "tail": tail}


def _best(best: Any) -> Optional[Dict[str, str]]:
    if not isinstance(best, dict):
        return None
    value = best.get("value")
    amount = time_axis.amount(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else field(best, "performance")
    return {"number": amount, **{key: field(best, key) for key in ("performance", "metric", "model", "node", "path", "rows")}}


def _of_model(collection_dir: str, model: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what is shown of one of the job's further models: its verdict, its best row, its table."""
    said = {key: field(model, key) for key in ("name", "verdict", "reason")}
    return {**said, "best": _best(model.get("best")), "table": _result(collection_dir, model.get("selected"))}


def _result(collection_dir: str, selected: Any) -> Dict[str, Any]:
    """Return the published CSV as a table: ``{name, columns, rows: [{cells, bar}], more, at}``; a bar is in per cent of its metric."""
    name = str(selected.get("published") or "") if isinstance(selected, dict) else ""
    table: Dict[str, Any] = {"name": shown(name), "columns": [], "rows": [], "more": 0, "at": -1}
    if not name or os.path.basename(name) != name:
        return table
    with contextlib.suppress(Fault, OSError), files.opened(os.path.join(collection_dir, name)) as stream:
        source = csv_score.Table(stream)
        rows: List[List[str]] = []
        for row in source:
            if source.is_no_data(row):
                continue
            if len(rows) == _MOST_ROWS:
                table["more"] += 1
                continue
            rows.append([shown(cell.strip())[:500] for cell in row[:_MOST_COLUMNS]])
        table["columns"] = [shown(column)[:200] for column in source.header[:_MOST_COLUMNS]]
        table["rows"] = [{"cells": row + [""] * (len(table["columns"]) - len(row)), "bar": None} for row in rows]
    _draw_bars(table)
    return table


def _draw_bars(table: Dict[str, Any]) -> None:
    if not {"performance", "metric"} <= set(table["columns"]):
        return
    at, metric = table["columns"].index("performance"), table["columns"].index("metric")
    table["at"] = at
    largest: Dict[str, float] = {}
    for row in table["rows"]:
        found = cells.figure(row["cells"][at])
        if found:
            largest[row["cells"][metric]] = max(abs(found[0]), largest.get(row["cells"][metric], 0.0))
    for row in table["rows"]:
        found, top = cells.figure(row["cells"][at]), largest.get(row["cells"][metric], 0.0)
        row["bar"] = round(100 * abs(found[0]) / top, 2) if found and top else None


def _outside(facts: Mapping[str, Any]) -> str:
    """Return the nodes that had no part in this run."""
    names = facts.get("nodes") or []
    return named([shown(str(names[rank])) for rank in facts.get("outside") or [] if 0 <= rank < len(names)])


def _candidates(chosen: Selection) -> List[Dict[str, Any]]:
    path = chosen.selected.get("path") if chosen.selected is not None else None
    is_merged = bool(chosen.merged)
    return [
        {
            **{key: field(item, key) for key in ("path", "node", "rows", "scored", "reason")},
            "is_chosen": item.get("path") == path or (is_merged and bool(item.get("scored"))),
        }
        for item in chosen.candidates[:1000]
    ]


def _images(nodes: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    groups: Dict[Tuple[str, str], List[str]] = {}
    for node in nodes:
        if node["image"] or node["image_id"]:
            groups.setdefault((node["image"], node["image_id"]), []).append(node["name"])
    return [{"image": key[0], "image_id": key[1], "nodes": named(names), "count": len(names)} for key, names in groups.items()]


def _told(nodes: Sequence[Mapping[str, Any]], key: str) -> List[Dict[str, str]]:
    """Return what phases tell under *key*, each with the nodes that say so.

    :param key: ``decision``, why an image ran where several had its name; ``detour``, why it did not go the first way.
    """
    groups: Dict[str, List[str]] = {}
    for node in nodes:
        for text in dict.fromkeys(phase[key] for phase in node["phases"] if phase[key]):
            groups.setdefault(text, []).append(node["name"])
    return [{"what": what, "nodes": named(names)} for what, names in groups.items()]


def _faults(nodes: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    groups: Dict[Tuple[str, str], List[str]] = {}
    for node in nodes:
        for phase in node["phases"]:
            if not phase["is_ok"]:
                groups.setdefault((phase["name"], phase["fault"] or phase["result"]), []).append(node["name"])
    return [{"phase": phase, "what": f"{phase}: {what}", "nodes": named(names)} for (phase, what), names in groups.items()]


def _rows(count: int) -> Dict[str, int]:
    """Return how high a node's row is, in pixels, and every how many rows there is room for a name."""
    return {"row": 20, "every": 1} if count <= 24 else {"row": 13, "every": 1} if count <= 96 else {"row": 6, "every": 8}


def _diagnoses(nodes: Sequence[Mapping[str, Any]]) -> List[Dict[str, str]]:
    groups: Dict[str, List[str]] = {}
    for node in nodes:
        if node["diagnosis"]:
            groups.setdefault(node["diagnosis"], []).append(node["name"])
    return [{"what": what, "nodes": named(names)} for what, names in groups.items()]
