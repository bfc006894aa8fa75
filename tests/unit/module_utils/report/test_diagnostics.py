# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed container leaves to see is written down, bounded and masked; each probe may fail alone."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any, Dict, Generator, List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import NodeFault, ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import container_probes, diagnostics
from helpers import containers

SECRET = "s3cr3t-value-of-a-token"


def inspected(**changes: Any) -> Dict[str, Any]:
    return {
        "Id": "c0ffee" * 10,
        "Name": "/llama",
        "Image": "sha256:aa",
        "State": {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "Pid": 0, "Error": "", "StartedAt": "t0", "FinishedAt": "t1"},
        "Config": {"Image": "llama:1", "Env": [f"HF_TOKEN={SECRET}", "NCCL_DEBUG=INFO"], "Cmd": ["train", "--password=hunter22"]},
        "HostConfig": {"NetworkMode": "host"},
        "Mounts": [],
        **changes,
    }


class Docker:
    """A daemon that knows some containers; what is asked of it beyond that is an error of the test."""

    def __init__(self, *documents: Dict[str, Any], output: str = "", archives: Optional[Dict[str, bytes]] = None) -> None:
        self._documents, self._output, self._archives = {each["Id"]: each for each in documents}, output, archives or {}

    def containers_of(self, job_id: str) -> List[Dict[str, str]]:
        assert job_id == "4711"
        return [{"id": container_id} for container_id in self._documents]

    def container(self, container_id: str) -> Optional[Dict[str, Any]]:
        return self._documents.get(container_id)

    def top(self, container_id: str) -> str:
        return "PID CMD\n17 train" if container_id else ""

    def logs(self, container_id: str, lines: int) -> str:
        return "".join(self._output.splitlines(keepends=True)[-lines:]) if container_id else ""

    def files_in(self, container_id: str, path: str) -> Generator[bytes, None, None]:
        data = self._archives.get(path, b"") if container_id else b""
        yield from (data[start : start + 1000] for start in range(0, len(data), 1000))


def diagnose(docker: Any, tmp_path: Path, **more: Any) -> Dict[str, Any]:
    return diagnostics.diagnose(docker, str(tmp_path / "out"), **{"job_id": "4711", **more})


def test_the_story_of_a_failed_container_is_written_down(tmp_path: Path) -> None:
    docker = Docker(
        inspected(),
        output="step 1\nRuntimeError: HIP error: out of memory\n",
        archives={"/run_logs": containers.packed(run__x_log="a\nb\n")},
    )
    answer = diagnose(docker, tmp_path)
    assert answer["summary"] == "llama: exit code 137, out of memory: RuntimeError: HIP error: out of memory"
    assert answer == json.loads((tmp_path / "out/summary.json").read_text())
    assert set(answer["files"]) >= {"llama/state.json", "llama/processes.txt", "llama/output.log", "llama/logs/run_x.log"}
    state = json.loads((tmp_path / "out/llama/state.json").read_text())
    assert (state["exit_code"], state["oom_killed"], state["image"]) == (137, True, "llama:1")
    assert state["environment"] == ["HF_TOKEN", "NCCL_DEBUG"]
    assert (tmp_path / "out/llama/logs/run_x.log").read_text() == "a\nb\n"
    assert answer["notes"] == []


def test_no_secret_gets_out_and_nobody_else_reads_along(tmp_path: Path) -> None:
    said = f"token is {SECRET}\nexport AWS_SECRET_ACCESS_KEY='abcd/efgh'\nAuthorization: Bearer abc.def.ghi\n"
    said += f"hf_{'a' * 30}\nRuntimeError: bad {SECRET}\n"
    answer = diagnose(Docker(inspected(), output=said), tmp_path)
    text = json.dumps(answer) + "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for hidden in (SECRET, "abcd/efgh", "abc.def.ghi", "hf_aaa", "hunter22"):
        assert hidden not in text
    assert "RuntimeError: bad ********" in text
    for path in (tmp_path / "out").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_the_summary_names_the_root_cause_and_not_the_last_line(tmp_path: Path) -> None:
    said = "(EngineCore pid=5) ERROR 03-23 22:46:30 [core.py:1] ValueError: too little memory\n"
    said += "".join(f"RuntimeError: Engine core initialization failed. See root cause above. {number}\n" for number in range(30))
    answer = diagnose(Docker(inspected(), output=said + "OSError: known\n"), tmp_path, benign=["OSError: known"])
    assert answer["summary"] == "llama: exit code 137, out of memory: ValueError: too little memory"
    assert (answer["containers"][0]["cause"], len(answer["containers"][0]["failures"])) == ("ValueError: too little memory", 20)


def test_each_probe_may_fail_alone_and_says_so(tmp_path: Path) -> None:
    class Broken(Docker):
        def top(self, container_id: str) -> str:
            raise NodeFault("engine: no answer to docker top", "see", part="docker")

        def logs(self, container_id: str, lines: int) -> str:
            raise ValueError("boom \x1b[31m")

    answer = diagnose(Broken(inspected(), archives={"/run_logs": containers.packed(a_log="kept\n")}), tmp_path)
    assert answer["notes"] == ["llama: processes: engine: no answer to docker top", "llama: output: ValueError: boom  [31m"]
    assert "llama/logs/a.log" in answer["files"]


def test_a_new_probe_is_one_entry_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = container_probes.Probe("moon", lambda docker, document, lines: [("moon.txt", f"Error: full {lines}\n")], is_log=True)
    monkeypatch.setattr(container_probes, "PROBES", (look,))
    answer = diagnose(Docker(inspected()), tmp_path, lines=7)
    assert (tmp_path / "out/llama/moon.txt").read_text() == "Error: full 7\n"
    assert answer["containers"][0]["cause"] == "Error: full 7"


def test_a_probe_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, returned = threading.Event(), []  # type: ignore[var-annotated]
    probe = diagnostics._Case.probe

    def patient(case: Any, what: str, look: Any) -> Any:  # but for the one that hangs: the others may take their time
        case._seconds = 0.2 if what == "llama: processes" else 3600.0
        return probe(case, what, look)

    class Hanging(Docker):
        def top(self, container_id: str) -> str:
            release.wait(30)
            returned.append(container_id)
            return ""

    monkeypatch.setattr(diagnostics._Case, "probe", patient)
    answer = diagnose(Hanging(inspected(), output="x\n"), tmp_path)
    assert returned == []
    release.set()
    assert answer["notes"] == ["llama: processes: no answer in time"]
    assert "llama/output.log" in answer["files"]


def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    class Dead(Docker):
        def containers_of(self, job_id: str) -> List[Dict[str, str]]:
            raise NodeFault("engine: no answer to docker containers", "start docker", part="docker")

    assert diagnose(Dead(), tmp_path)["summary"] == "no container of this job is left (containers: engine: no answer to docker containers)"
    assert diagnose(Docker(), tmp_path)["summary"] == "no container of this job is left"


def test_one_container_can_be_asked_for(tmp_path: Path) -> None:
    running = inspected(State={"Status": "running", "ExitCode": 0, "Pid": os.getpid()})
    answer = diagnose(Docker(running), tmp_path, job_id="", container=running["Id"])
    assert answer["containers"][0]["exit_code"] is None
    assert answer["summary"] == "llama: running"
    assert diagnose(Docker(), tmp_path, job_id="", container="gone")["containers"] == []


def test_logs_are_read_from_where_they_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "host/deep").mkdir(parents=True)
    (tmp_path / "host/deep/server.log").write_text("1\n2\n3\n")
    (tmp_path / "host/model.bin").write_text("x")
    (tmp_path / "secret.log").write_text("not ours")
    (tmp_path / "host/link.log").symlink_to(tmp_path / "secret.log")
    document = inspected(Mounts=[{"Destination": "/myworkspace/", "Source": str(tmp_path / "host")}])
    answer = diagnose(Docker(document), tmp_path, lines=2)
    logs = [name for name in answer["files"] if "/logs/" in name]
    assert len(logs) == 1
    assert (tmp_path / "out" / logs[0]).read_text() == "2\n3\n"


def test_the_kernel_knows_better_than_docker_who_was_out_of_memory() -> None:
    document = inspected(State={"Status": "exited", "ExitCode": 137, "OOMKilled": False})
    line = f"oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/docker/{document['Id']},task=python"
    assert diagnostics.state_of(document, [line])["oom_killed"] is True
    assert diagnostics.state_of(document, [line.replace("c0ffee", "decade"), "Killed process 17"])["oom_killed"] is False


def test_a_name_cannot_lead_out_of_the_target(tmp_path: Path) -> None:
    document = inspected(Name="/../../../etc/x", Mounts=[])
    answer = diagnose(Docker(document, output="x"), tmp_path)
    assert all(not name.startswith((".", "/")) and ".." not in name.split("/") for name in answer["files"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_target_that_cannot_be_written_is_a_fault_of_the_share(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ShareFault, match="cannot write"):
        diagnose(Docker(), tmp_path)


def test_what_is_known_to_be_secret_is_in_no_file_and_in_no_line_without_its_name(tmp_path: Path) -> None:
    known = "of-the-manifest-9"
    document = inspected(State={"Status": "exited", "ExitCode": 1, "Error": f"bad {known}"})
    answer = diagnose(Docker(document, output=f"ValueError: {known} was refused\n"), tmp_path, secrets=[known])
    texts = [json.dumps(answer), *(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())]
    assert not any(known in text for text in texts)
    assert "ValueError: ******** was refused" in answer["summary"]
