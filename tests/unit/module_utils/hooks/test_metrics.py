# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters only grow, are never half written, and say what node_exporter can read."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import metrics
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.timeline import Timeline
from hypothesis import given
from hypothesis import strategies as st

IMAGE = {"time": 1000.5, "job_id": 1, "node": "n1", "phase": "image", "seconds": 2.5, "result": "ok", "bytes_moved": 1000}
FAULT = {"time": 1001, "phase": "rendezvous", "seconds": 10, "result": "share", "fault": "x"}


def text(tmp_path: Path) -> str:
    return (tmp_path / metrics.FILE).read_text()


def test_a_job_is_counted_by_phase_and_outcome(tmp_path: Path) -> None:
    assert metrics.update(str(tmp_path), [IMAGE, FAULT], "share", "1.0.0") == str(tmp_path / "madengine.prom")
    metrics.update(str(tmp_path), [{**IMAGE, "seconds": 1, "time": 2000}], "ok", "1.1.0")
    assert text(tmp_path) == (
        "# HELP madengine_jobs_total Jobs that ended on this node, by how they ended.\n"
        "# TYPE madengine_jobs_total counter\n"
        'madengine_jobs_total{outcome="ok"} 1\n'
        'madengine_jobs_total{outcome="share"} 1\n'
        "# HELP madengine_phase_total Phases of jobs on this node, by outcome.\n"
        "# TYPE madengine_phase_total counter\n"
        'madengine_phase_total{phase="image",result="ok"} 2\n'
        'madengine_phase_total{phase="rendezvous",result="share"} 1\n'
        "# HELP madengine_phase_seconds_total Seconds spent in each phase, by outcome.\n"
        "# TYPE madengine_phase_seconds_total counter\n"
        'madengine_phase_seconds_total{phase="image",result="ok"} 3.5\n'
        'madengine_phase_seconds_total{phase="rendezvous",result="share"} 10\n'
        "# HELP madengine_phase_bytes_total Bytes that each phase moved.\n"
        "# TYPE madengine_phase_bytes_total counter\n"
        'madengine_phase_bytes_total{phase="image"} 2000\n'
        "# HELP madengine_phase_last_seconds How long each phase took the last time.\n"
        "# TYPE madengine_phase_last_seconds gauge\n"
        'madengine_phase_last_seconds{phase="image"} 1\n'
        'madengine_phase_last_seconds{phase="rendezvous"} 10\n'
        "# HELP madengine_phase_last_timestamp_seconds When each phase last began, by outcome.\n"
        "# TYPE madengine_phase_last_timestamp_seconds gauge\n"
        'madengine_phase_last_timestamp_seconds{phase="image",result="ok"} 2000\n'
        'madengine_phase_last_timestamp_seconds{phase="rendezvous",result="share"} 1001\n'
        "# HELP madengine_release_info The release of the hooks that last ran.\n"
        "# TYPE madengine_release_info gauge\n"
        'madengine_release_info{release="1.1.0"} 1\n'
    )
    assert (tmp_path / metrics.FILE).stat().st_mode & 0o777 == 0o644


def _work(path: str) -> None:
    for _ in range(10):
        metrics.update(path, [IMAGE], "ok")


def test_ten_epilogs_at_once_lose_no_count(tmp_path: Path) -> None:
    crowd = [multiprocessing.get_context("fork").Process(target=_work, args=(str(tmp_path),)) for _ in range(10)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert 'madengine_jobs_total{outcome="ok"} 100\n' in text(tmp_path)
    assert [name for name in os.listdir(tmp_path) if name.endswith(".prom")] == [metrics.FILE]


@pytest.mark.parametrize("junk", [b"", b"\xff\x00", b'madengine_jobs_total{outcome="ok"} many\n', b"node_load1 3\n", b"x" * (2 << 20)])
def test_a_file_that_makes_no_sense_is_begun_anew(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / metrics.FILE).write_bytes(junk)
    metrics.update(str(tmp_path), [], "ok")
    assert text(tmp_path).splitlines()[2:] == ['madengine_jobs_total{outcome="ok"} 1']


VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=2))


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(IMAGE, VALUE)), max_size=4), st.text(max_size=20))
def test_what_is_written_can_be_read_back_whatever_a_timeline_says(lines: Any, outcome: str) -> None:
    samples: Dict[Any, float] = {}
    for line in lines:
        metrics._count(samples, line)
    metrics._put(samples, "madengine_jobs_total", 1, outcome=metrics._word(outcome))
    written = metrics.render(samples)
    again = metrics.render(metrics.parse(written))
    assert again == written
    for line in written.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) madengine_[a-z_]+ .*|madengine_[a-z_]+\{([a-z_]+="[^"\\\n]*",?)*\} [-+0-9.e]+', line)


def test_the_number_of_series_is_bounded(tmp_path: Path) -> None:
    metrics.update(str(tmp_path), [{**IMAGE, "phase": f"p{number}"} for number in range(3000)])
    assert len(metrics.parse(text(tmp_path))) <= 1000


def test_a_directory_that_is_missing_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        metrics.update(str(tmp_path / "missing"), [])


def test_a_hook_counts_its_phases_however_it_ends_and_never_fails_for_it(tmp_path: Path) -> None:
    said: List[str] = []
    log = Timeline({}, [])
    with log.step("gather"):
        pass
    with pytest.raises(ValueError, match="boom"), metrics.counted(str(tmp_path), log, "1.0.0", said.append, "failed"):
        raise ValueError("boom")
    text = (tmp_path / metrics.FILE).read_text()
    assert 'madengine_phase_total{phase="gather",result="ok"} 1' in text
    assert 'madengine_jobs_total{outcome="failed"} 1' in text
    with metrics.counted("", log, "1.0.0", said.append):
        pass
    assert said == []
    with metrics.counted(str(tmp_path / "missing"), log, "1.0.0", said.append):
        pass
    assert len(said) == 1
    assert said[0].startswith("madengine: metrics: cannot be written (path=")
