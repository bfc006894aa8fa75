# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_info: what a real controller printed, gathered once and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.modules import slurm_info
from helpers.hooks import REPOSITORY

Run = Callable[..., Tuple[Any, Any]]
OUTPUTS = REPOSITORY / "tests/helpers/slurm"
DOWN = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)"  # with status 1, in both versions


class Scontrol:
    """A fake scontrol in *folder* that logs its arguments and prints what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.program = folder, folder / "scontrol"

    def says(self, output: Path, status: int = 0, errors: str = "") -> None:
        self.program.write_text(
            f'#!/bin/sh\necho "$LC_ALL $*" >>{self.folder}/log\ncat {output}\nprintf "%s\\n" "{errors}" >&2\nexit {status}\n'
        )
        self.program.chmod(0o755)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scontrol]:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Scontrol(tmp_path)


@pytest.mark.parametrize("is_check", [False, True])
@pytest.mark.parametrize("version", ["22.05", "24.11"])
def test_a_controller_that_is_ready_has_no_problem(run_module: Run, scontrol: Scontrol, version: str, is_check: bool) -> None:
    scontrol.says(OUTPUTS / f"{version}-ready.txt")
    code, result = run_module(slurm_info, _ansible_check_mode=is_check)
    assert (code, result["changed"], result["problems"]) == (0, False, [])
    assert result["settings"]["PrologFlags"] == "Alloc,DeferBatch"
    assert result["settings"]["Prolog"] == "/etc/slurm/prolog.d/*"
    assert scontrol.log() == "C show config\n"


@pytest.mark.parametrize("version", ["22.05", "24.11"])
def test_a_new_controller_s_problems_are_lines_with_the_remedy(run_module: Run, scontrol: Scontrol, version: str) -> None:
    scontrol.says(OUTPUTS / f"{version}-default.txt")
    code, result = run_module(slurm_info, deadline=120)
    assert (code, result["changed"]) == (0, False)
    assert [line.partition(":")[0] for line in result["problems"]] == [
        "BatchStartTimeout=10 sec should be at least 150",
        "AuthInfo=(null) should be cred_expire=150 or more",
        "Epilog=(null) should be /etc/slurm/epilog.d/*",
        "Prolog=(null) should be /etc/slurm/prolog.d/*",
        "PrologFlags=(null) should be …,Alloc",
        "PrologFlags=(null) should be …,DeferBatch",
        "TaskProlog=(null) should be /etc/slurm/task_prolog",
    ]


@pytest.mark.parametrize(("option", "key"), [("prolog", "Prolog"), ("epilog", "Epilog"), ("task_prolog", "TaskProlog")])
def test_a_site_with_other_places_says_so(run_module: Run, scontrol: Scontrol, option: str, key: str) -> None:
    scontrol.says(OUTPUTS / "24.11-ready.txt")
    _code, result = run_module(slurm_info, **{option: "/opt/site/x"})
    assert [line.partition("=")[0] for line in result["problems"]] == [key]


def test_a_controller_that_does_not_answer_is_a_failure_in_one_line(run_module: Run, scontrol: Scontrol) -> None:
    scontrol.says(Path("/dev/null"), 1, DOWN)
    code, result = run_module(slurm_info)
    assert (code, result["failed"]) == (1, True)
    assert result["msg"] == (
        f"madengine: node: slurm: no settings (status=1, said='{DOWN}'); start slurmctld, or run this on a host of the cluster"
    )


def test_a_host_without_slurm_is_a_failure_that_names_the_command(run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, result = run_module(slurm_info)
    assert (code, result["failed"]) == (1, True)
    assert "scontrol" in result["msg"] + result["cmd"]
    assert "\n" not in result["msg"]


@pytest.mark.parametrize("params", [{"deadline": 0}, {"deadline": -5}, {"deadline": 1e9}, {"deadline": float("inf")}])
def test_a_deadline_that_no_prolog_may_have_is_refused(run_module: Run, scontrol: Scontrol, params: Dict[str, float]) -> None:
    scontrol.says(OUTPUTS / "24.11-ready.txt")
    code, result = run_module(slurm_info, **params)
    assert (code, result["failed"]) == (1, True)
    assert result["msg"].startswith("madengine: job: slurm: not a deadline (deadline=")


def test_nodes_that_the_hosts_leave_out_are_told_by_whether_slurm_uses_them(run_module: Run, scontrol: Scontrol, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text("".join(f"NodeName=n{number} NodeHostName=rack{number} State={state} A=1\n" for number, state in STATES.items()))
    ready = OUTPUTS / "24.11-ready.txt"
    scontrol.program.write_text(f'#!/bin/sh\ncase "$*" in *nodes) cat {nodes} ;; *) cat {ready} ;; esac\n')
    scontrol.program.chmod(0o755)
    code, result = run_module(slurm_info, hosts=["rack1.example.org", "n2"], absent_nodes=["n5"])
    assert (code, result["unreached_nodes"], result["unused_nodes"]) == (0, ["n3"], ["n4"])
    assert "unreached_nodes" not in run_module(slurm_info)[1]


STATES = {1: "IDLE", 2: "DOWN", 3: "MIXED", 4: "IDLE+DRAIN", 5: "IDLE"}


@pytest.mark.parametrize(("sharing", "found"), [("NO", 1), ("EXCLUSIVE", 0)])
def test_serial_is_judged_by_what_the_partitions_say(run_module: Run, scontrol: Scontrol, tmp_path: Path, sharing: str, found: int) -> None:
    text = (OUTPUTS / "24.11-ready.txt").read_text().replace("Alloc,DeferBatch", "Alloc,DeferBatch,Serial")
    (tmp_path / "config").write_text(text)
    scontrol.program.write_text(
        f'#!/bin/sh\ncase "$*" in *partitions) echo "PartitionName=main OverSubscribe={sharing}" ;; *) cat {tmp_path}/config ;; esac\n'
    )
    scontrol.program.chmod(0o755)
    code, result = run_module(slurm_info)
    assert (code, len(result["problems"]), len(result["site_problems"])) == (0, found, found)
