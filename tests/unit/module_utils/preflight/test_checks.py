# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of one node: each check has a good case and its bad twin, and whoever is not ok is told what to do."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Dict, List, Set, Tuple

import pytest
import yaml
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import checks
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight.checks import Check, Wanted
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings
from ansible_collections.rocm.madengine.plugins.modules import preflight_info
from helpers.hooks import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

READY = settings.parse((REPOSITORY / "tests/helpers/slurm/24.11-ready.txt").read_text())
NEW = settings.parse((REPOSITORY / "tests/helpers/slurm/24.11-default.txt").read_text())
WANTED = Wanted(site=config.Site(deadline_seconds=240, port_range=(27800, 27819)))
DOCKER = {"version": "26.1.5", "driver": "overlay2", "is_containerd": False, "free_gib": {"/var/lib/docker": 68.0}}
STORE = {"path": "/shared", "nonce": "ab", "free_gib": 900.0, "write_mb_per_second": 210.4, "read_mb_per_second": 800.0}
OWN = {"node": "n1", "address": "n1", "addresses": ["10.0.0.1"], "named_so": ["10.0.0.1"], "is_loopback": False}
USERS: Dict[str, Any] = {"may": ["alice", "bob"], "barred": [], "unknown": [], "group": "docker"}
HOOKS = {"path": "/etc/madengine/hooks.conf", "is_there": True, "is_disabled": False, "digest": "0"}
PORTS: Dict[str, Any] = {"taken": {}, "handed_out": 0, "is_open_to_users": False}
RELEASE: Dict[str, Any] = {"current": "1.0.0+6f2d", "broken": "", "missing": []}
PROGRAMS: Dict[str, Any] = {"conf": "/etc/slurm/slurm.conf", "bad": {}}
MADENGINE: Dict[str, Any] = {"status": 0, "said": "2.1.0", "left": []}

GOOD: List[Tuple[str, Dict[str, Any], List[Tuple[str, str]]]] = [
    (
        "docker",
        DOCKER,
        [("docker", "Docker 26.1.5"), ("docker_store", "classic, overlay2"), ("docker_space", "68.0 GiB free of /var/lib/docker")],
    ),
    ("pigz", {"path": "/usr/bin/unpigz"}, [("pigz", "/usr/bin/unpigz")]),
    ("python", {"version": "3.9", "docker": "5.0.3"}, [("python", "Python 3.9, Docker SDK 5.0.3")]),
    ("users", USERS, [("users", "alice, bob")]),
    ("users", {**USERS, "may": []}, [("users", "nobody was asked about")]),
    ("settings", HOOKS, [("settings", "/etc/madengine/hooks.conf")]),
    ("release", RELEASE, [("release", "1.0.0+6f2d")]),
    ("slurm", {"settings": READY}, [("slurm", "flags and timers fit Deadline=240")]),
    ("programs", PROGRAMS, [("programs", "all that /etc/slurm/slurm.conf names can be started")]),
    ("programs", {**PROGRAMS, "conf": ""}, [("programs", "all that SLURM names can be started")]),
    ("key", {"fingerprint": "00"}, [("key", "Auth=key")]),
    ("ports", PORTS, [("ports", "27800-27819 are free")]),
    ("names", OWN, [("names", "n1 is 10.0.0.1")]),
    ("store", STORE, [("store", "900.0 GiB free of /shared"), ("store_speed", "writes 210 MB/s, reads 800 MB/s")]),
    ("store", {**STORE, "write_mb_per_second": 0.0}, [("store", "900.0 GiB free of /shared")]),
    ("store", {}, [("store", "none: images travel by sbcast or a registry")]),
    ("madengine", {}, [("madengine", "not installed here")]),
    ("madengine", MADENGINE, [("madengine", "2.1.0")]),
]
SHARED = dataclasses.replace(WANTED, site=config.Site(transport="shared"))
OFF = dataclasses.replace(WANTED, site=config.Site(enabled=False))
BAD: List[Tuple[str, Dict[str, Any], Wanted, str, str, str, str]] = [
    ("docker", {**DOCKER, "free_gib": {"/d": 4.9}}, WANTED, "docker_space", "fail", "4.9 GiB free of /d", "at the least"),
    ("docker", {**DOCKER, "free_gib": {"/d": 5.0}}, WANTED, "docker_space", "warn", "5.0 GiB free of /d", "50 GiB"),
    ("docker", {**DOCKER, "free_gib": {}}, WANTED, "docker_space", "warn", "not to be seen", "yourself"),
    ("pigz", {"path": ""}, WANTED, "pigz", "warn", "one core", "pigz"),
    ("python", {"version": "3.8", "docker": "5.0.3"}, WANTED, "python", "fail", "Python 3.8", "3.9"),
    ("python", {"version": "3.13", "docker": ""}, WANTED, "python", "fail", "Docker SDK missing", "python3-docker"),
    ("users", {**USERS, "barred": ["carol"]}, WANTED, "users", "fail", "no Docker access: carol", "group docker"),
    ("users", {**USERS, "barred": ["carol"], "group": ""}, WANTED, "users", "fail", "no Docker access: carol", "of their own"),
    ("docker", {}, WANTED, "docker", "warn", "daemons of their own", "preflight_users"),
    ("users", {**USERS, "unknown": ["dave"]}, WANTED, "users", "fail", "does not know dave", "directory service"),
    ("settings", {**HOOKS, "is_there": False}, WANTED, "settings", "warn", "defaults hold", "rocm.madengine.site"),
    ("settings", {**HOOKS, "is_disabled": True}, WANTED, "settings", "warn", "/etc/madengine/disabled", "remove"),
    ("settings", HOOKS, OFF, "settings", "warn", "Enabled=no", "Enabled=yes"),
    ("release", {**RELEASE, "current": ""}, WANTED, "release", "fail", "no release", "rocm.madengine.site"),
    (
        "release",
        {**RELEASE, "missing": ["/etc/slurm/prolog.d/50-madengine"]},
        WANTED,
        "release",
        "fail",
        "/etc/slurm/prolog.d/50-madengine",
        "rocm.madengine.site",
    ),
    ("release", {**RELEASE, "broken": "no module"}, WANTED, "release", "fail", "1.0.0+6f2d is broken: no module", "rocm.madengine.site"),
    (
        "programs",
        {**PROGRAMS, "bad": {"TaskProlog": {"/etc/slurm/task_prolog": "is not there"}}},
        WANTED,
        "programs",
        "fail",
        "TaskProlog /etc/slurm/task_prolog is not there: every task of every job fails on this node",
        "rocm.madengine.site",
    ),
    (
        "programs",
        {**PROGRAMS, "bad": {"TaskProlog": {"/site/tp": "is not executable for alice"}}},
        WANTED,
        "programs",
        "fail",
        "TaskProlog /site/tp is not executable for alice: every task",
        "place it on this node",
    ),
    (
        "programs",
        {**PROGRAMS, "bad": {"TaskProlog": {"tp": "is not a full path"}}},
        WANTED,
        "programs",
        "fail",
        "TaskProlog tp is not a full path",
        "full path in slurm.conf",
    ),
    (
        "programs",
        {**PROGRAMS, "bad": {"Prolog": {"/site/*": "names nothing"}}},
        WANTED,
        "programs",
        "fail",
        "Prolog /site/* names nothing: SLURM drains",
        "place it on this node",
    ),
    ("ports", {**PORTS, "taken": {"27801": "nc (pid 7)"}}, WANTED, "ports", "warn", "taken: 27801 by nc (pid 7)", "PortRange"),
    ("ports", {**PORTS, "taken": {"27801": ""}}, WANTED, "ports", "warn", "taken: 27801 by somebody", "PortRange"),
    (
        "ports",
        {**PORTS, "taken": dict.fromkeys(map(str, range(27800, 27816)), "nc")},
        WANTED,
        "ports",
        "fail",
        "no port: 27800 by nc",
        "PortRange",
    ),
    ("ports", {**PORTS, "taken": dict.fromkeys(map(str, range(27800, 27815)), "nc")}, WANTED, "ports", "warn", "taken", "PortRange"),
    ("ports", {**PORTS, "is_open_to_users": True}, WANTED, "ports", "warn", "users can bind ports", "ip_unprivileged_port_start"),
    ("ports", {**PORTS, "handed_out": 20}, WANTED, "ports", "warn", "hands out 20 ports", "ip_local_reserved_ports"),
    ("names", {**OWN, "addresses": []}, WANTED, "names", "fail", "no address but the loopback", "network"),
    ("names", {**OWN, "named_so": []}, WANTED, "names", "fail", "cannot resolve its own name n1", "/etc/hosts"),
    ("names", {**OWN, "address": "m1", "named_so": []}, WANTED, "names", "fail", "cannot resolve its own NodeAddr m1 (n1)", "/etc/hosts"),
    ("names", {**OWN, "named_so": ["127.0.1.1"], "is_loopback": True}, WANTED, "names", "warn", "127.0.1.1", "/etc/hosts"),
    ("store", {}, SHARED, "store", "fail", "no ImageStore", "set ImageStore"),
    ("store", {**STORE, "free_gib": 1.0}, WANTED, "store", "fail", "1.0 GiB free of /shared", "free space"),
    ("store", {**STORE, "write_mb_per_second": 99.0}, WANTED, "store_speed", "warn", "writes 99 MB/s", "100 MB/s"),
    ("store", {**STORE, "read_mb_per_second": 12.0}, WANTED, "store_speed", "warn", "reads 12 MB/s", "mount options"),
    ("madengine", {**MADENGINE, "status": 3, "said": "boom"}, WANTED, "madengine", "fail", "status 3: boom", "install"),
    ("madengine", {**MADENGINE, "left": ["models"]}, WANTED, "madengine", "warn", "leaves files: models", "MODEL_DIR"),
]


@pytest.mark.parametrize(("probe", "seen", "expected"), GOOD)
def test_a_good_node_is_ok_and_what_was_seen_is_said(probe: str, seen: Dict[str, Any], expected: List[Tuple[str, str]]) -> None:
    assert checks.judge(probe, seen, WANTED) == [Check(name, "ok", shown) for name, shown in expected]


@pytest.mark.parametrize(("probe", "seen", "wanted", "name", "status", "shown", "remedy"), BAD)
def test_a_bad_node_is_told_what_was_seen_and_what_to_do(
    probe: str, seen: Dict[str, Any], wanted: Wanted, name: str, status: str, shown: str, remedy: str
) -> None:
    bad = [check for check in checks.judge(probe, seen, wanted) if check.status != "ok"]
    assert [(check.name, check.status) for check in bad] == [(name, status)]
    assert shown in bad[0].seen
    assert remedy in bad[0].remedy


def test_every_setting_of_slurm_that_does_not_fit_is_a_line_of_its_own() -> None:
    found = checks.judge("slurm", {"settings": NEW}, WANTED)
    assert [check.seen.partition("=")[0] for check in found].count("PrologFlags") == 2
    assert {(check.name, check.status, check.remedy) for check in found} == {
        ("slurm", "fail", "change slurm.conf, then `scontrol reconfigure`"),
    }


@given(st.integers(1, 40), st.sets(st.integers(0, 39)))
def test_ports_fail_if_and_only_if_some_job_would_find_none(size: int, offsets: set[int]) -> None:
    low = 27800
    taken = {low + offset for offset in offsets if offset < size}
    wanted = Wanted(site=config.Site(port_range=(low, low + size - 1)))
    status = checks.judge("ports", {**PORTS, "taken": dict.fromkeys(map(str, taken), "x")}, wanted)[0].status
    run = min(size, 16)  # what a leader tries, in a ring
    stuck = any(all(low + (start + step) % size in taken for step in range(run)) for start in range(size))
    assert status == ("fail" if stuck else "warn" if taken else "ok")


def test_a_fault_of_the_looking_is_a_failed_check_with_the_faults_own_remedy() -> None:
    fault = NodeFault("docker: no answer", "start docker", part="docker", socket="/run/docker.sock")
    assert checks.judge("docker", fault, WANTED) == [Check("docker", "fail", "docker: no answer (socket=/run/docker.sock)", "start docker")]
    assert checks.failed("key", NodeFault("a: b", "c")) == Check("key", "fail", "a: b", "c")


@given(st.lists(st.sampled_from(checks.STATUSES)))
def test_the_worst_of_all_is_what_counts(statuses: List[str]) -> None:
    expected = next((status for status in ("fail", "warn") if status in statuses), "ok")
    assert checks.worst(statuses) == expected


# What a probe is given; that all of them are looked at, whatever may be left out.
ASKED: Dict[str, Any] = {
    **dict.fromkeys(("path", "root", "prolog", "epilog", "task_prolog", "store", "slurm_conf", "madengine"), "/a/b"),
    "users": [],
    "invoking_user": "",
    "session": "s",
    "node": "n1",
    "ask_slurm": True,
    "skip": [],
    "store_probe_mb": 1,
    "store_probe_seconds": 1.0,
}
ROLE = REPOSITORY / "collections/ansible_collections/rocm/madengine/roles/preflight"
JUDGED, NAMED = set(checks.JUDGES), set(checks.NAMES)


def _skippable() -> Any:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
    return specs["argument_specs"]["main"]["options"]["preflight_skip"]["choices"]


@pytest.mark.parametrize(
    ("place", "held", "wanted"),
    [
        ("_plan in preflight_info", lambda: set(preflight_info._plan(ASKED, WANTED.site)), JUDGED),
        ("GOOD in test_checks", lambda: {probe for probe, _, _ in GOOD}, JUDGED),
        ("BAD in test_checks", lambda: {row[0] for row in BAD}, JUDGED - {"key", "slurm"}),  # a bad key is a fault; slurm has a test
        ("the table in the role's README", lambda: set(re.findall(r"^\| `(\w+)` \|", (ROLE / "README.md").read_text(), re.M)), NAMED),
        ("preflight_skip in the role's argument_specs", lambda: set(_skippable()), NAMED - {"node"}),
    ],
)
def test_a_check_is_forgotten_nowhere(place: str, held: Callable[[], Set[str]], wanted: Set[str]) -> None:
    assert held() == wanted, f"{place} lacks {sorted(wanted - held())}, or has more: {sorted(held() - wanted)}"


def test_every_check_has_its_place_in_the_report() -> None:
    produced = {name for probe, seen, _ in GOOD for name in [check.name for check in checks.judge(probe, seen, WANTED)]}
    assert produced | {"node", "clock"} == set(checks.NAMES)
    assert set(checks.JUDGES) <= set(checks.NAMES)
    assert Check("pigz", "ok", "here").to_dict() == {"name": "pigz", "status": "ok", "seen": "here", "remedy": ""}
