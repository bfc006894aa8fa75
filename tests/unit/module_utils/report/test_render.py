# SPDX-License-Identifier: GPL-3.0-or-later
"""The report says what the files say, as text whatever they hold, and the same again if nothing has changed."""

from __future__ import annotations

import builtins
import html.parser
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import data, render
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import selection
from helpers import csvs, jobs
from hypothesis import given, settings
from hypothesis import strategies as st

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;\x1b[31mred\x1b[0m\x1b]0;title\x07\u202egnp.exe\u2066\x00'\"{{ 7*7 }}"


class Elements(html.parser.HTMLParser):
    """Which elements a page has, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: List[str] = []
        self.attributes: Dict[str, Optional[str]] = {}
        self.seen = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)
        self.attributes.update(attrs)

    def handle_data(self, data: str) -> None:
        self.seen += data


def page_of(path: Path) -> Elements:
    render.write(str(path))
    return Elements((path / "report.html").read_text())


def test_a_good_jobs_report_holds_verdict_result_candidates_and_times(tmp_path: Path) -> None:
    page = page_of(jobs.finished(tmp_path))
    for said in ("Job 4711", "ok", "18\u202f432.7", "tokens_per_second", "18511.2", "rocm/vllm:0.9.1", "publish", "load", "1 h 07 min"):
        assert said in page.seen
    assert "node_2/multi.csv" in page.seen
    assert "0 of 1 rows hold a finite performance" in page.seen
    assert page.names.count("rect") > 3 * 7
    assert "What went wrong" not in page.seen


def test_a_failed_jobs_number_is_no_result_and_the_reason_comes_first(tmp_path: Path) -> None:
    page = page_of(jobs.finished(tmp_path, failed=True))
    assert "before the job failed: no result" in page.seen
    assert page.seen.index("llama: exit code 137, out of memory") < page.seen.index("Result ")
    assert 'File "train.py", line 9' in page.seen
    assert "llama: exit code 137" in render.text(data.view(str(tmp_path)))


def test_no_secret_of_a_log_or_a_name_gets_into_the_report(tmp_path: Path) -> None:
    jobs.finished(tmp_path)
    said = "docker run -e HF_TOKEN='s3cr3tvalue' image --api-key s3cr3tvalue https://alice:s3cr3tvalue@host/\n"
    csvs.write(tmp_path / "node_0/run.live.log", said + "x" * 40_000 + "\nMAD_SECRETS_HFTOKEN=s3cr3tvalue\n")
    csvs.node(tmp_path, 1, skipped=[{"path": "/tmp/HF_TOKEN=s3cr3tvalue", "reason": "password=s3cr3tvalue"}])
    render.write(str(tmp_path))
    for name in ("report.html", "report.txt"):
        assert "s3cr3t" not in (tmp_path / name).read_text()
    assert "MAD_SECRETS_HFTOKEN=********" in (tmp_path / "report.html").read_text()


def test_faults_of_the_timeline_are_named_with_their_nodes(tmp_path: Path) -> None:
    jobs.finished(tmp_path)
    for rank in (0, 1):
        line = {"time": 1_790_000_000.5, "phase": "rendezvous", "seconds": 30, "result": "share", "fault": "rendezvous: 2 of 3 nodes came"}
        csvs.write(tmp_path / f"node_{rank}" / "timeline.jsonl", json.dumps(line) + "\n")
    page = page_of(tmp_path)
    assert "rendezvous: rendezvous: 2 of 3 nodes came" in page.seen
    assert "n001, n002" in page.seen


def test_nodes_that_ran_different_images_are_shown(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1)] * 2)
    csvs.node(tmp_path, 1, image_id="sha256:bb")
    selection.settle(str(tmp_path), csvs.NAME, "richest", {})
    assert "The nodes did not run the same image" in page_of(tmp_path).seen


def test_a_merged_result_says_how(tmp_path: Path) -> None:
    csvs.collection(tmp_path, [csvs.table(1), csvs.table(2)])
    selection.settle(str(tmp_path), csvs.NAME, "merge", {})
    page = page_of(tmp_path)
    assert "How the rows were merged" in page.seen
    assert "measured by all nodes" in page.seen


def test_again_changes_nothing(tmp_path: Path) -> None:
    jobs.finished(tmp_path)
    assert render.write(str(tmp_path), dry=True)["changed"] is True
    assert not (tmp_path / "report.html").exists()
    assert render.write(str(tmp_path))["changed"] is True
    before = [(tmp_path / name).stat().st_mtime_ns for name in ("report.html", "report.txt")]
    answer = render.write(str(tmp_path))
    assert answer["changed"] is False
    assert answer["files"] == [str(tmp_path / "report.html"), str(tmp_path / "report.txt")]
    assert answer["text"] == (tmp_path / "report.txt").read_text()
    assert [(tmp_path / name).stat().st_mtime_ns for name in ("report.html", "report.txt")] == before


def hostile(base: Path) -> Path:
    """Make a job whose every word is hostile."""
    text = "model,performance,metric\n" + '"' + HOSTILE.replace('"', '""').replace("\x00", "") + '",5,"' + "m" * 300 + '"\n'
    jobs.finished(base, 2, contents=[text, text], failed=True, name=HOSTILE.replace("{{ 7*7 }}", "") + "{:03}" + "x" * 100)
    jobs.diagnose(base / "node_0", HOSTILE + "\n</pre></details>" + HOSTILE)
    csvs.write(base / "node_0/diagnostics/summary.json", json.dumps({"summary": HOSTILE}))
    line = {"time": 1_790_000_001, "phase": HOSTILE, "seconds": 1, "result": HOSTILE, "fault": HOSTILE}
    csvs.write(base / "node_0" / "timeline.jsonl", json.dumps(line) + "\n")
    return base


def test_hostile_content_is_shown_as_text(tmp_path: Path) -> None:
    page = page_of(hostile(tmp_path / "job"))
    raw = (tmp_path / "job/report.html").read_text() + (tmp_path / "job/report.txt").read_text()
    assert not {"script", "img", "iframe", "object"} & set(page.names)
    assert [name for name in page.attributes if name.startswith("on")] == []
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;red" in page.seen
    assert "{{ 7*7 }}" in page.seen
    assert "⟨U+202E⟩gnp.exe⟨U+2066⟩" in page.seen
    assert not [char for char in raw if not char.isprintable() and char not in "\n\t"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "verdict",
    "selected",
    "best",
    "candidates",
    "lacking",
    "merged",
    "elsewhere",
    "images",
    "facts",
    "reason",
    "job_id",
    "exit_code",
    "policy",
)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), JUNK),
    st.lists(st.dictionaries(st.sampled_from(("time", "phase", "seconds", "result", "fault", "bytes")), JUNK), max_size=3),
    st.dictionaries(st.sampled_from(("node", "files", "skipped", "failed", "image", "attempt")), JUNK),
)
def test_no_document_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, chosen: Any, lines: Any, facts: Any) -> None:
    base = tmp_path_factory.mktemp("job")
    csvs.write(base / "selection.json", json.dumps({**chosen, "version": 1}))
    csvs.write(base / "node_0/node.json", json.dumps(facts))
    csvs.write(base / "node_0/timeline.jsonl", "\n".join(json.dumps(line) for line in lines) + "\n[1]\n{")
    seen = data.view(str(base))
    assert render.html(seen).endswith("</html>")
    assert render.text(seen).startswith("Job ")


@pytest.mark.parametrize(("code", "words"), [("0:125", "out of memory"), ("0:9", "signal 9"), ("3:0", "exit code 3")])
def test_how_the_job_ended_is_said_in_words(tmp_path: Path, code: str, words: str) -> None:
    csvs.collection(tmp_path, [csvs.table(1)])
    selection.settle(str(tmp_path), csvs.NAME, "richest", {"failed": True, "exit_code": code})
    assert render.text(data.view(str(tmp_path))).startswith(f"Job 4711: job_failed ({words})\n")
    assert words in page_of(tmp_path).seen


def test_where_the_files_of_nodes_that_are_apart_stayed_is_shown(tmp_path: Path) -> None:
    jobs.finished(tmp_path, 3)
    assert "stayed there" not in page_of(tmp_path).seen
    csvs.node(tmp_path, 2, elsewhere="n3:/home/a/<b>\u202e/node_2")
    selection.settle(str(tmp_path), csvs.NAME, "richest", selection.recalled(str(tmp_path)))
    assert "Further files of 1 node stayed there n3:/home/a/<b> /node_2" in " ".join(page_of(tmp_path).seen.split())
    assert "Further files\n  where\n  n3:/home/a/<b> /node_2\n" in render.text(data.view(str(tmp_path)))


def test_an_empty_directory_has_a_report_too(tmp_path: Path) -> None:
    assert "no choice was made" in page_of(tmp_path).seen


def test_a_large_csv_and_large_logs_stay_a_small_page(tmp_path: Path) -> None:
    jobs.finished(tmp_path, 3, contents=[csvs.table(*range(5000))] * 3, failed=True)
    for rank in range(3):
        jobs.diagnose(tmp_path / f"node_{rank}", "x" * 100_000 + "\n")
        for number in range(90):
            csvs.write(tmp_path / f"node_{rank}/diagnostics/llama/logs/{number}.log", "y" * 100_000)
    page = page_of(tmp_path)
    assert "and 4900 more rows" in page.seen
    assert os.path.getsize(tmp_path / "report.html") < 8 << 20


def test_256_nodes_stay_a_page_that_opens(tmp_path: Path) -> None:
    page = page_of(jobs.finished(tmp_path, 256))
    assert os.path.getsize(tmp_path / "report.html") < 1 << 20
    assert page.seen.count("n256") >= 3
    assert "248 more" in page.seen


def test_without_jinja_the_text_is_made_and_the_page_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "jinja2":
            raise ImportError("No module named 'jinja2'")
        return real(name, *args, **kwargs)

    render._template.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    jobs.finished(tmp_path)
    assert render.has_jinja() is False
    assert render.write(str(tmp_path), ("text",))["changed"] is True
    with pytest.raises(NodeFault, match="install python3-jinja2"):
        render.write(str(tmp_path))
    assert render.write_if_last(str(tmp_path)) is True
    assert not (tmp_path / "report.html").exists()


def test_of_many_nodes_the_last_one_writes(tmp_path: Path) -> None:
    jobs.finished(tmp_path, 20)
    os.rename(tmp_path / "node_7/timeline.jsonl", tmp_path / "aside")
    assert render.write_if_last(str(tmp_path)) is False
    os.rename(tmp_path / "aside", tmp_path / "node_7/timeline.jsonl")
    assert render.write_if_last(str(tmp_path)) is True
    assert (tmp_path / "report.html").exists()


def test_of_few_nodes_each_writes_so_that_a_lost_one_costs_nothing(tmp_path: Path) -> None:
    jobs.finished(tmp_path, 3)
    os.unlink(tmp_path / "node_1/timeline.jsonl")
    assert render.write_if_last(str(tmp_path)) is True
    assert render.write_if_last(str(tmp_path / "node_0")) is False


def test_a_target_that_cannot_be_written_is_a_fault_of_the_share(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ShareFault, match="report: cannot write"):
        render.write(str(tmp_path))


def test_links_in_place_of_files_are_not_followed(tmp_path: Path) -> None:
    secret = csvs.write(tmp_path / "secret", "top secret")
    job = jobs.finished(tmp_path / "job", failed=True)
    for name in ("timeline.jsonl", "diagnostics/llama/output.log"):
        (job / "node_2" / name).unlink()
        (job / "node_2" / name).symlink_to(secret)
    (job / csvs.NAME).unlink()
    (job / csvs.NAME).symlink_to(secret)
    assert "top secret" not in page_of(job).seen
