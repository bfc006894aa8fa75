# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A preflight of the real cluster: each thing that is broken is named with its node and its remedy, and nothing else is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest
from helpers.cluster import Cluster, container

REPOSITORY = Path(__file__).resolve().parents[3]
INVENTORY = REPOSITORY / "molecule/shared/inventory"
_SHOWN = re.compile(r'^\s+(?:- )?("(?:[^"\\]|\\.)*"),?$')
_ROW = re.compile(r"(FAIL|warn)  (\S+) +(\S+) +(.*)")
# What a lab of containers has no say in: how full and how fast its host's disk is, and what the host installs.
USUAL = {"pigz", "docker_space", "store", "store_speed"}

Row = Tuple[str, str, str]


class Report:
    """What ansible-playbook showed."""

    def __init__(self, status: int, output: str) -> None:
        self.status, self.output = status, output
        self.lines: List[str] = [json.loads(match[1]) for match in map(_SHOWN.match, output.splitlines()) if match]
        self.details: Dict[Row, str] = {}
        for line, after in zip(self.lines, self.lines[1:]):
            match = _ROW.fullmatch(line)
            if match:
                self.details[match[1], match[2], match[3]] = f"{match[4]} {after.strip()}"

    @property
    def rows(self) -> List[Row]:
        """Return (status, check, nodes) of what is not ok, without warnings of the host's own."""
        return [row for row in self.details if row[0] == "FAIL" or row[1] not in USUAL]


def preflight(*options: str) -> Report:
    """Run the playbook from this machine, as an admin does."""
    command = ["ansible-playbook", "--inventory", str(INVENTORY), "rocm.madengine.preflight", *options]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "build/collections"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",  # molecule asks for it
    }
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return Report(done.returncode, done.stdout + done.stderr)


@pytest.fixture(autouse=True)
def nothing_stays_in_the_store(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.run("n1", "find /shared/madengine -name '.preflight*'") == ""


@contextlib.contextmanager
def replaced(cluster: Cluster, node: str, path: str, edit: str) -> Iterator[None]:
    """Change a file on a node by the shell command *edit* for a while, and give it back as it was."""
    copy = f"/run/preflight-test.{os.path.basename(path)}"
    cluster.run(node, f"cp -p {path} {copy}")
    try:
        cluster.run(node, edit)
        yield
    finally:
        cluster.run(node, f"cp -p {copy} {path} && rm {copy}")  # in place, for Docker mounts some of them


@contextlib.contextmanager
def namespaces(cluster: Cluster) -> Iterator[str]:
    """Let the controller want a namespace for each job, for a while; give the setting. No job comes meanwhile: no slurmd needs it."""
    conf, kept = "/etc/slurm/slurm.conf", "/run/slurm.conf.before"
    known = cluster.run("c0", "scontrol show config")
    plugin = "NamespaceType=namespace/tmpfs" if "NamespaceType" in known else "JobContainerType=job_container/tmpfs"
    cluster.run("c0", f"cp -p {conf} {kept} && sed -i 's/^PrologFlags=.*/&,Contain/' {conf} && echo {plugin} >>{conf}")
    try:
        cluster.run("c0", "systemctl restart slurmctld")
        cluster.wait_idle()
        yield plugin
    finally:
        cluster.run("c0", f"cp -p {kept} {conf} && rm {kept} && systemctl restart slurmctld")
        cluster.wait_idle()


@contextlib.contextmanager
def listening(cluster: Cluster, node: str, first: int, last: int) -> Iterator[None]:
    """Let a stranger hold ports of *node*; its end closes standard input, and that ends it there too."""
    text = f"import socket, sys; held = [socket.create_server(('', port)) for port in range({first}, {last} + 1)]; sys.stdin.read()"
    with subprocess.Popen(["docker", "exec", "-i", container(node), "python3", "-c", text], stdin=subprocess.PIPE) as stranger:
        try:
            cluster.until(node, f"ss -Hltn | grep -q :{last}")
            yield
        finally:
            assert stranger.stdin is not None
            stranger.stdin.close()
            stranger.wait(30)


def assert_only(report: Report, row: Row, seen: str, remedy: str) -> None:
    assert report.rows == [row], report.output
    assert seen in report.details[row].partition(" -> ")[0]
    assert remedy in report.details[row].partition(" -> ")[2]


def test_a_good_cluster_is_ready_also_in_check_mode(cluster: Cluster) -> None:
    for options in ((), ("--check", "--diff")):
        report = preflight(*options)
        assert (report.status, report.rows) == (0, []), report.output
        assert report.lines[0].startswith("preflight: all 3 nodes are ready")
        assert "changed=0" in report.output
        assert not re.search("changed=[1-9]", report.output)
        assert not any(line.startswith("?") for line in report.lines)


def test_a_node_without_docker_fails_alone_and_the_play_too(cluster: Cluster) -> None:
    cluster.run("n2", "systemctl stop docker.socket docker")
    try:
        report = preflight()
    finally:
        cluster.run("n2", "systemctl start docker")
    assert_only(report, ("FAIL", "docker", "n2"), "docker: no answer", "start docker")
    assert report.status == 2
    assert "preflight: 1 of 3 nodes fail: n2" in report.output
    assert any(line.startswith("?") and "docker_store" in line and line.endswith("n2") for line in report.lines)


def test_a_docker_that_hangs_costs_its_own_answer_alone(cluster: Cluster) -> None:
    cluster.hold_docker("n3")
    try:
        report = preflight("--extra-vars=preflight_fail_on=never")
    finally:
        cluster.free_docker("n3")
    assert_only(report, ("FAIL", "docker", "n3"), "timed out", "start docker")
    assert report.status == 0


def test_a_node_with_another_key_is_found_and_no_key_is_shown(cluster: Cluster) -> None:
    key = cluster.run("n1", "cat /etc/munge/munge.key")
    # munged has read its own key long ago: SLURM does not suffer.
    with replaced(
        cluster, "n2", "/etc/munge/munge.key", "tr a-z b-za </etc/munge/munge.key >/run/k && cat /run/k >/etc/munge/munge.key; rm /run/k"
    ):
        report = preflight("-vvv")
    assert_only(report, ("FAIL", "key", "n2"), "another key than 2 of 3 nodes", "copy the cluster's key")
    assert key not in report.output


def test_a_node_on_which_the_store_is_not_mounted_is_found_by_what_it_does_not_see(cluster: Cluster) -> None:
    cluster.run("n3", "mount -t tmpfs none /shared/madengine")
    try:
        report = preflight()
    finally:
        cluster.run("n3", "umount /shared/madengine")
    assert_only(report, ("FAIL", "store", "n3"), "does not see what n[1-2] wrote", "mount the share")


def test_a_node_without_the_hooks_release_is_found(cluster: Cluster) -> None:
    cluster.run("n1", "mv /opt/madengine-hooks /opt/madengine-hooks.away")
    try:
        report = preflight()
    finally:
        cluster.run("n1", "mv /opt/madengine-hooks.away /opt/madengine-hooks")
    assert_only(report, ("FAIL", "release", "n1"), "no release of the hooks", "rocm.madengine.site")


def test_ports_that_strangers_hold_are_a_warning_until_a_job_would_find_none(cluster: Cluster) -> None:
    with listening(cluster, "n1", 293, 293), listening(cluster, "n2", 288, 303):
        report = preflight("--extra-vars=preflight_fail_on=never")
    assert report.rows == [("FAIL", "ports", "n2"), ("warn", "ports", "n1")], report.output
    assert "293 by python3 (pid " in report.details["warn", "ports", "n1"]
    assert "another PortRange" in report.details["FAIL", "ports", "n2"]


def test_names_are_blamed_on_who_cannot_use_them_or_on_who_has_them(cluster: Cluster) -> None:
    with replaced(cluster, "n1", "/etc/hosts", "echo 10.9.9.9 n3 >>/etc/hosts"):
        report = preflight()
        assert_only(report, ("FAIL", "names", "n1"), "n3 leads to 10.9.9.9", "/etc/hosts")
        with replaced(cluster, "n2", "/etc/hosts", "echo 127.0.1.1 n3 >>/etc/hosts"):
            report = preflight()
    assert_only(report, ("FAIL", "names", "n3"), "on n[1-2]", "real address")


def test_several_faults_at_once_are_all_named(cluster: Cluster) -> None:
    users = json.dumps({"preflight_users": ["alice", "carol", "dave"]})
    typing_mistake = "echo Dedline=3 >>/etc/madengine/hooks.conf"
    trap = "sed 's/^[0-9.]*\\(.*n3\\)$/127.0.1.1\\1/' /etc/hosts >/run/hosts && cat /run/hosts >/etc/hosts; rm /run/hosts"
    with contextlib.ExitStack() as broken:
        broken.enter_context(replaced(cluster, "n1", "/etc/slurm/task_prolog", "chmod 0700 /etc/slurm/task_prolog"))
        broken.enter_context(replaced(cluster, "n2", "/etc/madengine/hooks.conf", typing_mistake))
        broken.enter_context(replaced(cluster, "n2", "/etc/slurm/task_prolog", "rm /etc/slurm/task_prolog"))
        broken.enter_context(replaced(cluster, "n3", "/etc/hosts", trap))
        report = preflight("--extra-vars", users)
    programs = [("FAIL", "programs", "n1"), ("FAIL", "programs", "n2")]
    assert report.rows == [("FAIL", "users", "n[1-3]"), ("FAIL", "settings", "n2"), *programs, ("warn", "names", "n3")], report.output
    assert "TaskProlog /etc/slurm/task_prolog cannot be read by alice" in report.details["FAIL", "programs", "n1"]
    assert "TaskProlog /etc/slurm/task_prolog is not there" in report.details["FAIL", "programs", "n2"]
    assert all("apply rocm.madengine.site" in report.details[row] for row in programs)
    assert "no Docker access: carol" in report.output
    assert "does not know dave" in report.output
    assert "unknown key" in report.details["FAIL", "settings", "n2"]
    assert "127.0.1.1" in report.details["warn", "names", "n3"]


def test_a_host_that_does_not_answer_and_a_slurm_that_does_not_fit_are_named(cluster: Cluster, tmp_path: Path) -> None:
    absent = tmp_path / "absent.ini"
    absent.write_text("[slurm_compute]\nn9 ansible_connection=local ansible_python_interpreter=/nowhere/python3\n")
    report = preflight("--inventory", str(absent), "--extra-vars=preflight_prolog_dir=/etc/slurm/prolog.d/")
    assert ("FAIL", "node", "n9") in report.rows, report.output
    assert ("FAIL", "slurm", "cluster") in report.rows
    assert "Prolog=/etc/slurm/prolog.d/*" in report.details["FAIL", "slurm", "cluster"]
    assert "preflight: SLURM's settings do not fit" in report.output


def test_where_jobs_have_namespaces_of_their_own_no_image_may_travel_by_broadcast(cluster: Cluster) -> None:
    with namespaces(cluster) as plugin, cluster.setting("Transport=sbcast"):
        report = preflight("--limit=n1")
    assert_only(report, ("FAIL", "slurm", "cluster"), f"{plugin} should be unset where images travel by sbcast", "scontrol reconfigure")
    assert "set ImageStore, or Transport=registry" in report.output
