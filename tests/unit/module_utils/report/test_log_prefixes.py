# SPDX-License-Identifier: GPL-3.0-or-later
"""What loggers and launchers put before a line hides no failure, and keeps the lines of several processes apart."""

from __future__ import annotations

import json
from typing import List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import log_errors
from helpers.tracebacks import NOISE, REAL


@pytest.mark.parametrize(
    "prefix",
    [
        "ERROR 11-20 12:00:00 [core.py:700] ",
        "ERROR 11-20 12:00:00 core.py:700] ",
        "(VllmWorker rank=3 pid=12) ERROR 11-20 12:00:00 [multiproc_executor.py:559] ",
        "(EngineCore_DP0 pid=271) ",
        "\x1b[1;36m(EngineCore pid=5)\x1b[0;0m ",
        "\x1b[36m(train pid=12, ip=10.0.0.7)\x1b[0m ",
        "(raylet, ip=10.0.0.7) ",
        "[2025-02-26 12:01:56 DP1 TP2 EP0] ",
        "[2025-02-26 12:01:56] ",
        "[2025-02-26 12:01:56,789] [ERROR] [launch.py:325:sigkill_handler] ",
        "3: ",
        " 13: [rank13]: ",
        "2025-02-26T12:01:56.123456789Z ",
        "2025-02-26T12:01:56.123456789Z [rank0]: ",
        "0: 2025-02-26T12:01:56.1Z (Worker pid=17) ERROR 02-26 12:01:56 [x.py:1] ",
        "[20251120 12:00:00][rank-0/8][ERROR] [--------trainer.py:761] : ",
        "[rank0]:[titan] 2025-02-26 12:01:56,123 - root - ERROR - ",
        "2025-02-26 12:01:56,123 - root - ERROR - ",
        "2025-02-26 12:01:56.123 | ERROR    | module:func:12 - ",
        "2025-02-26 12:01:56 ERROR ",
        "ERROR:root:",
        "[default3]:",
        "[1,3]<stderr>:",
        "E1120 12:00:00.123456 1234 run.cpp:607] ",
        "[E226 12:01:56.123456789 run.cpp:607] ",
        "[ERROR|trainer.py:12] 2025-02-26 12:01:56 ",
        "vllm-1  | ",
        "madengine_run_12 | (EngineCore_0 pid=5) ERROR 11-28 22:46:30 [core.py:1] ",
        "12:01:56 ",
        "[12:01:56] ",
        "Nov 28 12:01:56 n01 python[12]: ",
        "11/28/2026 12:01:56 - ERROR - __main__ - ",
        "2026-11-28T12:01:56.1Z stderr F ",
        "[n01:12345] ",
        "[node-3:0]: ",
        "n01:3: ",
        "[TensorRT-LLM][ERROR] ",
        "ERROR | ",
    ],
)
def test_what_a_logger_puts_before_a_line_is_taken_off(prefix: str) -> None:
    assert list(log_errors.lines_of([prefix + line for line in REAL])) == [REAL[-1]]
    assert list(log_errors.lines_of([prefix + "RuntimeError: HIP error: invalid device function"])) == [
        "RuntimeError: HIP error: invalid device function"
    ]
    assert list(log_errors.lines_of([prefix + line for line in NOISE])) == []


@pytest.mark.parametrize("lead", ["26/11/28 12:00:0{} ERROR Executor: ", "ERROR:    ", "[error    ] ", "176433120{}.123 ", "> "])
def test_a_prefix_that_nobody_knows_is_learned_from_a_traceback_s_header(lead: str) -> None:
    log = [lead.format(number) + line for number, line in enumerate([*REAL, "RuntimeError: HIP error: later"])]
    assert list(log_errors.lines_of(log)) == [REAL[-1], "RuntimeError: HIP error: later"]


def test_two_processes_stay_two_behind_a_prefix_that_nobody_knows() -> None:
    log = [f"proc {number} >{line}" for pair in zip(REAL, [*REAL[:-1], "KeyError: 1"]) for number, line in enumerate(pair)]
    assert list(log_errors.lines_of(log)) == [REAL[-1], "KeyError: 1"]


def object_of(**said: str) -> str:
    return json.dumps(said)


@pytest.mark.parametrize(
    "log",
    [
        [object_of(log=line + "\n", stream="stderr", time="2026-11-28T12:00:00.1Z") for line in REAL],
        [object_of(level="error", message="step failed", exc_info="\n".join(REAL))],
        [object_of(severity="ERROR", msg=REAL[-1]), "[1, 2]", "{}", '{"a": 1}', '{"msg": {}}', '{"' + "[" * 9999],
    ],
)
def test_a_log_of_json_objects_is_read(log: List[str]) -> None:
    assert list(log_errors.lines_of(log)) == [REAL[-1]]


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "2026.11.28 12:00:00 ",
            "Sat Nov 28 12:00:00 UTC 2026: ",
            "[ 123.456789] ",
            "stderr: ",
            "STDERR | ",
            "(pid 123) ",
            "n01 | ",
            "rank 0: ",
        ),
        *(
            "R0: ",
            "GPU 0: ",
            "<0> ",
            "2026-11-28 12:00:00,123 ERROR [main] x: ",
            "ts=2026-11-28T12:00:00Z level=error msg=",
            "[11/28 12:00:00] ",
        ),
        *(
            "[2026-11-28 12:00:00,123][root][ERROR] - ",
            "[NeMo E 2026-11-28 12:00:00 x:12] ",
            "::error:: ",
            "train.log: ",
            "/tmp/x.log:12: ",
        ),
    ],
)
def test_an_exception_is_found_behind_what_can_only_be_a_prefix(prefix: str) -> None:
    peer = "RuntimeError: Engine core initialization failed. See root cause above."
    assert log_errors.cause(list(log_errors.lines_of([f"{prefix}x.y.BadError: no", peer]))) == "x.y.BadError: no"


@pytest.mark.parametrize(
    "line", ["we retry on a ConnectionError: wait", "failed to import x: ImportError: y", "Ignored: KeyError: z", "UserWarning: OSError: a"]
)
def test_an_exception_in_a_sentence_is_none(line: str) -> None:
    assert list(log_errors.lines_of([line, "ValueError: bad"])) == ["ValueError: bad"]
