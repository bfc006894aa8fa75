# SPDX-License-Identifier: GPL-3.0-or-later
"""Small real CSVs and collection directories."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

HEADER = "model,performance,metric\n"
NAME = "multi.csv"

Text = Union[str, bytes]
Texts = Union[Sequence[Optional[Text]], Mapping[int, Optional[Text]]]


def table(*performances: Any, model: str = "llama", metric: str = "tokens_per_second") -> str:
    """Return a CSV with one row a value."""
    return HEADER + "".join(f"{model},{value},{metric}\n" for value in performances)


def write(path: Path, content: Text, age_seconds: float = 0) -> Path:
    """Write *content* under *path*, as if *age_seconds* ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if age_seconds:
        then = path.stat().st_mtime - age_seconds
        os.utime(path, (then, then))
    return path


def collection(base: Path, contents: Texts, name: str = NAME, **facts: Any) -> Path:
    """Make a collection directory: *contents* is each rank's CSV, or None for a node without one."""
    ranked: Sequence[Tuple[int, Any]] = list(contents.items()) if isinstance(contents, Mapping) else list(enumerate(contents))
    for rank, content in ranked:
        node(base, rank, **facts)
        if content is not None:
            write(base / f"node_{rank}" / name, content)
    return base


def node(base: Path, rank: int, **facts: Any) -> Path:
    """Make one node's directory with its ``node.json``."""
    folder = base / f"node_{rank}"
    document = {"version": 1, "rank": rank, "node": f"n{rank + 1}", "job_id": "4711", "attempt": 0, "image": "llama:1", **facts}
    write(folder / "node.json", json.dumps(document))
    return folder
