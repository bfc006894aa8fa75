# SPDX-License-Identifier: GPL-3.0-or-later
"""What fails while a job starts, on the real cluster: who is told, how soon, and that nobody else suffers."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Iterator, Tuple

import pytest
from helpers.cluster import NODES, SCRIPT, Cluster, build_image, container, manifest, the_line

FOLDER = "/shared/home/alice/faults"


@pytest.fixture
def project(cluster: Cluster, image: str) -> str:
    """Return the submit directory of a job whose image only n1 has."""
    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))
    return FOLDER


@contextlib.contextmanager
def deaf_docker(cluster: Cluster, node: str) -> Iterator[None]:
    cluster.hold_docker(node)
    try:
        yield
    finally:
        cluster.free_docker(node)


def submitted(cluster: Cluster, folder: str) -> int:
    return cluster.submit(SCRIPT, "-N3", "--comment=madengine", folder=folder)


def port_of(cluster: Cluster, job_id: int) -> Tuple[str, int]:
    """Return where the job's leader listens."""
    lines = cluster.run("n1", "ss -Hltn").splitlines()
    ports = [int(line.split()[3].rpartition(":")[2]) for line in lines]
    return "n1", next(port for port in ports if 288 <= port <= 307)


def test_a_member_that_dies_is_named_in_the_jobs_output_and_the_others_stay_in_service(cluster: Cluster, project: str) -> None:
    with deaf_docker(cluster, "n3"):
        job_id = submitted(cluster, project)
        cluster.until_phase("n2", job_id, "load")
        cluster.run("n2", "kill -9 $(pgrep -f '[p]rolog/prolog[.]py')")
        ended = cluster.wait(job_id)
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    assert the_line(ended.output).startswith("madengine: share: ")
    assert "n2" in the_line(ended.output)
    cluster.wait_idle()
    assert cluster.leftovers(job_id) == {}


def test_a_leader_that_dies_fails_the_job_and_no_member_waits_for_its_deadline(cluster: Cluster, project: str) -> None:
    with deaf_docker(cluster, "n3"):
        job_id = submitted(cluster, project)
        cluster.until_phase("n2", job_id, "load")
        cluster.run("n1", "kill -9 $(pgrep -f '[p]rolog/prolog[.]py')")
        cluster.until("n2", f"grep -q 'madengine: share' /run/madengine/jobs/{job_id}/verdict /run/madengine/last_fault", within=10)
    cluster.wait(job_id)
    cluster.wait_idle()
    assert cluster.leftovers(job_id) == {}


def test_a_node_without_docker_leaves_service_if_the_site_says_so_and_the_others_are_idle_at_once(cluster: Cluster, project: str) -> None:
    cluster.run("n2", "systemctl stop docker.socket docker")
    try:
        with cluster.setting("DrainOn=docker"):
            job_id = submitted(cluster, project)
            cluster.until("c0", "sinfo -h -N -n n2 -o %T | grep -q drain")
            cluster.until("n2", "grep -q 'madengine: node: engine' /run/madengine/last_fault")
            cluster.until("c0", 'test "$(sinfo -h -N -n n1,n3 -o %T | sort -u)" = idle')
            cluster.run("c0", f"scancel {job_id}")
            cluster.wait(job_id)
    finally:
        cluster.run("n2", "systemctl start docker")
        cluster.resume()
    cluster.wait_idle()
    assert cluster.leftovers(job_id) == {}


def test_a_node_without_docker_fails_the_job_and_stays_if_the_site_says_so(cluster: Cluster, project: str) -> None:
    cluster.run("n2", "systemctl stop docker.socket docker")
    try:
        with cluster.setting("DrainOn=none"):
            ended = cluster.wait(submitted(cluster, project))
            assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
            assert the_line(ended.output).startswith("madengine: node: n2: engine: ")
            cluster.wait_idle()
    finally:
        cluster.run("n2", "systemctl start docker")
    assert cluster.leftovers(ended.job_id) == {}


def test_a_share_that_is_not_mounted_on_one_node_fails_the_job_with_that_nodes_name(cluster: Cluster, project: str) -> None:
    cluster.run("n3", "mount -t tmpfs none /shared/madengine")
    try:
        ended = cluster.wait(submitted(cluster, project))
    finally:
        cluster.run("n3", "umount /shared/madengine")
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    assert the_line(ended.output).startswith("madengine: share: n3: ")


def test_when_the_time_is_up_the_line_names_the_node_that_was_waited_for(cluster: Cluster, project: str) -> None:
    with cluster.setting("Deadline=4"), deaf_docker(cluster, "n3"):
        ended = cluster.wait(submitted(cluster, project))
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    assert "n3" in the_line(ended.output)


def test_a_node_without_the_hooks_is_named_at_once_and_a_slow_one_is_waited_for(cluster: Cluster, project: str) -> None:
    cluster.write("/etc/slurm/prolog.d/60-slow", "#!/bin/sh\nsleep 6\n", user="root", mode="0755", node="n2")
    try:
        assert cluster.wait(submitted(cluster, project)).state == "COMPLETED"
        cluster.run("n3", "mv /etc/slurm/prolog.d/50-madengine /root/")
        ended = cluster.wait(submitted(cluster, project))
    finally:
        cluster.run("n3", "[ ! -e /root/50-madengine ] || mv /root/50-madengine /etc/slurm/prolog.d/")
        cluster.run("n2", "rm /etc/slurm/prolog.d/60-slow")
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    line = the_line(ended.output)
    assert "rendezvous: a node has no hooks (without_hooks='n3')" in line


def test_a_job_that_slurm_has_requeued_since_another_prolog_failed_holds_no_other_node(cluster: Cluster, project: str) -> None:
    cluster.write("/etc/slurm/prolog.d/60-broken", "#!/bin/sh\nexit 1\n", user="root", mode="0755", node="n3")
    try:
        with cluster.setting("ArrivalGrace=300"):
            job_id = submitted(cluster, project)
            said = "journalctl -q -t madengine --no-pager | grep -q 'rendezvous: the job is over .*n3'"
            for node in ("n1", "n2"):
                cluster.until(node, said, within=90)
            cluster.run("c0", f"scancel {job_id}")
            cluster.until("c0", "! sinfo --noheader --Node --nodes=n1,n2 --format=%T | grep -v idle")
    finally:
        cluster.run("n3", "rm /etc/slurm/prolog.d/60-broken")
        cluster.resume()
    cluster.wait_idle()
    assert cluster.leftovers(job_id) == {}


def test_a_node_whose_hooks_step_aside_is_named_after_the_grace_and_not_at_the_deadline(cluster: Cluster, project: str) -> None:
    cluster.run("n3", "touch /etc/madengine/disabled")
    try:
        with cluster.setting("ArrivalGrace=4"):
            ended = cluster.wait(submitted(cluster, project))
    finally:
        cluster.run("n3", "rm /etc/madengine/disabled")
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    line = the_line(ended.output)
    assert "rendezvous: not all nodes came" in line
    assert "never_arrived='n3'" in line
    assert "no_answer_from" not in line  # its machine is there


def test_strangers_on_the_ports_and_a_fake_leader_change_nothing(cluster: Cluster, project: str) -> None:
    fake = (
        "import socket, time\n"
        "held = []\n"
        "for port in range(288, 308):\n"
        "    if port % 2:\n"
        "        held.append(socket.create_server(('', port)))\n"
        "time.sleep(60)\n"
    )
    scan = (
        "import itertools, socket\n"
        "for port in itertools.chain.from_iterable(itertools.repeat(range(288, 308))):\n"
        "    try:\n"
        "        with socket.create_connection(('n1', port), 0.2) as guest: guest.sendall(b'{\"type\": \"GO\"}' * 99 + b'\\n')\n"
        "    except OSError: pass\n"
    )
    strangers = [
        subprocess.Popen(["docker", "exec", container(node), "timeout", "60", "python3", "-c", text])
        for node, text in (("n1", fake), ("c0", scan))
    ]
    try:
        cluster.until("n1", "ss -Hltn | grep -q ':289 '")
        ended = cluster.wait(submitted(cluster, project))
    finally:
        for node in ("n1", "c0"):
            cluster.run(node, "pkill -f '[r]ange.288' || true")
        for stranger in strangers:
            stranger.wait()
    assert (ended.state, ended.output.split()) == ("COMPLETED", ["ran"]), f"{ended}\n{cluster.evidence()}"


def test_a_job_that_is_cancelled_in_its_prolog_leaves_nothing(cluster: Cluster, project: str) -> None:
    with deaf_docker(cluster, "n3"):
        job_id = submitted(cluster, project)
        cluster.until_phase("n2", job_id, "load")
        cluster.run("c0", f"scancel {job_id}")
    assert cluster.wait(job_id).state == "CANCELLED"
    cluster.wait_idle()
    assert cluster.leftovers(job_id) == {}


def test_a_requeued_job_meets_anew_and_not_its_own_ghost(cluster: Cluster, project: str) -> None:
    script = (
        "#!/bin/sh\nif [ $SLURM_RESTART_COUNT ]; then srun docker run --rm $MAD_IMAGE true && echo again; else touch first; sleep 300; fi\n"
    )
    cluster.run("n1", f"rm -f {project}/first")
    job_id = cluster.submit(script, "-N3", "--comment=madengine", "--requeue", folder=project)
    cluster.until("n1", f"test -e {project}/first")
    cluster.run("c0", f"scontrol requeue {job_id}")
    # SLURM holds a requeued job back for as long as a credential is good (cred_expire), unless somebody says otherwise.
    cluster.until("c0", f'test "$(squeue -h -j {job_id} -o %T)" = PENDING')
    cluster.run("c0", f"scontrol update jobid={job_id} starttime=now")
    ended = cluster.wait(job_id, within=240)
    assert (ended.state, ended.output.split()[-1]) == ("COMPLETED", "again"), f"{ended}\n{cluster.evidence()}"
    assert cluster.leftovers(job_id) == {}


def test_twenty_jobs_good_and_broken_in_turn_leave_the_cluster_as_it_was(cluster: Cluster, project: str) -> None:
    cluster.write("/shared/home/alice/broken/build_manifest.json", "{")
    jobs = [(submitted(cluster, project if number % 2 else "/shared/home/alice/broken"), number % 2) for number in range(20)]
    for job_id, is_good in jobs:
        ended = cluster.wait(job_id, within=240)
        assert ended.state == ("COMPLETED" if is_good else "FAILED"), f"{ended}\n{cluster.evidence()}"
    cluster.wait_idle()
    assert [cluster.leftovers(job_id) for job_id, _ in jobs] == [{}] * 20
    assert cluster.run("n1", "ls /shared/madengine/leases /shared/madengine/tmp").split() == [
        "/shared/madengine/leases:",
        "/shared/madengine/tmp:",
    ]


@contextlib.contextmanager
def prolog_flags(cluster: Cluster, line: str) -> Iterator[None]:
    """Let SLURM run with another ``PrologFlags`` line for a while."""
    every = ("c0", *NODES)
    for node in every:
        cluster.run(node, f"cp -p /etc/slurm/slurm.conf /run/slurm.conf && sed -i 's/^PrologFlags=.*/{line}/' /etc/slurm/slurm.conf")
    cluster.run("c0", "scontrol reconfigure")
    try:
        yield
    finally:
        for node in every:
            cluster.run(node, "cat /run/slurm.conf > /etc/slurm/slurm.conf")
        cluster.run("c0", "scontrol reconfigure")


def test_a_leader_whose_whole_node_dies_is_noticed_by_all_and_comes_back_into_service(cluster: Cluster, project: str) -> None:
    with deaf_docker(cluster, "n3"):
        job_id = submitted(cluster, project)
        cluster.until_phase("n2", job_id, "load")
        subprocess.run(["docker", "kill", container("n1")], check=True, capture_output=True)
        cluster.until("n2", f"grep -qs 'madengine: share' /run/madengine/jobs/{job_id}/verdict", within=60)
    cluster.run("c0", f"scancel {job_id}")
    subprocess.run(["docker", "start", container("n1")], check=True, capture_output=True)
    cluster.until("n1", "docker info >/dev/null 2>&1")
    cluster.wait(job_id)
    cluster.resume()
    cluster.wait_idle()
    # What the job wrote on the disk of the node that died was never gathered: it stays there for a week.
    assert cluster.leftovers(job_id) in ({}, {"n1": f"/var/lib/madengine/jobs/{job_id}\n"})


def test_without_alloc_the_hooks_step_aside_and_the_job_runs_without_their_help(cluster: Cluster, project: str) -> None:
    with prolog_flags(cluster, "#PrologFlags"):
        ended = cluster.job("#!/bin/sh\nsrun sh -c 'echo image=$MAD_IMAGE'\n", "-N3", "--comment=madengine", folder=project)
    assert (ended.state, set(ended.output.split())) == ("COMPLETED", {"image="}), f"{ended}\n{cluster.evidence()}"
    assert "stepping aside" in cluster.run("n1", f"journalctl -q -t madengine --no-pager | grep 'job {ended.job_id}'")
    assert cluster.leftovers(ended.job_id) == {}


def test_without_deferbatch_the_batch_script_still_starts_after_all_nodes_have_loaded(cluster: Cluster, project: str) -> None:
    script = "#!/bin/sh\nsrun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE true && echo ran\n"
    with prolog_flags(cluster, "PrologFlags=Alloc"), deaf_docker(cluster, "n3"):
        job_id = cluster.submit(script, "-N3", "--comment=madengine", folder=project)
        cluster.until_phase("n2", job_id, "load")
        assert cluster.hosts["n1"].run(f"grep -qx ready /run/madengine/jobs/{job_id}/verdict").rc != 0
        cluster.free_docker("n3")
        ended = cluster.wait(job_id)
    assert (ended.state, ended.output.split()) == ("COMPLETED", ["ran"]), f"{ended}\n{cluster.evidence()}"


def test_each_task_of_a_job_array_meets_for_itself(cluster: Cluster, project: str) -> None:
    job_id = cluster.submit(SCRIPT, "-N3", "--comment=madengine", "--array=0-2", "--output=array-%a.out", folder=project)
    cluster.until("c0", f'test -z "$(squeue -h -j {job_id} 2>/dev/null)"', within=120)
    outputs = [cluster.run("n1", f"cat {project}/array-{task}.out").split() for task in range(3)]
    assert outputs == [["ran"]] * 3, cluster.evidence()


def test_each_component_of_a_heterogeneous_job_meets_for_itself_and_a_step_of_both_is_one_step(
    cluster: Cluster, project: str, image: str
) -> None:
    script = "#!/bin/sh\n#SBATCH -N2 --comment=madengine\n#SBATCH hetjob\n#SBATCH -N1 --comment=madengine\n" + (
        "srun --het-group=0,1 --ntasks-per-node=1 sh -c 'docker run --rm --pull never $MAD_IMAGE true && echo rank $NODE_RANK of $NNODES'\n"
    )
    build_image(cluster, "n3", image, payload=image)  # the second component's first node: another meeting, another leader
    ended = cluster.job(script, folder=project)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    # A step of both components is one step.
    assert sorted(ended.output.splitlines()) == [f"rank {rank} of 3" for rank in range(3)]


def test_two_jobs_of_one_user_on_the_same_nodes_meet_each_for_itself(cluster: Cluster, project: str) -> None:
    jobs = [submitted(cluster, project) for _ in range(2)]
    assert [cluster.wait(job_id).output.split() for job_id in jobs] == [["ran"], ["ran"]], cluster.evidence()


def test_a_setting_that_does_not_exist_is_named_in_the_journal_and_stops_no_job(cluster: Cluster, project: str) -> None:
    with cluster.setting("Colour=red"):
        ended = cluster.wait(submitted(cluster, project))
    assert (ended.state, ended.output.split()) == ("COMPLETED", ["ran"]), f"{ended}\n{cluster.evidence()}"
    assert "unknown key (key='Colour'" in cluster.run("n1", "journalctl -q -t madengine --no-pager -n 30")
