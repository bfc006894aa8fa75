# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's candidates as a small JSON document, for nodes that share no work directory: members send theirs to the leader.

A bundle holds ``node.json``, the CSVs that may be the result, and the timeline; what does not fit stays on its node and is
named. It comes from a peer and was filled by the job's user, so unpacking trusts no name, number or size in it.

Source: results.md, "Choose".
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..core import files
from ..core.errors import Fault, JobFault, ShareFault
from . import candidates, collect
from .haul import safe

LARGEST_BYTES = 4 << 20
LONGEST_TEXT = 6 << 20  # characters of a bundle as JSON: base64 makes four of three bytes, and there are names
_MOST_FILES = 50
_MOST_LEFT = 100
_ALWAYS = (candidates.NODE_FACTS, "timeline.jsonl")


def pack(folder: str, rank: int, csvs: Sequence[str], at_most_bytes: int = LARGEST_BYTES) -> Dict[str, Any]:
    """Return the bundle of a node's directory, as `collect.gather` leaves it.

    :param csvs: the names of the results; an empty one: every CSV may be it.
    :returns: ``{rank, files: [[name, base64], …], left: [name, …], folder}``; *left* (the first 100) did not fit and is in *folder*.
    :raises JobFault: there is no ``node.json``.
    """
    wanted = [
        name for name in sorted(os.listdir(folder), key=candidates.natural) if any(candidates.is_candidate(name, csv) for csv in csvs)
    ]
    packed: List[List[str]] = []
    left: List[str] = []
    room = at_most_bytes
    for name in (*_ALWAYS, *sorted(wanted, key=lambda name: os.lstat(os.path.join(folder, name)).st_size)):
        try:
            data = files.read(os.path.join(folder, name), room)
        except Fault:
            if name == candidates.NODE_FACTS:
                raise
            left += [name] if os.path.lexists(os.path.join(folder, name)) else []
            continue
        if len(packed) == _MOST_FILES:
            left.append(name)
            continue
        room -= len(data)
        packed.append([name, base64.b64encode(data).decode()])
    return {"rank": rank, "files": packed, "left": left[:_MOST_LEFT], "folder": folder}


def unpack(collection_dir: str, bundle: Mapping[str, Any], rank: int) -> List[str]:
    """Put a member's bundle into ``<collection_dir>/node_<rank>/``; again changes nothing but times.

    :param rank: whose it is, as the rendezvous knows it; the bundle itself is not asked.
    :returns: the names of its files; ``node.json`` comes last.
    :raises JobFault: it is no bundle.
    :raises ShareFault: it cannot be written.
    """
    contents = _opened(bundle)
    folder = os.path.join(collection_dir, f"node_{int(rank)}")
    try:
        collect.set_aside(collection_dir, folder, json.loads(dict(contents)[candidates.NODE_FACTS]))
        os.makedirs(folder, exist_ok=True)
        for name, data in contents:
            files.write(os.path.join(folder, name), data)
    except OSError as error:
        raise ShareFault("bundle: cannot write", "make room there", folder=folder, error=error.strerror or str(error)) from error
    return [name for name, _data in contents]


def missing(collection_dir: str, ranks: Sequence[int], facts: Mapping[str, Any]) -> List[int]:
    """Return those of *ranks* whose results are not in the collection directory yet.

    :param facts: ``job_id`` and ``attempt``: what another one has left does not count.
    """
    wanted = {key: facts.get(key) for key in ("job_id", "attempt")}
    there = (candidates.document(os.path.join(collection_dir, f"node_{int(rank)}", candidates.NODE_FACTS)) for rank in ranks)
    return [rank for rank, known in zip(ranks, there) if any(known.get(key) != value for key, value in wanted.items())]


def _opened(bundle: Mapping[str, Any]) -> List[Tuple[str, bytes]]:
    listed = bundle.get("files")
    if not isinstance(listed, list) or len(listed) > _MOST_FILES:
        raise _refused("files")
    contents: Dict[str, bytes] = {}
    for item in listed:
        if not isinstance(item, (list, tuple)) or len(item) != 2 or not all(isinstance(part, str) for part in item):
            raise _refused("file")
        name, text = item
        if name != safe(name) or "/" in name or not (name in _ALWAYS or name.endswith(".csv")):
            raise _refused("name", name=name)
        contents[name] = _decoded(text)
    if sum(map(len, contents.values())) > LARGEST_BYTES or not _is_object(contents.get(candidates.NODE_FACTS, b"")):
        raise _refused("size or node.json")
    return sorted(contents.items(), key=lambda item: item[0] == candidates.NODE_FACTS)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("base64") from None


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _refused(what: str, **seen: object) -> JobFault:
    return JobFault(f"bundle: not a node's results ({what})", "look at that node's own directory", **seen)
