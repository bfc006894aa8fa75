# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the site's in SLURM's places: whose they are, how they change hands, and that none runs itself for ever."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings, site_files, slurm_conf
from helpers.hooks import REPOSITORY

OURS = (REPOSITORY / "prolog/task_prolog").read_bytes()
THEIRS = b"#!/bin/bash\n# The site's.\necho export OMP_NUM_THREADS=4\n"


@pytest.fixture
def places(tmp_path: Path) -> Tuple[Path, Path]:
    """The file that SLURM names, and where the site's own is kept."""
    return tmp_path / "task_prolog", tmp_path / "task_prolog.site"


def settle(places: Tuple[Path, Path], ours: bytes = OURS) -> None:
    site_files.settle(str(places[0]), str(places[1]), ours)
    assert site_files.settled(str(places[0]), ours)


@pytest.mark.parametrize(("data", "expected"), [
    (None, False),
    (b"", False),
    (b"#!/bin/sh\nexit 0\n", False),
    (b"#!/bin/bash\n\n  # nothing\n:\n true \nexit", False),
    (site_files.NOTHING.encode(), False),
    (OURS, False),
    (OURS.replace(b"_job=", b"job="), False),
    (b"#!/bin/sh\nexit 1\n", True),
    (b"#!/bin/sh\nexit 0; reboot\n", True),
    (b"\x7fELF\x02\x01", True),
    (THEIRS, True),
])  # fmt: skip
def test_whose_program_it_is_shows_in_what_it_does(data: Optional[bytes], expected: bool) -> None:
    assert site_files.is_the_sites(data) is expected


def test_the_sites_program_moves_aside_with_its_permissions_and_comes_back(places: Tuple[Path, Path]) -> None:
    path, site = places
    path.write_bytes(THEIRS)
    path.chmod(0o751)
    settle(places)
    assert (path.read_bytes(), site.read_bytes()) == (OURS, THEIRS)
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o755, 0o751]
    settle(places)
    assert (path.read_bytes(), site.read_bytes()) == (OURS, THEIRS)
    site_files.give_back(str(path), str(site))
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode), site.exists()) == (THEIRS, 0o751, False)
    site_files.give_back(str(path), str(site))
    assert path.read_bytes() == THEIRS


@pytest.mark.parametrize("before", [None, b"#!/bin/sh\nexit 0\n", OURS + b"# an older one\n"])
def test_where_the_site_had_none_there_is_none_to_keep_and_one_that_does_nothing_stays(
    places: Tuple[Path, Path], before: Optional[bytes]
) -> None:
    path, site = places
    if before is not None:
        path.write_bytes(before)
    settle(places)
    assert not site.exists()
    assert site_files.given_back(str(path), str(site)) == site_files.NOTHING.encode()
    site_files.give_back(str(path), str(site))
    assert (path.read_text(), os.access(path, os.X_OK)) == (site_files.NOTHING, True)


def test_a_link_of_the_sites_is_kept_as_one_and_what_it_leads_to_is_not_touched(places: Tuple[Path, Path], tmp_path: Path) -> None:
    path, site = places
    (tmp_path / "real").write_bytes(THEIRS)
    path.symlink_to("real")
    settle(places)
    assert (path.is_symlink(), site.is_symlink(), site.read_bytes(), (tmp_path / "real").read_bytes()) == (False, True, THEIRS, THEIRS)
    site_files.give_back(str(path), str(site))
    assert (path.is_symlink(), path.read_bytes()) == (True, THEIRS)


def test_what_the_site_puts_over_ours_later_is_its_will_and_what_it_had_before_is_not_lost(places: Tuple[Path, Path]) -> None:
    path, site = places
    path.write_bytes(THEIRS)
    settle(places)
    path.write_bytes(THEIRS + b"# new\n")
    assert not site_files.settled(str(path), OURS)
    settle(places)
    assert site.read_bytes() == THEIRS + b"# new\n"
    assert Path(f"{site}.old").read_bytes() == THEIRS


@pytest.mark.parametrize("change", [lambda path: path.chmod(0o644), lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_program_of_ours_that_cannot_run_is_not_settled(places: Tuple[Path, Path], change: Callable[[Path], object]) -> None:
    settle(places)
    change(places[0])
    assert not site_files.settled(str(places[0]), OURS)


def test_at_no_instant_is_the_place_empty(places: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever something is renamed into place, something has been there before, and is there after."""
    path, site = places
    path.write_bytes(THEIRS)
    seen = []
    rename = os.rename

    def watched(*names: str) -> None:
        seen.append(path.exists())
        rename(*names)
        seen.append(path.exists())

    monkeypatch.setattr(os, "rename", watched)
    settle(places)
    site_files.give_back(str(path), str(site))
    assert len(seen) >= 6
    assert all(seen)


FILES = REPOSITORY / "collections/ansible_collections/rocm/madengine/roles/slurm_hooks/files/cli_filter"


def test_the_entry_that_is_placed_is_known_as_ours_and_ends_with_the_line_that_a_site_is_told() -> None:
    entry = (FILES / "entry.lua").read_text()
    assert site_files.is_our_filter(entry)
    assert site_files.calls_our_filter(entry)
    assert entry.splitlines()[-1] == site_files.FILTER_LINE


def test_the_script_asks_with_words_and_keys_that_the_hooks_know() -> None:
    """Lua is a language of its own, so what it shares with `request` stands there twice."""
    script = (FILES / "cli_filter.lua").read_text()
    assert f'local WORD = "{request.WORD}"' in script
    assert f'local MANIFEST = "{request.DEFAULT_MANIFEST}"' in script
    for key in ("manifest", "image", "store"):
        assert key in request.KEYS
        assert f', "{key}" }}' in script


@pytest.mark.parametrize(("text", "is_ours", "calls"), [
    (None, False, False),
    ("", False, False),
    ("function slurm_cli_pre_submit() end\n", False, False),
    (f"x = 1\n{site_files.FILTER_LINE}\n", False, True),
    (f"x = 1\n  dofile('{site_files.FILTER_SCRIPT}') -- ours", False, True),
    (f"x = 1\n-- {site_files.FILTER_LINE}\n", False, False),
    (f"x = 1\n   --[[ {site_files.FILTER_LINE} ]]\n", False, False),
    ("-- Placed by rocm.madengine, once\n", True, False),
])  # fmt: skip
def test_a_sites_filter_is_told_from_ours(text: str, is_ours: bool, calls: bool) -> None:
    assert (site_files.is_our_filter(text), site_files.calls_our_filter(text)) == (is_ours, calls)


def test_a_probe_loads_the_filter_from_the_sites_own_plugins_and_nothing_else() -> None:
    probe = slurm_conf.values(site_files.filter_probe("PluginDir=/opt/slurm/lib # ours\nSlurmctldHost=c0\nInclude x.conf\n"))
    assert probe == {
        "clustername": "probe",
        "slurmctldhost": "localhost",
        "clifilterplugins": "cli_filter/lua",
        "plugindir": "/opt/slurm/lib",
    }
    assert "plugindir" not in slurm_conf.values(site_files.filter_probe(""))


@pytest.mark.parametrize(
    ("said", "version"), [("slurm-wlm 22.05.8\n", (22, 5)), ("slurm 23.11.4", (23, 11)), ("", (0, 0)), ("slurm", (0, 0))]
)
def test_a_release_is_read_from_what_the_command_says(said: str, version: object) -> None:
    assert settings.version(said) == version


# --- Prolog and Epilog -------------------------------------------------------------------------------------------------------


class Node:
    """A node's directories, and SLURM, which runs a pattern's programs from the last name to the first."""

    def __init__(self, root: Path) -> None:
        self.site, self.ours, self.log = root / "slurm/prolog.d", root / "madengine/prolog.d", root / "log"
        self.site.mkdir(parents=True)
        self.ours.mkdir(parents=True)
        self.program(self.ours / "50-madengine", f"echo ours >> {self.log}")

    def program(self, path: Path, text: str) -> Path:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def says(self, path: Path, status: int = 0) -> Path:
        return self.program(path, f"echo {path.name} >> {self.log}; exit {status}")

    def keep(self, program: str) -> None:
        link = self.ours / "90-site"
        link.write_text(site_files.chain_link("Prolog", program))
        link.chmod(0o755)

    def start(self) -> List[str]:
        """Start a job's prolog as SLURM does; a chain without an end would fill the limit of processes."""
        for path in sorted(self.ours.iterdir(), reverse=True):
            if subprocess.run(["sh", "-c", f"ulimit -v 4000000; exec {path}"], check=False, timeout=60).returncode != 0:
                break
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


RUN_PARTS = 'for part in {folder}/*; do [ -x "$part" ] && "$part"; done; exit 0'


def test_a_prolog_that_runs_the_parts_of_a_directory_runs_each_once_and_ours_once(node: Node) -> None:
    """As deepops has it: Prolog=/etc/slurm/prolog.sh, which is a run-parts of /etc/slurm/prolog.d."""
    node.says(node.site / "10-first")
    node.says(node.site / "60-second")
    prolog = node.program(node.site.parent / "prolog.sh", RUN_PARTS.format(folder=node.site))
    assert site_files.leads_back(str(prolog), [str(node.ours)]) is None
    node.keep(str(prolog))
    assert node.start() == ["10-first", "60-second", "ours"]


@pytest.mark.parametrize("text", [
    RUN_PARTS.format(folder="{ours}"),
    "exec run-parts {ours}",
    ". {ours}/50-madengine",
    "exec {helper}",
    "for each in {site}/*; do $each; done",
])  # fmt: skip
def test_a_program_that_leads_back_is_found_with_the_file_that_does_so(node: Node, text: str) -> None:
    helper = node.program(node.site / "helper", f"run-parts {node.ours}")
    prolog = node.program(node.site.parent / "prolog.sh", text.format(ours=node.ours, helper=helper, site=node.site))
    found = site_files.leads_back(str(prolog), [str(node.ours)])
    assert found == (str(helper) if "helper" in text or "each" in text else str(prolog))


def test_a_link_into_our_directory_and_a_pattern_of_it_lead_back(node: Node) -> None:
    link = node.site / "20-link"
    link.symlink_to(node.ours / "50-madengine")
    assert site_files.leads_back(str(link), [str(node.ours)]) == str(link)
    assert site_files.leads_back(f"{node.site}/*", [str(node.ours)]) == str(link)
    assert site_files.leads_back(f"{node.ours}/*.none", [str(node.ours)]) == str(node.ours)
    link.unlink()
    node.says(node.site / "20-good")
    assert site_files.leads_back(f"{node.site}/*", [str(node.ours)]) is None


def test_programs_that_name_each_other_are_looked_at_once(node: Node) -> None:
    one, two = node.site / "one", node.site / "two"
    node.program(one, f"{two}")
    node.program(two, f"{one}")
    assert site_files.leads_back(str(one), [str(node.ours)]) is None


def test_what_leads_back_by_a_path_that_nobody_can_read_ends_at_its_second_turn(node: Node) -> None:
    hidden = f"d={node.ours.parent}; d=$d/prolog; for part in $d.d/*; do $part; done; echo site >> {node.log}"
    prolog = node.program(node.site.parent / "prolog.sh", hidden)
    assert site_files.leads_back(str(prolog), [str(node.ours)]) is None
    node.keep(str(prolog))
    assert node.start().count("site") == 1


@pytest.mark.parametrize(("pattern", "ran"), [("*", ["b.sh", "a.sh", "a b"]), ("*.sh", ["b.sh", "a.sh"]), ("[b]?sh", ["b.sh"])])
def test_a_pattern_runs_what_it_names_from_the_last_to_the_first(node: Node, pattern: str, ran: List[str]) -> None:
    for name in ("a.sh", "b.sh"):
        node.says(node.site / name)
    node.program(node.site / "a b", f"echo 'a_b' >> {node.log}")
    node.keep(f"{node.site}/{pattern}")
    assert [name.replace("_", " ") for name in node.start()] == [*ran, "ours"]


def test_the_first_of_a_pattern_that_fails_ends_the_prolog(node: Node) -> None:
    node.says(node.site / "a")
    node.says(node.site / "b", status=3)
    node.keep(f"{node.site}/*")
    assert subprocess.run([str(node.ours / "90-site")], check=False).returncode == 3
    assert node.start() == ["b", "b"]


@pytest.mark.parametrize("name", ["with blank", "with'quote", "with$dollar", "with;semicolon"])
def test_a_name_is_no_shell_code(node: Node, name: str) -> None:
    folder = node.site / name
    folder.mkdir()
    node.program(folder / "run", f"echo ran >> {node.log}")
    node.keep(str(folder / "run"))
    assert node.start() == ["ran", "ours"]
    node.keep(f"{folder}/*")
    assert node.start()[2:] == ["ran", "ours"]


def test_what_slurm_could_not_start_is_named(node: Node) -> None:
    good = node.says(node.site / "good")
    assert site_files.startable(f"{node.site}/*") == [str(good)]
    assert site_files.startable(str(good)) == [str(good)]
    (node.site / "plain").write_text("")
    for program in (f"{node.site}/*", f"{node.site}/none", f"{node.site}/*.none", str(node.site)):
        with pytest.raises(JobFault, match="site_program: SLURM cannot start it here"):
            site_files.startable(program)
