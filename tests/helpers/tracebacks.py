# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A traceback that is a failure, and one of madengine's own that is none."""

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
