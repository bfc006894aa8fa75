# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm.conf as sites have it, managed by the role: their own programs go on, each once, and what cannot go on is refused.

Each test leaves the cluster with the collection as built and the lab's own slurm.conf.
"""

from __future__ import annotations

from typing import Dict, Iterator, List

import pytest
from helpers.cluster import NODES, Cluster, manifest
from helpers.collections import Collection
from helpers.hooks import REPOSITORY

CONF = "/etc/slurm/slurm.conf"
FOLDER = "/shared/home/alice/site-programs"
SHORT = "#!/bin/sh\nsrun --ntasks-per-node=1 true && echo ended as ${MAD_IMAGE:-a stranger}\n"
SAYS = "#!/bin/sh\necho {name} $SLURM_JOB_ID >> /run/site.log\n"
# As deepops has it.
RUN_PARTS = """\
#!/usr/bin/env bash
PATH=/usr/sbin:/usr/bin:/sbin:/bin
if [ -d {folder} ]; then
    run-parts --exit-on-error {folder}
fi
"""


@pytest.fixture(scope="module")
def built() -> Collection:
    return Collection(REPOSITORY / "build/collections", "as built")


@pytest.fixture
def project(cluster: Cluster, image: str) -> str:
    cluster.run("n1", f"rm -rf {FOLDER}")
    cluster.write(f"{FOLDER}/build_manifest.json", manifest(image))
    return FOLDER


class Site:
    """The cluster before us, with a slurm.conf and programs of its own."""

    def __init__(self, cluster: Cluster, built: Collection) -> None:
        self.cluster, self.built = cluster, built
        self.hosts = [host for host in ("c0", *NODES) if cluster.hosts[host].file(CONF).exists]

    def has(self, lines: str, files: Dict[str, str]) -> None:
        """Set slurm.conf's hooks to *lines*; *files* are programs, on every node."""
        for node in NODES:
            for path, text in files.items():
                self.cluster.write(path, text, user="root", mode="0755", node=node)
        for host in self.hosts:
            self.cluster.run(host, f"sed -i '/^Prolog=/d;/^Epilog=/d;/^TaskProlog=/d' {CONF}")
            self.cluster.run(host, f"cat >> {CONF} <<'E'\n{lines}E")
        self.cluster.run("c0", "scontrol reconfigure")

    def texts(self) -> List[str]:
        return [self.cluster.run(host, f"cat {CONF}") for host in self.hosts]

    def managed(self, name: str = "site", *options: str, **variables: object) -> str:
        played = self.built.play(name, *options, slurm_hooks_manage_slurm_conf=True, **variables)
        assert played.status == 0, played.output
        return str(played.output)

    def refused(self, *options: str, **variables: object) -> str:
        """Apply the role, which must refuse and change no slurm.conf."""
        before = self.texts()
        played = self.built.play("site", *options, slurm_hooks_manage_slurm_conf=True, **variables)
        assert (played.status != 0, self.texts() == before) == (True, True), played.output
        return str(played.output)

    def ran(self, project: str) -> List[str]:
        """Run a job of ours to its end; return what of the site's ran on its nodes, which is the same on all of them."""
        ended = self.cluster.job(SHORT, "-N3", "--comment=madengine", folder=project)
        assert (ended.state, "ended as lab/" in ended.output) == ("COMPLETED", True), f"{ended}\n{self.cluster.evidence()}"
        for node in NODES:
            self.cluster.until(node, f"! pgrep -f '[e]pilog.d' >/dev/null && [ ! -e /run/madengine/jobs/{ended.job_id} ]")
        logs = {self.cluster.run(node, f"grep ' {ended.job_id}$' /run/site.log || true") for node in NODES}
        assert len(logs) == 1, logs
        return [line.split()[0] for line in logs.pop().splitlines()]


@pytest.fixture
def site(cluster: Cluster, built: Collection) -> Iterator[Site]:
    for node in NODES:
        cluster.run(node, "rm -f /run/site.log")
    with cluster.kept():
        try:
            yield Site(cluster, built)
        finally:
            cluster.resume()
            for node in NODES:
                cluster.run(node, "rm -rf /opt/site")


def test_a_prolog_that_runs_the_parts_of_a_directory_runs_each_once_and_never_itself(site: Site, project: str) -> None:
    site.has("Prolog=/etc/slurm/prolog.sh\nEpilog=/etc/slurm/epilog.sh\n", {
        "/etc/slurm/prolog.sh": RUN_PARTS.format(folder="/etc/slurm/prolog.d"),
        "/etc/slurm/epilog.sh": RUN_PARTS.format(folder="/etc/slurm/epilog.d"),
        "/etc/slurm/prolog.d/10-site": SAYS.format(name="first"),
        "/etc/slurm/prolog.d/60-site": SAYS.format(name="second"),
        "/etc/slurm/epilog.d/20-site": SAYS.format(name="epilog"),
    })  # fmt: skip
    before = site.texts()
    site.managed()
    assert site.ran(project) == ["first", "second", "epilog"]
    assert site.built.play("site", slurm_hooks_manage_slurm_conf=True).changed == {}
    site.managed("uninstall")
    assert site.texts() == before
    for node in NODES:
        assert site.cluster.run(node, "ls /etc/madengine /etc/slurm/prolog.d").split() == [
            "/etc/madengine:", "/etc/slurm/prolog.d:", "00-noop", "10-site", "60-site",
        ]  # fmt: skip
    assert site.cluster.job("#!/bin/sh\nsrun true\n", "-N3").state == "COMPLETED"


def test_a_pattern_elsewhere_stays_a_pattern(site: Site, project: str) -> None:
    site.has("Prolog=/opt/site/prolog.d/*.sh\n", {
        "/opt/site/prolog.d/10.sh": SAYS.format(name="ten"),
        "/opt/site/prolog.d/20.sh": SAYS.format(name="twenty"),
        "/opt/site/prolog.d/30.off": SAYS.format(name="never"),
    })  # fmt: skip
    site.managed()
    assert site.ran(project) == ["twenty", "ten"]  # SLURM's own order
    for node in NODES:
        site.cluster.write("/opt/site/prolog.d/15.sh", SAYS.format(name="fifteen"), user="root", mode="0755", node=node)
    assert site.ran(project) == ["twenty", "fifteen", "ten"]


def test_a_name_without_a_directory_is_beside_slurm_conf(site: Site, project: str) -> None:
    site.has("Prolog=prolog.sh\n", {"/etc/slurm/prolog.sh": SAYS.format(name="beside")})
    site.cluster.write("/etc/slurm/prolog.sh", SAYS.format(name="beside"), user="root", mode="0755", node="c0")
    site.cluster.run("c0", "scontrol reconfigure")
    site.managed()
    assert site.ran(project) == ["beside"]


def test_a_program_that_leads_back_to_ours_is_refused_before_anything_is_changed(site: Site) -> None:
    site.has("Prolog=/etc/slurm/prolog.sh\n", {"/etc/slurm/prolog.sh": RUN_PARTS.format(folder="/etc/slurm/prolog.d")})
    said = site.refused(slurm_hooks_prolog_dir="/etc/slurm/prolog.d")
    assert "it leads back to the hooks, and would run itself for ever" in said
    assert "/etc/slurm/prolog.sh" in said


def test_nodes_that_slurm_does_not_use_keep_nobody_from_managing_slurm_conf(site: Site) -> None:
    site.has("Prolog=/etc/slurm/prolog.d/*\nEpilog=/etc/slurm/epilog.d/*\nTaskProlog=/etc/slurm/task_prolog\n", {})
    without = ("--limit", "c0:n1:n2")
    said = site.refused(*without)
    assert "SLURM knows nodes that this play does not reach" in said
    assert "n3" in said
    # Not "down": with the lab's ReturnToService its slurmd would bring it back whenever it reports.
    site.cluster.run("c0", "scontrol update nodename=n3 state=drain reason=test")
    assert "apply rocm.madengine.site to these before they come back: n3" in site.managed("site", *without)


def test_a_serial_prolog_on_shared_nodes_is_refused_and_stays(site: Site) -> None:
    site.has("Prolog=/etc/slurm/prolog.d/*\n", {})
    for host in site.hosts:
        site.cluster.run(host, f"sed -i 's/^PrologFlags=.*/PrologFlags=Alloc,DeferBatch,Serial/' {CONF}")
    site.cluster.run("c0", "scontrol reconfigure")
    assert "PrologFlags=Alloc,DeferBatch,Serial should be without Serial" in site.refused()
