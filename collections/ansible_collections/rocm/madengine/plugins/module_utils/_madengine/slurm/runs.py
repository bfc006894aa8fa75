# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs of madengine inside one job: a second one in the same allocation must not be taken for the first.

Outside an allocation a job is one run, and what it writes carries the job id. Inside one (``salloc``) each run adds a
time and six random digits to it. A run is called by what is added, ``20261006120000_a1b2c3``; the job's only run is "".

Source: madengine after 2.1.3, paths of its generated job script: ``/tmp/madengine_job_<id>[_<run>]_node_<rank>``,
``$SLURM_TMPDIR/madengine_node_<rank>[_<run>]``, ``<output dir>/<model>/<id>[_<run>]``.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, Optional

_RUN = r"(?:_(?P<run>[0-9]{14}_[0-9a-f]{6}))?"
_OF_A_JOB = re.compile(rf"madengine_job_(?P<job>[0-9]+){_RUN}(?:_node_(?P<rank>[0-9]+))?")
_OF_A_NODE = re.compile(rf"madengine_node_(?P<rank>[0-9]+){_RUN}")
_TAG = re.compile(rf"(?P<job>[0-9]+){_RUN}")


def by_run(names: Iterable[str], job_id: int, rank: int) -> Dict[str, List[str]]:
    """Return the job's workspaces among *names* by run, in the order in which the runs began; the job's only run comes first.

    The names are those of one node, and end with its rank in the run's own step. That is *rank*, the node's in the job, unless
    the run has some of the job's nodes alone; then what stands alone on a node is that node's. Where several nodes share the
    directory, *rank* decides.

    >>> by_run(["madengine_job_7_20261006120000_a1b2c3_node_0", "madengine_job_7_node_0"], 7, 1)
    {'20261006120000_a1b2c3': ['madengine_job_7_20261006120000_a1b2c3_node_0']}
    """
    found: Dict[str, Dict[int, List[str]]] = {}
    for name in sorted(names):
        match = _OF_A_JOB.fullmatch(name) or _OF_A_NODE.fullmatch(name)
        if match and int(match.groupdict().get("job") or job_id) == job_id:
            found.setdefault(match["run"] or "", {}).setdefault(int(match["rank"] or rank), []).append(name)
    mine = {run: ranked.get(rank) or (_only(ranked) if run else []) for run, ranked in found.items()}
    return {run: listed for run, listed in sorted(mine.items()) if listed}


def _only(ranked: Dict[int, List[str]]) -> List[str]:
    return next(iter(ranked.values())) if len(ranked) == 1 else []


def of_tag(name: str, job_id: int) -> Optional[str]:
    """Return the run whose directory of results is called *name*; None if it is none of this job's.

    >>> of_tag("7", 7), of_tag("7_20261006120000_a1b2c3", 7), of_tag("8", 7)
    ('', '20261006120000_a1b2c3', None)
    """
    found = _TAG.fullmatch(name)
    return (found["run"] or "") if found and int(found["job"]) == job_id else None


def collection_dir(base: str, run: str) -> str:
    """Return where the results of *run* come together.

    :param base: where those of the job's only run do; it ends with the job id.
    """
    return f"{base}_{run}" if run else base
