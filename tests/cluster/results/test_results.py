# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a job, however it ends: the richest CSV, its own diagnostics, and nothing of anybody else's."""

from __future__ import annotations

import pytest
from helpers.cluster import NODES, Cluster, manifest
from helpers.playbooks import Played, play

FOLDER = "/shared/home/alice/results"
# Every node writes its CSV; the last one knows the throughput.
WRITE = """srun --ntasks-per-node=1 sh -c 'cd $MAD_RESULTS_DIR && { echo model,performance,metric
    if [ $NODE_RANK = 2 ]; then echo tiny,42.5,tokens/s; else echo tiny,,tokens/s; fi; } > perf_tiny.csv'
"""
SCRIPT = "#!/bin/sh\n" + WRITE


@pytest.fixture
def project(cluster: Cluster, image: str) -> str:
    cluster.run("n1", f"rm -rf {FOLDER}")
    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))
    return FOLDER


def submit(cluster: Cluster, folder: str, script: str, *options: str) -> int:
    return cluster.submit(script, "-N3", "--comment=madengine", *options, folder=folder)


def test_a_node_that_dies_before_its_epilog_costs_the_others_nothing(cluster: Cluster, project: str) -> None:
    script = SCRIPT + "touch written\nsleep 300\n"
    job_id = submit(cluster, project, script)
    cluster.until("n1", f"test -e {project}/written")
    # Its epilog finds nothing of the job: as after a reboot.
    cluster.run("n2", f"rm -rf /run/madengine/jobs/{job_id}")
    cluster.run("c0", f"scancel {job_id}")
    cluster.wait(job_id)
    selection = cluster.json(f"{project}/madengine-{job_id}/selection.json")
    assert (selection["verdict"], selection["selected"]["node"]) == ("partial", "n3")
    assert [entry["node"] for entry in selection["lacking"]] == ["n2"]
    cluster.run("n2", f"rm -rf /var/lib/madengine/jobs/{job_id}")


def test_an_epilog_that_is_killed_and_run_again_ends_what_it_began(cluster: Cluster, project: str) -> None:
    job_id = submit(cluster, project, SCRIPT + "touch written\nsleep 300\n")
    cluster.until("n1", f"test -e {project}/written")
    environment = (
        f"SLURM_JOB_ID={job_id} SLURM_JOB_UID=2000 SLURM_JOB_GID=2000 SLURM_JOB_USER=alice SLURM_NODELIST=n[1-3] SLURMD_NODENAME=n3"
    )
    environment += f" SLURM_JOB_WORK_DIR={project} SLURM_CLUSTER_NAME=lab SLURM_JOB_COMMENT=madengine PATH=/usr/bin:/bin"
    epilog = f"env -i {environment} /usr/bin/python3 -I /opt/madengine-hooks/current/epilog/epilog.py"
    cluster.hosts["n3"].run(f"timeout -s KILL 0.15 {epilog}")
    cluster.run("n3", epilog)
    cluster.run("n3", epilog)
    cluster.run("c0", f"scancel {job_id}")
    cluster.wait(job_id)
    assert cluster.json(f"{project}/madengine-{job_id}/selection.json")["selected"]["node"] == "n3"
    assert cluster.leftovers(job_id) == {}


@pytest.mark.parametrize(
    ("ending", "options"), [("sleep 300\n", ("--time=0:01",)), ("kill -9 $$\n", ()), ("exit 3\n", ())], ids=["timeout", "kill", "exit"]
)
def test_however_a_job_fails_its_results_and_diagnostics_are_kept_and_no_bystanders(
    cluster: Cluster, project: str, ending: str, options: tuple, image: str
) -> None:
    bystander = cluster.run("n1", f"docker run -d -e SLURM_JOB_ID=1 {image} sleep 300").strip()
    start = "srun --ntasks-per-node=1 sh -c 'docker run -d --env-file $MAD_ENV_FILE $MAD_IMAGE sh -c \"echo last words; sleep 300\"'\n"
    job_id = submit(cluster, project, SCRIPT + start + ending, *options)
    ended = cluster.wait(job_id, within=200)
    is_untouched = cluster.hosts["n1"].run(f"docker rm -f {bystander}").rc == 0
    assert ended.state in ("FAILED", "TIMEOUT"), f"{ended}\n{cluster.evidence()}"
    collection = f"{project}/madengine-{job_id}"
    selection = cluster.json(f"{collection}/selection.json")
    assert (selection["verdict"], selection["selected"]["node"]) == ("job_failed", "n3")
    for rank in range(3):
        assert "last words" in cluster.run("n1", f"cat $(find {collection}/node_{rank}/diagnostics -type f)")
    assert is_untouched
    assert cluster.leftovers(job_id) == {}
    assert all(cluster.run(node, "docker ps -q") == "" for node in NODES)


def test_a_container_that_runs_out_of_memory_is_said_to_have_and_no_bystander_of_its_image_is_touched(
    cluster: Cluster, project: str, image: str
) -> None:
    """SLURM's own OUT_OF_MEMORY takes control groups of its own, which this lab's nodes cannot give it; Docker's limit is as real."""
    bystander = cluster.run("n1", f"docker run -d -e SLURM_JOB_ID=1 --memory 20m {image} sleep 300").strip()
    start = """srun --ntasks-per-node=1 sh -c 'if [ $NODE_RANK = 0 ]; then do="tail /dev/zero"; fi
        docker run --env-file $MAD_ENV_FILE --memory 20m $MAD_IMAGE sh -c "echo last words; $do"'
    """
    ended = cluster.wait(submit(cluster, project, SCRIPT + start))
    is_untouched = cluster.hosts["n1"].run(f"docker rm -f {bystander}").rc == 0
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    collection = f"{project}/madengine-{ended.job_id}"
    selection = cluster.json(f"{collection}/selection.json")
    assert (selection["verdict"], selection["selected"]["node"], selection["exit_code"]) == ("job_failed", "n3", "137:0")
    seen = [cluster.json(f"{collection}/node_{rank}/diagnostics/summary.json") for rank in range(3)]
    assert [[each["oom_killed"] for each in one["containers"]] for one in seen] == [[True], [False], [False]]
    assert "exit code 137, out of memory" in seen[0]["summary"]
    assert "out of memory" in cluster.run("n1", f"cat {collection}/report.txt")
    assert "last words" in cluster.run("n1", f"cat {collection}/node_0/diagnostics/*/output.log")
    assert is_untouched
    assert cluster.leftovers(ended.job_id) == {}
    assert all(cluster.run(node, "docker ps -aq") == "" for node in NODES)


def test_a_container_in_the_jobs_control_group_goes_with_the_job_and_none_beside_it(cluster: Cluster, project: str, image: str) -> None:
    # Started without the job's environment: nothing but its place tells whose it is.
    start = f"docker run -d --cgroup-parent /slurm/uid_2000/job_$SLURM_JOB_ID/step_batch {image} sleep 300 >own\n"
    start += f"docker create --cgroup-parent /slurm/uid_2000/job_$SLURM_JOB_ID {image} sleep 300 >>own\n"
    job_id = submit(cluster, project, "#!/bin/sh\n" + start + "touch started\nsleep 300\n")
    cluster.until("n1", f"test -e {project}/started")
    places = [f"/slurm/uid_2000/job_{job_id}7", f"/user.slice/job_{job_id}", f"job_{job_id}"]
    bystanders = [cluster.run("n1", f"docker run -d --cgroup-parent {place} {image} sleep 300").strip() for place in places]
    named = f"docker run -d -e SLURM_JOB_ID={job_id}7 --cgroup-parent /slurm/uid_2000/job_{job_id} {image} sleep 300"
    # A job that is not on this node is nobody's to name: no container escapes by its word.
    own = [*cluster.run("n1", f"cat {project}/own").split(), cluster.run("n1", named).strip()]
    cluster.run("c0", f"scancel {job_id}")
    cluster.wait(job_id)
    left = cluster.run("n1", "docker ps -aq --no-trunc").split()
    cluster.run("n1", "docker rm -f " + " ".join(left))
    # Docker leaves the groups that it has made for them; they are the machine's on which the lab runs.
    cluster.hosts["n1"].run(f"find /sys/fs/cgroup -depth -type d -path '*/job_{job_id}*' -exec rmdir {{}} +")
    assert (len(own), sorted(left)) == (3, sorted(bystanders))


def test_a_csv_of_an_earlier_run_is_never_reported(cluster: Cluster, project: str) -> None:
    stale = WRITE.replace("> perf_tiny.csv'", "> perf_tiny.csv; touch -d 2020-01-01 perf_tiny.csv'")
    ended = cluster.wait(submit(cluster, project, "#!/bin/sh\n" + stale))
    assert ended.state == "COMPLETED"
    collection = f"{project}/madengine-{ended.job_id}"
    selection = cluster.json(f"{collection}/selection.json")
    assert (selection["verdict"], selection["selected"]) == ("missing", None)
    # Nodes that share the directory wait for nobody, and what told them that they do is gone.
    assert "exchange" not in cluster.run("n1", f"cat {collection}/node_*/timeline.jsonl")
    assert ".nodes" not in cluster.run("n1", f"ls -A {collection}")


# As madengine's own job script: each node works in a copy of the submit directory.
COPY = """srun --ntasks-per-node=1 sh -c 'here=/tmp/madengine_job_${SLURM_JOB_ID}_node_$SLURM_NODEID
    mkdir -p $here && cp -a . $here/ && mkdir -p $here/run_directory && cd $here
    { echo model,performance,metric; echo tiny,100.0,tokens/s; } > run_directory/perf_tiny.csv'
"""


def test_another_jobs_fresh_number_in_the_copied_submit_directory_is_never_this_jobs(cluster: Cluster, project: str) -> None:
    """Another job ends between this one's prolog and its copy; an earlier run's file lies in the directory's root."""
    rows = "model,performance,metric\ntiny,555.0,tokens/s\ntiny,556.0,tokens/s\n"
    cluster.write(f"{project}/perf_tiny.csv", rows)
    plant = "mkdir -p slurm_results/tiny/19/node_0 && "
    plant += (
        "printf 'model,performance,metric\\ntiny,555.0,tokens/s\\ntiny,556.0,tokens/s\\n' > slurm_results/tiny/19/node_0/perf_tiny.csv\n"
    )
    ended = cluster.wait(submit(cluster, project, "#!/bin/sh\n" + plant + COPY))
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    selection = cluster.json(f"{project}/madengine-{ended.job_id}/selection.json")
    assert (selection["verdict"], selection["best"]["value"]) == ("ok", 100.0), selection
    told = cluster.run("n1", f"cat {project}/madengine-{ended.job_id}/node_0/node.json")
    assert "a copy of what was in the submit directory before the job began" in told
    assert "other jobs' files" in told
    for node in NODES:  # it goes with the job
        assert cluster.run(node, "ls /tmp").count(f"madengine_job_{ended.job_id}") == 0


def test_a_work_dir_that_cannot_be_written_keeps_the_results_on_the_node_and_the_journal_says_where(cluster: Cluster, project: str) -> None:
    cluster.run("n1", f"chmod 777 {project}")
    job_id = submit(cluster, project, SCRIPT + f"mkdir out; chmod 555 {project}\n", "--output=/tmp/out")
    cluster.wait(job_id)
    kept = f"/var/lib/madengine/jobs/{job_id}/results"
    for node in NODES:
        assert "perf_tiny.csv" in cluster.run(node, f"ls {kept}")
        assert kept in cluster.run(node, "journalctl -q -t madengine --no-pager -o cat | grep 'madengine: share'")
        cluster.run(node, f"rm -r /var/lib/madengine/jobs/{job_id}")
    cluster.run("n1", f"chmod 755 {project}")


def test_a_work_dir_that_is_full_on_one_node_costs_that_node_s_results_alone_and_they_stay_there(cluster: Cluster, project: str) -> None:
    job_id = submit(cluster, project, SCRIPT.replace("NODE_RANK = 2", "NODE_RANK = 1") + "touch written\nsleep 300\n")
    cluster.until("n1", f"test -e {project}/written")
    # A share of its own, without a byte left: what a full one looks like to the node that comes too late.
    cluster.run("n3", f"mount -t tmpfs -o size=4k,mode=777 none {project} && head -c 4096 /dev/zero >{project}/full")
    try:
        cluster.run("c0", f"scancel {job_id}")
        cluster.wait(job_id)
        cluster.wait_idle()
    finally:
        cluster.run("n3", f"umount {project}")
    selection = cluster.json(f"{project}/madengine-{job_id}/selection.json")
    assert (selection["verdict"], selection["selected"]["node"]) == ("partial", "n2")
    assert [entry["node"] for entry in selection["lacking"]] == ["n3"]
    kept = f"/var/lib/madengine/jobs/{job_id}/results"
    assert "perf_tiny.csv" in cluster.run("n3", f"ls {kept}")
    line = cluster.run("n3", "journalctl -q -t madengine --no-pager -o cat | grep 'madengine: share' | tail -n 1")
    assert "No space left on device" in line
    assert kept in line
    cluster.run("n3", f"rm -r /var/lib/madengine/jobs/{job_id}")


def shown(name: str, job_id: int) -> Played:
    """Run one of the collection's playbooks for a job whose files the login host sees."""
    return play(name, madengine_login="c0", madengine_job_id=job_id, madengine_root=FOLDER)


def test_from_a_login_host_the_playbooks_show_the_choice_and_change_nothing(cluster: Cluster, project: str) -> None:
    ended = cluster.wait(submit(cluster, project, SCRIPT))
    cluster.wait_idle()
    chosen, reported = shown("collect_results", ended.job_id), shown("job_report", ended.job_id)
    assert "best: node_2/perf_tiny.csv rows=1 performance=42.5 metric=tokens/s node=n3" in chosen.output, chosen.output
    assert f"Job {ended.job_id}: ok" in reported.output, reported.output
    for done in (chosen, reported):
        assert (done.status, done.changed) == (0, {}), done.output
    cluster.run("n1", f"rm {project}/madengine-{ended.job_id}/node_*/perf_tiny.csv")
    without = shown("collect_results", ended.job_id)
    assert (without.status != 0, "missing" in without.output) == (True, True), without.output


def test_a_requeued_jobs_first_attempt_does_not_count(cluster: Cluster, project: str) -> None:
    script = (
        "#!/bin/sh\n" + f"if [ $SLURM_RESTART_COUNT ]; then true\n{WRITE}else\n{WRITE.replace('42.5', '99')}touch first; sleep 300; fi\n"
    )
    job_id = submit(cluster, project, script, "--requeue")
    cluster.until("n1", f"test -e {project}/first")
    cluster.run("c0", f"scontrol requeue {job_id}")
    cluster.until("c0", f'test "$(squeue -h -j {job_id} -o %T)" = PENDING')
    cluster.run("c0", f"scontrol update jobid={job_id} starttime=now")
    ended = cluster.wait(job_id)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    selection = cluster.json(f"{project}/madengine-{job_id}/selection.json")
    assert (selection["verdict"], selection["best"]["performance"], selection["attempt"]) == ("ok", "42.5", 1)
