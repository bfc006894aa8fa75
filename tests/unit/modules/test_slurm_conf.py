# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_conf: no text that SLURM cannot read takes the file's place, and what was there comes back byte for byte."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.modules import slurm_conf

Run = Callable[..., Tuple[Any, Any]]
SITE = "# ours\nClusterName=lab\nProlog=/site/prolog\nPrologFlags=X11\n"
# What a real one does (22.05.8, 24.11.5), with its words.
SCONTROL = """#!/bin/sh
echo "$*" >>{folder}/log
[ "$*" = "show hostnames n1" ] || exit 9
grep -q Bad "$SLURM_CONF" || exit 0
echo 'scontrol: error: _parse_next_key: Parsing error at unrecognized key: Bad' >&2
echo 'scontrol: fatal: Unable to process configuration file' >&2
exit 1
"""


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the site's slurm.conf, and a scontrol that reads what SLURM_CONF names."""
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(SCONTROL.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setattr(slurm_conf, "_PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc/slurm.conf"
    path.write_text(SITE)
    path.chmod(0o640)
    return path.parent


def both(run_module: Run, path: Path, **params: Any) -> Dict[str, Any]:
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    code, check_mode = run_module(slurm_conf, path=str(path), _ansible_check_mode=True, **params)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    done = run_module(slurm_conf, path=str(path), **params)
    assert {**check_mode, "backup_file": ""} == {**done[1], "backup_file": ""}
    assert (code, done[0]) == (0, 0), done
    return dict(done[1])


def test_it_is_changed_once_with_a_copy_of_the_old_one_and_comes_back_byte_for_byte(run_module: Run, etc: Path) -> None:
    path = etc / "slurm.conf"
    first = both(run_module, path)
    assert (first["changed"], first["exists"], first["displaced"]) == (True, True, {"Prolog": "/site/prolog"})
    assert first["differs"] is True
    assert first["programs"] == {
        "Prolog": "/etc/slurm/prolog.d/*", "Epilog": "/etc/slurm/epilog.d/*", "TaskProlog": "/etc/slurm/task_prolog",
    }  # fmt: skip
    assert (first["diff"]["before"], first["diff"]["after"]) == (SITE, path.read_text())
    assert Path(first["backup_file"]).read_text() == SITE
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    again = both(run_module, path)
    assert again["differs"] is False
    assert (again["changed"], again["displaced"], "backup_file" in again) == (False, {"Prolog": "/site/prolog"}, False)
    back = both(run_module, path, state="absent")
    assert (back["changed"], path.read_text(), back["programs"]["Prolog"]) == (True, SITE, "/site/prolog")
    assert both(run_module, path, state="absent")["changed"] is False
    assert not [name for name in os.listdir(etc) if name.startswith(".new.")]


def test_what_slurm_cannot_read_never_takes_the_files_place(run_module: Run, etc: Path) -> None:
    path = etc / "slurm.conf"
    path.write_text(SITE + "Bad=1\n")
    for is_check in (True, False):
        code, result = run_module(slurm_conf, path=str(path), _ansible_check_mode=is_check)
        assert code == 1
        assert result["msg"] == (
            "madengine: job: slurm_conf: SLURM cannot read it (said='scontrol: error: _parse_next_key: Parsing error at unrecognized"
            " key: Bad | scontrol: fatal: Unable to process configuration file'); correct slurm.conf; it is as it was"
        )
        assert (path.read_text(), os.listdir(etc)) == (SITE + "Bad=1\n", ["slurm.conf"])


def test_a_file_that_hangs_slurms_parser_is_refused_too(run_module: Run, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_conf, "_SECONDS", 0.2)
    (etc.parent / "bin/scontrol").write_text("#!/bin/sh\necho 'cannot stat file /x, retrying' >&2\nexec sleep 60\n")
    code, result = run_module(slurm_conf, path=str(etc / "slurm.conf"))
    assert (code, (etc / "slurm.conf").read_text()) == (1, SITE)
    assert "cannot stat file /x" in result["msg"]


def test_where_slurm_is_not_installed_nothing_is_changed(run_module: Run, etc: Path) -> None:
    (etc.parent / "bin/scontrol").unlink()
    code, result = run_module(slurm_conf, path=str(etc / "slurm.conf"))
    assert (code, (etc / "slurm.conf").read_text(), os.listdir(etc)) == (1, SITE, ["slurm.conf"])
    assert result["msg"].startswith("madengine: node: slurm_conf: a program is missing (file='scontrol')")


def test_a_host_that_has_its_settings_from_the_controller_is_left_alone(run_module: Run, etc: Path) -> None:
    result = both(run_module, etc / "none.conf")
    assert (result["changed"], result["exists"], result["programs"]) == (False, False, {})


def test_a_link_stays_and_what_it_leads_to_is_changed(run_module: Run, etc: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to("etc/slurm.conf")
    code, _result = run_module(slurm_conf, path=str(link))
    assert (code, link.is_symlink()) == (0, True)
    assert "PrologFlags=X11,Alloc,DeferBatch\n" in (etc / "slurm.conf").read_text()


def test_what_a_link_s_file_names_without_a_directory_is_beside_the_link(run_module: Run, etc: Path, tmp_path: Path) -> None:
    # SLURM knows the name that it was given, and looks beside it.
    (etc / "slurm.conf").write_text("Prolog=prolog.sh\nInclude flags.conf\n")
    (tmp_path / "link.conf").symlink_to("etc/slurm.conf")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/flags.conf").write_text("PrologFlags=X11\n")
    (tmp_path / "flags.conf").symlink_to("shared/flags.conf")
    code, result = run_module(slurm_conf, path=str(tmp_path / "link.conf"))
    assert (code, f"place='{tmp_path}/flags.conf'" in result["msg"]) == (1, True), result
    (tmp_path / "flags.conf").unlink()
    code, result = run_module(slurm_conf, path=str(tmp_path / "link.conf"))
    assert (code, result["displaced"]) == (0, {"Prolog": f"{tmp_path}/prolog.sh"})


def test_what_an_included_file_sets_is_not_set_twice(run_module: Run, etc: Path) -> None:
    (etc / "slurm.conf").write_text(SITE + "Include hooks.conf\n")
    (etc / "hooks.conf").write_text("Epilog=/site/epilog\n")
    code, result = run_module(slurm_conf, path=str(etc / "slurm.conf"))
    assert code == 1
    assert result["msg"].startswith("madengine: job: slurm_conf: an included file sets it too (key='epilog', place=")
    assert "Epilog" not in (etc / "slurm.conf").read_text()


@pytest.mark.parametrize(("said", "kept"), [("slurm-wlm 24.11.5", True), ("slurm-wlm 22.05.8", False), ("", False)])
def test_the_sites_line_stays_where_this_slurm_takes_several(run_module: Run, etc: Path, said: str, kept: bool) -> None:
    program = etc.parent / "bin/scontrol"
    program.write_text(program.read_text().replace("#!/bin/sh\n", f'#!/bin/sh\n[ "$1" = --version ] && echo "{said}" && exit\n', 1))
    result = both(run_module, etc / "slurm.conf")
    assert result["displaced"] == ({} if kept else {"Prolog": "/site/prolog"})
    assert result["site_programs"]["Prolog"] == ["/site/prolog"]
    assert result["programs"]["Prolog"] == ("/site/prolog," if kept else "") + "/etc/slurm/prolog.d/*"


def test_a_slurm_that_is_too_old_is_refused_by_its_release(run_module: Run, etc: Path) -> None:
    (etc.parent / "bin/scontrol").write_text("#!/bin/sh\necho slurm-wlm 21.08.5\n")
    code, result = run_module(slurm_conf, path=str(etc / "slurm.conf"))
    assert (code, (etc / "slurm.conf").read_text()) == (1, SITE)
    assert "slurm_conf: this SLURM is too old (version='slurm-wlm 21.08.5'); use 22.05 or newer" in result["msg"]


def test_a_name_without_a_directory_is_told_with_that_of_slurm_conf(run_module: Run, etc: Path) -> None:
    (etc / "slurm.conf").write_text(SITE.replace("/site/prolog", "prolog.d/*"))
    assert both(run_module, etc / "slurm.conf")["displaced"] == {"Prolog": f"{etc}/prolog.d/*"}
