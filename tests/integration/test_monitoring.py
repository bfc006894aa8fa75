# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus scrapes a real node_exporter that reads our file, and finds all that the dashboard and the alerts ask for."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import metrics
from helpers.hooks import REPOSITORY

MONITORING = REPOSITORY / "collections/ansible_collections/rocm/madengine/docs/monitoring"
PROGRAMS = REPOSITORY / "build/prometheus/usr/bin"  # scripts/prometheus puts them there
RULES, DASHBOARD = MONITORING / "alerts.yml", MONITORING / "dashboard.json"
needs_prometheus = pytest.mark.skipif(not (PROGRAMS / "prometheus").exists(), reason="no prometheus: scripts/prometheus")

LABELS = {"instance", "outcome", "phase", "release", "result"}
LINES = [
    {"time": time.time(), "phase": phase, "seconds": 2.5, "result": result, "bytes_moved": moved}
    for phase, result, moved in (("publish", "ok", 10**9), ("load", "ok", 10**8), ("load", "node", 0), ("gather", "defect", 0))
]


def expressions() -> List[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def asked(text: str) -> List[str]:
    return re.findall(r"\bmadengine_[a-z_]+", text)


def unknown(text: str) -> List[str]:
    """The metrics and labels in *text* that no node writes."""
    families = {name for name, *_rest in metrics.FAMILIES}
    selectors = re.findall(r"madengine_[a-z_]+\{([^}]*)\}", text)
    labels = {label for each in selectors for label in re.findall(r'([a-z_]+)\s*[=!]~?"', each)}
    labels |= {label.strip() for each in re.findall(r"by \(([^)]*)\)", text) for label in each.split(",")}
    return sorted((set(asked(text)) - families) | (labels - LABELS))


def test_every_metric_that_a_panel_or_an_alert_names_is_one_that_nodes_write() -> None:
    texts = [*expressions(), RULES.read_text()]
    assert all(asked(text) for text in texts)
    assert [unknown(text) for text in texts] == [[] for _ in texts]


@pytest.mark.parametrize(
    "text", ["rate(madengine_phases_total[5m])", 'madengine_jobs_total{result_="ok"}', "sum by (host) (madengine_jobs_total)"]
)
def test_a_metric_or_a_label_that_nobody_writes_is_found_out(text: str) -> None:
    assert unknown(text) != []


def test_every_metric_that_nodes_write_is_shown_somewhere() -> None:
    assert {name for name, *_rest in metrics.FAMILIES} == set(asked(" ".join(expressions())))


def promtool(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / "promtool", "test", "rules", "alerts_test.yml"], cwd=folder, capture_output=True, text=True, check=False
    )


@needs_prometheus
def test_the_alerts_hold_what_their_tests_say() -> None:
    done = promtool(MONITORING)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_an_alert_that_is_deaf_fails_its_test(tmp_path: Path) -> None:
    for name in ("alerts.yml", "alerts_test.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    (tmp_path / "alerts.yml").write_text(RULES.read_text().replace('result="node"', 'result="nod"'))
    assert promtool(tmp_path).returncode != 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(*command: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Give a function that puts a question to a Prometheus that has scraped a node's exporter."""
    folder = tmp_path_factory.mktemp("monitoring")
    metrics.update(str(folder), LINES, "ok", "1.0.0+abc")
    exporter, port = free_port(), free_port()
    config = {
        "global": {"scrape_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    reads = (PROGRAMS / "prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile")
    stores = (PROGRAMS / "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with running(*reads, f"--collector.textfile.directory={folder}", f"--web.listen-address=127.0.0.1:{exporter}") as one:
        with running(*stores, f"--web.listen-address=127.0.0.1:{port}") as other:

            def query(expression: str) -> Any:
                url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
                with urllib.request.urlopen(url, timeout=10) as answer:
                    return json.load(answer)["data"]["result"]

            while one.poll() is None and other.poll() is None and not _has_two_scrapes(query):
                time.sleep(0.2)  # Prometheus offers no event for it
            assert (one.poll(), other.poll()) == (None, None), "prometheus or node_exporter ended"
            yield query


def _has_two_scrapes(query: Callable[[str], Any]) -> bool:
    try:
        found = query("count_over_time(madengine_release_info[5m])")
    except (OSError, urllib.error.URLError):
        return False  # it is not up yet
    return bool(found) and float(found[0]["value"][1]) >= 2


@needs_prometheus
@pytest.mark.parametrize("expression", expressions())
def test_every_panel_gets_an_answer(ask: Callable[[str], Any], expression: str) -> None:
    for name, value in (("$__rate_interval", "1m"), ("$__range", "1h"), ("$instance", ".*")):
        expression = expression.replace(name, value)
    assert ask(expression) != []


@needs_prometheus
def test_prometheus_reads_from_the_node_what_the_hooks_have_counted(ask: Callable[[str], Any]) -> None:
    (loaded,) = ask('madengine_phase_bytes_total{phase="load"}')
    assert float(loaded["value"][1]) == 10**8
    (jobs,) = ask("madengine_jobs_total")
    assert (jobs["metric"]["outcome"], jobs["value"][1]) == ("ok", "1")
