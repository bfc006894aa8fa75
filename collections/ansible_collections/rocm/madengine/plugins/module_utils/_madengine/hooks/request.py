# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SLURM says of a job, and what its user asks of us.

`job_of` takes only what SLURM itself vouches for and fails on nothing that a user wrote; `read` takes the user's words
and fails with a line for that user. The first is needed to tell anybody about the second.

Source: prolog and epilog guide, "Environment Variables"; measured with Slurm 22.05.8 and 24.11.5 (22.05 has
SLURM_NODELIST alone and no SLURM_JOB_EXTRA; SLURM_JOB_STDOUT is absolute and keeps its ``%j``).
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

from ..core.errors import JobFault
from ..oci import image
from ..slurm import hostlist

WORD = "madengine"
KEYS = ("manifest", "image", "store", "results", "transport")
DEFAULT_MANIFEST = "build_manifest.json"
_TRANSPORTS = ("auto", "shared", "sbcast", "registry")
_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class Job:
    """A job on this node, as SLURM's environment of a prolog or epilog describes it."""

    cluster: str
    job_id: int
    attempt: int
    user: str
    uid: int
    gid: int
    node: str
    nodes: Tuple[str, ...]
    work_dir: str
    stdout: str
    comment: str
    extra: str
    ends_by: int = 0  # when its time limit is up, in seconds since the epoch, as the prolog is told; 0 where it is not

    @property
    def leader(self) -> str:
        return self.nodes[0]

    @property
    def node_rank(self) -> int:
        """This node's place in the job's node list; the leader's is 0."""
        return self.nodes.index(self.node)

    @property
    def is_leader(self) -> bool:
        return self.node == self.leader

    def place(self) -> Dict[str, object]:
        """Return what every line of this job's timeline carries."""
        return {"job_id": self.job_id, "node": self.node, "node_rank": self.node_rank}

    def facts(self) -> Dict[str, object]:
        """Return what ``status.json`` says of the job from the start."""
        return {
            **self.place(),
            "user": self.user,
            "uid": self.uid,
            "gid": self.gid,
            "nodes": list(self.nodes),
            "attempt": self.attempt,
            "ends_by": self.ends_by,
        }

    def path(self, name: str) -> str:
        """Return *name* as seen from the job's work directory."""
        return os.path.normpath(os.path.join(self.work_dir, name))


@dataclass(frozen=True)
class Request:
    """What the job asks of us; an empty text where it asks nothing."""

    manifest: str
    image: str = ""
    store: str = ""
    results: str = ""
    transport: str = ""
    is_explicit: bool = True


def job_of(environ: Mapping[str, str]) -> Job:
    """Return the job that the environment of a prolog or epilog describes.

    :raises JobFault: SLURM's own variables make no sense, or this node is not in the job's node list.
    """
    nodes = tuple(hostlist.expand(environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST", "")))
    node = environ.get("SLURMD_NODENAME", "")
    if node not in nodes:
        raise JobFault("request: this node is not one of the job's", "run this as SLURM's prolog", node=node, nodes=",".join(nodes))
    uid = _number(environ, "SLURM_JOB_UID")
    return Job(
        cluster=environ.get("SLURM_CLUSTER_NAME", ""),
        job_id=_number(environ, "SLURM_JOB_ID"),
        attempt=_number(environ, "SLURM_JOB_RESTART_COUNT", "0"),
        user=environ.get("SLURM_JOB_USER", str(uid)),
        uid=uid,
        gid=_number(environ, "SLURM_JOB_GID"),
        node=node,
        nodes=nodes,
        work_dir=environ.get("SLURM_JOB_WORK_DIR", "/"),
        stdout=environ.get("SLURM_JOB_STDOUT", ""),
        comment=environ.get("SLURM_JOB_COMMENT", ""),
        extra=environ.get("SLURM_JOB_EXTRA", ""),
        ends_by=_number(environ, "SLURM_JOB_END_TIME", "0"),
    )


def concerns_us(job: Job) -> bool:
    """Say whether *job* is ours; only then may it be `read`.

    A job opts in by its comment, or by ``--extra``; one that ``madengine run`` has submitted over several nodes need
    not. ``madengine=off`` opts out of everything.
    """
    if is_off(job.comment) or is_off(job.extra):
        return False
    return is_ours(job.comment) or is_ours(job.extra) or _is_of_madengine(job)


def read(job: Job) -> Request:
    """Return what *job*, which concerns us, asks.

    :raises JobFault: it asks for something that does not exist; the message names it.
    """
    for words in (job.comment, job.extra):
        if is_ours(words):
            return _request(job, words)
    return Request(manifest=job.path(DEFAULT_MANIFEST), is_explicit=False)


def is_ours(words: str) -> bool:
    """Say whether *words* (a comment or an extra) opt in."""
    return words == WORD or words.startswith(WORD + ":")


def is_off(words: str) -> bool:
    return words == WORD + "=off"


def _is_of_madengine(job: Job) -> bool:
    return len(job.nodes) > 1 and os.path.basename(job.stdout).startswith(WORD + "-")


def _request(job: Job, words: str) -> Request:
    options = _options(words[len(WORD) + 1 :])
    if options.get("transport", "auto") not in _TRANSPORTS:
        raise _refused("transport", options["transport"], "one of " + " ".join(_TRANSPORTS))
    if options.get("store", "/")[:1] != "/":
        raise _refused("store", options["store"], "an absolute path")
    if options.get("results") in ("", ".", "..") or "/" in options.get("results", ""):
        raise _refused("results", options["results"], "a file name without a directory")
    if "image" in options:
        image.Reference.parse(options["image"])
    manifest = options.get("manifest", "" if "image" in options else DEFAULT_MANIFEST)
    return Request(
        manifest=job.path(manifest) if manifest else "",
        image=options.get("image", ""),
        store=options.get("store", ""),
        results=options.get("results", ""),
        transport=options.get("transport", ""),
    )


def _options(text: str) -> Dict[str, str]:
    options: Dict[str, str] = {}
    for part in text.split(",") if text else []:
        key, equals, value = part.strip().partition("=")
        if key not in KEYS or not equals:
            raise JobFault("request: unknown key", f"use {WORD}:key=value,… with the keys {' '.join(KEYS)}", key=key)
        if key in options:
            raise JobFault("request: a key is given twice", "give each key once", key=key)
        if not value or not value.isprintable():
            raise _refused(key, value, "a value")
        options[key] = value
    return options


def _refused(key: str, value: str, expected: str) -> JobFault:
    return JobFault("request: not a value for this key", f"give {expected}", key=key, value=value)


def _number(environ: Mapping[str, str], name: str, default: str = "") -> int:
    text = environ.get(name) or default
    if not _NUMBER.fullmatch(text):
        raise JobFault("request: SLURM gave no number", "run this as SLURM's prolog or epilog", name=name, value=text)
    return int(text)
