# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job left on this node, copied into ``node_<rank>/`` of its collection directory.

Whatever the job made of its directories: links, devices and FIFOs are not followed, names cannot lead out of the target,
sizes and numbers are capped, what is older than the job or another job's stays behind (see `provenance`). ``node.json``
comes last and says what was taken, what of it may be the result, what was not taken, and why. Results and ``node.json``
everybody may read; logs and whatever else comes along the job's user alone: nobody knows what a program prints.

Source: results.md, "Gather"; openat(2), "O_NOFOLLOW".
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from ..core import files
from ..core.deadline import Deadline
from ..core.errors import Fault, ShareFault
from . import candidates, csv_score, provenance
from .candidates import NODE_FACTS
from .haul import LIMITS, Found, Haul, free, take
from .provenance import Origins

PATTERNS = (
    "multi_results*.csv",
    "perf.csv",
    "perf_*.csv",
    "perf-*.csv",
    "benchmark_*_CONCURRENCY.log",
    "*.live.log",
    "*_env.csv",
    "gpu_info_*.csv",
    "library_trace.csv",
    "*_profiler_output.csv",
    "*_output.csv",
    "*_trace.csv",
    "rocprof_output",
    "results*",
)
_DEEPEST = 8

Source = Union[str, Mapping[str, Any]]


def gather(
    sources: Sequence[Source],
    collection_dir: str,
    facts: Mapping[str, Any],
    since: float,
    limits: Optional[Mapping[str, float]] = None,
    origins: Optional[Origins] = None,
    secrets: Sequence[str] = (),
) -> Dict[str, Any]:
    """Copy what is worth keeping from *sources* to ``<collection_dir>/node_<rank>/``; again changes nothing.

    :param sources: directories on this node, the most telling first; ``{"path": …, "all": true}`` was made for this job's
        results and every file in it is taken; ``{"path": …, "root": …}`` is part of the workspace *root*. One that is missing
        is no fault.
    :param facts: ``rank`` and what else ``node.json`` is to say: ``node``, ``job_id``, ``attempt``, ``exit_code``, ``failed``,
        ``image``, ``image_id``; ``csv`` (the name of the result) adds to what is taken.
    :param since: seconds since the epoch, by this node's clock: older files are another run's.
    :param limits: other values than those of `LIMITS`.
    :param origins: what decides whose a workspace's files are; where it is None, ``csv`` of *facts* is the one that is expected.
    :param secrets: values that are taken out of what a program has printed.
    :returns: ``node.json``'s document, with ``folder``.
    :raises ShareFault: the collection directory cannot be written; the message says where the files stay.
    """
    folder = os.path.join(collection_dir, f"node_{int(facts['rank'])}")
    allowed = {**LIMITS, **(limits or {})}
    haul = Haul(allowed, Deadline(allowed["seconds"]), tuple(secrets))
    with _explained(folder, sources):
        os.makedirs(collection_dir, exist_ok=True)
        set_aside(collection_dir, folder, facts)
        os.makedirs(folder, exist_ok=True)
        known = origins or Origins((provenance.wanted({"multiple_results": facts.get("csv")}),))
        for item in _worth(sources, known, since, haul):
            take(item, folder, haul)
        said = {"version": 1, **facts, "since": since}
        document = candidates.shortened({**said, "files": haul.taken, "skipped": haul.skipped, "size_bytes": haul.size_bytes})
        files.write(os.path.join(folder, NODE_FACTS), candidates.text_of(document))
    return {**document, "folder": folder}


def workspaces(job_id: int, rank: int, nodes: int, temporary: Sequence[str] = ("/tmp",)) -> List[str]:  # noqa: S108 (madengine's choice)
    """Return the directories that madengine works in on this node, the most telling first; none of them need exist.

    :param nodes: how many the job has; alone, madengine leaves the rank out of the name.
    :param temporary: ``$SLURM_TMPDIR`` if there is one, then ``/tmp``.
    """
    names = [f"madengine_node_{rank}", f"madengine_job_{job_id}_node_{rank}"] + ([f"madengine_job_{job_id}"] if nodes == 1 else [])
    return [os.path.join(folder, name) for folder in temporary for name in names]


def sources_in(roots: Sequence[str]) -> List[Source]:
    """Return the workspaces *roots* as sources: where a model ran comes first."""
    within = [{"path": os.path.join(root, "run_directory"), "root": root} for root in roots]
    return [*within, *({"path": root, "root": root} for root in roots)]


def is_wanted(name: str, csv: str = "") -> bool:
    """Say whether a file called *name* is worth keeping, whatever is in it.

    >>> [is_wanted(name) for name in ("perf_llama.csv", "model.safetensors", "run.live.log")]
    [True, False, True]
    """
    return bool(csv and candidates.is_candidate(name, csv)) or any(fnmatch.fnmatchcase(name, pattern) for pattern in PATTERNS)


def _worth(sources: Sequence[Source], origins: Origins, since: float, haul: Haul) -> List[Found]:
    """Return what to take, results before all else, small before large: what a limit cuts off is worth the least."""
    found: Dict[str, Found] = {}
    seen: Set[Tuple[int, int]] = set()
    for source in sources:
        given: Mapping[str, Any] = {"path": source} if isinstance(source, str) else source
        root, takes_all = str(given["path"]), bool(given.get("all"))
        base = str(given.get("root") or root)
        if not _is_own(root, haul):
            continue
        for relative, status, is_inside in _walk(root, base, None if takes_all else origins, haul):
            path, name = os.path.join(root, relative), os.path.basename(relative)
            is_result = _is_result(path, relative, takes_all, origins)
            if (status.st_dev, status.st_ino) in seen or not (takes_all or is_inside or is_result or is_wanted(name)):
                continue
            seen.add((status.st_dev, status.st_ino))
            why = "" if takes_all or not is_result else origins.refusal(base, os.path.relpath(path, base), status)
            if status.st_mtime < since or why in provenance.FOREIGN:
                haul.skip(path, why or "older than the job")
                continue
            why = why or (candidates.LEDGER if provenance.is_ledger(name) and not is_result else "")
            keeps_folders = (takes_all or is_inside) and not is_result
            target = free(relative, keeps_folders, found)
            found[target] = Found(path, target, status.st_size, status.st_mtime, is_result and not why, why)
    return sorted(found.values(), key=lambda item: (not item.is_result, item.size_bytes, item.name))


def _is_result(path: str, relative: str, takes_all: bool, origins: Origins) -> bool:
    """Say whether the name, or where there is none the shape, of a file is that of a result."""
    name = os.path.basename(relative)
    if any(each.csv and candidates.is_candidate(name, each.csv) for each in origins.expected):
        return True
    if all(each.csv for each in origins.expected) or not candidates.is_candidate(name, "") or provenance.is_ledger(name):
        return False
    if takes_all:
        return "/" not in relative
    with contextlib.suppress(Fault, OSError), files.opened(path) as stream:
        return csv_score.has_shape(stream)
    return False


def _is_own(root: str, haul: Haul) -> bool:
    """Say whether *root* is the user's or root's: names in /tmp can be guessed, and another user may have been first."""
    try:
        status = os.lstat(root)
    except OSError:
        return False
    if status.st_uid in (os.geteuid(), 0) and stat.S_ISDIR(status.st_mode):
        return True
    haul.skip(root, "no directory of the job's user")
    return False


def _walk(root: str, base: str, origins: Optional[Origins], haul: Haul) -> Iterator[Tuple[str, os.stat_result, bool]]:
    """Give each regular file below *root*: its path there, its status, whether it lies in a directory worth keeping.

    :param base: the workspace that *root* is part of; where there are *origins*, other jobs' directories in it are left out.
    """
    waiting = [("", 0, False)]
    while waiting:
        relative, depth, is_inside = waiting.pop()
        try:
            listed = sorted(os.scandir(os.path.join(root, relative)), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            haul.skip(os.path.join(root, relative), error.strerror or str(error))
            continue
        below = os.path.normpath(os.path.relpath(os.path.join(root, relative), base))
        if origins is not None and origins.is_foreign(base, "" if below == "." else below, [entry.name for entry in listed]):
            haul.skip(os.path.join(root, relative), "other jobs' files")
            continue
        for entry in listed:
            haul.entries += 1
            if haul.entries > haul.limits["entries"] or haul.deadline.has_passed():
                haul.skip(root, "too many files, or too slow, to look at them all")
                return
            below = os.path.join(relative, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if depth < _DEEPEST:
                    waiting.append((below, depth + 1, is_inside or is_wanted(entry.name)))
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield below, status, is_inside
                elif is_inside or is_wanted(entry.name):
                    haul.skip(os.path.join(root, below), "no regular file")


def set_aside(collection_dir: str, folder: str, facts: Mapping[str, Any]) -> None:
    """Move what an earlier attempt of a requeued job has left to ``attempt_<n>/``: it is kept, and is not this one's.

    :param folder: of one node, in the collection directory.
    :param facts: ``attempt``, the present one.
    """
    earlier = candidates.document(os.path.join(folder, NODE_FACTS)).get("attempt")
    if not isinstance(earlier, int) or earlier == facts.get("attempt"):
        return
    shelf = os.path.join(collection_dir, f"attempt_{earlier}")
    os.makedirs(shelf, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, _unused(os.path.join(shelf, os.path.basename(folder))))


def _unused(path: str) -> str:
    choices = (path, *(f"{path}.{number}" for number in range(1, 1000)))
    return next(choice for choice in choices if not os.path.lexists(choice))


@contextlib.contextmanager
def _explained(folder: str, sources: Sequence[Source]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = ", ".join(str(source if isinstance(source, str) else source["path"]) for source in sources)
        raise ShareFault(
            "collect: cannot write the collection directory",
            f"make room there and copy them by hand; they stay on this node in {kept}",
            folder=folder,
            error=error.strerror or str(error),
        ) from error
