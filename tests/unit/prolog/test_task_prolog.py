# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TaskProlog: what a task sees of the prolog's work, for each verdict, and never more than its user could do.

`obeyed` does with its output what slurmstepd does. Source: Slurm 22.05 and 24.11, src/slurmd/slurmstepd/task.c,
"Process TaskProlog output".
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import Fault, JobFault, PeerFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.workspace import Workspace
from helpers.hooks import REPOSITORY, SHELLS, GateNode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HOOK = "prolog/task_prolog"
Env = Mapping[Any, Any]  # names and values are str or bytes
USER = {"SLURM_JOB_ID": "4711", "PATH": "/nonexistent", "HOME": "/home/alice"}
EXPORTS = {"NODE_RANK": "0", "MASTER_ADDR": "n1", "MASTER_PORT": "29511", "MAD_IMAGE": "rocm/vllm:1", "NCCL_DEBUG": "INFO"}


class Task(NamedTuple):
    """A task after its TaskProlog: the variables it has, what stands in the job's output, and whether it starts."""

    env: Dict[bytes, bytes]
    printed: List[bytes]
    status: int


def obeyed(output: bytes, env: Env, status: int) -> Task:
    """What slurmstepd makes of a TaskProlog's *output* for a task with *env*."""
    task: Dict[bytes, bytes] = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    printed = []
    for line in output.split(b"\n")[:-1]:
        verb, _, rest = line.partition(b" ")
        assert verb in (b"export", b"print", b"unset"), line
        if verb == b"print":
            printed.append(rest)
        elif verb == b"unset":
            task.pop(rest, None)
        else:
            name, equals, value = rest.partition(b"=")
            assert equals, line
            task[name] = value
    return Task(task, printed, status)


def run(node: GateNode, env: Env) -> Task:
    done = node.run(HOOK, env)
    assert done.stderr == b"", done.stderr
    assert done.stdout.endswith(b"\n") or not done.stdout
    return obeyed(done.stdout, env, done.returncode)


def begun(node: GateNode, job_id: int = 4711) -> JobState:
    state = JobState(job_id, str(node.root / "run/madengine"))
    state.begin(os.getuid(), os.getgid(), str(node.current))
    task_workspace(node, job_id).make(os.getuid(), os.getgid())
    return state


def task_workspace(node: GateNode, job_id: int = 4711) -> Workspace:
    return Workspace(job_id, str(node.root / "var/lib/madengine"))


def task_dir(node: GateNode) -> str:
    return task_workspace(node).task


def ready(node: GateNode, job_id: int = 4711, **files: str) -> JobState:
    """A job whose prolog went well, with the contents of its files where they are not the usual ones."""
    state = begun(node, job_id)
    usual = {
        "exports": "".join(f"{name}={value}\n" for name, value in EXPORTS.items()),
        "names": "NODE_RANK\nMASTER_ADDR\nMASTER_PORT\nRANK\n",
        "globs": "NCCL_*\nMAD_SECRETS*\n",
        "without": "",
        "when_set": "",
        "sources": "",
        "fixed": "PATH=/opt/rocm/bin:/usr/bin\n",
    }
    for name, text in {**usual, **files}.items():
        state.keep(name, text, os.getuid(), os.getgid())
    state.ready()
    return state


def env_file(task: Task) -> List[str]:
    return Path(os.fsdecode(task.env[b"MAD_ENV_FILE"])).read_text().splitlines()


def test_a_job_that_is_not_ours_is_left_as_it_is(node: GateNode) -> None:
    ready(node, job_id=47)
    for env in (USER, {**USER, "SLURM_JOB_ID": ""}, {"PATH": "/nonexistent"}):
        assert node.run(HOOK, env).stdout == b""
        assert run(node, env).status == 0


def test_a_task_of_a_heterogeneous_job_finds_its_own_component_s_state(node: GateNode) -> None:
    # Measured with 24.11.5: on the second component's node the prolog has job 4712, and the task this.
    env = {**USER, "SLURM_JOB_ID": "4711", "SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "4711", "SLURM_JOB_ID_HET_GROUP_1": "4712"}
    assert run(node, env).env == {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    begun(node, job_id=4712).fail(JobFault("image: nobody has it", "build it"))
    assert run(node, env).status == 1
    ready(node, job_id=4712, exports="NODE_RANK=1\n")
    assert run(node, env).env[b"NODE_RANK"] == b"1"
    ready(node, job_id=4711)
    assert run(node, env).env[b"NODE_RANK"] == b"0"


def test_a_prolog_that_gave_no_verdict_is_mentioned_and_the_job_runs(node: GateNode) -> None:
    state = begun(node)
    for verdict in (None, "", "\n"):
        if verdict is not None:
            Path(state.file("verdict")).write_text(verdict)
        task = run(node, USER)
        assert (task.status, len(task.printed), len(task.env)) == (0, 1, len(USER))
        assert task.printed[0].startswith(b"madengine: defect: the prolog gave no verdict")


@pytest.mark.parametrize("fault", [
    JobFault("image: nobody has it", "build it", image="rocm/vllm:$(id)`id`%s\\n*"),
    PeerFault("n2\nready", JobFault("manifest: cannot read", "look")),
])  # fmt: skip
def test_a_fault_ends_the_task_with_its_one_line(node: GateNode, fault: Fault) -> None:
    begun(node).fail(fault)
    task = run(node, USER)
    assert task.status == 1
    assert task.printed == [fault.line().replace("\n", " ").encode()]
    assert len(task.env) == len(USER)


def test_the_file_disabled_lets_every_task_start_as_if_we_were_not_there(node: GateNode) -> None:
    begun(node).fail(JobFault("image: nobody has it", "build it"))
    (node.root / "etc/madengine/disabled").touch()
    done = node.run(HOOK, USER)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_task_gets_what_the_prolog_decided(node: GateNode) -> None:
    ready(node)
    task = run(node, USER)
    assert (task.status, task.printed) == (0, [])
    assert {name: task.env[name.encode()].decode() for name in EXPORTS} == EXPORTS


def test_what_the_user_has_set_stays_even_if_it_is_empty(node: GateNode) -> None:
    ready(node)
    task = run(node, {**USER, "MASTER_PORT": "1", "MAD_IMAGE": "", "NODE_RANK": "7"})
    assert (task.env[b"MASTER_PORT"], task.env[b"MAD_IMAGE"], task.env[b"NODE_RANK"]) == (b"1", b"", b"7")
    assert task.env[b"MASTER_ADDR"] == b"n1"


def test_a_task_of_srun_gets_its_own_node_s_values_and_not_those_that_the_batch_host_had(node: GateNode, tmp_path: Path) -> None:
    ready(node)
    other = GateNode(tmp_path / "n2", node.shell)
    ready(other, exports="NODE_RANK=1\nMASTER_ADDR=n1\nMASTER_PORT=29511\nMAD_IMAGE=rocm/vllm:1\n")

    def moved(env: Dict[bytes, bytes], to: GateNode) -> Env:
        """On real nodes all paths are the same."""
        roots = [str(root.root).encode() for root in (node, other)]
        return {name: value.replace(roots[to is node], roots[to is other]) for name, value in env.items()}

    batch = run(node, USER).env
    step = run(other, moved(batch, other))
    assert (step.env[b"NODE_RANK"], step.env[b"MASTER_ADDR"]) == (b"1", b"n1")
    assert "NODE_RANK" in env_file(step)
    # And back again, a step that starts a step.
    assert run(node, moved(step.env, node)).env[b"NODE_RANK"] == b"0"
    # What the script has set before srun is the user's.
    chosen = run(other, moved({**batch, b"MASTER_PORT": b"31000", b"NODE_RANK": b"5"}, other)).env
    assert (chosen[b"MASTER_PORT"], chosen[b"NODE_RANK"]) == (b"31000", b"5")
    back = run(node, moved(chosen, node)).env
    assert (back[b"MASTER_PORT"], back[b"NODE_RANK"]) == (b"31000", b"5")


def test_a_job_that_another_job_submits_gets_nothing_of_that_one_s(node: GateNode) -> None:
    ready(node)
    ready(node, job_id=4712, exports="MASTER_PORT=29512\nMAD_IMAGE=rocm/vllm:2\n")
    inner = run(node, {**run(node, USER).env, b"SLURM_JOB_ID": b"4712"})
    assert (inner.env[b"MASTER_PORT"], inner.env[b"MAD_IMAGE"]) == (b"29512", b"rocm/vllm:2")
    assert inner.env[b"MAD_ENV_FILE"].startswith(task_workspace(node, 4712).task.encode())


def test_a_step_s_env_file_knows_what_the_script_has_exported_since(node: GateNode) -> None:
    ready(node)
    batch = run(node, USER)
    assert "NCCL_IB_HCA" not in env_file(batch)
    step = run(node, {**batch.env, b"NCCL_IB_HCA": b"mlx5_0"})
    assert "NCCL_IB_HCA" in env_file(step)
    assert step.env[b"MAD_ENV_FILE"] != batch.env[b"MAD_ENV_FILE"]


@pytest.mark.parametrize("chosen", ["/home/alice/my env", "", "/home/var/lib/madengine/jobs/1/task/env.1"])
def test_an_env_file_of_the_user_s_own_stays(node: GateNode, chosen: str) -> None:
    ready(node)
    assert run(node, {**USER, "MAD_ENV_FILE": chosen}).env[b"MAD_ENV_FILE"] == chosen.encode()
    assert os.listdir(task_dir(node)) == []


def test_the_env_file_holds_names_for_what_passes_and_values_for_the_container_alone(node: GateNode) -> None:
    ready(node)
    task = run(node, {**USER, "NCCL_IB_HCA": "mlx5_0", "MAD_SECRETS_HFTOKEN": "hunter2", "OTHER": "x", "NCCL": "no"})
    assert sorted(env_file(task)) == sorted([
        "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK",
        "NCCL_DEBUG", "NCCL_IB_HCA", "MAD_SECRETS_HFTOKEN",
        "PATH=/opt/rocm/bin:/usr/bin",
    ])  # fmt: skip
    path = Path(os.fsdecode(task.env[b"MAD_ENV_FILE"]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "hunter2" not in path.read_text()


def test_what_the_site_takes_away_matches_no_pattern_any_more(node: GateNode) -> None:
    ready(node, without="NCCL_I*\nMAD_SECRETS_B\n")
    task = run(node, {**USER, "NCCL_IB_HCA": "mlx5_0", "NCCL_NET": "x", "MAD_SECRETS_A": "1", "MAD_SECRETS_B": "2"})
    assert {"NCCL_NET", "NCCL_DEBUG", "MAD_SECRETS_A"} <= set(env_file(task))
    assert not {"NCCL_IB_HCA", "MAD_SECRETS_B"} & set(env_file(task))


@pytest.mark.parametrize(("given_by", "other", "expected"), [
    (None, None, []),
    (None, "1", []),
    ("user", None, ["SECOND="]),
    ("user", "1", ["SECOND"]),
    ("manifest", None, ["SECOND="]),
    ("manifest", "", ["SECOND"]),
])  # fmt: skip
def test_a_companion_comes_with_what_is_set_and_only_then(node: GateNode, given_by: object, other: object, expected: List[str]) -> None:
    ready(node, when_set="FIRST SECOND\n", exports="FIRST=0\n" if given_by == "manifest" else "", names="", globs="", fixed="")
    env: Env = {**USER, **({"FIRST": "0"} if given_by == "user" else {}), **({} if other is None else {"SECOND": str(other)})}
    assert env_file(run(node, env)) == expected


CHAIN = "HF_TOKEN MAD_SECRETS_HFTOKEN\nHUB_TOKEN HF_TOKEN MAD_SECRETS_HFTOKEN\n"


@pytest.mark.parametrize(("given", "expected"), [
    ({"MAD_SECRETS_HFTOKEN": "hf_a b'$(id)\\"}, ["hf_a b'$(id)\\", "hf_a b'$(id)\\"]),
    ({"MAD_SECRETS_HFTOKEN": "hf_1", "HF_TOKEN": "mine"}, ["mine", "mine"]),
    ({"MAD_SECRETS_HFTOKEN": "hf_1", "HF_TOKEN": ""}, ["", "hf_1"]),  # the user's own, and nothing to take
    ({"MAD_SECRETS_HFTOKEN": "hf_1", "HUB_TOKEN": "other"}, ["hf_1", "other"]),
    ({"MAD_SECRETS_HFTOKEN": ""}, [None, None]),
    ({"MAD_SECRETS_HFTOKEN": "hf_1\nexport LD_PRELOAD=/tmp/x.so"}, [None, None]),
    ({}, [None, None]),
])  # fmt: skip
def test_a_token_that_the_manifest_takes_from_another_variable_is_set_for_a_task(
    node: GateNode, given: Env, expected: List[Optional[str]]
) -> None:
    state = ready(node, sources=CHAIN, names="HF_TOKEN\nHUB_TOKEN\n", globs="MAD_SECRETS*\n", fixed="")
    task = run(node, {**USER, **given})
    assert [task.env.get(name) for name in (b"HF_TOKEN", b"HUB_TOKEN")] == [None if value is None else value.encode() for value in expected]
    assert b"LD_PRELOAD" not in task.env
    assert {"HF_TOKEN", "HUB_TOKEN"} <= set(env_file(task))
    for path in Path(state.path).rglob("*"):
        assert path.is_dir() or "hf_" not in path.read_text()
    assert b"hf_" not in task.env[b"MADENGINE_EXPORTED"]


def test_a_variable_of_the_script_s_own_is_no_source(node: GateNode) -> None:
    ready(node, sources="HF_TOKEN _job _verdict IFS\nB_TOKEN A_TOKEN\n")
    task = run(node, {**USER, "A_TOKEN": "a"})
    assert (task.env.get(b"HF_TOKEN"), task.env[b"B_TOKEN"]) == (None, b"a")


def test_a_directory_that_cannot_be_written_costs_the_env_file_alone(node: GateNode) -> None:
    ready(node)
    os.rmdir(task_dir(node))
    done = node.run(HOOK, USER)
    assert done.returncode == 0
    env = dict(line.partition(b"=")[::2] for line in done.stdout.split(b"\n"))
    assert env[b"export NODE_RANK"] == b"0"
    assert b"export MAD_ENV_FILE" not in env


ODD_NAMES = [
    "a}$(touch HIT)${b",
    "a+$(touch HIT)",
    "$(touch HIT)",
    "`touch HIT`",
    "A;touch HIT;B",
    "A B",
    "1A",
    "é",
    "A-B",
    "*",
    "[a-z]",
    "'",
    '"',
    "\\",
    "",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_left_out_and_never_run(node: GateNode, tmp_path: Path, name: str) -> None:
    name = name.replace("HIT", str(tmp_path / "hit"))
    state = ready(node, exports=f"{name}=1\nNODE_RANK=0\n", names=f"{name}\n", globs=f"{name}\n*\n", without=f"{name}\n")
    state.keep("when_set", f"{name} X\nNODE_RANK {name}\n", os.getuid(), os.getgid())
    state.keep("sources", f"{name} A\nHF_TOKEN {name}\n", os.getuid(), os.getgid())
    done = node.run(HOOK, {**USER, "A": "1", name or "x": "y"})
    assert done.returncode == 0, done
    task = obeyed(done.stdout, {}, 0)
    assert task.env[b"NODE_RANK"] == b"0"
    assert name.encode() not in task.env
    assert not (tmp_path / "hit").exists()


def test_a_line_of_exports_without_a_value_exports_nothing(node: GateNode) -> None:
    ready(node, exports="FOO\n\nNODE_RANK=0\n")
    assert set(run(node, {}).env) == set()
    assert set(run(node, dict(USER)).env) - {os.fsencode(name) for name in USER} == {b"NODE_RANK", b"MADENGINE_EXPORTED", b"MAD_ENV_FILE"}


ODD_VALUES = [
    "",
    " ",
    " a  b ",
    "a=b=c",
    "$(touch HIT)",
    "`touch HIT`",
    "'",
    '"',
    "\\",
    "a\\",
    "\\n",
    "*",
    "~",
    "%s%n",
    "|",
    "a|NODE_RANK=0|b",
    "-n",
    "#",
    "é",
]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_value_keeps_every_byte_and_is_never_run(node: GateNode, tmp_path: Path, value: str) -> None:
    value = value.replace("HIT", str(tmp_path / "hit"))
    ready(node, exports=f"FIRST={value}\nSECOND=2\n", fixed=f"PATH={value}\n")
    task = run(node, USER)
    assert (task.env[b"FIRST"], task.env[b"SECOND"]) == (value.encode(), b"2")
    assert f"PATH={value}" in env_file(task)
    # Inherited, it is still known as ours, and a step's own value takes its place.
    ready(node, exports="FIRST=new\nSECOND=2\n")
    assert run(node, dict(task.env)).env[b"FIRST"] == b"new"
    assert not (tmp_path / "hit").exists()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=40).filter(lambda value: not {0, 10} & set(value)))
def test_bytes_of_no_encoding_pass_through(tmp_path: Path, value: bytes) -> None:
    root = tmp_path / os.urandom(4).hex()
    node = GateNode(root, next(iter(SHELLS.values())))
    ready(node, exports="FIRST=" + value.decode("utf-8", "surrogateescape") + "\n")
    assert run(node, USER).env[b"FIRST"] == value


def test_an_odd_environment_of_the_user_s_is_never_run_and_hides_nothing(node: GateNode, tmp_path: Path) -> None:
    hit = tmp_path / "hit"
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("[", "printf", "echo", "cat", "read", "export", "umask", "eval", "python3"):
        (evil / name).write_text(f"#!/bin/sh\ntouch {hit}\n")
        (evil / name).chmod(0o755)
    (evil / "rc").write_text(f"touch {hit}\n")
    ready(node)
    env: Env = {
        **USER,
        "PATH": str(evil),
        "ENV": str(evil / "rc"),
        "BASH_ENV": str(evil / "rc"),
        "PS4": f"$(touch {hit})",
        "IFS": "_=/",
        "NCCL_NEWLINE": f"a\nexport NCCL_FAKE=1'\n$(touch {hit})\nMAD_SECRETS_FAKE",
        "NCCL_QUOTE": f"'; touch {hit}; '",
        "NCCL_GLOB": "*",
        "not-a-name": f"$(touch {hit})",
        b"NCCL_BYTES": b"\xff\xfe",
        "_name": "x",
        "_line": "y",
        "_job": "/",
        "_verdict": "starting",
        "_globs": "*",
        "_is_set": "yes",
        "MADENGINE_EXPORTED": f"$(touch {hit})|*|",
        "MADENGINE_HOOKS": str(evil),
        "_component": f"a[$(touch {hit})]",
        "SLURM_JOB_ID_HET_GROUP_0": f"$(touch {hit})",
    }
    task = run(node, env)
    assert task.status == 0
    assert {name: task.env[name.encode()].decode() for name in EXPORTS} == EXPORTS
    assert {"NCCL_NEWLINE", "NCCL_QUOTE", "NCCL_GLOB", "NCCL_BYTES", "NCCL_DEBUG"} <= set(env_file(task))
    # A line of a value may pass for a name; docker leaves out a name that is not set.
    assert all("=" not in line for line in env_file(task) if not line.startswith("PATH="))
    assert not hit.exists()


def test_a_variable_of_the_user_s_that_the_script_uses_itself_is_not_changed(node: GateNode) -> None:
    ready(node)
    mine: Env = {"_name": "x", "_line": "y", "_content": "z", "_file": "f", "IFS": ":"}
    task = run(node, {**USER, **mine})
    assert {name: task.env[os.fsencode(name)].decode() for name in mine} == mine


def test_two_thousand_variables_are_all_looked_at(node: GateNode) -> None:
    ready(node)
    many: Env = {f"NCCL_{number}": "x" * 40 for number in range(1000)}
    other: Env = {f"VARIABLE_{number}": "x" * 40 for number in range(1000)}
    names = set(env_file(run(node, {**USER, **many, **other})))
    assert set(many) <= names
    assert not set(other) & names


def test_tasks_of_one_node_have_an_env_file_each(node: GateNode) -> None:
    ready(node)
    files = {run(node, USER).env[b"MAD_ENV_FILE"] for _ in range(5)}
    assert len(files) == 5 == len(os.listdir(task_dir(node)))


def test_the_script_starts_no_program_and_heeds_no_variable_of_ours_but_its_memory() -> None:
    text = (REPOSITORY / HOOK).read_text() + (REPOSITORY / "prolog/task_environment.sh").read_text()
    code = [line.partition(" #")[0] for line in text.splitlines() if not line.lstrip().startswith("#")]
    # The one for the task's bash, which starts it when the task says madengine.
    assert [line.split()[1:3] for line in code if "python -I" in line] == [['"$_python', '-I"']]
    assert "MADENGINE_HOOKS" not in text
    assert [line for line in code if "eval" in line] == [
        '    eval "_id=\\${SLURM_JOB_ID_HET_GROUP_$_component-}"',
        '    eval "_is_set=\\${$_name+yes} _value=\\${$_name-}"',
        '    eval "_is_set=\\${$_name+yes}"',
        '        eval "_value=\\${$_other-}"',
        '    eval "_is_set=\\${$_name+given}\\${$_other+other}"',
    ]


# Steps. What slurmstepd tells a task was measured with 24.11.5: in a step SLURM_NNODES and SLURM_NODEID are the step's; a batch
# script that another job's step has submitted still has that one's SLURM_STEP_*.

JOB_VALUES = {"NNODES": "3", "NODE_RANK": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": str(29500 + 4711 % 1000)}


def with_steps(node: GateNode, **files: str) -> None:
    ready(node, exports="".join(f"{name}={value}\n" for name, value in JOB_VALUES.items()), leader="n1\n", **files)


def step(number: int, nodes: str, count: int, rank: int, name: str) -> Dict[str, str]:
    return {
        **USER, "SLURM_STEP_ID": str(number), "SLURM_STEP_NODELIST": nodes, "SLURM_STEP_NUM_NODES": str(count),
        "SLURM_NNODES": str(count), "SLURM_NODEID": str(rank), "SLURMD_NODENAME": name, "SLURM_PROCID": str(rank),
    }  # fmt: skip


def values(task: Task) -> Dict[str, str]:
    return {name: task.env[name.encode()].decode() for name in JOB_VALUES}


def test_a_batch_script_has_the_values_of_the_job_and_so_has_a_first_step_on_all_its_nodes(node: GateNode) -> None:
    with_steps(node)
    assert values(run(node, {**USER, "SLURM_NNODES": "3", "SLURM_NODEID": "0", "SLURMD_NODENAME": "n1"})) == JOB_VALUES
    assert values(run(node, step(0, "n[1-3]", 3, 2, "n3"))) == JOB_VALUES


@pytest.mark.parametrize(("nodes", "first"), [
    ("n[2-3]", "n2"),
    ("n2,n3", "n2"),
    ("n[02,13]", "n02"),
    ("rack[1-2]-node[08-10],other", "rack1-node08"),
    ("gpu-a.example.org,gpu-b.example.org", "gpu-a.example.org"),
    ("x[7]y[3,5]z,q", "x7y3z"),
])  # fmt: skip
def test_a_step_on_some_of_the_nodes_meets_at_its_own_first_node(node: GateNode, nodes: str, first: str) -> None:
    with_steps(node)
    batch = run(node, USER)
    for rank, name in enumerate((first, "another")):
        found = values(run(node, {**dict(batch.env), **{os.fsencode(k): os.fsencode(v) for k, v in step(0, nodes, 2, rank, name).items()}}))
        assert (found["NNODES"], found["NODE_RANK"], found["MASTER_ADDR"]) == ("2", str(rank), first)


def test_steps_side_by_side_have_a_port_each_that_their_nodes_agree_on(node: GateNode) -> None:
    with_steps(node)
    ports = [values(run(node, step(number, "n[2-3]", 2, 1, "n3")))["MASTER_PORT"] for number in range(4)]
    assert ports == [values(run(node, step(number, "n[2-3]", 2, 0, "n2")))["MASTER_PORT"] for number in range(4)]
    assert len(set(ports)) == 4
    assert ports[0] == JOB_VALUES["MASTER_PORT"]
    assert all(29500 <= int(port) < 32768 for port in ports)


def test_the_components_of_a_heterogeneous_step_agree_although_each_has_a_job_of_its_own(node: GateNode) -> None:
    het = {"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "4711", "SLURM_JOB_ID_HET_GROUP_1": "4712"}
    ready(node, job_id=4712, exports="NNODES=2\nNODE_RANK=1\nMASTER_ADDR=n2\nMASTER_PORT=30212\n", leader="n2\n")
    found = values(run(node, {**step(0, "n[1-3]", 3, 2, "n3"), **het}))
    assert found == {"NNODES": "3", "NODE_RANK": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "30211"}
    alone = values(run(node, {**step(1, "n[2-3]", 2, 1, "n3"), **het}))
    assert (alone["NNODES"], alone["NODE_RANK"], alone["MASTER_ADDR"]) == ("2", "1", "n2")


@pytest.mark.parametrize("stale", [
    {"SLURM_NNODES": "3", "SLURMD_NODENAME": "n1"},  # another number of nodes
    {"SLURMD_NODENAME": "n1"},  # the same number, and not its first node
    {"SLURM_STEP_ID": "4294967291"},
    {"SLURM_STEP_ID": "a[$(touch HIT)]"},
    {"SLURM_JOB_ID": "x"},
    {"SLURM_STEP_NODELIST": ""},
    {"SLURM_STEP_NODELIST": "n[2"},
    {"SLURM_STEP_NODELIST": "n2\nexport EVIL=1"},
    {"SLURM_NODEID": "08"},
    {"SLURM_STEP_NUM_NODES": ""},
])  # fmt: skip
def test_what_another_job_s_step_has_left_in_the_environment_is_no_step(node: GateNode, tmp_path: Path, stale: Dict[str, str]) -> None:
    with_steps(node)
    stale = {name: value.replace("HIT", str(tmp_path / "hit")) for name, value in stale.items()}
    env = {**step(1, "n[2-3]", 2, 0, "n2"), **stale}
    if env["SLURM_JOB_ID"] == "4711":
        assert values(run(node, env)) == JOB_VALUES
    assert not (tmp_path / "hit").exists()


def test_what_the_user_has_set_stays_in_a_step_too(node: GateNode) -> None:
    with_steps(node)
    found = values(run(node, {**step(1, "n[2-3]", 2, 1, "n3"), "MASTER_PORT": "1234", "NNODES": "9"}))
    assert (found["MASTER_PORT"], found["NNODES"], found["NODE_RANK"]) == ("1234", "9", "1")


# What is said, and where.


def test_a_fault_stands_in_the_errors_too_where_madengine_looks(node: GateNode, tmp_path: Path) -> None:
    errors = tmp_path / "job.err"
    errors.write_text("before\n")
    state = begun(node)
    (Path(state.path) / "stderr").write_text(f"{errors}\n")
    fault = JobFault("image: nobody has it", "build it")
    state.fail(fault)
    task = run(node, USER)
    assert (task.status, task.printed) == (1, [fault.line().encode()])
    assert errors.read_text() == f"before\n{fault.line()}\n"


def test_errors_that_are_no_file_are_not_written(node: GateNode, tmp_path: Path) -> None:
    state = begun(node)
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "none", tmp_path / "fifo", tmp_path):
        (Path(state.path) / "stderr").write_text(f"{path}\n")
        state.fail(JobFault("image: nobody has it", "build it"))
        assert len(run(node, USER).printed) == 1
    assert not (tmp_path / "none").exists()


def test_a_job_that_is_let_go_hears_why_once_and_gets_nothing(node: GateNode) -> None:
    begun(node).stand_aside("madengine: one", "two")
    batch = run(node, USER)
    assert (batch.status, batch.printed) == (0, [b"madengine: one", b"two"])
    assert set(batch.env) == {os.fsencode(name) for name in USER} | {b"MADENGINE_SAID"}
    assert run(node, {**dict(batch.env), "SLURM_PROCID": "0"}).printed == []
    assert run(node, step(0, "n[2-3]", 2, 1, "n3")).printed == []
    assert run(node, step(1, "n[2-3]", 2, 0, "n2")).printed == []
    assert len(run(node, step(0, "n[2-3]", 2, 0, "n2")).printed) == 2


def test_a_job_that_is_helped_hears_its_notes_too(node: GateNode) -> None:
    ready(node).note("madengine: the image is older than its Dockerfile")
    task = run(node, USER)
    assert task.printed == [b"madengine: the image is older than its Dockerfile"]
    assert task.env[b"NODE_RANK"] == b"0"


def test_a_comment_that_is_no_request_is_said_once_by_the_batch_script(node: GateNode) -> None:
    folder = node.root / "run/madengine/jobs/4711"
    folder.mkdir(parents=True)
    (folder / "notes").write_text("madengine: not so\n")
    batch = run(node, {**USER, "SLURM_PROCID": "0"})
    assert (batch.status, batch.printed) == (0, [b"madengine: not so"])
    for env in ({**dict(batch.env), b"SLURM_STEP_ID": b"0"}, {**USER, "SLURM_PROCID": "1"}, {**USER, "SLURM_STEP_ID": "2"}):
        assert run(node, env).printed == []


# What madengine would do twice.


@pytest.mark.parametrize(("keep", "gone"), [("\n", True), ("manifest\n", True), ("builds\n", False), ("builds manifest\n", False)])
def test_madengine_s_own_archives_are_off_unless_the_user_keeps_them(node: GateNode, keep: str, gone: bool) -> None:
    ready(node, keep=keep)
    done = node.run(HOOK, {**USER, "MAD_DOCKER_BUILDS": "/shared/builds"})
    assert (b"\nunset MAD_DOCKER_BUILDS\n" in b"\n" + done.stdout) is gone
    assert b"unset" not in node.run(HOOK, USER).stdout


def test_where_the_tasks_have_their_files_is_told_to_the_epilog(node: GateNode) -> None:
    ready(node)
    run(node, {**USER, "SLURM_TMPDIR": "/local/4711"})
    assert task_workspace(node).temporary_dirs() == ["/local/4711", "/tmp"]


@pytest.mark.parametrize(("keep", "there"), [("\n", True), ("builds\n", True), ("manifest\n", False)])
def test_bash_gets_a_function_before_any_madengine_that_path_has(node: GateNode, keep: str, there: bool) -> None:
    program = node.current / "prolog/madengine_run.py"
    program.parent.mkdir(exist_ok=True)
    program.write_text("")
    ready(node, keep=keep)
    found = run(node, USER).env.get(b"BASH_FUNC_madengine%%", b"")
    assert (str(program).encode() in found) is there
