# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SLURM's settings, read from what real controllers printed (helpers/slurm), and what in them cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional

import helpers
import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings as slurm
from hypothesis import given
from hypothesis import strategies as st

OUTPUTS = Path(next(iter(helpers.__path__))) / "slurm"
VERSIONS = ["22.05", "24.11"]
WANTED = ("/etc/slurm/prolog.d/*", "/etc/slurm/epilog.d/*", "/etc/slurm/task_prolog")


def settings(version: str, state: str, **changed: Optional[str]) -> Dict[str, str]:
    """The settings of a real controller, default or ready for us, with some *changed* (None: gone)."""
    found: Dict[str, Optional[str]] = {**slurm.parse((OUTPUTS / f"{version}-{state}.txt").read_text()), **changed}
    return {key: value for key, value in found.items() if value is not None}


def judged(found: Dict[str, str], deadline: float = 600) -> List[str]:
    return [problem.key for problem in slurm.judge(found, *WANTED, deadline)]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_line_that_a_real_controller_printed_is_read(version: str) -> None:
    text = (OUTPUTS / f"{version}-ready.txt").read_text()
    found = slurm.parse(text)
    lines = [line for line in text.splitlines() if " = " in line or line.endswith(" =")]
    assert len(found) == len({line.split("=")[0].strip() for line in lines}) > 180
    assert found["Prolog"] == WANTED[0]
    assert found["AuthInfo"] == "cred_expire=720"
    assert found["BatchStartTimeout"] == "720 sec"
    assert found["SLURM_VERSION"].startswith(version)
    assert found["SlurmctldHost[0]"] == "c0"
    assert found["AccountingStorageBackupHost"] == ""
    assert found.get("PriorityFlags", "") == ""  # 24.11 prints it without a value


@pytest.mark.parametrize("version", VERSIONS)
def test_a_controller_that_is_ready_has_no_problem_and_a_new_one_has_all(version: str) -> None:
    assert judged(settings(version, "ready")) == []
    assert judged(settings(version, "default")) == [
        "BatchStartTimeout", "AuthInfo", "Epilog", "Prolog", "PrologFlags", "PrologFlags", "TaskProlog",
    ]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("key", "value", "wanted"), [
    ("BatchStartTimeout", "10 sec", "at least 630"),
    ("BatchStartTimeout", "629 sec", "at least 630"),
    ("AuthInfo", "", "cred_expire=630 or more"),
    ("AuthInfo", "socket=/run/munge,cred_expire=300", "cred_expire=630 or more"),
    ("Epilog", "/etc/slurm/epilog.sh", "/etc/slurm/epilog.d/*"),
    ("Prolog", "", "/etc/slurm/prolog.d/*"),
    ("Prolog", "/etc/slurm/prolog.d/50-madengine", "/etc/slurm/prolog.d/*"),
    ("PrologEpilogTimeout", "600", "at least 630"),
    ("PrologTimeout", "60", "at least 630"),
    ("PrologFlags", "DeferBatch,X11", "…,Alloc"),
    ("PrologFlags", "Alloc", "…,DeferBatch"),
    ("TaskProlog", "/etc/slurm/other", "/etc/slurm/task_prolog"),
])  # fmt: skip
def test_each_setting_that_does_not_fit_is_named_with_what_it_should_be(version: str, key: str, value: str, wanted: str) -> None:
    (problem,) = slurm.judge(settings(version, "ready", **{key: value}), *WANTED, 600)
    assert (problem.key, problem.seen, problem.wanted) == (key, value, wanted)
    assert str(problem) == f"{key}={value or '(null)'} should be {wanted}: {problem.reason}"


@pytest.mark.parametrize(("key", "value"), [
    ("BatchStartTimeout", "630 sec"),
    ("BatchStartTimeout", None),
    ("AuthInfo", "ttl=1,cred_expire=630"),
    ("Prolog", "/etc/site/prolog,/etc/slurm/prolog.d/*"),
    ("PrologEpilogTimeout", "65534"),
    ("PrologEpilogTimeout", "UNLIMITED"),
    ("PrologTimeout", "65534"),
    ("PrologTimeout", ""),
    ("PrologFlags", "alloc, deferbatch,Contain"),
])  # fmt: skip
def test_a_site_may_have_more_than_it_needs(key: str, value: Optional[str]) -> None:
    assert judged(settings("24.11", "ready", **{key: value})) == []


def test_several_programs_are_one_list_as_the_controller_prints_them() -> None:
    assert slurm.parse("Prolog[0] = /a\nProlog[1] = /etc/slurm/prolog.d/*\nPrologFlags=x") == {
        "Prolog": "/a,/etc/slurm/prolog.d/*",
        "PrologFlags": "x",
    }


def test_what_a_plugin_prints_later_takes_nothing_s_place() -> None:
    assert slurm.parse("TmpFS = /tmp\n\nMPI Plugins Configuration:\nTmpFS = /x\n\nSlurmctld(primary) at c0 is UP") == {"TmpFS": "/tmp"}


@pytest.mark.parametrize("deadline", [float("inf"), float("nan"), 0, -1, 86400])
def test_a_deadline_that_no_prolog_may_have_is_refused(deadline: float) -> None:
    with pytest.raises(JobFault, match="not a deadline"):
        judged(settings("24.11", "ready"), deadline)


@pytest.mark.parametrize(("deadline", "fits"), [(670, True), (670.5, False)])
def test_a_timer_leaves_the_margin_to_a_fraction_of_a_second(deadline: float, fits: bool) -> None:
    assert judged(settings("24.11", "ready", BatchStartTimeout="900 sec", AuthInfo="cred_expire=900"), deadline) == (
        [] if fits else ["PrologEpilogTimeout"]
    )


@pytest.mark.parametrize(("value", "expected"), [
    ("10 sec", 10), ("300", 300), ("0 sec", 0), ("65533", None), ("65534", None), ("4294967295", None), ("UNLIMITED", None), ("", None),
])  # fmt: skip
def test_a_timer_is_seconds_or_no_limit(value: str, expected: Optional[int]) -> None:
    assert slurm.seconds(value) == expected


@given(st.text())
def test_no_output_whatever_breaks_the_judge(text: str) -> None:
    assert all(str(problem) for problem in slurm.judge(slurm.parse(text), *WANTED, 600))


@given(
    st.dictionaries(st.from_regex(r"[A-Za-z][A-Za-z0-9_/]{0,20}", fullmatch=True), st.from_regex(r"([!-~]([ -~]*[!-~])?)?", fullmatch=True))
)
def test_what_is_printed_is_read_back(found: Dict[str, str]) -> None:
    text = "".join(f"{key:<23} = {value or '(null)'}\n" for key, value in found.items())
    assert slurm.parse(text) == {key: "" if value == "(null)" else value for key, value in found.items()}


@pytest.mark.parametrize(("text", "expected"), [
    ("PrologFlags=Alloc,DeferBatch", True),
    ("prologflags = alloc # all", True),
    ("PrologFlags=DeferBatch,\\\nAlloc", True),
    ("PrologFlags=X11", True),
    ("PrologFlags=Contain", True),
    ("PrologFlags=NoHold", True),
    ("PrologFlags=ForceRequeueOnFail", True),
    ("PrologFlags=RunInJob", True),
    ("PrologFlags=DeferBatch", False),
    ("PrologFlags=Serial", False),
    ("PrologFlags=Allocate", False),
    ('Prolog=/a/b.sh PrologFlags="Contain,X11" # both', True),
    ("PrologFlags=Serial\nProlog=/a PROLOGFLAGS = Alloc", True),
    ("Prolog=/a # PrologFlags=Alloc", False),
    ("PrologFlags=", False),
    ("ClusterName=lab\n# PrologFlags=Serial\nInclude more.conf", True),
    ("ClusterName=lab\n", False),
    ("", False),
])  # fmt: skip
def test_nodes_meet_where_all_run_their_prolog_at_the_start_or_that_cannot_be_seen(tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "slurm.conf").write_text(text)
    (tmp_path / "link.conf").symlink_to("slurm.conf")
    for name in ("slurm.conf", "link.conf"):
        assert slurm.meets_in_prolog(str(tmp_path / name), lambda: (24, 11)) is expected


@pytest.mark.parametrize(
    ("flags", "said", "expected"),
    [
        ("DeferBatch", "slurm 26.05.0", True),
        ("deferbatch,Serial", "slurm-wlm 26.11.1", True),
        ("DeferBatch", "slurm 25.11.2", False),
        ("Serial", "slurm 26.05.0", False),
        ("DeferBatch", "", False),
    ],
)
def test_a_new_slurm_runs_prologs_at_the_start_by_deferbatch_alone(tmp_path: Path, flags: str, said: str, expected: bool) -> None:
    (tmp_path / "slurm.conf").write_text(f"PrologFlags={flags}\n")
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/slurmd").write_text(f'#!/bin/sh\n[ "$*" = -V ] && echo "{said}"\n')
    (tmp_path / "sbin/slurmd").chmod(0o755)
    assert slurm.meets_in_prolog(str(tmp_path / "slurm.conf"), lambda: slurm.installed(str(tmp_path))) is expected
    # What the role and the preflight say is what the hook does.
    seen = settings("24.11", "ready", PrologFlags=flags, SLURM_VERSION=said.partition(" ")[2])
    assert ("…,Alloc" not in [problem.wanted for problem in slurm.judge(seen, *WANTED, 600)]) is expected


def test_the_release_is_asked_for_only_where_it_decides(tmp_path: Path) -> None:
    for text in ("PrologFlags=Alloc,DeferBatch", "PrologFlags=Serial", "", "Include more.conf"):
        (tmp_path / "slurm.conf").write_text(text)
        slurm.meets_in_prolog(str(tmp_path / "slurm.conf"), lambda: pytest.fail("asked"))


def test_a_slurm_conf_that_cannot_be_read_is_not_held_against_the_cluster(tmp_path: Path) -> None:
    assert slurm.meets_in_prolog(str(tmp_path / "none"))
    assert slurm.meets_in_prolog("")
    assert slurm.meets_in_prolog(str(tmp_path))


ONE = "PartitionName=main Nodes=n[1-3] OverSubscribe=NO State=UP\n"
TWO = ONE.replace("NO ", "EXCLUSIVE ") + "PartitionName=b OverSubscribe=EXCLUSIVE\n"


@pytest.mark.parametrize(("select", "partitions", "exclusive"), [
    ("select/cons_tres", ONE, False), ("select/cons_tres", TWO, True), ("select/cons_tres", ONE + TWO, False),
    ("select/linear", ONE, True), ("select/linear", ONE.replace("NO", "FORCE:4"), False), ("select/linear", "", False),
])  # fmt: skip
def test_nodes_are_exclusive_where_every_partition_says_so(select: str, partitions: str, exclusive: bool) -> None:
    assert slurm.is_exclusive({"SelectType": select}, partitions) is exclusive


@pytest.mark.parametrize(("cluster", "found"), [
    (slurm.Cluster(), ["PrologFlags"]), (slurm.Cluster(is_exclusive=True), []), (slurm.Cluster(needs_sbcast=True), ["PrologFlags"]),
])  # fmt: skip
def test_serial_is_a_problem_of_the_sites_unless_no_two_jobs_share_a_node(cluster: slurm.Cluster, found: List[str]) -> None:
    seen = settings("24.11", "ready", PrologFlags="Alloc,DeferBatch,Serial")
    problems = slurm.judge(seen, *WANTED, 600, cluster)
    assert [problem.key for problem in problems] == found
    assert all(problem.is_the_sites and "wait for each other until Deadline" in str(problem) for problem in problems)


@pytest.mark.parametrize(("key", "value"), [
    ("JobContainerType", "job_container/tmpfs"),
    ("NamespaceType", "namespace/tmpfs"),
    ("NamespaceType", "namespace/linux"),
])  # fmt: skip
def test_a_namespace_of_the_jobs_own_is_a_problem_where_images_travel_by_sbcast(key: str, value: str) -> None:
    seen = settings("24.11", "ready", **{key: value})
    assert slurm.judge(seen, *WANTED, 600) == []
    (problem,) = slurm.judge(seen, *WANTED, 600, slurm.Cluster(needs_sbcast=True))
    assert (problem.key, problem.is_the_sites, "set ImageStore, or Transport=registry" in problem.reason) == (key, True, True)
    other = settings("24.11", "ready", **{key: "job_container/none"})
    assert slurm.judge(other, *WANTED, 600, slurm.Cluster(needs_sbcast=True)) == []


def test_a_slurm_that_is_too_old_is_refused_by_its_release_in_one_line() -> None:
    (problem,) = slurm.judge(settings("22.05", "default", SLURM_VERSION="21.08.5"), *WANTED, 600)
    assert str(problem).startswith("SLURM_VERSION=21.08.5 should be 22.05 or newer: ")
    assert judged(settings("22.05", "ready", SLURM_VERSION="26.05.0")) == []


@pytest.mark.parametrize(("said", "release"), [
    ("slurm-wlm 22.05.8\n", (22, 5)), ("slurm 26.05.0-0rc1", (26, 5)), ("21.08.5", (21, 8)), ("slurm 2.6.5", (0, 0)), ("", (0, 0)),
])  # fmt: skip
def test_a_release_is_read_from_what_slurm_says_of_itself(said: str, release: object) -> None:
    assert slurm.version(said) == release
