# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure's line is found; madengine's own harmless noise is not called one."""

from __future__ import annotations

from typing import List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import log_errors
from helpers.tracebacks import NOISE, REAL
from hypothesis import given
from hypothesis import strategies as st


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


VLLM = """
(EngineCore pid=500) ERROR 03-23 22:46:30 [core.py:1108] EngineCore failed to start.
(EngineCore pid=500) ERROR 03-23 22:46:30 [core.py:1108] Traceback (most recent call last):
(EngineCore pid=500) ERROR 03-23 22:46:30 [core.py:1108]   File "/opt/vllm/core.py", line 10, in run
(EngineCore pid=500) ERROR 03-23 22:46:30 [core.py:1108] ValueError: Free memory on device is less than desired
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
RAY = """
\x1b[36m(RayWorkerWrapper pid=12, ip=10.0.0.7)\x1b[0m Traceback (most recent call last):
\x1b[36m(RayWorkerWrapper pid=12, ip=10.0.0.7)\x1b[0m   File "x.py", line 3, in y
\x1b[36m(RayWorkerWrapper pid=12, ip=10.0.0.7)\x1b[0m ValueError: bad
"""
SGLANG = """
[2025-02-26 12:01:56 TP2] Scheduler hit an exception: Traceback (most recent call last):
  File "/opt/sglang/scheduler.py", line 1816, in run
    assert x
AssertionError

[2025-02-26 12:01:57] Received sigquit from a child process. It usually means the child failed.
"""
TORCHRUN = """
[rank3]:[E1120 12:00:00.123456789 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught collective operation timeout: ran for 600000 ms
E1120 12:00:10.000000 77 torch/elastic/api.py:869] failed (exitcode: -6) local_rank: 3 (pid: 99) of binary: /usr/bin/python3
Traceback (most recent call last):
  File "/usr/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
INTERLEAVED = """
[rank1]: Traceback (most recent call last):
[rank0]: Traceback (most recent call last):
[rank1]:   File "a.py", line 1, in f
[rank0]:   File "b.py", line 2, in g
[rank0]:     dist.all_reduce(x)
[rank1]:     raise KeyError(1)
[rank0]: torch.distributed.DistBackendError: NCCL error, remote process exited
[rank1]: KeyError: 1
"""
CHAIN = """
Traceback (most recent call last):
  File "a.py", line 1, in f
OSError: [Errno 28] No space left on device

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in f
RuntimeError: could not save the checkpoint
"""
HSA = """
:0:rocdevice.cpp:2984: Callback: Queue 0x7f0 aborting with error : HSA_STATUS_ERROR_OUT_OF_RESOURCES
srun: error: n1: task 0: Aborted (core dumped)
"""
PRIMUS = """
[20251120 12:00:00][rank-0/8][INFO ] [--------trainer.py:760] : iteration 1
[20251120 12:00:01][rank-0/8][ERROR] [--------trainer.py:761] : Traceback (most recent call last):
[20251120 12:00:01][rank-0/8][ERROR] [--------trainer.py:761] :   File "x.py", line 3, in y
[20251120 12:00:01][rank-0/8][ERROR] [--------trainer.py:761] : FileNotFoundError: tokenizer.model
"""


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (VLLM, "ValueError: Free memory on device is less than desired"),
        (RAY, "ValueError: bad"),
        (SGLANG, "AssertionError"),
        (
            TORCHRUN,
            "[Rank 3] Watchdog caught collective operation timeout: ran for 600000 ms",
        ),
        (
            TORCHRUN.partition("\n")[0] + TORCHRUN[1:].partition("\n")[2],
            "failed (exitcode: -6) local_rank: 3 (pid: 99) of binary: /usr/bin/python3",
        ),
        (INTERLEAVED, "KeyError: 1"),
        (CHAIN, "OSError: [Errno 28] No space left on device"),
        (
            HSA,
            ":0:rocdevice.cpp:2984: Callback: Queue 0x7f0 aborting with error : HSA_STATUS_ERROR_OUT_OF_RESOURCES",
        ),
        (PRIMUS, "FileNotFoundError: tokenizer.model"),
        (VLLM + RAY + SGLANG, "ValueError: Free memory on device is less than desired"),
        (
            "ConnectionRefusedError: [Errno 111] Connection refused\nIndexError: list index out of range\n",
            "IndexError: list index out of range",
        ),
    ],
)
def test_the_root_cause_is_named_and_not_the_last_line(log: str, cause: str) -> None:
    assert log_errors.cause(list(log_errors.lines_of(log.splitlines()))) == cause


@pytest.mark.parametrize(
    "line",
    [
        'n1:17:20 [0] NCCL WARN Missing "iommu=pt" from kernel command line which can lead to system instablity or hang!',
        'n1:17:20 [0] NCCL WARN Missing "HSA_FORCE_FINE_GRAIN_PCIE=1" from environment which can lead to low RCCL performance',
        "(raylet) RpcError: Running out of retries to initialize the metrics agent",
        "RpcError: Running out of retries to initialize the metrics agent. rpc_code: 14",
    ],
)
def test_notices_of_a_start_that_went_well_are_no_failure(line: str) -> None:
    assert list(log_errors.lines_of([line])) == []


def test_a_manifest_s_own_benign_patterns_are_heeded_as_texts_and_as_expressions() -> None:
    log = ["ValueError: expected (here)", "KeyError: 17", "OSError: real", "Traceback (most recent call last):", "  f()", "KeyError: 9"]
    assert list(log_errors.lines_of(log, ["expected (here)", r"^KeyError: \d+$"])) == ["OSError: real"]
    assert list(log_errors.lines_of(log, ["[", "", "x" * 1000])) == [*log[:3], log[-1]]


@pytest.mark.parametrize("line", ["12: the answer", "[x] done", "(pid=7) hello", "2025-02-26 12:01:56 all is well", "ERROR 0"])
def test_a_prefix_alone_is_no_failure(line: str) -> None:
    assert list(log_errors.lines_of([line])) == []


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.\nsrun: error: n1: task 0: Out Of Memory", "Detected 1 oom_kill"),
        ("srun: error: n2: task 1: Exited with exit code 1\n"
         "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***", "DUE TO TIME"),
        ("srun: error: n2: task 1: Exited with exit code 1\ntrain.py: error: unrecognized arguments: --foo", "unrecognized arguments"),
        ("sh: 1: vllm: not found", "vllm: not found"),
        ("bash: line 1: ./run.sh: Permission denied", "Permission denied"),
        ("run.sh: line 12:  4711 Killed                  python3 run.py", "Killed"),
        ("python3: can't open file '/x/run.py': [Errno 2] No such file or directory", "can't open file"),
        ('docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].', "could not select"),
        ("prterun noticed that process rank 3 with PID 0 on node n2 exited on signal 9 (Killed).\nValueError: bad", "ValueError: bad"),
        ("prterun noticed that process rank 3 with PID 0 on node n2 exited on signal 9 (Killed).", "exited on signal 9"),
        ("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc", "what():"),
        ("[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12)\nFatal Python error: Aborted", "Watchdog caught"),
        ("Fatal Python error: Segmentation fault", "Segmentation"),
        ("foo.c:3:1: error: expected ';' before '}' token\nmake: *** [Makefile:3: all] Error 1", "expected ';'"),
        ("  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in f\n"
         "  | ExceptionGroup: errors in a TaskGroup (1 sub-exception)\n"
         "  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n    |   File \"b.py\", line 2, in g\n"
         "    | ValueError: bad port\n    +------------------------------------", "ValueError: bad port"),
    ],
)  # fmt: skip
def test_what_shells_launchers_and_slurm_say_of_an_end_is_found(log: str, found: str) -> None:
    assert found in log_errors.cause(list(log_errors.lines_of(log.splitlines())))


PRIMUS = "[20260101 12:00:00][rank-0/8][ERROR] [base.py:50] : Failed to import: No module named 'primus_turbo'"


def test_what_its_logger_alone_calls_an_error_counts_where_there_is_nothing_else() -> None:
    said = PRIMUS.partition(" : ")[2]
    assert list(log_errors.lines_of([PRIMUS, PRIMUS.replace("ERROR", "INFO"), "[20260101 12:00:00] WARNING: error rate"])) == [said]
    assert list(log_errors.lines_of([PRIMUS, "ValueError: bad"])) == ["ValueError: bad"]
    assert list(log_errors.lines_of([PRIMUS], benign=["Failed to import"])) == []


@pytest.mark.parametrize(
    "line",
    [
        " [2025-11-20 12:00:00,123] [rank-3/8][ERROR] [-----trainer.py:12] : ValueError: bad",
        "[2025-11-20T12:00:00.123Z] [ERROR] ValueError: bad",
        "node-01: [rank0]: ValueError: bad",
        "n1: ValueError: bad",
        '{"log":"ValueError: bad',
    ],
)
def test_a_host_a_date_with_a_t_and_a_log_in_json_are_taken_off(line: str) -> None:
    assert log_errors.cause(list(log_errors.lines_of([line]))) == "ValueError: bad"


@pytest.mark.parametrize("line", ["amdgpu 0000:01:00.0: amdgpu: GPU reset begin!", "bash: line 3: foo: command not found"])
def test_what_only_looks_like_a_host_stays(line: str) -> None:
    assert log_errors.cause(list(log_errors.lines_of([line]))) == line
    assert len(list(log_errors.lines_of([PRIMUS] * 100))) == 20


@pytest.mark.parametrize(
    "before",
    [
        ["WARNING 11-28 12:00:00 [x.py:1] " + line for line in REAL],
        ["2026-11-28 12:00:00,1 - root - WARNING - ImportError: no flash_attn, falling back"],
        ["INFO 11-28 12:00:00 [x.py:1] RuntimeError: not supported, using a fallback"],
        ["[W1128 12:00:00.1 socket.cpp:1] RuntimeError: HIP error"],
        ["/x/y.py:12: UserWarning: HIP error: ignored"],
        ["Exception ignored in: <function f>", *REAL],
        ["cat: /x/version: No such file or directory"],
        ["curl: (7) Failed to connect to localhost port 8000"],
        ["fatal: not a git repository (or any of the parent directories): .git"],
        ["fatal: No names found, cannot describe anything."],
    ],
)
@pytest.mark.parametrize("cause", ["ValueError: bad", "Killed", "n1: rocBLAS error: no devices found"])
def test_a_warning_is_no_cause_where_something_failed(before: List[str], cause: str) -> None:
    assert cause.endswith(log_errors.cause(list(log_errors.lines_of([*before, cause]))))


def test_a_warning_is_the_cause_where_there_is_nothing_else() -> None:
    log = ["[rank-0/8][INFO ] [-----x.py:1] : " + line for line in REAL] + ["torch.distributed.elastic.ChildFailedError: "]
    assert log_errors.cause(list(log_errors.lines_of(log))) == REAL[-1]


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("java.lang.RuntimeException: failed\n\tat a.b(C.java:1)\nCaused by: java.util.X: y\n\tat a.b(C.java:2)\n"
         "Caused by: java.io.IOException: disk full\n\tat a.b(C.java:3)", "java.io.IOException: disk full"),
        ("ValueError: Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  f()\nKeyError: 3",
         "KeyError: 3"),
        ("triton.runtime.errors.OutOfResources: out of resource", "triton.runtime.errors.OutOfResources: out of resource"),
        ("bash: /x/run.sh: No such file or directory", "bash: /x/run.sh: No such file or directory"),
        ("run.sh: line 3: FOO: unbound variable", "run.sh: line 3: FOO: unbound variable"),
        ("run.sh: line 3: syntax error near unexpected token `fi'", "run.sh: line 3: syntax error near unexpected token `fi'"),
        ("Unable to open /dev/kfd read-write: Permission denied", "Unable to open /dev/kfd read-write: Permission denied"),
        ("x: error while loading shared libraries: libamdhip64.so.6: y", "x: error while loading shared libraries: libamdhip64.so.6: y"),
        ("curl: (6) Could not resolve host: x\ncontainer exited with code 137", "curl: (6) Could not resolve host: x"),
        ("container exited with code 137", "container exited with code 137"),
        ("CMake Error at CMakeLists.txt:3 (find_package):\n  Could not find hip", "CMake Error at CMakeLists.txt:3 (find_package):"),
    ],
)  # fmt: skip
def test_further_ways_to_say_what_failed(log: str, cause: str) -> None:
    assert log_errors.cause(list(log_errors.lines_of(log.splitlines()))) == cause
