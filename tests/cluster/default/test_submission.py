# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shell's MAD_* variables ask for the jobs that are submitted from it, where the site wants that; no submission breaks."""

from __future__ import annotations

import shlex
import subprocess
from typing import Dict, Iterator, List, Tuple

import pytest
from helpers.cluster import NODES, Cluster, container, manifest
from helpers.playbooks import Played, play

FOLDER, BARE = "/shared/home/alice/shell", "/shared/home/alice/bare"
STORE = {"MAD_DOCKER_BUILDS": "/shared/madengine"}
IMAGE = {"MAD_CONTAINER_IMAGE": "lab/a:1"}
MANIFEST = {"MAD_MANIFEST": "m.json"}
HOSTS = ("c0", *NODES)
ENTRY, SCRIPT, CONF = "/etc/slurm/cli_filter.lua", "/etc/madengine/cli_filter.lua", "/etc/slurm/slurm.conf"


def switch(is_on: bool) -> Played:
    """Apply the collection with slurm.conf in its hands, and with or without the filter."""
    return play("site", slurm_hooks_manage_slurm_conf=True, slurm_hooks_cli_filter=is_on)


def files(cluster: Cluster) -> List[str]:
    return [str(cluster.hosts[host].run(f"ls {ENTRY} {SCRIPT} 2>/dev/null; cat {CONF}").stdout) for host in HOSTS]


@pytest.fixture(scope="module")
def before(cluster: Cluster) -> Iterator[List[str]]:
    """slurm.conf in the role's hands for the tests of this file, without the filter; the lab's own again after them."""
    found = files(cluster)
    switched = switch(False)
    assert switched.status == 0, switched.output
    yield files(cluster)
    removed = play("uninstall", slurm_hooks_manage_slurm_conf=True)
    assert removed.status == 0, removed.output
    assert files(cluster) == found
    applied = play("site")
    assert applied.status == 0, applied.output


@pytest.fixture(scope="module")
def filtered(cluster: Cluster, before: List[str]) -> Iterator[None]:
    """Switch the filter on for the tests of this file, and off again, on a cluster that is then as it was."""
    cluster.run("c0", f"install -d -o alice -g alice {FOLDER} {BARE}")
    cluster.write(f"{FOLDER}/build_manifest.json", "{}")
    switched = switch(True)
    assert switched.status == 0, switched.output
    yield
    switched = switch(False)
    assert switched.status == 0, switched.output
    assert files(cluster) == before
    assert all(cluster.run(host, "sbatch --version").startswith("slurm") for host in HOSTS)


def test_slurm_is_never_told_to_start_what_is_not_on_a_node(cluster: Cluster) -> None:
    lab = files(cluster)
    refused = play("site", "--tags=slurm_hooks_slurm_conf", slurm_hooks_manage_slurm_conf=True)
    assert (refused.status != 0, files(cluster) == lab) == (True, True), refused.output
    assert "SLURM would drain this node" in " ".join(refused.output.split())


def shell(command: List[str], environment: Dict[str, str], folder: str = FOLDER, host: str = "c0") -> Tuple[int, str, str]:
    """Run *command* as alice, in a shell that has exported *environment*; return its status, output and errors."""
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in environment.items())
    docker = ["docker", "exec", "-i", "-u", "alice", "-w", folder, container(host), "sh", "-c", exports + shlex.join(command)]
    done = subprocess.run(docker, input="#!/bin/sh\ntrue\n", capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def asked(cluster: Cluster, environment: Dict[str, str], *options: str, folder: str = FOLDER) -> Tuple[str, str, str]:
    """Return the comment and the extra of a job that is submitted so, and what sbatch said; the job never runs."""
    code, out, said = shell(["sbatch", "--parsable", "--hold", *options], environment, folder)
    assert code == 0, said
    job_id = out.split(";")[0].strip()
    lines = dict(
        line.strip().partition("=")[::2] for line in cluster.run("c0", f"scontrol show job {job_id} && scancel {job_id}").splitlines()
    )
    return lines.get("Comment", ""), lines.get("Extra", ""), said


def test_where_one_host_cannot_load_the_filter_no_slurm_conf_is_touched(cluster: Cluster, before: List[str]) -> None:
    plugin = cluster.run("n2", "find / -xdev -name cli_filter_lua.so").strip()
    cluster.run("n2", f"mv {plugin} {plugin}.away")
    try:
        refused = switch(True)
    finally:
        cluster.run("n2", f"mv {plugin}.away {plugin}")
    assert (refused.status, refused.failed) == (2, {"n2": 1}), refused.output
    assert "SLURM cannot load a filter in Lua here" in refused.output
    assert "slurm-wlm-basic-plugins" in refused.output
    assert all("CliFilterPlugins" not in text for text in files(cluster))
    assert files(cluster)[2] == before[2]


@pytest.mark.parametrize(("environment", "options", "comment"), [
    ({**MANIFEST, **STORE}, (), "madengine:manifest=m.json,store=/shared/madengine"),
    ({**IMAGE, **STORE}, ("-N3",), "madengine:image=lab/a:1,store=/shared/madengine"),
    (STORE, ("--array=1-2",), "madengine:store=/shared/madengine"),
    (STORE, ("--comment=madengine",), "madengine:store=/shared/madengine"),
    # Who has said which image it is has said all of that; where from, another may say.
    ({**MANIFEST, **STORE}, ("--comment=madengine:image=b:2",), "madengine:image=b:2,store=/shared/madengine"),
    (STORE, ("--comment=madengine:store=/mine,results=a.csv",), "madengine:store=/mine,results=a.csv"),
    ({**MANIFEST, **STORE}, ("--comment=madengine=off",), "madengine=off"),
    ({"MAD_MANIFEST": "two words.json"}, (), "madengine:manifest=two words.json"),
    ({}, ("--comment=mine",), "mine"),
    # In a job of ours: what our TaskProlog has set there is not the user's wish.
    ({**MANIFEST, "MADENGINE_EXPORTED": "A=1|MAD_MANIFEST=m.json|B=2"}, (), ""),
    ({**MANIFEST, "SLURM_JOB_ID": "1"}, (), "madengine:manifest=m.json"),
])  # fmt: skip
def test_the_shell_asks_for_what_the_user_has_not_said(
    cluster: Cluster, filtered: None, environment: Dict[str, str], options: Tuple[str, ...], comment: str
) -> None:
    assert asked(cluster, environment, *options) == (comment, "", "")


def test_a_store_alone_asks_only_where_there_is_a_manifest(cluster: Cluster, filtered: None) -> None:
    assert asked(cluster, STORE, folder=BARE) == ("", "", "")
    assert asked(cluster, STORE, f"--chdir={FOLDER}", folder=BARE) == ("madengine:store=/shared/madengine", "", "")
    assert asked(cluster, STORE, "--comment=madengine", folder=BARE)[0] == "madengine:store=/shared/madengine"


def test_a_comment_of_the_users_own_stays_and_the_user_is_told(cluster: Cluster, filtered: None) -> None:
    comment, _extra, said = asked(cluster, MANIFEST, "--comment=sweep 5")
    assert comment == "sweep 5"
    assert "madengine: the job has a comment of its own" in said
    assert len(said.splitlines()) == 1
    assert asked(cluster, STORE, "--comment=sweep 5", folder=BARE) == ("sweep 5", "", "")


def test_an_extra_that_asks_is_completed_in_its_place(cluster: Cluster, filtered: None) -> None:
    if cluster.run("c0", "sbatch --version").split()[-1] < "23":
        pytest.skip("this SLURM brings no extra to its prolog")
    assert asked(cluster, STORE, "--comment=sweep 5", "--extra=madengine") == ("sweep 5", "madengine:store=/shared/madengine", "")


@pytest.mark.parametrize(("environment", "reason"), [
    ({"MAD_MANIFEST": "a,b.json"}, "MAD_MANIFEST holds a comma or a control character"),
    ({"MAD_CONTAINER_IMAGE": "a\nb"}, "MAD_CONTAINER_IMAGE holds a comma or a control character"),
    ({"MAD_MANIFEST": "a.json "}, "MAD_MANIFEST begins or ends with a blank"),
    ({"MAD_DOCKER_BUILDS": "tars"}, "MAD_DOCKER_BUILDS=tars is no absolute path"),
    ({"MAD_MANIFEST": "a" * 1020}, "longer than 1024 bytes"),
])  # fmt: skip
def test_what_no_request_can_hold_is_refused_in_one_line(
    cluster: Cluster, filtered: None, environment: Dict[str, str], reason: str
) -> None:
    code, out, said = shell(["sbatch", "--parsable", "--hold", "-N2", ":", "-N1"], environment)
    ours = [line for line in said.splitlines() if "madengine" in line]
    assert (code, out, len(ours)) == (1, "", 1), said
    assert reason in ours[0]
    assert ours[0].endswith("or submit with --comment=madengine=off")
    assert asked(cluster, environment, "--comment=madengine=off")[0] == "madengine=off"


def test_the_longest_request_is_submitted(cluster: Cluster, filtered: None) -> None:
    name = "a" * (1024 - len("madengine:manifest="))
    assert asked(cluster, {"MAD_MANIFEST": name})[0] == f"madengine:manifest={name}"


def test_a_shell_that_exports_a_store_is_served_as_if_it_had_asked(cluster: Cluster, filtered: None, image: str) -> None:
    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))
    script = "srun --ntasks-per-node=1 docker run --rm --pull never $MAD_IMAGE cat /payload"
    code, out, said = shell(["sbatch", "--parsable", "-N3", f"--wrap={script}"], STORE)
    assert (code, said) == (0, "")
    ended = cluster.wait(int(out.split(";")[0]))
    assert (ended.state, ended.output.split()) == ("COMPLETED", [image] * 3), f"{ended}\n{cluster.evidence()}"
    assert ended.facts["Comment"] == "madengine:store=/shared/madengine"


@pytest.mark.parametrize("command", [["srun", "-N2"], ["salloc", "-N2", "srun"]], ids=["srun", "salloc"])
def test_srun_and_salloc_ask_once_for_the_job_and_not_for_its_steps(
    cluster: Cluster, filtered: None, image: str, command: List[str]
) -> None:
    environment = {"MAD_CONTAINER_IMAGE": image}
    code, out, said = shell([*command, "sh", "-c", "echo $SLURM_JOB_ID $MAD_IMAGE"], environment)
    assert code == 0, said
    ((job_id, name),) = {tuple(line.split()) for line in out.splitlines()}
    assert (name, cluster.facts(int(job_id))["Comment"]) == (image, f"madengine:image={image}")
    assert "madengine" not in said


def test_a_filter_of_the_sites_own_comes_first_and_goes_on_alone_without_ours(cluster: Cluster, filtered: None) -> None:
    functions = "".join(f"function slurm_cli_{name}() return slurm.SUCCESS end\n" for name in ("setup_defaults", "post_submit"))
    theirs = """function slurm_cli_pre_submit(options)
        if options["job-name"] == "no" then return slurm.ERROR end
        options["comment"] = options["comment"] or "madengine:results=theirs.csv"
        return slurm.SUCCESS
    end
    """
    ours = cluster.run("c0", f"cat {ENTRY}")
    try:
        cluster.write(ENTRY, functions + theirs + ours.splitlines()[-1] + "\n", user="root", node="c0")
        assert asked(cluster, MANIFEST)[0] == "madengine:results=theirs.csv,manifest=m.json"
        assert shell(["sbatch", "--hold", "--job-name=no"], MANIFEST)[0] == 1
        cluster.run("c0", f"mv {SCRIPT} {SCRIPT}.away")
        assert asked(cluster, MANIFEST)[0] == "madengine:results=theirs.csv"
    finally:
        cluster.hosts["c0"].run(f"mv {SCRIPT}.away {SCRIPT}")
        cluster.write(ENTRY, ours, user="root", node="c0")


def test_without_our_script_jobs_are_submitted_and_without_slurms_file_none_is(cluster: Cluster, filtered: None) -> None:
    """Why an entry that does nothing stays as long as slurm.conf names it."""
    for gone in (SCRIPT, ENTRY):
        cluster.run("c0", f"mv {gone} {gone}.away")
        code, _out, said = shell(["sbatch", "--version"], MANIFEST)
        cluster.run("c0", f"mv {gone}.away {gone}")
        assert (code == 0) is (gone == SCRIPT), said


def test_a_defect_of_ours_costs_no_submission(cluster: Cluster, filtered: None) -> None:
    script = cluster.run("c0", f"cat {SCRIPT}")
    try:
        cluster.write(
            SCRIPT, script.replace("local function is_step(options)", "local function is_step(options) error('oh')"), user="root", node="c0"
        )
        comment, _extra, said = asked(cluster, MANIFEST)
    finally:
        cluster.write(SCRIPT, script, user="root", node="c0")
    assert comment == ""
    assert "madengine: defect: " in said
    assert said.rstrip().endswith("oh; the job is submitted without a request")
