#!/usr/bin/python

# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: job_report
short_description: Write a job's report as one HTML page and as text
version_added: 1.0.0
author:
  - The rocm.madengine authors (@ROCm)
description:
  - Makes one self-contained page of what a job's nodes brought home. The verdict, the chosen CSV, every candidate and why it was not
    chosen, the image that each node ran, where the time went on each node, faults, diagnoses and the ends of logs.
  - The page loads nothing and runs nothing. It can be read on a phone, in dark mode and with hundreds of nodes.
  - All that the job wrote is shown as text, whatever it holds.
  - Root works as the owner of O(src), in which links may lead anywhere. Anybody else may write to an own O(src) alone.
  - The epilog writes the same report where the node has Jinja2.
options:
  src:
    description:
      - The job's collection directory, which holds C(node_0), C(node_1) and so on, and C(selection.json).
    type: path
    required: true
  dest:
    description:
      - The directory that gets C(report.html) and C(report.txt). It must exist.
      - If it is not given, O(src), where C(report.html) is for its owner alone, for it quotes logs.
    type: path
  formats:
    description: Which of the two are written.
    type: list
    elements: str
    choices: [html, text]
    default: [html, text]
extends_documentation_fragment:
  - rocm.madengine.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - Jinja2 (C(python3-jinja2)) on the target for V(html)
seealso:
  - module: rocm.madengine.results_collect
  - module: rocm.madengine.container_diagnostics
"""

EXAMPLES = r"""
- name: Write the report of job 4711
  rocm.madengine.job_report:
    src: /home/alice/slurm_results/llama/4711
  register: report

- name: Show it
  ansible.builtin.debug:
    msg: "{{ report.text.splitlines() }}"

- name: Write the page alone to the web server's directory
  rocm.madengine.job_report:
    src: /home/alice/slurm_results/llama/4711
    dest: /srv/www/jobs/4711
    formats: [html]
"""

RETURN = r"""
verdict:
  description: One word for the job, as in RV(rocm.madengine.results_collect#module:verdict).
  returned: success
  type: str
  sample: ok
files:
  description: The files that were written, or would be in check mode, or are there already.
  returned: success
  type: list
  elements: str
  sample: [/home/alice/slurm_results/llama/4711/report.html, /home/alice/slurm_results/llama/4711/report.txt]
text:
  description: The report as text, whichever O(formats) were asked for.
  returned: success
  type: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import render
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import ownership
from ansible_collections.rocm.madengine.plugins.module_utils._module import finish


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "dest": {"type": "path"},
            "formats": {"type": "list", "elements": "str", "choices": ["html", "text"], "default": ["html", "text"]},
        },
        supports_check_mode=True,
    )
    finish(module, lambda: _report(module))


def _report(module: AnsibleModule) -> Dict[str, Any]:
    src, dest, formats, is_check = module.params["src"], module.params["dest"], module.params["formats"], module.check_mode
    owner = ownership.account_for(src, writes=dest is None and not is_check)
    if dest is not None:
        ownership.require_own(dest)
    if owner is None:
        return render.write(src, formats, dest or "", dry=is_check)
    render.has_jinja()  # before we are somebody who may not be able to read it
    if dest is None:
        written: Dict[str, Any] = process.run(owner, render.write, src, formats, "", is_check)
        return written
    return render.put(process.run(owner, render.make, src, formats), dest, is_check)


if __name__ == "__main__":
    main()
