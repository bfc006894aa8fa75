# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cli_filter: the site's filter is never touched, and there is no instant without a file that slurm.conf names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import site_files
from ansible_collections.rocm.madengine.plugins.modules import cli_filter

Run = Callable[..., Tuple[Any, Any]]
ENTRY = f"-- Placed by rocm.madengine\n{site_files.FILTER_LINE}\n"
THEIRS = "function slurm_cli_pre_submit() return 0 end\n"
# What a real one does (22.05.8, 24.11.5): it loads the filter beside slurm.conf before it looks at its options.
SBATCH = """#!/bin/sh
[ "$*" = "--version" ] || exit 9
folder=$(dirname "$SLURM_CONF")
cat "$folder/slurm.conf" "$folder/cli_filter.lua" >{folder}/seen
[ -e {folder}/broken ] && {{ echo "sbatch: error: cannot find cli_filter plugin for cli_filter/lua" >&2; exit 1; }}
[ -e {folder}/hangs ] && exec sleep 60
echo "slurm-wlm $(cat {folder}/version)"
"""


class LeaderState:
    """A host's files: slurm.conf, what lies beside it, and our script."""

    def __init__(self, folder: Path, run_module: Run) -> None:
        self.folder, self.run_module = folder, run_module
        self.conf, self.entry, self.script = folder / "etc/slurm.conf", folder / "etc/cli_filter.lua", folder / "madengine/cli_filter.lua"

    def files(self) -> Dict[str, str]:
        return {
            path.name if path != self.script else "script": path.read_text()
            for path in (self.conf, self.entry, self.script)
            if path.exists()
        }

    def settle(self, **params: Any) -> Tuple[int, Dict[str, Any]]:
        """Run the module, in check mode before; what it tells there must come true, and nothing may be done."""
        asked = {"slurm_conf": str(self.conf), "script": "-- script\n", "entry": ENTRY, **params}
        before = self.files()
        code, check_mode = self.run_module(cli_filter, _ansible_check_mode=True, **asked)
        assert self.files() == before
        done = self.run_module(cli_filter, **asked)
        assert (code, check_mode) == done
        return done


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: Run) -> LeaderState:
    made = LeaderState(tmp_path, run_module)
    made.conf.parent.mkdir()
    made.conf.write_text("ClusterName=lab\nPluginDir=/opt/lib\n")
    (tmp_path / "version").write_text("24.11.5")
    program = tmp_path / "bin/sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setattr(cli_filter, "_PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(cli_filter, "_SCRIPT", str(made.script))
    return made


def test_it_is_placed_once_after_slurm_has_loaded_it_and_goes_when_nothing_names_it(host: LeaderState) -> None:
    conf = host.conf.read_text()
    code, result = host.settle()
    assert (code, result["changed"], result["entry"], result["named"]) == (0, True, "ours", False)
    assert host.files() == {"slurm.conf": conf, "cli_filter.lua": ENTRY, "script": "-- script\n"}
    assert host.script.stat().st_mode & 0o777 == 0o644
    seen = (host.folder / "seen").read_text()
    assert "CliFilterPlugins=cli_filter/lua\nPluginDir=/opt/lib\n" in seen
    assert seen.endswith(ENTRY)
    assert host.settle()[1]["changed"] is False
    assert host.settle(script="-- newer\n")[1]["changed"] is True
    code, result = host.settle(state="absent")
    assert (code, result["changed"], result["entry"], host.files()) == (0, True, "none", {"slurm.conf": conf})
    assert host.settle(state="absent")[1]["changed"] is False


@pytest.mark.parametrize("name", ["cli_filter/lua", "syslog,lua"])
def test_as_long_as_slurm_conf_names_it_the_entry_stays(host: LeaderState, name: str) -> None:
    host.settle()
    host.conf.write_text(f"CliFilterPlugins={name}\n")
    code, result = host.settle(state="absent")
    assert (code, result["changed"], result["entry"], result["named"]) == (0, True, "ours", True)
    assert "cli_filter.lua" in host.files()
    assert "script" not in host.files()


def test_an_included_file_that_names_filters_keeps_the_entry_too(host: LeaderState) -> None:
    host.settle()
    host.conf.write_text("Include more.conf\n")
    (host.conf.parent / "more.conf").write_text("CliFilterPlugins=lua\n")
    assert host.settle(state="absent")[1]["entry"] == "ours"


def test_a_filter_of_the_sites_own_has_to_run_ours_and_stays_as_it_is(host: LeaderState) -> None:
    host.entry.write_text(THEIRS)
    code, result = host.settle()
    assert code == 1
    assert result["msg"].endswith(f"add this as its last line: {site_files.FILTER_LINE}")
    assert host.files() == {"slurm.conf": host.conf.read_text(), "cli_filter.lua": THEIRS}
    text = THEIRS + site_files.FILTER_LINE + "\n"
    host.entry.write_text(text)
    code, result = host.settle()
    assert (code, result["entry"], host.entry.read_text()) == (0, "site", text)
    assert host.script.exists()
    code, result = host.settle(state="absent")
    assert (code, result["entry"], host.entry.read_text()) == (0, "site", text)
    assert not host.script.exists()


@pytest.mark.parametrize(("trouble", "said"), [("broken", "cannot find cli_filter plugin"), ("hangs", "no answer")])
def test_where_slurm_cannot_load_it_nothing_is_placed(host: LeaderState, monkeypatch: pytest.MonkeyPatch, trouble: str, said: str) -> None:
    monkeypatch.setattr(cli_filter, "_SECONDS", 0.3)
    (host.folder / trouble).touch()
    before = host.files()
    code, result = host.settle()
    assert (code, result["fault"]["kind"]) == (1, "node")
    assert said in result["msg"]
    assert "slurm-wlm-basic-plugins" in result["msg"]
    assert host.files() == before


def test_a_configless_host_gets_the_script_alone_if_slurm_brings_it_the_rest(host: LeaderState) -> None:
    host.conf.unlink()
    assert host.settle()[1]["entry"] == "none"
    assert host.files() == {"script": "-- script\n"}
    host.settle(state="absent")
    (host.folder / "version").write_text("22.05.8")
    code, result = host.settle()
    assert (code, host.files()) == (1, {})
    assert "22.05.8" in result["msg"]


def test_a_host_on_which_nobody_can_submit_proves_nothing(host: LeaderState) -> None:
    (host.folder / "bin/sbatch").unlink()
    assert host.settle()[0] == 0
    assert set(host.files()) == {"slurm.conf", "cli_filter.lua", "script"}


def test_what_cannot_be_written_is_the_nodes_fault(host: LeaderState) -> None:
    host.script.parent.write_text("a file where the directory should be")
    code, result = host.run_module(cli_filter, slurm_conf=str(host.conf), script="x", entry=ENTRY)
    assert (code, result["fault"]["kind"]) == (1, "node")
    assert not host.entry.exists()
