#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: results_collect
short_description: Choose a job's result among the CSVs that its nodes brought home
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Ranks every node's CSV in a job's collection directory and publishes the best one, or merges them.
  - A row counts when its C(performance) is a finite number, C(model) and C(metric) are there, its C(status), if there is one, does
    not say that it failed, and it has no more cells than the header. The CSV with the most such rows is the best, then the one with
    the most rows, then that of the lowest rank; one whose throughputs are all 0 comes after those with numbers.
  - What is known to be another run's does not count, nor do the files in which madengine keeps the history of all runs (C(perf.csv)
    with rows of other runs, C(perf_super*), C(perf_entry*)).
  - Blanks, C(N/A), C(nan), C(inf), C(FAILED), ragged rows, repeated headers, byte order marks, NUL bytes, empty and binary
    files are survived and counted as what they are.
  - Root works as the owner of O(src), in which links may lead anywhere. Anybody else may write to an own O(src) alone.
  - The epilog does the same at the end of every job; this module does it again at any time, from any host that sees the directory.
options:
  src:
    description:
      - The job's collection directory, which holds C(node_0), C(node_1) and so on.
    type: path
    required: true
  name:
    description:
      - The name of the CSV, which madengine calls C(multiple_results).
      - A node's C(<stem>_rank<N>.csv) are candidates too.
      - If it is empty, every CSV in a node's directory is a candidate.
      - If it is not given, the one that the epilog was asked for; where no epilog has chosen, as if it were empty.
    type: str
  dest:
    description:
      - Where the result is put. In an existing directory it keeps its own name.
      - If it is not given, the result is put into O(src), where madengine looks first, with C(selection.json) beside it.
    type: path
  policy:
    description:
      - V(richest) takes the best CSV as it is.
      - V(merge) makes one table of all nodes' CSVs, for data-parallel serving, where each node measured its own share.
        Rows that measured the same (model, metric and every further column that is no measurement) become one. What is like a
        throughput or a count is summed, what is like a latency, per GPU, per user or a percentage averaged, of memory the maximum taken.
      - If it is not given, what the epilog did; where no epilog has chosen, V(richest).
    type: str
    choices: [richest, merge]
  newer_than:
    description:
      - CSVs that were last written before this time are another run's and never the result.
      - Seconds since the epoch, or ISO 8601 such as V(2026-01-31T12:00:00Z).
      - If it is not given, the start of the job holds that the epilog knew of.
    type: str
  nodes:
    description:
      - The names of the job's nodes, rank 0 first, so that a node of which nothing came is noticed.
      - If it is not given, those that the epilog knew of.
    type: list
    elements: str
  fail_on:
    description:
      - The verdicts that fail the task. Nothing is published then.
      - Where no row of any candidate counts, the task fails whatever is listed here.
    type: list
    elements: str
    choices: [ok, partial, empty, missing, job_failed]
    default: [missing, empty]
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The difference shows the first 64 KiB of the result.
  idempotent:
    support: full
seealso:
  - module: rocm.madengine.job_report
"""

EXAMPLES = r"""
- name: Choose the result of job 4711
  rocm.madengine.results_collect:
    src: /home/alice/slurm_results/llama/4711
    name: perf_llama.csv
  register: chosen

- name: Say what it is
  ansible.builtin.debug:
    var: chosen.line

- name: Add up what each serving node measured, and be strict about lost nodes
  rocm.madengine.results_collect:
    src: /home/alice/slurm_results/vllm/4712
    name: perf_vllm.csv
    policy: merge
    dest: /srv/results/vllm-4712.csv
    newer_than: "2026-01-31T12:00:00Z"
    fail_on: [missing, empty, partial, job_failed]
"""

RETURN = r"""
verdict:
  description:
    - One word for the job.
    - V(ok), V(partial) (some nodes lacked data), V(empty) (no row counts), V(missing) (no CSV) or V(job_failed).
  returned: always, unless O(src) cannot be read or the arguments are wrong
  type: str
  sample: ok
reason:
  description: The verdict in a sentence.
  returned: with RV(verdict)
  type: str
  sample: "node_2/perf.csv: 1 of 1 rows count, the most of 3 candidates"
line:
  description: The result in one line, for a log.
  returned: with RV(verdict)
  type: str
  sample: "best: node_2/perf.csv rows=1 performance=123.4 metric=tokens_per_second node=n3"
selected:
  description: The chosen CSV, or nothing.
  returned: with RV(verdict)
  type: dict
  contains:
    path:
      description: Where it was found, relative to O(src). For a merged table its own name.
      type: str
    node:
      description: The node that it came from, V(all) for a merged table.
      type: str
    rank:
      description: That node's rank.
      type: int
    rows:
      description: How many rows it has.
      type: int
    scored:
      description: How many of them count.
      type: int
    published:
      description: The name under which it was published.
      type: str
    headline:
      description: The row that heads a report, or nothing.
      type: dict
    values:
      description: The first 50 rows that count, as C(model), C(performance), C(metric) and C(value).
      type: list
      elements: dict
best:
  description: The row to show when there is room for one, a rate or a throughput of the chosen CSV. Nothing where it has none.
  returned: with RV(verdict)
  type: dict
  sample: {path: node_2/perf.csv, node: n3, rank: 2, rows: 1, model: llama, performance: "123.4", metric: tokens_per_second, value: 123.4}
rows:
  description: How many rows the result has.
  returned: with RV(verdict)
  type: int
  sample: 1
candidates:
  description: Every CSV that was looked at, the best first.
  returned: with RV(verdict)
  type: list
  elements: dict
  contains:
    path:
      description: Relative to O(src).
      type: str
    node:
      description: The node that it came from.
      type: str
    rank:
      description: That node's rank.
      type: int
    rows:
      description: How many rows it has.
      type: int
    scored:
      description: How many of them count.
      type: int
    reason:
      description: Why it is worth what it is, or cannot be chosen.
      type: str
lacking:
  description: The nodes without data, each with C(node), C(rank) and C(reason).
  returned: with RV(verdict)
  type: list
  elements: dict
merged:
  description:
    - For each row of a merged table C(model), C(metric), the further columns that say what was measured (C(identity)), C(how) it came
      about, of how many C(nodes), the nodes that had no number for it (C(lacking)), C(performance).
  returned: with RV(verdict)
  type: list
  elements: dict
left_out:
  description: The rows of a merged table that no node had a number for, each with C(model), C(metric), C(identity) and C(reason).
  returned: with RV(verdict)
  type: list
  elements: dict
further:
  description:
    - The choices for the job's further models, where a manifest has several, each with its C(name), C(verdict), C(selected) and C(best).
  returned: with RV(verdict)
  type: list
  elements: dict
images:
  description: For each node the C(image) and C(image_id) that it ran.
  returned: with RV(verdict)
  type: dict
images_agree:
  description: Whether all nodes ran the same image.
  returned: with RV(verdict)
  type: bool
dest:
  description: Where the result is, or would be outside check mode. Empty if there is none.
  returned: with RV(verdict)
  type: str
  sample: /home/alice/slurm_results/llama/4711/perf_llama.csv
"""

import os
import tempfile
from typing import IO, Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import files, process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import (
    candidates,
    ownership,
    publish,
    selection,
    selection_json,
    verdict,
)
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish

_SHOWN = ("verdict", "reason", "selected", "best", "candidates", "lacking", "merged", "left_out", "further", "images", "images_agree")
_LONGEST_DIFF = 64 << 10


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "name": {"type": "str"},
            "dest": {"type": "path"},
            "policy": {"type": "str", "choices": list(selection.POLICIES)},
            "newer_than": {"type": "str"},
            "nodes": {"type": "list", "elements": "str"},
            "fail_on": {"type": "list", "elements": "str", "choices": list(verdict.VERDICTS), "default": ["missing", "empty"]},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _collect(module))


def _collect(module: AnsibleModule) -> Dict[str, Any]:
    params, is_check = module.params, module.check_mode
    owner = ownership.account_for(params["src"], writes=params["dest"] is None and not is_check)
    if params["dest"] is not None and ownership.is_directory(params["dest"]):
        ownership.require_own(params["dest"])
    elif params["dest"] is not None:
        ownership.require_own(os.path.dirname(params["dest"]) or ".")
    with tempfile.TemporaryFile() as chosen:
        answer = _chosen(params, is_check, chosen.fileno()) if owner is None else _chosen_as(owner, params, is_check, chosen.fileno())
        if "msg" in answer:
            module.fail_json(**answer)
        if params["dest"] is not None and answer["dest"]:
            chosen.seek(0)
            answer["changed"] = _put(chosen, answer["dest"], is_check)
    return answer


def _chosen_as(owner: process.Account, params: Dict[str, Any], is_check: bool, handle: int) -> Dict[str, Any]:
    answer: Dict[str, Any] = process.start(owner, _chosen, params, is_check, handle, keep=(handle,)).result()
    return answer


def _chosen(params: Dict[str, Any], is_check: bool, handle: int) -> Dict[str, Any]:
    """Choose, as whoever owns the directory; with a *dest* the result goes to the descriptor *handle*, whoever may write there."""
    src, dest = params["src"], params["dest"]
    name, policy = selection.asked(src)
    name = name if params["name"] is None else params["name"]
    further = selection.further(src) if params["name"] is None else []
    choice = selection.select(src, name, params["policy"] or policy, _facts(params), further=further)
    chosen, target = choice.selection, _target(choice, src, dest)
    answer = {**{key: getattr(chosen, key) for key in _SHOWN}, "line": chosen.line(), "dest": target}
    answer["rows"] = chosen.selected["rows"] if chosen.selected else 0
    if chosen.verdict in params["fail_on"] or not chosen.has_number():
        return {**answer, "msg": f"madengine: job: results: {answer['verdict']}: {answer['reason']}; see candidates and lacking"}
    diff = {"before": _start_of(target), "after": _start_of_choice(choice), "before_header": target, "after_header": target}
    if dest is not None:
        _give(choice, handle)
        return {**answer, "changed": False, "diff": diff}
    return {**answer, "changed": _publish(choice, src, target, is_check), "diff": diff}


def _facts(params: Dict[str, Any]) -> Dict[str, Any]:
    facts = selection.recalled(params["src"])
    if params["newer_than"] is not None:
        facts["newer_than"] = candidates.moment(params["newer_than"])
    if params["nodes"]:
        facts["nodes"] = params["nodes"]
    return facts


def _target(choice: publish.Choice, src: str, dest: str) -> str:
    if not choice.name:
        return ""
    if dest is None:
        return os.path.join(src, choice.name)
    return os.path.join(dest, choice.name) if os.path.isdir(dest) else dest


def _publish(choice: publish.Choice, src: str, target: str, is_check: bool) -> bool:
    if is_check:
        return bool(target and not publish.is_same(choice, target)) or not selection_json.is_written(choice.selection, src)
    return publish.publish(choice, src)


def _give(choice: publish.Choice, handle: int) -> None:
    with choice.open() as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            os.write(handle, block)


def _put(chosen: IO[bytes], target: str, is_check: bool) -> bool:
    """Put what was chosen under *target*; say whether that changes it."""
    wanted = chosen.read()
    try:
        with files.opened(target) as present:
            if present.read(len(wanted) + 1) == wanted:
                return False
    except Fault:
        pass
    if not is_check:
        publish.write(target, wanted)
    return True


def _start_of(path: str) -> str:
    try:
        with files.opened(path) as stream:
            return stream.read(_LONGEST_DIFF).decode("utf-8", "replace")
    except (Fault, OSError):
        return ""


def _start_of_choice(choice: publish.Choice) -> str:
    if not choice.name:
        return ""
    with choice.open() as stream:
        return stream.read(_LONGEST_DIFF).decode("utf-8", "replace")


if __name__ == "__main__":
    main()
