# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure's line is found; madengine's own harmless noise is not called one."""

from __future__ import annotations

from typing import List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import log_errors
from hypothesis import given
from hypothesis import strategies as st

HEADER = "Traceback (most recent call last):"
NOISE = [
    HEADER,
    '  File "/madengine/scripts/rocEnvTool/rocenv_tool.py", line 99, in main',
    "    run()",
    '  File "/madengine/scripts/rocEnvTool/console.py", line 40, in sh',
    '    raise RuntimeError("Console script timeout")',
    "RuntimeError: Console script timeout",
]
REAL = [HEADER, '  File "train.py", line 3, in <module>', "    import flash_attn", "ModuleNotFoundError: No module named 'flash_attn'"]


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (REAL, [REAL[-1]]),
        (NOISE, []),
        (NOISE + REAL, [REAL[-1]]),
        (REAL + NOISE, [REAL[-1]]),
        (NOISE[-1:], []),
        (NOISE[3:], []),
        (["[rank3]: " + line for line in REAL], [REAL[-1]]),
        (["(Worker pid=17) " + line for line in NOISE], []),
        (REAL[:-1], ["import flash_attn"]),
        (
            [*REAL[:-1], "", "During handling of the above exception, another exception occurred:", "", *NOISE],
            ["During handling of the above exception, another exception occurred:"],
        ),
        (
            ["torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2 GiB"],
            ["torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2 GiB"],
        ),
        (["n1:17:20 [0] NCCL WARN Cuda failure 'no device'"], ["n1:17:20 [0] NCCL WARN Cuda failure 'no device'"]),
        (["Memory access fault by GPU node-2"], ["Memory access fault by GPU node-2"]),
        (["Killed"], ["Killed"]),
        (["bash: madengine: command not found"], ["bash: madengine: command not found"]),
        (["epoch 1 loss 2.5", "0 errors", "error_rate: 0.1", "Skilled workers", "loss_killed processes"], []),
        ([], []),
    ],
)
def test_what_speaks_of_a_failure_is_found(log: List[str], found: List[str]) -> None:
    assert list(log_errors.lines_of(log)) == found


@given(st.lists(st.one_of(st.sampled_from(NOISE + REAL), st.text(max_size=40))))
def test_no_log_makes_it_fail_and_known_noise_never_comes_out(log: List[str]) -> None:
    for line in log_errors.lines_of(log):
        assert not log_errors.is_benign(line)
