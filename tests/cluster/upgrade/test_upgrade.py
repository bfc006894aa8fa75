# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases come and go under running jobs: each job ends as it began, and no node ever leaves service.

Each test leaves the cluster with the collection as built, so that another scenario finds what it expects.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest
from helpers import collections
from helpers.cluster import NODES, Cluster, container, manifest
from helpers.collections import LOG, Collection
from helpers.hooks import REPOSITORY

ROOT = "/opt/madengine-hooks"
FOLDER = "/shared/home/alice/upgrade"
CONF = "/etc/slurm/slurm.conf"
# A job that ends when somebody says so.
WAITING = (
    "#!/bin/sh\nsrun --ntasks-per-node=1 sh -c 'until [ -e {folder}/end ]; do sleep 0.2; done'\necho ended as ${{MAD_IMAGE:-a stranger}}\n"
)
SHORT = "#!/bin/sh\nsrun --ntasks-per-node=1 true && echo ended as ${MAD_IMAGE:-a stranger}\n"
SITE_TASK_PROLOG = "#!/bin/sh\n# The site's own.\necho export SITE_SAYS=hello\n"


@pytest.fixture(scope="module")
def built() -> Collection:
    return Collection(REPOSITORY / "build/collections", "as built")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The release before: the first one that was tagged, or else this tree under another number."""
    root = tmp_path_factory.mktemp("old")
    return collections.tagged(root, "v1.0.0") if collections.has_tag("v1.0.0") else collections.this(root, "0.9.0")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return collections.this(tmp_path_factory.mktemp("new"), "9.0.0")


@pytest.fixture(autouse=True)
def as_it_was(cluster: Cluster) -> Iterator[None]:
    """No node is ever set aside, not even for an instant: the controller's log tells. At the end all is as built."""
    log = "/var/log/slurm/slurmctld.log"
    before = int(cluster.run("c0", f"wc -l < {log}"))
    with cluster.kept():
        yield
    said = cluster.hosts["c0"].run(f"tail -n +{before + 1} {log} | grep -iE 'state set to (drain|down|fail)|setting down|drain_nodes'")
    assert said.stdout == ""


@pytest.fixture
def project(cluster: Cluster, image: str) -> str:
    cluster.run("n1", f"rm -rf {FOLDER}")
    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))
    for node in NODES:
        cluster.run(node, f"rm -f {LOG}")
    return FOLDER


@contextlib.contextmanager
def running(cluster: Cluster, project: str) -> Iterator[int]:
    """Start a job on all nodes that runs until the block ends."""
    cluster.run("n1", f"rm -f {project}/end")
    job_id = cluster.submit(WAITING.format(folder=project), "-N3", "--comment=madengine", folder=project)
    try:
        for node in NODES:
            cluster.until(node, f"grep -q ready /run/madengine/jobs/{job_id}/verdict 2>/dev/null")
        yield job_id
    finally:
        cluster.write(f"{project}/end", "")


def hooks_of(cluster: Cluster, job_id: int) -> Set[Tuple[str, ...]]:
    """Return which hooks of which release ran for a job, on all nodes alike."""
    found = [{tuple(line.split()[:2]) for line in lines(cluster, node) if line.split()[2] == str(job_id)} for node in NODES]
    assert found[0] == found[1] == found[2], found
    return found[0]


def lines(cluster: Cluster, node: str) -> List[str]:
    return cluster.run(node, f"cat {LOG} 2>/dev/null || true").splitlines()


def wholly(release: Collection) -> Set[Tuple[str, str]]:
    return {("prolog", release.version), ("epilog", release.version)}


def currents(cluster: Cluster) -> Dict[str, str]:
    """Return the release that each node's new jobs run."""
    return {node: cluster.run(node, f"readlink {ROOT}/current || true").strip().rpartition("/")[2] for node in NODES}


def run(cluster: Cluster, project: str) -> Set[Tuple[str, ...]]:
    """Run a job to its end and return its hooks."""
    ended = cluster.job(SHORT, "-N3", "--comment=madengine", folder=project)
    assert ended.state == "COMPLETED", f"{ended}\n{cluster.evidence()}"
    assert "ended as lab/" in ended.output
    return hooks_of(cluster, ended.job_id)


def well(collection: Collection, name: str, *options: str, **variables: object) -> Dict[str, int]:
    """Run a playbook that must succeed; return how much it changed on each host."""
    played = collection.play(name, *options, **variables)
    assert played.status == 0, played.output
    return played.changed


def everywhere(cluster: Cluster, command: str) -> Dict[str, str]:
    return {node: cluster.run(node, command) for node in NODES}


def test_a_running_job_ends_as_it_began_while_new_ones_run_the_new_release_and_back_again(
    cluster: Cluster, project: str, old: Collection, new: Collection
) -> None:
    well(old, "site")
    with running(cluster, project) as job_id:
        well(new, "upgrade", madengine_batch=1)
        assert run(cluster, project) == wholly(new)
    ended = cluster.wait(job_id)
    assert (ended.state, hooks_of(cluster, job_id)) == ("COMPLETED", wholly(old)), f"{ended}\n{cluster.evidence()}"
    with running(cluster, project) as job_id:
        well(new, "rollback")
        assert run(cluster, project) == wholly(old)
        assert well(new, "rollback") == {}
        assert run(cluster, project) == wholly(old)
    assert (cluster.wait(job_id).state, hooks_of(cluster, job_id)) == ("COMPLETED", wholly(new))
    well(new, "upgrade")
    assert run(cluster, project) == wholly(new)
    assert well(new, "upgrade") == {}


def break_syntax(broken: Collection) -> None:
    broken.hook("epilog/epilog.py").write_text("def story(:\n")


def break_shell(broken: Collection) -> None:
    broken.hook("prolog/50-madengine").write_text("#!/bin/sh\nif true; then\n")


def take_away(broken: Collection) -> None:
    broken.hook("prolog/task_environment.sh").unlink()


@pytest.mark.parametrize(("damage", "said"), [(break_syntax, "SyntaxError"), (break_shell, "50-madengine"), (take_away, "file is missing")])
def test_a_broken_release_is_refused_on_the_first_node_and_switched_on_nowhere(
    cluster: Cluster, project: str, tmp_path: Path, damage: object, said: str
) -> None:
    broken = collections.this(tmp_path, "9.9.9")
    damage(broken)  # type: ignore[operator]
    before = currents(cluster), everywhere(cluster, f"ls -A {ROOT}/releases; cat /etc/slurm/prolog.d/50-madengine")
    played = broken.play("upgrade", madengine_batch=1)
    assert (played.status != 0, list(played.failed)) == (True, ["n1"]), played.output
    assert said in played.output
    assert "n2" not in played.recap
    assert (currents(cluster), everywhere(cluster, f"ls -A {ROOT}/releases; cat /etc/slurm/prolog.d/50-madengine")) == before
    run(cluster, project)


def test_an_upgrade_that_is_killed_half_way_on_one_node_is_made_good_by_the_next(
    cluster: Cluster, project: str, old: Collection, new: Collection
) -> None:
    well(old, "site")
    was = currents(cluster)
    everywhere(cluster, f"ls -d {ROOT}/releases/*9.0.0* 2>/dev/null | xargs -r rm -r")
    # Unpacked and being proved: the release is there, and not yet whole. What proves it is a child of the module.
    find = "for _ in $(seq 6000); do child=$(pgrep -f '[c]ompileall -q /opt') && break; sleep 0.01; done"
    kill = f"{find}; kill -KILL $(ps -o ppid= -p $child) $child"
    killer = subprocess.Popen(["docker", "exec", container("n2"), "sh", "-c", kill])
    try:
        played = new.play("upgrade", madengine_batch="100%")
    finally:
        killer.wait()
    assert (played.status != 0, list(played.failed)) == (True, ["n2"]), played.output
    assert currents(cluster)["n2"] == was["n2"]
    assert cluster.run("n2", f"ls -A {ROOT}/releases | grep -c '^[.]new'").strip() == "1"
    between = cluster.job(SHORT, "-N3", "--comment=madengine", folder=project)  # its nodes run different releases
    assert (between.state, "ended as lab/" in between.output) == ("COMPLETED", True), f"{between}\n{cluster.evidence()}"
    well(new, "upgrade")
    assert len(set(currents(cluster).values())) == 1
    assert set(everywhere(cluster, f"ls -A {ROOT}/releases | grep -c '^[.]' || true").values()) == {"0\n"}
    assert run(cluster, project) == wholly(new)


def test_a_drifted_node_is_told_apart_by_check_mode_and_mended(cluster: Cluster, built: Collection) -> None:
    well(built, "site")
    cluster.run("n2", "echo 'Deadline=7' >> /etc/madengine/hooks.conf; rm /etc/slurm/epilog.d/50-madengine")
    cluster.run("n3", "chmod 0644 /etc/slurm/prolog.d/50-madengine")
    state = "cat /etc/madengine/hooks.conf; ls -l /etc/slurm/*.d/"
    drifted = everywhere(cluster, state)
    check_mode = built.play("site", "--check", "--diff")
    assert (check_mode.status, check_mode.changed) == (0, {"n2": 2, "n3": 1}), check_mode.output
    assert "-Deadline=7" in check_mode.output
    assert everywhere(cluster, state) == drifted
    assert well(built, "site") == {"n2": 2, "n3": 1}
    assert well(built, "site") == {}


def test_the_site_s_own_task_prolog_speaks_first_and_comes_back(cluster: Cluster, built: Collection) -> None:
    for node in NODES:
        cluster.write("/etc/slurm/task_prolog", SITE_TASK_PROLOG, user="root", mode="0755", node=node)
    well(built, "site")
    said = cluster.job("#!/bin/sh\necho $SITE_SAYS\n", "-N3").output
    assert said.strip() == "hello"
    well(built, "uninstall")
    assert set(everywhere(cluster, "cat /etc/slurm/task_prolog; ls /etc/madengine").values()) == {SITE_TASK_PROLOG}
    assert cluster.job("#!/bin/sh\necho $SITE_SAYS\n", "-N3").output.strip() == "hello"
    for node in NODES:
        cluster.run(node, "printf '#!/bin/sh\\nexit 0\\n' > /etc/slurm/task_prolog")


def test_an_uninstall_leaves_a_running_job_what_it_needs_and_the_next_one_removes_that(
    cluster: Cluster, project: str, new: Collection
) -> None:
    well(new, "site")
    with running(cluster, project) as job_id:
        well(new, "uninstall")
        stranger = cluster.job(SHORT, "-N3", "--comment=madengine", folder=project)
        assert (stranger.state, stranger.output.strip(), hooks_of(cluster, stranger.job_id)) == ("COMPLETED", "ended as a stranger", set())
    ended = cluster.wait(job_id)
    assert (ended.state, hooks_of(cluster, job_id)) == ("COMPLETED", wholly(new)), f"{ended}\n{cluster.evidence()}"
    assert cluster.leftovers(job_id) == {}
    well(new, "uninstall")
    left = everywhere(cluster, f"ls -A {ROOT} /etc/madengine /etc/slurm/prolog.d /etc/slurm/epilog.d 2>/dev/null; true")
    assert set(left.values()) == {"/etc/madengine:\n\n/etc/slurm/epilog.d:\n00-noop\n\n/etc/slurm/prolog.d:\n00-noop\n"}
    assert well(new, "uninstall") == {}
    assert cluster.job("#!/bin/sh\nsrun true\n", "-N3").state == "COMPLETED"


def test_a_new_key_reaches_all_nodes_and_jobs_meet_by_it(cluster: Cluster, project: str, built: Collection) -> None:
    settings = {"Deadline": 240, "KeyFile": "/etc/madengine/key"}
    refused = built.play("site", madengine_settings=settings)
    assert sorted(refused.failed) == list(NODES)
    assert "run the playbook rocm.madengine.rotate_key first" in refused.output
    seen = set()
    for _ in range(2):
        well(built, "rotate_key", madengine_settings=settings)
        (key,) = set(everywhere(cluster, "stat -c '%a %s %U' /etc/madengine/key*; sha256sum < /etc/madengine/key").values())
        assert key.splitlines()[0] == "400 64 root"
        assert len(key.splitlines()) == 2
        seen.add(key)
        well(built, "site", madengine_settings=settings)
        assert cluster.job(SHORT, "-N3", "--comment=madengine", folder=project).state == "COMPLETED"
    assert len(seen) == 2


def test_nodes_with_two_keys_fail_the_job_that_starts_between_them_and_stay_in_service(
    cluster: Cluster, project: str, built: Collection
) -> None:
    settings = {"Deadline": 30, "KeyFile": "/etc/madengine/key"}
    well(built, "rotate_key", madengine_settings=settings)
    well(built, "site", madengine_settings=settings)
    with running(cluster, project) as job_id:
        cluster.run("n3", "head -c 64 /dev/urandom > /run/key && chmod 400 /run/key && mv /run/key /etc/madengine/key")
        between = cluster.job(SHORT, "-N3", "--comment=madengine", folder=project)
    assert between.state == "FAILED", between
    assert "never_arrived='n3', refused_for_their_key=" in between.output
    assert cluster.wait(job_id).state == "COMPLETED"


def configured(cluster: Cluster) -> List[str]:
    """Return the hosts that have a slurm.conf: the controller alone where the nodes are configless."""
    return [host for host in ("c0", *NODES) if cluster.hosts[host].file(CONF).exists]


@pytest.fixture
def own_conf(cluster: Cluster) -> Iterator[str]:
    """A slurm.conf without us and with a prolog of the site's; give its text. `as_it_was` puts the lab's own back."""
    for host in configured(cluster):
        cluster.run(host, f"sed -i '/^Prolog/d;/^Epilog/d;/^TaskProlog/d;/^BatchStart/d;/^AuthInfo/d' {CONF}")
        cluster.run(host, f"printf 'Prolog=/etc/slurm/site_prolog # since 2019\\nPrologFlags=Alloc\\nBatchStartTimeout=20\\n' >> {CONF}")
    for host in NODES:
        cluster.write("/etc/slurm/site_prolog", "#!/bin/sh\necho $SLURM_JOB_ID >> /run/site_prolog\n", user="root", mode="0755", node=host)
    cluster.run("c0", "scontrol reconfigure")
    text = cluster.run("c0", f"cat {CONF}")
    yield text
    everywhere(cluster, "rm -f /run/site_prolog")


def daemons(cluster: Cluster) -> List[str]:
    """Return since when the daemons run."""
    asked = [("c0", "slurmctld"), *((node, "slurmd") for node in NODES)]
    return [cluster.run(host, f"systemctl show -p ActiveEnterTimestamp,NRestarts {unit}") for host, unit in asked]


def test_slurm_conf_is_merged_and_given_back_without_a_restart(cluster: Cluster, project: str, built: Collection, own_conf: str) -> None:
    since = daemons(cluster)
    well(built, "site", slurm_hooks_manage_slurm_conf=True)
    assert cluster.run("c0", "scontrol show config | sed -n 's/^PrologFlags *= //p'").strip() == "Alloc,DeferBatch"
    ended = cluster.job(SHORT, "-N3", "--comment=madengine", folder=project)
    assert (ended.state, "ended as lab/" in ended.output) == ("COMPLETED", True), f"{ended}\n{cluster.evidence()}"
    assert set(everywhere(cluster, f"grep -c '^{ended.job_id}$' /run/site_prolog").values()) == {"1\n"}
    assert well(built, "site", slurm_hooks_manage_slurm_conf=True) == {}
    well(built, "uninstall", slurm_hooks_manage_slurm_conf=True)
    assert {cluster.run(host, f"cat {CONF}") for host in configured(cluster)} == {own_conf}
    ended = cluster.job("#!/bin/sh\nsrun true\n", "-N3")
    assert ended.state == "COMPLETED"
    assert set(everywhere(cluster, f"grep -c '^{ended.job_id}$' /run/site_prolog; ls /etc/slurm/prolog.d").values()) == {"1\n00-noop\n"}
    assert daemons(cluster) == since


@pytest.mark.parametrize(("line", "said"), [
    ("PartitionName=other Nodes=nowhere", "holds changes that slurmctld has not loaded"),
    ("Frobnicate=yes", "SLURM cannot read it"),
])  # fmt: skip
def test_a_faulty_slurm_conf_of_somebody_else_is_not_loaded(
    cluster: Cluster, built: Collection, own_conf: str, line: str, said: str
) -> None:
    """A slurmctld of 22.05 would end at the first of them, and does not start again."""
    since = daemons(cluster)
    cluster.run("c0", f"echo {line} >> {CONF}")
    played = built.play("site", slurm_hooks_manage_slurm_conf=True)
    assert (played.status != 0, said in played.output) == (True, True), played.output
    assert {cluster.run(node, f"cat {CONF}") for node in NODES} == {own_conf}
    assert cluster.run("c0", f"cat {CONF}") == own_conf + line + "\n"
    cluster.run("c0", f"sed -i '$d' {CONF}")
    assert daemons(cluster) == since
    assert cluster.job("#!/bin/sh\nsrun true\n", "-N3").state == "COMPLETED"
