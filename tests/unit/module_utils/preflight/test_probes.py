# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a node: what is there is found, what is not is said with a remedy, and nothing is changed or waited for."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, NodeFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.preflight import probes
from helpers.hooks import REPOSITORY

INFO: Dict[str, Any] = {"ServerVersion": "26.1.5", "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_all_begin_at_once_and_what_hangs_costs_its_own_answer_alone(tmp_path: Path) -> None:
    def hang(path: str) -> Dict[str, Any]:
        Path(path).touch()
        time.sleep(60)
        return {}

    def wait_for(path: str) -> Dict[str, Any]:
        while not os.path.exists(path):
            time.sleep(0.01)
        return {"seen": True}

    mark, begin = str(tmp_path / "mark"), time.monotonic()
    found = probes.gather({"slow": (hang, (mark,), 1.0), "quick": (wait_for, (mark,), 10.0)})
    assert time.monotonic() - begin < 30  # half of what hangs
    assert found["quick"] == {"seen": True}
    assert isinstance(found["slow"], Fault)
    assert "hangs" in found["slow"].remedy


def test_a_fault_and_a_defect_are_answers_too() -> None:
    def refuse() -> Dict[str, Any]:
        raise NodeFault("a: b", "c", seen="d")

    def break_down() -> Dict[str, Any]:
        raise ZeroDivisionError("by nought")

    found = probes.gather({"refused": (refuse, (), 10), "broken": (break_down, (), 10)})
    assert str(found["refused"]) == "a: b (seen='d'); c"
    assert found["broken"].seen["error"] == "ZeroDivisionError: by nought"


def test_python_tells_its_version_and_its_docker_sdk(tmp_path: Path) -> None:
    seen = probes.python(sys.executable, 20)
    assert seen["version"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert probes.python(script(tmp_path / "python3", "printf '3.13\\n7.1.0\\n'"), 5) == {"version": "3.13", "docker": "7.1.0"}
    assert probes.python(script(tmp_path / "python3", "echo 3.13"), 5) == {"version": "3.13", "docker": ""}


@pytest.mark.parametrize(("text", "what"), [("exit 3", "does not run"), ("sleep 60", "no answer in time")])
def test_a_python_that_does_not_run_is_a_fault(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(NodeFault, match=what):
        probes.python(script(tmp_path / "python3", text), 0.5)
    with pytest.raises(NodeFault, match="cannot start it"):
        probes.python(str(tmp_path / "gone"), 1)


def test_settings_that_mean_the_same_have_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "hooks.conf"
    nothing = probes.settings(str(path), str(tmp_path / "disabled"))
    assert (nothing["is_there"], nothing["is_disabled"]) == (False, False)
    path.write_text("# as by default\ndeadline = 600\n")
    same = probes.settings(str(path), str(tmp_path / "disabled"))
    assert (same["is_there"], same["digest"]) == (True, nothing["digest"])
    path.write_text("Deadline=601\n")
    (tmp_path / "disabled").touch()
    other = probes.settings(str(path), str(tmp_path / "disabled"))
    assert other["is_disabled"]
    assert other["digest"] != same["digest"]


def test_settings_with_a_mistake_are_a_fault_although_the_hooks_would_live_with_it(tmp_path: Path) -> None:
    (tmp_path / "hooks.conf").write_text("Dedline=3\n")
    assert config.read(str(tmp_path / "hooks.conf")).warnings
    with pytest.raises(JobFault, match="unknown key"):
        probes.settings(str(tmp_path / "hooks.conf"), str(tmp_path / "disabled"))


def test_a_release_is_judged_by_its_own_library(tmp_path: Path) -> None:
    place = tmp_path / "50-madengine"
    assert probes.hook_release(str(tmp_path), [str(place)], 20) == {"current": "", "broken": "", "missing": [str(place)]}
    library = tmp_path / "releases/0.9.0+0/lib/ansible_collections/rocm/madengine/plugins/module_utils/_madengine/release.py"
    library.parent.mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/0.9.0+0")
    place.touch()
    # This older release has fewer files than the present one, and is content.
    library.write_text("def prove(path):\n    assert path.endswith('0.9.0+0')\n")
    assert probes.hook_release(str(tmp_path), [str(place)], 20) == {"current": "0.9.0+0", "broken": "", "missing": []}
    library.write_text("def prove(path):\n    raise RuntimeError('release: a file is missing')\n")
    assert probes.hook_release(str(tmp_path), [str(place)], 20)["broken"] == "release: a file is missing"
    library.unlink()
    assert "ImportError" in probes.hook_release(str(tmp_path), [str(place)], 20)["broken"]


def test_slurm_is_asked_twice_for_all_nodes(tmp_path: Path) -> None:
    ready = REPOSITORY / "tests/helpers/slurm/24.11-ready.txt"
    log = tmp_path / "log"
    text = f'echo "$LC_ALL $*" >>{log}; [ "$1" = show ] && cat {ready} || printf "NodeName=n1 Arch=x\\nNodeName=n2 Arch=x\\n"'
    seen = probes.slurm_settings(script(tmp_path / "scontrol", text), 10)
    assert (seen["nodes"], seen["settings"]["PrologFlags"]) == (["n1", "n2"], "Alloc,DeferBatch")
    assert log.read_text() == "C show config\nC --oneliner show nodes\n"
    with pytest.raises(NodeFault, match="Unable to contact"):
        probes.slurm_settings(script(tmp_path / "scontrol", "echo 'Unable to contact' >&2; exit 1"), 10)


def test_equal_keys_have_equal_fingerprints_for_one_session_and_tell_nothing_else(tmp_path: Path) -> None:
    paths = {}
    for name, secret in (("a", b"s" * 32), ("b", b"s" * 32), ("c", b"t" * 32)):
        paths[name] = tmp_path / name
        paths[name].write_bytes(secret)
        paths[name].chmod(0o400)
    seen = {(name, session): probes.key("key", str(path), session)["fingerprint"] for name, path in paths.items() for session in ("x", "y")}
    assert seen["a", "x"] == seen["b", "x"] != seen["c", "x"]
    assert seen["a", "y"] == seen["b", "y"] != seen["a", "x"]
    assert len(seen["a", "x"]) == 16
    paths["a"].chmod(0o444)
    with pytest.raises(NodeFault, match="mode 0444"):
        probes.key("key", str(paths["a"]), "x")


def test_munge_must_answer_where_it_is_the_proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Answers:
        def challenge(self, seconds: float) -> Dict[str, str]:
            return {"munge": "x"}

        def secret(self, challenge: Dict[str, str]) -> bytes:
            return b""

    monkeypatch.setattr(probes.credential, "Munge", Answers)
    monkeypatch.setattr(probes.credential, "key", lambda path, context: probes.credential.Key(b"k" * 32))
    assert len(probes.key("munge", "", "x")["fingerprint"]) == 16

    def unreadable(path: str, context: Any) -> probes.credential.Key:
        raise NodeFault("credential: no", "x", part="key")

    monkeypatch.setattr(probes.credential, "key", unreadable)
    assert probes.key("munge", "", "x") == {"fingerprint": ""}


def test_madengine_is_asked_without_a_model_dir_and_in_an_empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", "/models")
    text = 'echo "$*:${MODEL_DIR-unset}:$MAD_SETUP_MODEL_DIR:$([ "$PWD" = "$HOME" ] && ls | wc -l)"'
    seen = probes.madengine(script(tmp_path / "madengine", text), 10)
    assert seen == {"status": 0, "said": "--version:unset:false:0", "left": []}
    assert probes.madengine("", 10) == {}


def test_what_madengine_leaves_behind_is_seen_and_removed(tmp_path: Path) -> None:
    seen = probes.madengine(script(tmp_path / "madengine", "pwd; mkdir $HOME/models; touch perf.csv; echo oops >&2; pwd; exit 4"), 10)
    assert (seen["status"], seen["left"]) == (4, ["models", "perf.csv"])
    assert not os.path.exists(seen["said"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_madengine_is_asked_as_nobody(tmp_path: Path) -> None:
    folder = Path("/tmp")  # nobody may not enter pytest's own
    program = folder / f"madengine-of-{os.getpid()}"
    try:
        found = probes.gather({"madengine": (probes.madengine, (script(program, "id -un"), 10), 15)})
    finally:
        program.unlink()
    assert found["madengine"]["said"] == "nobody"


NOBODY: Dict[str, Any] = {"may": [], "barred": [], "unknown": []}
