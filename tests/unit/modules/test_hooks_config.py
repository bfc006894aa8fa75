# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hooks_config: the file holds what was asked or stays as it was."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest
import yaml
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from ansible_collections.rocm.madengine.plugins.modules import hooks_config

Run = Callable[..., Tuple[Any, Any]]
SETTINGS = {"deadline": 20, "DrainOn": ["docker", "disk"], "AllowBuild": False, "ImageStore": "/shared/images"}
TEXT = hooks_config.HEADER + "ImageStore=/shared/images\nAllowBuild=no\nDeadline=20\nDrainOn=docker,disk\n"


def state(path: Path) -> Tuple[str, int, int]:
    status = os.lstat(path)
    return path.read_text(), status.st_mode & 0o7777, status.st_ino


def test_the_file_holds_the_settings_for_everybody_to_read_and_the_second_run_changes_nothing(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "hooks.conf"
    code, result = run_module(hooks_config, settings=SETTINGS, path=str(path))
    assert (code, result["changed"], result["path"]) == (0, True, str(path))
    assert state(path)[:2] == (TEXT, 0o644)
    before = state(path)
    code, again = run_module(hooks_config, settings=dict(reversed(SETTINGS.items())), path=str(path))
    assert (code, again["changed"]) == (0, False)
    assert state(path) == before
    assert os.listdir(tmp_path) == ["hooks.conf"]


def test_the_hooks_read_what_was_written(run_module: Run, tmp_path: Path) -> None:
    _code, result = run_module(hooks_config, settings=SETTINGS, path=str(tmp_path / "hooks.conf"))
    site = config.read(str(tmp_path / "hooks.conf"))
    assert (site.deadline_seconds, site.drain_on, site.allow_build, site.warnings) == (20.0, ("docker", "disk"), False, ())
    assert result["settings"] == config.settings_of(site)
    assert (result["settings"]["Deadline"], result["settings"]["PortRange"]) == (20.0, "288-307")


def test_check_mode_says_what_would_change_and_changes_nothing(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "hooks.conf"
    code, result = run_module(hooks_config, settings=SETTINGS, path=str(path), _ansible_check_mode=True, _ansible_diff=True)
    assert (code, result["changed"]) == (0, True)
    assert not path.exists()
    assert result["diff"] == [
        {"before_header": str(path), "after_header": str(path), "before": "", "after": TEXT},
        {"before": {"mode": ""}, "after": {"mode": "0644"}},
    ]
    run_module(hooks_config, settings=SETTINGS, path=str(path))
    assert run_module(hooks_config, settings=SETTINGS, path=str(path), _ansible_check_mode=True)[1]["changed"] is False


def test_check_mode_needs_no_directory_and_the_real_run_says_which_one_it_needs(run_module: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "none/hooks.conf")
    assert run_module(hooks_config, settings={}, path=path, _ansible_check_mode=True)[1]["changed"] is True
    code, result = run_module(hooks_config, settings={}, path=path)
    assert code == 1
    assert result["msg"].startswith("madengine: node: config: cannot write (")
    assert path in result["msg"]


@pytest.mark.parametrize(("settings", "named"), [
    ({"Dedline": 20}, "config: unknown key (key='Dedline'"),
    ({"ImageStore": "/new", "Deadline": "soon"}, "config: not a value for this key (key='Deadline', value='soon'"),
    ({"ImageStore": "/new\nEnabled=no"}, "config: not a value for this key (key='ImageStore'"),
])  # fmt: skip
def test_what_means_nothing_is_refused_in_one_line_and_the_file_stays(
    run_module: Run, tmp_path: Path, settings: Dict[str, Any], named: str
) -> None:
    path = tmp_path / "hooks.conf"
    run_module(hooks_config, settings=SETTINGS, path=str(path))
    before = state(path)
    for is_check in (True, False):
        code, result = run_module(hooks_config, settings=settings, path=str(path), _ansible_check_mode=is_check)
        assert (code, result["failed"]) == (1, True)
        assert result["msg"].startswith("madengine: job: " + named)
        assert "\n" not in result["msg"]
        assert state(path) == before
    assert os.listdir(tmp_path) == ["hooks.conf"]


def test_permissions_that_somebody_changed_are_a_change(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "hooks.conf"
    run_module(hooks_config, settings=SETTINGS, path=str(path))
    path.chmod(0o600)
    _code, result = run_module(hooks_config, settings=SETTINGS, path=str(path), _ansible_diff=True)
    assert result["changed"] is True
    assert result["diff"][1] == {"before": {"mode": "0600"}, "after": {"mode": "0644"}}
    assert state(path)[:2] == (TEXT, 0o644)


def test_a_link_gives_way_to_a_file_and_what_it_led_to_stays(run_module: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(TEXT)
    path = tmp_path / "hooks.conf"
    path.symlink_to(tmp_path / "elsewhere")
    assert run_module(hooks_config, settings=SETTINGS, path=str(path))[1]["changed"] is True
    assert not path.is_symlink()
    path.write_text("")
    assert (tmp_path / "elsewhere").read_text() == TEXT


def test_a_file_that_is_no_text_is_replaced(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "hooks.conf"
    path.write_bytes(b"\xff\xfe\x00")
    assert run_module(hooks_config, settings={}, path=str(path))[1]["changed"] is True
    assert path.read_text() == hooks_config.HEADER


def test_the_documentation_tells_every_key_with_its_default() -> None:
    options = yaml.safe_load(hooks_config.DOCUMENTATION)["options"]["settings"]["description"]
    told = dict(re.findall(r"^V\((\w+)\) \((?:V\()?([^)]*)\)?\)", "\n".join(options), re.MULTILINE))
    defaults = config.render(config.settings_of(config.Site())).replace(".0\n", "\n")
    assert told == {key: value or "none" for key, value in (line.split("=") for line in defaults.splitlines())}
