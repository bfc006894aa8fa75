# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose filter of submissions it is, and whether it runs ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import cli_filter, slurm_conf

FILES = Path(__file__).resolve().parents[4] / "collections/ansible_collections/rocm/madengine/roles/slurm_hooks/files/cli_filter"


def test_the_entry_that_is_placed_is_known_as_ours_and_ends_with_the_line_that_a_site_is_told() -> None:
    entry = (FILES / "entry.lua").read_text()
    assert cli_filter.is_ours(entry)
    assert cli_filter.calls_ours(entry)
    assert entry.splitlines()[-1] == cli_filter.LINE


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
    (f"x = 1\n{cli_filter.LINE}\n", False, True),
    (f"x = 1\n  dofile('{cli_filter.SCRIPT}') -- ours", False, True),
    (f"x = 1\n-- {cli_filter.LINE}\n", False, False),
    (f"x = 1\n   --[[ {cli_filter.LINE} ]]\n", False, False),
    ("-- Placed by rocm.madengine, once\n", True, False),
])  # fmt: skip
def test_a_sites_filter_is_told_from_ours(text: str, is_ours: bool, calls: bool) -> None:
    assert (cli_filter.is_ours(text), cli_filter.calls_ours(text)) == (is_ours, calls)


def test_a_probe_loads_the_filter_from_the_sites_own_plugins_and_nothing_else() -> None:
    probe = slurm_conf.values(cli_filter.probe("PluginDir=/opt/slurm/lib # ours\nSlurmctldHost=c0\nInclude x.conf\n"))
    assert probe == {
        "clustername": "probe",
        "slurmctldhost": "localhost",
        "clifilterplugins": "cli_filter/lua",
        "plugindir": "/opt/slurm/lib",
    }
    assert "plugindir" not in slurm_conf.values(cli_filter.probe(""))


@pytest.mark.parametrize(("said", "version"), [("slurm-wlm 22.05.8\n", (22, 5)), ("slurm 23.11.4", (23, 11)), ("", None), ("slurm", None)])
def test_a_release_is_read_from_what_the_command_says(said: str, version: object) -> None:
    assert cli_filter.version(said) == version
