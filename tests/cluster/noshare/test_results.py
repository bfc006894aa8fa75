# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where nodes share no filesystem (MADLAB_SHARED=no), the candidates come to the first node, or stay where the log says."""

from __future__ import annotations

import json
from typing import Any, Iterator

import pytest
from helpers.cluster import NODES, Cluster, build_image

RESULTS_WAIT = 10.0  # seconds, as the site has it
HOME = "/home/alice"
# Every node writes its CSV; the last one knows the throughput.
SCRIPT = """#!/bin/sh
srun --ntasks-per-node=1 sh -c 'cd $MAD_RESULTS_DIR && { echo model,performance,metric
    if [ $NODE_RANK = 2 ]; then echo tiny,42.5,tokens/s; else echo tiny,,tokens/s; fi; } > perf_tiny.csv'
"""


@pytest.fixture
def project(cluster: Cluster) -> Iterator[str]:
    """Give a directory that the first node alone has."""
    folder = "/srv/project"
    cluster.run("n1", f"rm -rf {folder} && install -d -o alice {folder}")
    yield folder
    for node in NODES:
        cluster.run(node, "rm -rf /var/lib/madengine/jobs/*")


def submit(cluster: Cluster, folder: str, script: str = SCRIPT) -> int:
    # The controller sees none of the nodes' directories.
    options = ("-N3", f"--chdir={folder}", f"--output={folder}/out", "--comment=madengine:image=lab/results:v1,results=perf_tiny.csv")
    return cluster.submit(script, *options, folder=HOME)


@pytest.fixture(autouse=True)
def _image(cluster: Cluster) -> None:
    if "lab/results:v1" not in cluster.images("n1"):
        build_image(cluster, "n1", "lab/results:v1", payload="results")


def selection(cluster: Cluster, folder: str, job_id: int) -> Any:
    return cluster.json(f"{folder}/madengine-{job_id}/selection.json")


def said(cluster: Cluster, node: str, job_id: int) -> str:
    """Return what the hooks on *node* have said for a person to read since the job was submitted."""
    since = cluster.run(
        "c0", f"date --date=$(scontrol --oneliner show job {job_id} | grep -o 'SubmitTime=[^ ]*' | cut -d= -f2) +@%s"
    ).strip()
    return cluster.run(node, f"journalctl -q -t madengine --no-pager -o cat --since={since} | grep '^madengine' || true")


def exchange_seconds(cluster: Cluster, node: str, job_id: int) -> float:
    lines = cluster.run(
        node, f"journalctl -q -t madengine --no-pager -o cat --since=-5min | grep '\"exchange\"' | grep '{job_id}'"
    ).splitlines()
    return float(json.loads(lines[-1])["seconds"])


def test_the_richest_csv_comes_from_the_last_node_to_the_first(cluster: Cluster, project: str) -> None:
    job_id = submit(cluster, project)
    assert cluster.wait(job_id).state == "COMPLETED", cluster.evidence()
    cluster.wait_idle()
    chosen = selection(cluster, project, job_id)
    assert (chosen["verdict"], chosen["selected"]["node"], chosen["best"]["performance"]) == ("ok", "n3", "42.5")
    assert chosen["lacking"] == []
    assert "42.5" in cluster.run("n1", f"cat {project}/madengine-{job_id}/perf_tiny.csv")
    assert "42.5" in cluster.run("n1", f"cat {project}/madengine-{job_id}/report.txt")
    assert exchange_seconds(cluster, "n1", job_id) < RESULTS_WAIT  # nobody was waited for in vain
    # What does not travel is said to be there, and is there.
    node, _, path = next(item for item in chosen["elsewhere"] if item.startswith("n3:")).partition(":")
    assert "node.json" in cluster.run(node, f"ls {path}")
    for each in NODES:
        assert said(cluster, each, job_id) == ""
        assert cluster.hosts[each].run("pgrep -af '[e]pilog[.]py'").stdout == ""


def test_a_member_whose_epilog_is_killed_is_named_and_keeps_what_it_has(cluster: Cluster, project: str) -> None:
    job_id = submit(cluster, project, SCRIPT + f"touch {project}/written\nsleep 300\n")
    cluster.until("n1", f"test -e {project}/written")
    # It finds nothing of the job: as after a reboot.
    cluster.run("n3", f"rm -rf /run/madengine/jobs/{job_id}")
    cluster.run("c0", f"scancel {job_id}")
    cluster.wait(job_id)
    cluster.wait_idle()
    chosen = selection(cluster, project, job_id)
    assert chosen["verdict"] == "empty"
    assert [(entry["node"], entry["reason"]) for entry in chosen["lacking"]] == [("n3", "nothing came from this node")]
    assert "missing='n3'" in said(cluster, "n1", job_id)
    assert RESULTS_WAIT <= exchange_seconds(cluster, "n1", job_id) < 2 * RESULTS_WAIT
    assert "42.5" in cluster.run("n3", f"cat /var/lib/madengine/jobs/{job_id}/results/perf_tiny.csv")


def test_without_the_first_node_s_epilog_the_others_keep_theirs_and_say_where(cluster: Cluster, project: str) -> None:
    job_id = submit(cluster, project, SCRIPT + f"touch {project}/written\nsleep 300\n")
    cluster.until("n1", f"test -e {project}/written")
    cluster.run("n1", f"rm -rf /run/madengine/jobs/{job_id}")
    cluster.run("c0", f"scancel {job_id}")
    cluster.wait(job_id)
    cluster.wait_idle()
    line = said(cluster, "n3", job_id)
    kept = f"/var/lib/madengine/jobs/{job_id}/kept/node_2"
    assert "the leader did not answer" in line
    assert f"results='{kept}'" in line
    assert "42.5" in cluster.run("n3", f"cat {kept}/perf_tiny.csv")


def test_strangers_on_the_ports_change_nothing(cluster: Cluster, project: str) -> None:
    start, ports = 288, 20
    job_id = submit(cluster, project, SCRIPT + f"touch {project}/written\nsleep 300\n")
    cluster.until("n1", f"test -e {project}/written")
    first = start + (job_id + ports // 2) % ports
    rude = (
        "import socket, time\n"
        f"taken = socket.create_server(('', {first}))\n"
        "while True:\n"
        f"    for port in [{start} + ({first} - {start} + step) % {ports} for step in (1, 2, 3)]:\n"
        "        try:\n"
        '            socket.create_connection((\'n1\', port), 0.1).sendall(b\'{"line":"JOIN","rank":2}\\n\' * 1000)\n'
        "        except OSError:\n"
        "            time.sleep(0.01)\n"
    )
    cluster.write("/tmp/rude.py", rude, node="n1")
    stranger = cluster.run("n1", "setsid python3 /tmp/rude.py >/dev/null 2>&1 & echo $!").strip()
    cluster.until("n1", f"ss -Hltn | grep -q :{first}")
    cluster.run("c0", f"scancel {job_id}")
    cluster.wait(job_id)
    cluster.wait_idle()
    assert cluster.hosts["n1"].run(f"kill {stranger}").rc == 0  # it was there to the end
    chosen = selection(cluster, project, job_id)
    assert (chosen["selected"]["node"], chosen["lacking"]) == ("n3", [])


def test_an_epilog_that_is_killed_while_it_waits_takes_the_rest_when_it_is_run_again(cluster: Cluster, project: str) -> None:
    job_id = submit(cluster, project, SCRIPT + f"touch {project}/written\nsleep 300\n")
    cluster.until("n1", f"test -e {project}/written")
    environment = f"SLURM_JOB_ID={job_id} SLURM_JOB_UID=2000 SLURM_JOB_GID=2000 SLURM_JOB_USER=alice SLURM_NODELIST=n[1-3]"
    environment += f" SLURM_JOB_WORK_DIR={project} SLURM_CLUSTER_NAME=lab SLURM_JOB_COMMENT=madengine PATH=/usr/bin:/bin"

    def epilog(node: str) -> str:
        return f"env -i {environment} SLURMD_NODENAME={node} /usr/bin/python3 -I /opt/madengine-hooks/current/epilog/epilog.py"

    # n2 delivers and then the first node's epilog is killed, in the middle of its wait for n3.
    cluster.run("n1", f"setsid timeout -s KILL 4 {epilog('n1')} >/dev/null 2>&1 & true")
    cluster.run("n2", epilog("n2"))
    cluster.until("n1", "! pgrep -f '[e]pilog[.]py'")
    assert "node.json" in cluster.run("n1", f"ls {project}/madengine-{job_id}/node_1")
    assert cluster.hosts["n1"].run(f"test -e {project}/madengine-{job_id}/selection.json").rc != 0
    cluster.run("c0", f"scancel {job_id}")
    cluster.wait(job_id)
    cluster.wait_idle()
    chosen = selection(cluster, project, job_id)
    assert (chosen["selected"]["node"], chosen["lacking"]) == ("n3", [])
