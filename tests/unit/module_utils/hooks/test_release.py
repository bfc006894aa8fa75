# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases side by side: what can be seen is whole, what is broken is never switched on, what is in use stays."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault, NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import release
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.release import Releases, name_of
from helpers import releases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CALLS = ("mkdir", "rename", "unlink", "rmdir", "symlink", "chmod", "fsync")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory on a tmpfs: a disk makes each fsync wait."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture
def place(folder: Path) -> Releases:
    return Releases(str(folder / "hooks"), str(folder / "run"))


@pytest.fixture
def unproved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no interpreter: what it says is another test's matter."""
    monkeypatch.setattr(release, "_run", lambda command: None)


def put(place: Releases, version: str, archive: releases.Archive) -> str:
    """Do what the module does."""
    name = name_of(version, archive.sha256)
    with place.locked():
        place.install(name, archive.path, archive.sha256)
        place.switch(name)
    return name


def content(place: Releases, name: str) -> Dict[str, str]:
    """Return the files of a release, without what was compiled of them."""
    root = Path(place.path(name))
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(root)): path.read_text() for path in found}


def pin(place: Releases, folder: Path, name: str, job_id: int = 4711) -> None:
    JobState(job_id, str(folder / "run")).begin(os.getuid(), os.getgid(), place.path(name))


def test_what_was_installed_is_what_was_packed_readable_and_switched_on(place: Releases, folder: Path) -> None:
    before = os.umask(0o077)
    try:
        name = put(place, "1.0.0", releases.packed(folder))
    finally:
        os.umask(before)
    assert content(place, name) == releases.FILES
    assert os.readlink(folder / "hooks/current") == f"releases/{name}"
    assert (place.named("current"), place.named("previous"), place.installed()) == (name, None, [name])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / "hooks").rglob("*") if not path.is_symlink()}
    assert {modes[each] for each in ("releases", name, "prolog", "lib", "50-madengine")} == {0o755}
    assert (modes["prolog.py"], modes["noun.py"]) == (0o644, 0o644)
    assert any(each.endswith(".pyc") for each in modes)
    assert sorted(os.listdir(folder / "hooks")) == ["current", "releases"]


def test_twice_is_once(place: Releases, folder: Path) -> None:
    archive = releases.packed(folder)
    name = put(place, "1.0.0", archive)
    seen = os.stat(place.path(name))
    assert put(place, "1.0.0", archive) == name
    again = os.stat(place.path(name))
    assert (again.st_ino, again.st_mtime_ns) == (seen.st_ino, seen.st_mtime_ns)
    assert (place.installed(), place.before()) == ([name], None)


@pytest.mark.usefixtures("unproved")
def test_the_same_version_with_another_content_is_another_release(place: Releases, folder: Path) -> None:
    first = put(place, "1.0.0", releases.numbered(folder, 1))
    pin(place, folder, first)
    whole = content(place, first)
    second = put(place, "1.0.0", releases.numbered(folder, 2))
    assert first != second
    assert content(place, first) == whole
    assert (place.named("current"), place.before()) == (second, first)


@pytest.mark.parametrize(("files", "says"), [
    ({"lib/noun.py": "def work(:\n"}, "SyntaxError"),
    ({"lib/unused.py": "def work(:\n"}, "SyntaxError"),
    ({"lib/noun.py": "import nothing_of_this_name\n"}, "nothing_of_this_name"),
    ({"lib/noun.py": None}, "noun"),
    ({"lib/noun.py": "raise RuntimeError('b\\xfcm')\n"}, "RuntimeError"),
    ({"epilog/epilog.py": "import sys; sys.exit(3)\n"}, ""),
    ({"prolog/task_prolog": "#!/bin/sh\nif then\n"}, "task_prolog"),
    ({"epilog/epilog.py": None}, "epilog/epilog.py"),
    ({"prolog/00-noop": None}, "prolog/00-noop"),
])  # fmt: skip
def test_a_broken_release_is_refused_before_anything_is_switched(
    place: Releases, folder: Path, files: Dict[str, Optional[str]], says: str
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(release, "_run", lambda command: None)
        good = put(place, "1.0.0", releases.packed(folder))
    with pytest.raises(JobFault) as caught:
        put(place, "1.1.0", releases.packed(folder, files))
    assert says in caught.value.line()
    assert "\n" not in caught.value.line()
    assert (place.named("current"), place.installed(), place.before()) == (good, [good], None)
    assert os.listdir(folder / "hooks/releases") == [good]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


@pytest.mark.parametrize("extra", [
    member("../../evil", size=1),
    member("/tmp/evil", size=1),
    member("prolog/../../../evil", size=1),
    member("lib/link", tarfile.SYMTYPE, "/etc/passwd"),
    member("lib/hard", tarfile.LNKTYPE, "prolog/prolog.py"),
    member("lib/fifo", tarfile.FIFOTYPE),
    member("lib/zero", tarfile.CHRTYPE),
    member("lib/folder", tarfile.DIRTYPE),
    member("prolog/prolog.py/below", size=1),
    member("lib", size=1),
])  # fmt: skip
@pytest.mark.usefixtures("unproved")
def test_an_archive_holds_files_and_nothing_that_leads_out_of_it(place: Releases, folder: Path, extra: tarfile.TarInfo) -> None:
    with pytest.raises(JobFault, match="not a release's archive"):
        put(place, "1.0.0", releases.packed(folder, extra=[extra]))
    assert os.listdir(folder / "hooks/releases") == []
    assert not list(folder.rglob("evil"))


@pytest.mark.usefixtures("unproved")
def test_an_archive_that_was_damaged_on_its_way_is_refused(place: Releases, folder: Path) -> None:
    archive = releases.packed(folder)
    whole = Path(archive.path).read_bytes()
    name = name_of("1.0.0", archive.sha256)
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        Path(archive.path).write_bytes(whole[:cut])
        with place.locked(), pytest.raises(JobFault, match=r"cannot read the archive|is another one"):
            place.install(name, archive.path, archive.sha256)
    Path(archive.path).write_bytes(gzip.compress(gzip.decompress(whole) + b"\0"))
    with place.locked(), pytest.raises(JobFault, match="is another one"):
        place.install(name, archive.path, archive.sha256)
    with place.locked(), pytest.raises(JobFault, match="cannot read the archive"):
        place.install(name, str(folder / "nothing"), archive.sha256)
    assert place.installed() == []


@pytest.mark.parametrize("version", ["", ".", "..", "../1", "a/b", "/etc", "1.0\n", "1 0", ".hidden", "-rf", "1\0", "é", "x" * 65])
def test_a_version_is_no_way_out_of_the_directory(place: Releases, version: str) -> None:
    with pytest.raises(JobFault, match="not a version"):
        name_of(version, "0" * 64)
    if len(version) < 65:
        with pytest.raises(JobFault, match="not a release's name"):
            place.path(version)
    for digest in ("", "0" * 63, "0" * 63 + "\n", "../" + "0" * 61, "A" * 64):
        with pytest.raises(JobFault, match="SHA-256"):
            name_of("1.0.0", digest)


@pytest.mark.usefixtures("unproved")
def test_going_back_twice_leads_back(place: Releases, folder: Path) -> None:
    with pytest.raises(JobFault, match="none to go back to"):
        place.roll_back()
    old = put(place, "1", releases.numbered(folder, 1))
    with pytest.raises(JobFault, match="none to go back to"):
        place.roll_back()
    new = put(place, "2", releases.numbered(folder, 2))
    assert (place.roll_back(), place.named("current"), place.before()) == (old, old, new)
    assert (place.roll_back(), place.named("current"), place.before()) == (new, new, old)


@pytest.mark.usefixtures("unproved")
def test_a_switch_that_was_killed_half_way_leaves_nothing_to_go_back_to_rather_than_the_present(place: Releases, folder: Path) -> None:
    for number in (1, 2):
        put(place, str(number), releases.numbered(folder, number))
    (folder / "hooks/previous").unlink()
    (folder / "hooks/previous").symlink_to(os.readlink(folder / "hooks/current"))
    assert place.before() is None
    with pytest.raises(JobFault, match="none to go back to"):
        place.roll_back()


def test_a_release_that_this_node_cannot_run_any_more_is_not_gone_back_to(
    place: Releases, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(release, "_run", lambda command: None)
        old, new = (put(place, str(number), releases.numbered(folder, number)) for number in (1, 2))
    Path(place.path(old), "lib/noun.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(JobFault, match="does not run on this node"):
        place.roll_back()
    assert (place.named("current"), place.before()) == (new, old)
    monkeypatch.setattr(release, "_INTERPRETER", "/nonexistent/python3")
    with pytest.raises(NodeFault, match="a program is missing"):
        place.roll_back()
    monkeypatch.setattr(release, "_INTERPRETER", sys.executable)
    monkeypatch.setattr(release, "_SECONDS", 0)
    with pytest.raises(NodeFault, match="no answer"):
        place.roll_back()


def test_proving_changes_nothing(place: Releases, folder: Path) -> None:
    name = put(place, "1.0.0", releases.packed(folder))
    for path in Path(place.path(name)).rglob("__pycache__"):
        subprocess.run(["rm", "-r", str(path)], check=True)
    before = sorted(Path(place.path(name)).rglob("*"))
    release.prove(place.path(name))
    assert sorted(Path(place.path(name)).rglob("*")) == before


def test_nothing_is_switched_to_that_is_not_there(place: Releases) -> None:
    with place.locked(), pytest.raises(JobFault, match="not installed"):
        place.switch("1.0.0+000000000000")
    assert place.named("current") is None


@pytest.mark.usefixtures("unproved")
def test_a_release_from_which_a_program_was_taken_is_installed_again(place: Releases, folder: Path) -> None:
    archive = releases.packed(folder)
    name = put(place, "1.0.0", archive)
    Path(place.path(name), "epilog/epilog.py").unlink()
    assert not place.has(name)
    put(place, "1.0.0", archive)
    assert content(place, name) == releases.FILES


@pytest.mark.usefixtures("unproved")
def test_links_that_lead_to_nothing_or_elsewhere_name_no_release(place: Releases, folder: Path) -> None:
    name = put(place, "1.0.0", releases.packed(folder))
    for target in ("releases/2.0.0", "releases/", "..", "/", "releases/.new." + name):
        (folder / "hooks/current").unlink()
        (folder / "hooks/current").symlink_to(target)
        assert place.named("current") is None
    (folder / "hooks/current").unlink()
    (folder / "hooks/current").mkdir()
    assert place.named("current") is None


@pytest.mark.usefixtures("unproved")
def test_only_what_nobody_uses_is_superfluous(place: Releases, folder: Path) -> None:
    names = [put(place, str(number), releases.numbered(folder, number)) for number in range(5)]
    (folder / "hooks/releases/README").write_text("no release")
    assert place.installed() == names
    assert place.superfluous(3, names[4]) == names[:2]
    assert place.superfluous(3, "9+000000000000") == names[:3]
    assert place.superfluous(-7, names[4]) == place.superfluous(1, names[4]) == names[:3]
    pin(place, folder, names[1])
    assert place.superfluous(1, names[4]) == [names[0], names[2]]
    assert place.superfluous(1, names[0]) == [names[2], names[3]]


def test_a_pin_is_what_a_job_s_state_says_also_half_made_or_half_gone(place: Releases, folder: Path) -> None:
    assert place.pinned() == set()
    for job, text in {"1": b"/x/releases/a\n", ".new.2": b"/x/releases/b\n", ".gone.3": b"/y/c", "4": b"\xff/d\n"}.items():
        (folder / "run/jobs" / job).mkdir(parents=True)
        (folder / "run/jobs" / job / "release").write_bytes(text)
    (folder / "run/jobs/5").mkdir()
    assert place.pinned() == {"a", "b", "c", "d"}


@pytest.mark.usefixtures("unproved")
def test_removing_takes_the_links_along_and_twice_is_once(place: Releases, folder: Path) -> None:
    old, new = (put(place, str(number), releases.numbered(folder, number)) for number in (1, 2))
    place.remove(new)
    place.remove(new)
    assert (place.named("current"), place.named("previous"), place.installed()) == (None, old, [old])
    assert not os.path.lexists(folder / "hooks/current")


def test_a_full_disk_is_this_node_s_fault_and_leaves_nothing(place: Releases, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release.shutil, "copyfileobj", full)
    with pytest.raises(NodeFault, match="the disk is full") as caught:
        put(place, "1.0.0", releases.packed(folder))
    assert caught.value.part == "disk"
    assert os.listdir(folder / "hooks/releases") == []


# What happens when SIGKILL comes.


def killed_at(number: int, work: Callable[[], Any]) -> bool:
    """Do *work* in a child that is killed in front of its call *number* of those in `CALLS`; say whether it came so far."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return called

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.usefixtures("unproved")
def test_wherever_an_installation_is_killed_the_present_release_is_whole_and_the_next_run_heals(place: Releases, folder: Path) -> None:
    first, second = releases.numbered(folder, 1), releases.numbered(folder, 2)
    for version, archive in (("1", first), ("2", second)):
        put(place, version, archive)
    number, was_killed = 0, True
    while was_killed:
        number += 1
        third = releases.numbered(folder, 100 + number)
        name = name_of("3", third.sha256)

        def upgrade(third: releases.Archive = third, name: str = name) -> None:
            old = place.installed()[0]
            put(place, "3", third)
            place.remove(old)

        was_killed = killed_at(number, upgrade)
        now = place.named("current")
        assert now is not None
        assert set(content(place, now)) == set(releases.FILES), (number, now)
        for each in place.installed():
            assert set(content(place, each)) == set(releases.FILES), (number, each)
        put(place, "3", third)
        assert (place.named("current"), place.before() in place.installed()) == (name, True)
        assert [each for each in os.listdir(folder / "hooks/releases") if each.startswith(".new.")] == []
        for each in place.installed()[:-2]:
            place.remove(each)
    assert number > 40


@pytest.mark.usefixtures("unproved")
def test_wherever_going_back_is_killed_there_is_a_present_release(place: Releases, folder: Path) -> None:
    old, new = (put(place, str(number), releases.numbered(folder, number)) for number in (1, 2))
    number, was_killed = 0, True
    while was_killed:
        number += 1
        was_killed = killed_at(number, place.roll_back)
        assert place.named("current") in (old, new)
        for each in (old, new):  # heals
            with place.locked():
                place.switch(each)
    assert number > 4


def _installing(root: str, base: str, path: str, sha256: str, barrier: Any) -> None:
    release._run = lambda command: None  # type: ignore[assignment]
    barrier.wait()
    put(Releases(root, base), "1.0.0", releases.Archive(path, sha256))


def test_installations_at_once_wait_for_each_other(place: Releases, folder: Path) -> None:
    forking = multiprocessing.get_context("fork")
    archives = [releases.numbered(folder, number % 3) for number in range(6)]
    barrier = forking.Barrier(len(archives))
    workers: List[Any] = [
        forking.Process(target=_installing, args=(place.root, str(folder / "run"), each.path, each.sha256, barrier)) for each in archives
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    assert len(place.installed()) == 3
    for name in place.installed():
        assert set(content(place, name)) == set(releases.FILES)
    assert place.named("current") in place.installed()
    assert sorted(os.listdir(folder / "hooks/releases")) == sorted(place.installed())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.sampled_from(["install 1", "install 2", "install 3", "back", "pin", "prune", "unpin"]), max_size=12))
def test_whatever_is_done_in_whatever_order_current_is_whole_and_pins_hold(unproved: None, folder: Path, actions: List[str]) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as root:
        place = Releases(os.path.join(root, "hooks"), os.path.join(root, "run"))
        pinned: Optional[str] = None
        for action in actions:
            now = place.named("current")
            if action.startswith("install"):
                put(place, "1.0.0", releases.numbered(folder, int(action[-1])))
            elif action == "back" and place.before():
                place.roll_back()
            elif action == "pin" and now:
                pinned = now
                pin(place, Path(root), now)
            elif action == "unpin":
                JobState(4711, os.path.join(root, "run")).remove()
                pinned = None
            elif action == "prune" and now:
                for name in place.superfluous(1, now):
                    place.remove(name)
            after = place.named("current")
            assert after is not None or now is None
            assert after is None or place.has(after)
            assert pinned is None or place.has(pinned)
