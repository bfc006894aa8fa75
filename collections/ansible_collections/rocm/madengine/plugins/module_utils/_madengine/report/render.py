# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's report: its verdict, its result, where the time went, and what went wrong, as one HTML file and as text.

`data` reads a collection directory into plain values, which `html` and `text` show. All that the job itself wrote (names,
CSVs, logs) is shown as text, whatever it holds. The same files give the same report, so writing it again changes nothing.

Source: results.md; the files are those of `collect`, `selection_json`, `diagnostics` and `timeline`.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..core import files
from ..core.errors import Fault, NodeFault, ShareFault
from ..results import selection_json
from . import data, template

HTML, TEXT = "report.html", "report.txt"
_SMALL_JOB = 16


def write(collection_dir: str, formats: Sequence[str] = ("html", "text"), dest: str = "", dry: bool = False) -> Dict[str, Any]:
    """Write the report of the job in *collection_dir* to *dest*, or there.

    :param formats: ``html`` needs Jinja2; ``text`` needs nothing.
    :param dry: find out what would change, and change nothing.
    :returns: ``{changed, verdict, files, text}``.
    :raises NodeFault: ``html`` is wanted and there is no Jinja2 on this node.
    :raises ShareFault: it cannot be written.
    """
    return put(make(collection_dir, formats), dest or collection_dir, dry, is_private=not dest)


def make(collection_dir: str, formats: Sequence[str] = ("html", "text")) -> Dict[str, Any]:
    """Return the report of the job in *collection_dir*: ``{verdict, text, made: {file name: content}}``; errors as `write`."""
    seen = data.view(collection_dir)
    told = text(seen)
    made = {TEXT: told} if "text" in formats else {}
    if "html" in formats:
        made[HTML] = html(seen)
    return {"verdict": seen["verdict"], "text": told, "made": made}


def put(report: Mapping[str, Any], folder: str, dry: bool = False, is_private: bool = False) -> Dict[str, Any]:
    """Put the files of *report*, as `make` gives it, into *folder*; returns and errors as `write`.

    :param is_private: the HTML form, which quotes logs, is for its owner alone: nobody knows what a program prints.
    """
    paths = {os.path.join(folder, name): content for name, content in sorted(report["made"].items())}
    stale = {path: content for path, content in paths.items() if _content(path) != content}
    for path, content in {} if dry else stale.items():
        try:
            files.write(path, content, 0o600 if is_private and path.endswith(HTML) else 0o644)
        except OSError as error:
            raise ShareFault("report: cannot write", "make room there", path=path, error=error.strerror or str(error)) from error
    return {"changed": bool(stale), "verdict": report["verdict"], "files": list(paths), "text": report["text"]}


def write_if_last(collection_dir: str, is_last: bool = False) -> bool:
    """Write what can be written (no HTML without Jinja2) if all nodes are done or they are few; say whether it did.

    For an epilog: with hundreds of nodes only those that come last write, with a few each does.

    :param is_last: nobody else is going to come, whatever is missing.
    """
    chosen = selection_json.read(collection_dir)
    expected = chosen.facts.get("nodes") or []
    done = [rank for rank in range(len(expected)) if os.path.exists(os.path.join(collection_dir, f"node_{rank}", data.TIMELINE))]
    if not chosen.version or (not is_last and len(expected) > _SMALL_JOB and len(done) < len(expected)):
        return False
    write(collection_dir, ("html", "text") if has_jinja() else ("text",))
    return True


def has_jinja() -> bool:
    """Say whether this node can make the HTML form."""
    try:
        _template()
    except NodeFault:
        return False
    return True


def html(seen: Mapping[str, Any]) -> str:
    """Return the report as one HTML page that needs no network and no script.

    :raises NodeFault: there is no Jinja2.
    """
    return str(_template().render(seen, style=template.STYLE))


@functools.lru_cache(maxsize=1)
def _template() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise NodeFault("report: no Jinja2", "install python3-jinja2, or ask for the text form alone", error=str(error)) from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template.PAGE)


def text(seen: Mapping[str, Any]) -> str:
    """Return the report as plain text."""
    ending = f" ({seen['ending']})" if seen["ending"] else ""
    lines = [f"Job {seen['job_id']}: {seen['verdict']}{ending}", seen["reason"], ""]
    if seen["best"]:
        best = seen["best"]
        lines += [f"{best['performance']} {best['metric']}  ({best['model']}, {best['path']}, {best['node']})", ""]
    lines += _table("Result", seen["table"]["columns"], [row["cells"] for row in seen["table"]["rows"]])
    for model in seen["further"]:
        lines += _table(f"{model['name']}: {model['verdict']}", model["table"]["columns"], [row["cells"] for row in model["table"]["rows"]])
    rows = [[item["path"], item["node"], str(item["rows"]), str(item["scored"]), item["reason"]] for item in seen["candidates"]]
    lines += _table("Candidates", ["file", "node", "rows", "count", "why"], rows)
    lines += _table("Lacking", ["node", "why"], [[item["node"], item["reason"]] for item in seen["lacking"]])
    lines += [f"Nodes outside this run: {seen['outside']}", ""] if seen["outside"] else []
    lines += _table("Further files", ["where"], [[place] for place in seen["elsewhere"]])
    lines += _table("Images", ["image", "id", "nodes"], [[item["image"], item["image_id"], item["nodes"]] for item in seen["images"]])
    if seen["decisions"]:  # whole: the end of the line is what was decided
        lines += ["Several images", *(f"  {item['nodes']}: {item['what']}" for item in seen["decisions"]), ""]
    if seen["detours"]:
        lines += ["Another way for an image", *(f"  {item['nodes']}: {item['what']}" for item in seen["detours"]), ""]
    rows = [
        [item["name"], str(item["count"]), item["fastest"], item["median"], item["slowest"], item["slowest_node"]]
        for item in seen["phases"]
    ]
    lines += _table("Phases", ["phase", "times", "fastest", "median", "slowest", "on"], rows)
    lines += _table("Faults", ["what", "nodes"], [[item["what"], item["nodes"]] for item in seen["faults"]])
    lines += _table("Diagnoses", ["what", "nodes"], [[item["what"], item["nodes"]] for item in seen["diagnoses"]])
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    if not rows:
        return []
    cells = [[str(cell)[:100] for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    return [title] + ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells] + [""]


def _content(path: str) -> Optional[str]:
    try:
        return files.read(path, 64 << 20).decode("utf-8", "replace")
    except Fault:
        return None
