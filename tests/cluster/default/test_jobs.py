# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's job meets on the cluster, asserted from outside."""

from __future__ import annotations

import pytest
from helpers.cluster import NODES, Cluster, manifest

# As a user writes it. Only the last rank knows the throughput; the others leave that column empty.
TRAINING = """\
#!/bin/sh
srun --ntasks-per-node=1 sh -c 'docker run --rm --env-file "$MAD_ENV_FILE" -e SLURM_PROCID \
    --label madengine.job=$SLURM_JOB_ID -v "$MAD_RESULTS_DIR:/results" "$MAD_IMAGE" sh -c "
        echo image \\$(cat /payload) master \\$MASTER_ADDR rank \\$NODE_RANK of \\$NNODES debug \\$NCCL_DEBUG
        { echo model,performance,metric
          if [ \\$NODE_RANK = 2 ]; then echo tiny,42.5,tokens/s; else echo tiny,,tokens/s; fi; } > /results/perf_tiny.csv"'
"""
DEADLINE = 600  # seconds, as the site has it
IDLE = "#!/bin/sh\nsleep 300\n"


def project(cluster: Cluster, name: str, reference: str, user: str = "alice") -> str:
    """Make a submit directory with a manifest for *reference*; return its path."""
    folder = f"/shared/home/{user}/{name}"
    cluster.run("n1", f"rm -rf {folder}")
    cluster.write(f"{folder}/build_manifest.json", manifest(reference), user=user)
    return folder


def test_a_job_of_three_nodes_gets_its_image_and_the_richest_csv(cluster: Cluster, image: str) -> None:
    folder = project(cluster, "training", image)
    ended = cluster.job(TRAINING, "-N3", "--comment=madengine", folder=folder)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    for rank in range(3):
        assert f"image {image} master n1 rank {rank} of 3 debug INFO" in ended.output
    assert len({cluster.run(node, f"docker image inspect -f '{{{{.RootFS.Layers}}}}' {image}") for node in NODES}) == 1
    collection = f"{folder}/madengine-{ended.job_id}"
    assert cluster.run("n1", f"cat {collection}/perf_tiny.csv") == "model,performance,metric\ntiny,42.5,tokens/s\n"
    selection = cluster.json(f"{collection}/selection.json")
    assert selection["verdict"] == "ok"
    assert selection["selected"]["node"] == "n3"
    assert cluster.leftovers(ended.job_id) == {}


def test_a_job_that_is_not_ours_leaves_no_trace(cluster: Cluster) -> None:
    before = [cluster.run(node, "ls /run/madengine/jobs 2>/dev/null; journalctl -q -t madengine --no-pager | wc -l") for node in NODES]
    ended = cluster.job("#!/bin/sh\nsrun env | grep -c MAD_\nexit 0\n", "-N3", "--comment=nothing special")
    assert ended.state == "COMPLETED"
    assert ended.output.strip() == "0"
    assert [
        cluster.run(node, "ls /run/madengine/jobs 2>/dev/null; journalctl -q -t madengine --no-pager | wc -l") for node in NODES
    ] == before


@pytest.mark.parametrize(
    ("comment", "text", "shown"),
    [
        ("madengine", '{"built_images": [', "no JSON"),
        ("madengine", '{"built_images": "x"}', "built_images"),
        ("madengine:manifest=nowhere.json", "{}", "nowhere.json"),
        ("madengine:manifest=build_manifest.json,colour=red", "{}", "colour"),
        ("madengine:image=Not An Image", "{}", "Not An Image"),
        ("madengine", manifest("lab/nobody-has-this:v1"), "lab/nobody-has-this:v1"),
    ],
    ids=["not-json", "wrong-type", "no-manifest", "unknown-key", "no-reference", "no-image"],
)
def test_a_users_mistake_fails_the_job_in_one_line_and_drains_nothing(cluster: Cluster, comment: str, text: str, shown: str) -> None:
    folder = "/shared/home/alice/mistake"
    cluster.write(f"{folder}/build_manifest.json", text)
    ended = cluster.job("#!/bin/sh\necho the script must not run\n", "-N3", f"--comment={comment}", folder=folder)
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    assert ended.seconds < DEADLINE / 2  # nobody was waited for
    lines = [line for line in ended.output.splitlines() if "madengine:" in line]
    assert len(lines) == 1, ended.output
    assert lines[0].startswith("madengine: job: ")
    assert shown in lines[0]
    assert "must not run" not in ended.output
    assert "Traceback" not in ended.output
    assert cluster.states() == ["idle"]
    assert cluster.leftovers(ended.job_id) == {}


def test_two_jobs_on_the_same_nodes_do_not_meet(cluster: Cluster, image: str) -> None:
    first = cluster.submit(TRAINING, "-N3", "--comment=madengine", folder=project(cluster, "first", image))
    second = cluster.submit(TRAINING, "-N3", "--comment=madengine", folder=project(cluster, "second", image, user="bob"), user="bob")
    for job_id, user, name in ((first, "alice", "first"), (second, "bob", "second")):
        ended = cluster.wait(job_id)
        assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
        selection = cluster.json(f"/shared/home/{user}/{name}/madengine-{job_id}/selection.json")
        assert (selection["job_id"], selection["selected"]["node"]) == (str(job_id), "n3")
    assert [cluster.leftovers(job_id) for job_id in (first, second)] == [{}, {}]


def test_a_cancelled_job_leaves_no_container_and_no_state_and_no_bystander_is_touched(cluster: Cluster, image: str) -> None:
    bystander = cluster.run("n1", f"docker run -d --label owner=somebody-else {image} sleep 300").strip()
    script = """#!/bin/sh
srun sh -c 'docker run -d --label madengine.job=$SLURM_JOB_ID --env-file $MAD_ENV_FILE $MAD_IMAGE sleep 300' && touch started && sleep 300
"""
    folder = project(cluster, "cancelled", image)
    job_id = cluster.submit(script, "-N3", "--comment=madengine", folder=folder)
    cluster.run("n1", f"timeout 60 sh -c 'until [ -e {folder}/started ]; do sleep 0.1; done'")
    assert all(cluster.run(node, f"docker ps -q --filter label=madengine.job={job_id}") for node in NODES)
    cluster.run("c0", f"scancel {job_id}")
    assert cluster.wait(job_id).state == "CANCELLED"
    cluster.wait_idle()
    assert cluster.leftovers(job_id) == {}
    assert cluster.run("n1", f"docker inspect -f {{{{.State.Running}}}} {bystander}").strip() == "true"
    cluster.run("n1", f"docker rm -f {bystander}")


def test_a_job_of_one_node_that_did_not_opt_in_runs_as_before(cluster: Cluster) -> None:
    ended = cluster.job("#!/bin/sh\nenv | grep -c MAD_ ; ls /run/madengine/jobs\n", "-N1", "--output=madengine-%j.out")
    assert ended.state == "COMPLETED"
    assert ended.output.split() == ["0"] or "No such file" in ended.output


def test_a_job_of_one_node_that_opted_in_is_served_without_a_meeting(cluster: Cluster, image: str) -> None:
    folder = project(cluster, "single", image)
    script = TRAINING.replace("= 2 ]", "= 0 ]")
    ended = cluster.job(script, "-N1", "-wn1", "--comment=madengine", folder=folder)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    selection = cluster.json(f"{folder}/madengine-{ended.job_id}/selection.json")
    assert (selection["verdict"], selection["selected"]["node"]) == ("ok", "n1")


def test_what_the_user_sets_wins_over_the_manifest(cluster: Cluster, image: str) -> None:
    folder = project(cluster, "wins", image)
    ended = cluster.job(TRAINING, "-N3", "--comment=madengine", "--export=ALL,NCCL_DEBUG=WARN,MASTER_ADDR=10.9.8.7", folder=folder)
    assert f"image {image} master 10.9.8.7 rank 1 of 3 debug WARN" in ended.output, ended.output


def test_a_failed_job_explains_itself_and_shows_no_secret(cluster: Cluster, image: str) -> None:
    script = """#!/bin/sh
srun sh -c 'docker run -d --label madengine.job=$SLURM_JOB_ID --env-file $MAD_ENV_FILE -e MAD_SECRETS_X \\
    $MAD_IMAGE sh -c "echo about to break; echo token \\$MAD_SECRETS_X; sleep 300"'
exit 3
"""
    folder = project(cluster, "failing", image)
    ended = cluster.job(script, "-N3", "--comment=madengine", "--export=ALL,MAD_SECRETS_X=hf_planted4711token", folder=folder)
    assert ended.state == "FAILED", f"{ended}\n{cluster.evidence()}"
    collection = f"{folder}/madengine-{ended.job_id}"
    assert cluster.json(f"{collection}/selection.json")["verdict"] == "job_failed"
    for rank in range(3):
        assert "about to break" in cluster.run("n1", f"cat $(find {collection}/node_{rank}/diagnostics -type f)")
    assert "job_failed" in cluster.run("n1", f"cat {collection}/report.txt")
    assert cluster.run("n1", f"head -c 15 {collection}/report.html").lower() == "<!doctype html>"
    assert cluster.run("n1", f"grep -rl planted4711 {collection} /run/madengine /var/lib/madengine || true") == ""
    assert cluster.leftovers(ended.job_id) == {}
