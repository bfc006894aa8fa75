# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job asks: the user's words are taken exactly, and what does not exist is named."""

from __future__ import annotations

import dataclasses
from typing import Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import allocation
from hypothesis import given
from hypothesis import strategies as st

# As Slurm 24.11.5 sets it for `sbatch -N3`; a prolog has neither PATH nor HOME.
NEW = {
    "SLURM_CLUSTER_NAME": "lab",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_UID": "2000",
    "SLURM_JOB_GID": "2001",
    "SLURM_JOB_USER": "alice",
    "SLURM_JOB_WORK_DIR": "/home/alice/run",
    "SLURM_JOB_NODELIST": "n[3,1-2]",
    "SLURM_NODELIST": "n[3,1-2]",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURMD_NODENAME": "n1",
    "SLURM_JOB_RESTART_COUNT": "0",
    "SLURM_JOB_COMMENT": "madengine",
    "SLURM_JOB_EXTRA": "",
    "SLURM_JOB_STDOUT": "/home/alice/run/slurm-%j.out",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
}
# 22.05 has neither of these.
OLD = {name: value for name, value in NEW.items() if name not in ("SLURM_JOB_NODELIST", "SLURM_JOB_EXTRA")}


def job(comment: str = "", extra: str = "", stdout: str = "/x/slurm-%j.out", nodes: str = "n[3,1-2]") -> allocation.Allocation:
    return allocation.of(
        {**NEW, "SLURM_JOB_COMMENT": comment, "SLURM_JOB_EXTRA": extra, "SLURM_JOB_STDOUT": stdout, "SLURM_JOB_NODELIST": nodes}
    )


@pytest.mark.parametrize("environ", [NEW, OLD], ids=["24.11", "22.05"])
def test_a_job_is_what_slurm_says_it_is(environ: Dict[str, str]) -> None:
    found = allocation.of(environ)
    assert found == allocation.Allocation(
        cluster="lab",
        job_id=4711,
        attempt=0,
        user="alice",
        uid=2000,
        gid=2001,
        node="n1",
        nodes=("n3", "n1", "n2"),
        work_dir="/home/alice/run",
        stdout="/home/alice/run/slurm-%j.out",
        comment="madengine",
        extra="",
    )
    assert (found.leader, found.node_rank, found.is_leader) == ("n3", 1, False)
    assert allocation.of({**environ, "SLURMD_NODENAME": "n3"}).is_leader


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_JOB_UID", "SLURM_JOB_GID"])
@pytest.mark.parametrize("value", [None, "", "x", "-1", "1 ", "٤", "1_0", "9" * 5000])
def test_a_number_that_slurm_did_not_give_is_named(name: str, value: object) -> None:
    environ = {**NEW, name: value} if value is not None else {key: text for key, text in NEW.items() if key != name}
    with pytest.raises(JobFault, match="SLURM gave no number") as raised:
        allocation.of(environ)  # type: ignore[arg-type]
    assert raised.value.seen == {"name": name, "value": value or ""}


@pytest.mark.parametrize(("count", "attempt"), [(None, 0), ("", 0), ("2", 2)])
def test_a_job_that_was_never_requeued_is_at_its_first_attempt(count: object, attempt: int) -> None:
    environ = {key: text for key, text in NEW.items() if key != "SLURM_JOB_RESTART_COUNT"}
    assert allocation.of({**environ, **({} if count is None else {"SLURM_JOB_RESTART_COUNT": count})}).attempt == attempt  # type: ignore[dict-item]
    with pytest.raises(JobFault, match="SLURM_JOB_RESTART_COUNT"):
        allocation.of({**NEW, "SLURM_JOB_RESTART_COUNT": "twice"})


def test_a_node_outside_the_job_is_refused() -> None:
    for environ in ({**NEW, "SLURMD_NODENAME": "n4"}, {**NEW, "SLURMD_NODENAME": ""}, {**NEW, "SLURMD_NODENAME": "N1"}):
        with pytest.raises(JobFault, match="this node is not one of the job's"):
            allocation.of(environ)
    with pytest.raises(JobFault, match="not a host list"):
        allocation.of({**OLD, "SLURM_NODELIST": ""})


OURS = ["madengine", "madengine:", "madengine:manifest=m.json"]
NOT_OURS = [
    "",
    "madengine ",
    " madengine",
    "Madengine",
    "madengines",
    "madengine=on",
    "madengine,image=a:1",
    "see madengine:x",
    "x/madengine:y",
]


@pytest.mark.parametrize("words", OURS)
def test_a_comment_or_an_extra_opts_in(words: str) -> None:
    assert all(request.concerns_us(found) for found in (job(comment=words), job(extra=words), job(comment="my best run", extra=words)))
    assert request.read(job(comment=words)) == request.read(job(extra=words)) == request.read(job(comment="my best run", extra=words))


@pytest.mark.parametrize("words", NOT_OURS)
def test_a_comment_that_only_resembles_it_is_nobody_s_request(words: str) -> None:
    assert not request.concerns_us(job(comment=words))
    assert not request.concerns_us(job(extra=words))


@pytest.mark.parametrize("field", ["comment", "extra"])
def test_madengine_off_takes_a_job_out_whatever_else_would_take_it_in(field: str) -> None:
    off = job(comment="madengine", extra="madengine", stdout="/x/madengine-llama.out")
    assert request.concerns_us(off)
    assert not request.concerns_us(allocation.Allocation(**{**dataclasses.asdict(off), field: "madengine=off"}))


def test_a_job_of_madengine_run_over_several_nodes_is_ours_without_a_word() -> None:
    found = job(stdout="/home/alice/out/madengine-llama_%j_%t.out")
    assert request.concerns_us(found)
    assert request.read(found) == request.Request(
        ("/home/alice/run/build_manifest.json",), is_explicit=False, model="llama", script="/home/alice/out/madengine_llama.sh"
    )
    assert not request.is_explicit(found)


@pytest.mark.parametrize(("stdout", "nodes"), [
    ("/x/madengine-llama.out", "n1"),
    ("/x/madengine/out", "n[1-2]"),
    ("/madengine-runs/slurm-%j.out", "n[1-2]"),
    ("/x/my-madengine-a.out", "n[1-2]"),
    ("", "n[1-2]"),
])  # fmt: skip
def test_a_job_on_one_node_or_with_another_output_is_left_alone(stdout: str, nodes: str) -> None:
    assert not request.concerns_us(job(stdout=stdout, nodes=nodes))


def test_a_single_node_job_that_asks_is_served() -> None:
    assert request.concerns_us(job("madengine", nodes="n1"))
    assert request.read(job("madengine", nodes="n1")) == request.Request(("/home/alice/run/build_manifest.json",))


@pytest.mark.parametrize(("words", "expected"), [
    ("madengine", request.Request(("/home/alice/run/build_manifest.json",))),
    ("madengine:manifest=../m.json", request.Request(("/home/alice/m.json",))),
    ("madengine:manifest=/data/m=1.json", request.Request(("/data/m=1.json",))),
    ("madengine:image=rocm/vllm:1", request.Request(images=("rocm/vllm:1",))),
    ("madengine:manifest=a.json+b.json", request.Request(("/home/alice/run/a.json", "/home/alice/run/b.json"))),
    ("madengine:image=a:1+b:2+a:1", request.Request(images=("a:1", "b:2"))),
    ("madengine:keep=builds+manifest", request.Request(("/home/alice/run/build_manifest.json",), keep=("builds", "manifest"))),
    ("madengine:image=rocm/vllm:1,manifest=m", request.Request(("/home/alice/run/m",), images=("rocm/vllm:1",))),
    ("madengine:store=/s, results=perf.csv,transport=sbcast",
     request.Request(("/home/alice/run/build_manifest.json",), store="/s", results="perf.csv", transport="sbcast")),
])  # fmt: skip
def test_the_options_of_a_request_are_taken_exactly(words: str, expected: request.Request) -> None:
    assert request.read(job(words)) == expected


@pytest.mark.parametrize(("words", "what", "seen"), [
    ("madengine:mainfest=x", "unknown key", {"key": "mainfest"}),
    ("madengine:manifest", "unknown key", {"key": "manifest"}),
    ("madengine:,", "unknown key", {"key": ""}),
    ("madengine:store=/a,b=c", "unknown key", {"key": "b"}),
    ("madengine:MANIFEST=x", "unknown key", {"key": "MANIFEST"}),
    ("madengine:manifest=a,manifest=b", "a key is given twice", {"key": "manifest"}),
    ("madengine:manifest=", "not a value for this key", {"key": "manifest", "value": ""}),
    ("madengine:manifest=a\nb", "not a value for this key", {"key": "manifest", "value": "a\nb"}),
    ("madengine:store=here", "not a value for this key", {"key": "store", "value": "here"}),
    ("madengine:results=a/b.csv", "not a value for this key", {"key": "results", "value": "a/b.csv"}),
    ("madengine:results=..", "not a value for this key", {"key": "results", "value": ".."}),
    ("madengine:keep=all", "not a value for this key", {"key": "keep", "value": "all"}),
    ("madengine:manifest=a+", "not a value for this key", {"key": "manifest", "value": "a+"}),
    ("madengine:image=+a:1", "not a value for this key", {"key": "image", "value": "+a:1"}),
    ("madengine:transport=ftp", "not a value for this key", {"key": "transport", "value": "ftp"}),
])  # fmt: skip
def test_what_a_request_cannot_mean_is_named(words: str, what: str, seen: Dict[str, str]) -> None:
    for asking in (job(comment=words), job(extra=words)):
        with pytest.raises(JobFault) as raised:
            request.read(asking)
        assert raised.value.what == f"request: {what}"
        assert raised.value.seen == seen
        assert "\n" not in raised.value.line()


@pytest.mark.parametrize(("stdout", "model"), [
    ("/out/madengine-llama_%j_%t.out", "llama"),
    ("/out/madengine-pyt_vllm_llama-3.1-8b_%j_%t.out", "pyt_vllm_llama-3.1-8b"),
    ("madengine-llama.out", "llama"),
    ("/out/madengine-llama", "llama"),
    ("/out/madengine-", ""),
])  # fmt: skip
def test_the_output_of_a_job_of_madengine_s_names_its_model(stdout: str, model: str) -> None:
    assert request.read(job(stdout=stdout)).model == model


def test_the_file_of_a_job_s_errors_is_the_one_that_slurm_makes_of_its_pattern() -> None:
    base = {**NEW, "SLURM_JOB_STDOUT": "/o/madengine-a_%j_%t.out"}
    assert allocation.of({**base, "SLURM_JOB_STDERR": "/o/x_%j_%t.err"}).errors == "/o/x_4711_0.err"
    assert allocation.of(base).errors == "/o/madengine-a_4711_0.err"
    for stderr in ("/o/madengine-a_%j_%t.out", "/o/%x.err", "relative", "/o/a\nb"):
        assert allocation.of({**base, "SLURM_JOB_STDERR": stderr}).errors == ""
    assert allocation.of({**NEW, "SLURM_JOB_STDOUT": "/o/slurm-%j.out"}).errors == ""


def test_an_unknown_key_comes_with_the_keys_there_are() -> None:
    with pytest.raises(JobFault) as raised:
        request.read(job("madengine:img=a:1"))
    assert all(key in raised.value.remedy for key in request.KEYS)


def test_an_image_that_is_no_reference_is_refused_before_anything_is_asked_of_docker() -> None:
    for reference in ("UPPER:1", "a b:1", "-v/:/host", "$(reboot)"):
        with pytest.raises(JobFault) as raised:
            request.read(job(f"madengine:image={reference}"))
        assert raised.value.kind == "job"


@given(st.text(), st.text(), st.text())
def test_whatever_a_user_writes_is_a_request_or_none_or_a_line(comment: str, extra: str, tail: str) -> None:
    for words in (comment, "madengine:" + comment, f"madengine:manifest={comment},store=/{tail}"):
        try:
            told = "madengine: job: " + request.read(job(words, extra)).manifest
        except JobFault as fault:
            told = fault.line()
        assert told.startswith("madengine: job: ")
        assert "\n" not in told


def test_a_job_says_where_it_is_and_what_it_is() -> None:
    found = allocation.of(NEW)
    assert found.place() == {"job_id": 4711, "node": "n1", "node_rank": 1}
    assert found.facts() == {
        **found.place(),
        "ends_by": 0,
        "attempt": 0,
        "user": "alice",
        "uid": 2000,
        "gid": 2001,
        "nodes": ("n3", "n1", "n2"),
        "stderr": "",
    }


@given(st.permutations(["manifest=m", "image=a:1", "store=/s", "results=r", "transport=shared", "keep=builds"]))
def test_the_order_of_options_means_nothing(options: list[str]) -> None:
    expected = request.Request(("/home/alice/run/m",), ("a:1",), "/s", "r", "shared", ("builds",))
    assert request.read(job("madengine:" + ",".join(options))) == expected
