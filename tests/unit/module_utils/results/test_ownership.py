# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever works on a user's directory is that user; where a link leads plays no part then."""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401 (the child that is the user may be unable to read this interpreter)
import json
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results import ownership
from ansible_collections.rocm.madengine.plugins.modules import job_report, results_collect
from helpers import csvs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
NOBODY = pwd.getpwnam("nobody") if os.geteuid() == 0 else None


@pytest.fixture
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def src(base: Path) -> Path:
    """Return a user's collection directory."""
    path = csvs.collection(base / "home/4711", [csvs.table(1), csvs.table(2)])
    give(base / "home")
    return path


def give(path: Path) -> None:
    assert NOBODY is not None
    for each in (path, *path.rglob("*")):
        os.lchown(each, NOBODY.pw_uid, NOBODY.pw_gid)


def test_root_works_as_the_owner_and_leaves_files_of_the_owner_s(src: Path, run_module: Any) -> None:
    code, answer = run_module(results_collect, src=str(src), name=csvs.NAME)
    assert (code, answer["changed"], answer["verdict"]) == (0, True, "ok"), answer
    assert run_module(results_collect, src=str(src), name=csvs.NAME)[1]["changed"] is False
    code, answer = run_module(job_report, src=str(src))
    assert (code, answer["changed"]) == (0, True), answer
    assert NOBODY is not None
    assert {path.stat().st_uid for path in src.rglob("*")} == {NOBODY.pw_uid}


@pytest.mark.parametrize("module", [results_collect, job_report])
def test_a_link_in_a_users_directory_leads_root_to_nothing_of_root_s(base: Path, src: Path, run_module: Any, module: Any) -> None:
    secret = csvs.write(base / "root/only.live.log", "root's secret")
    table = csvs.write(base / "root" / csvs.NAME, csvs.table(9, 9, 9))
    os.chmod(base / "root", 0o700)
    (src / "node_0/run.live.log").symlink_to(secret)
    (src / "node_0/diagnostics").symlink_to(base / "root")
    os.unlink(src / "node_1" / csvs.NAME)
    (src / "node_1" / csvs.NAME).symlink_to(table)
    for name in (csvs.NAME, "selection.json", "report.html", "report.txt"):
        (src / name).symlink_to(secret)
    run_module(module, src=str(src))
    assert secret.read_text() == "root's secret"
    assert not any("secret" in path.read_text() for path in src.glob("report.*") if not path.is_symlink())


def test_a_directory_that_a_user_turned_into_a_link_is_refused(base: Path, src: Path, run_module: Any) -> None:
    csvs.collection(base / "precious", [csvs.table(1)])
    (base / "home/link").symlink_to(base / "precious")
    (base / "home/way").symlink_to(base)
    give(base / "home")
    for path in (base / "home/link", base / "home/way/precious"):
        code, answer = run_module(results_collect, src=str(path), name=csvs.NAME)
        assert (code, "results: " in answer["msg"]) == (1, True), answer
    assert sorted(entry.name for entry in (base / "precious").iterdir()) == ["node_0"]


def test_root_s_own_directory_with_a_users_node_in_it_is_refused(base: Path) -> None:
    path = csvs.collection(base / "mine", [csvs.table(1), csvs.table(2)])
    assert ownership.account_for(str(path)) is None
    give(path / "node_1")
    with pytest.raises(JobFault, match="in a user's hands"):
        ownership.account_for(str(path))


@pytest.mark.parametrize("name", ["authorized_keys", "x.sh", "../x.csv"])
def test_no_name_but_a_csv_s_is_ever_written(src: Path, run_module: Any, name: str) -> None:
    csvs.write(src / "selection.json", json.dumps({"version": 1, "name": name, "further": [{"name": name}]}))
    run_module(results_collect, src=str(src))
    assert not (src / name).exists()
    assert run_module(results_collect, src=str(src), name=name)[0] == 1


def test_a_dest_of_root_s_is_written_by_root_and_one_of_a_user_s_refused(base: Path, src: Path, run_module: Any) -> None:
    (base / "site").mkdir()
    (base / "users").mkdir()
    give(base / "users")
    code, answer = run_module(results_collect, src=str(src), name=csvs.NAME, dest=str(base / "site/out.csv"))
    assert (code, answer["changed"], (base / "site/out.csv").read_text()) == (0, True, csvs.table(1)), answer
    assert run_module(results_collect, src=str(src), name=csvs.NAME, dest=str(base / "site/out.csv"))[1]["changed"] is False
    assert run_module(job_report, src=str(src), dest=str(base / "site"))[0] == 0
    for module in (results_collect, job_report):
        code, answer = run_module(module, src=str(src), dest=str(base / "users"))
        assert (code, "root must not write" in answer["msg"]) == (1, True), answer
    assert list((base / "users").iterdir()) == []


def _refused(path: str) -> Dict[str, Any]:
    try:
        ownership.account_for(path)
    except JobFault as fault:
        return {"what": fault.what}
    return {}


def test_nobody_writes_to_another_users_directory(src: Path) -> None:
    daemon = pwd.getpwnam("daemon")
    assert process.run(process.of(daemon.pw_uid, daemon.pw_gid), _refused, str(src)) == {"what": "results: another user's directory"}


def test_a_fifo_holds_nobody_up(src: Path, run_module: Any) -> None:
    for path in (src / csvs.NAME, src / "node_0/pipe.csv", src / "report.html", src / "node_0/timeline.jsonl"):
        os.mkfifo(path)
    give(src)
    assert run_module(results_collect, src=str(src), name=csvs.NAME, _ansible_diff=True)[0] == 0
    assert run_module(job_report, src=str(src))[0] == 0
