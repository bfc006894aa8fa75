# SPDX-License-Identifier: GPL-3.0-or-later
"""Run modules in the test process."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Callable, Iterator, Tuple

import pytest
from hypothesis import settings

try:
    from ansible.module_utils.testing import patch_module_args  # ansible-core >= 2.19
except ImportError:
    from ansible.module_utils import basic

    @contextlib.contextmanager
    def patch_module_args(args: Any) -> Iterator[None]:
        saved = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = saved


# A law holds on a busy machine, too; and what a run finds must not depend on the runs before it.
settings.register_profile("quiet", deadline=None, database=None)
settings.load_profile("quiet")


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> Callable[..., Tuple[Any, Any]]:
    """Call a module's main(); give back (exit code, result)."""

    def run(module: Any, **params: Any) -> Tuple[Any, Any]:
        capsys.readouterr()
        with patch_module_args(params), pytest.raises(SystemExit) as stop:
            module.main()
        return stop.value.code, json.loads(capsys.readouterr().out)

    return run
