# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import doctest
import json
import re
import subprocess

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import environment
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True) | st.sampled_from(
    [name for group in environment.GROUPS.values() for name in group if "*" not in name]
)
VALUES = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), max_size=30)
PATTERNS = st.from_regex(r"[A-Z_]{1,3}[A-Z_*?]{0,6}", fullmatch=True)


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(environment).failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "MASTER_ADDR",
        "RANK",
        "NODE_RANK",
        "MAD_MULTI_NODE_RUNNER",
        "MAD_SECRETS_HFTOKEN",
        "NCCL_SOCKET_IFNAME",
        "NCCL_ANYTHING_NEW",
        "RCCL_X",
        "UCX_TLS",
        "HSA_FORCE",
        "FI_PROVIDER",
        "HIP_VISIBLE_DEVICES",
        "PRIMUS_CONFIG_PATH",
        "TORCHTITAN_X",
        "VLLM_TENSOR_PARALLEL_SIZE",
        "SGLANG_X",
        "TENSOR_MODEL_PARALLEL_SIZE",
        "xP",
        "yD",
        "PD_SYNC_ROOT",
        "KV_UCX_SOCKADDR_TLS_PRIORITY",
        "HF_HOME",
        "SLURM_JOB_ID",
        "RDMAV_DRIVERS",
        "IBV_DRIVERS",
        "IBV_SHOW_WARNINGS",
        "IB_DEVICES",
        "MORI_X",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING",
        "TORCH_HOME",
        "XDG_CACHE_HOME",
        "MAD_DATAHOME",
        "GPU_MAX_HW_QUEUES",
        "MIOPEN_FIND_MODE",
        "JAX_COORDINATOR_PORT",
        "MODEL_PATH",
        "VLLM_HOST_IP",
        "DP_MODE",
        "BENCHMARK_ITERATIONS",
    ],
)
def test_what_multi_node_runs_need_passes_by_itself(name: str) -> None:
    assert environment.select([name]) == [name]


@pytest.mark.parametrize("name", ["SLURM_JOB_NODELIST", "XP", "NCCL", "VLLM_OTHER", "HF_TOKEN", *sorted(environment.OF_THE_HOST)])
def test_what_belongs_to_the_host_does_not_pass(name: str) -> None:
    assert environment.select([name]) == []


@pytest.mark.parametrize("name", ["ROCM_PATH", "PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "HSA_PATH"])
def test_what_is_of_the_host_passes_by_its_own_name_alone_and_as_a_manifest_says(name: str) -> None:
    assert environment.select([name, "MY_PATH"], add=["*_PATH", "*PATH", "H*", "TMP*", "*DIR"]) == (["MY_PATH"])
    assert environment.select([name], add=[name]) == [name]
    assert environment.passing({name: "/of/the/host"}, {name: "/in/the/container"}) == {name: "/in/the/container"}
    assert environment.for_task({name: "/in/the/container"})["fixed"] == [f"{name}=/in/the/container"]
    assert name not in environment.for_task({name: "/in/the/container"})["exports"]


def test_the_shell_of_the_task_prolog_learns_what_its_patterns_must_leave_out() -> None:
    assert {"HSA_PATH", "NCCL_HOME"} <= set(environment.for_task({})["without"])
    assert "PATH" not in environment.for_task({})["without"]  # nothing would let it in
    assert "PATH" in environment.for_task({}, add=["*PATH"])["without"]
    assert "HSA_PATH" not in environment.for_task({}, add=["HSA_PATH"])["without"]


def test_a_site_or_a_job_adds_and_takes_away_names_patterns_and_groups() -> None:
    names = ["NCCL_DEBUG", "NCCL_IB_HCA", "UCX_TLS", "WANDB_MODE", "HF_HOME", "OMP_NUM_THREADS"]
    assert environment.select(names, add=["WANDB_*"], without=["NCCL_IB_*", "@caches"]) == ["NCCL_DEBUG", "UCX_TLS", "WANDB_MODE"]
    assert environment.select(names, without=["@caches", "HF_HOME"], add=["HF_HOME"]) == ["NCCL_DEBUG", "NCCL_IB_HCA", "UCX_TLS"]
    assert environment.split(["A", "-B", "-@caches"]) == (["A"], ["B", "@caches"])


@settings(deadline=None)
@given(st.lists(NAMES), st.lists(PATTERNS, max_size=3), st.lists(PATTERNS, max_size=3))
def test_what_is_taken_away_never_passes_and_what_passes_was_there(names: list[str], add: list[str], without: list[str]) -> None:
    try:
        chosen = environment.select(names, add, without)
    except JobFault:
        assert any(not word.strip("*?") for word in add)
        return
    assert set(chosen) <= set(names)
    assert chosen == sorted(set(chosen))
    assert environment.select(chosen, add, without) == chosen
    assert environment.select(names, add, [*without, *chosen]) == []


@settings(deadline=None)
@given(NAMES, PATTERNS)
def test_a_pattern_means_to_us_what_it_means_to_the_shell_of_the_task_prolog(name: str, pattern: str) -> None:
    meant = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), name) is not None
    assert environment.Choice((pattern,), ()).has(name) == meant


def test_sh_agrees_about_patterns() -> None:
    cases = [("NCCL_*", "NCCL_A"), ("NCCL_*", "XNCCL_A"), ("A?C", "ABC"), ("A?C", "AC"), ("A*C*", "AxCy"), ("A*", "A")]
    script = "".join(f"case {name} in {pattern}) echo yes;; *) echo no;; esac;" for pattern, name in cases)
    said = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True).stdout.split()
    assert said == ["yes" if environment.Choice((pattern,), ()).has(name) else "no" for pattern, name in cases]


@pytest.mark.parametrize("word", ["a b", "A-B", "", "[A]*", "@nothing", "1A", "A;id", "A\n", "$A", "É"])
def test_a_word_that_is_no_name_pattern_or_group_is_named(word: str) -> None:
    for words in ({"add": [word]}, {"without": [word]}):
        with pytest.raises(JobFault, match=r"environment: (no name, pattern or group|a pattern that matches everything)"):
            environment.choose(**words)


def test_nothing_may_let_everything_through_but_everything_may_be_taken_away() -> None:
    with pytest.raises(JobFault, match="a pattern that matches everything"):
        environment.choose(add=["*"])
    assert environment.select(["NCCL_DEBUG"], without=["*"]) == []


@pytest.mark.parametrize(
    "name",
    [
        "MAD_SECRETS",
        "MAD_SECRETS_HFTOKEN",
        "MAD_SECRETS_X",
        "HF_TOKEN",
        "HFTOKEN",
        "GITHUB_TOKEN",
        "hf_token",
        "AWS_SECRET_ACCESS_KEY",
        "WANDB_API_KEY",
        "APIKEY",
        "PASSWORD",
        "DB_PASSWD",
        "MY_PASSPHRASE",
        "X_CREDENTIALS",
        "SECRET",
        "MY_SECRETS",
        "TOKEN_2",
        "SSH_PRIVATE_KEY",
        "KAGGLE_KEY",
        "AUTHORIZATION",
        "SESSION_COOKIE",
        "REDIS_AUTH",
        "AWS_ACCESS_KEY_ID",
        "PGPASSWORD",
        "SSHPASS",
        "AZURE_STORAGE_KEY",
        "WANDB_KEY",
        "GITHUB_PAT",
        "MYSQL_PWD",
        "DB_PASS",
        "REDISCLI_AUTH",
        "SENTRY_DSN",
        "AZURE_STORAGE_CONNECTION_STRING",
        "DOCKER_AUTH_CONFIG",
        "OPENAI_KEY",
        "AWS_CREDS",
        "ACCOUNT_KEY",
        "NPM_CONFIG__AUTHTOKEN",
    ],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert environment.is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "MAX_TOKENS",
        "TOKENIZER_PATH",
        "EOS_TOKEN",
        "PAD_TOKEN_ID",
        "MAX_TOKEN",
        "PWD",
        "OLDPWD",
        "KEY",
        "MONKEY",
        "NCCL_DEBUG",
        "SECRETARY",
        "KEYBOARD",
        "HF_TOKEN_PATH",
        "credentials_required",
        "image_pull_secret",
        "BYPASS",
        "COMPASS",
        "FILE_PAT",
        "PATH",
        "SORT_KEY",
        "PROMPT_KEY",
        "EOD_TOKEN",
    ],
)
def test_a_harmless_name_is_not_taken_for_a_secret(name: str) -> None:
    assert not environment.is_secret(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/secrets/sa.json"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/sa.json"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "secrets/sa.json"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "${HOME}/.config/sa"),
        ("HF_TOKEN", "/root/.cache/huggingface/token"),
        ("END_TOKEN", "<|eod|>"),
        ("TURN_TOKEN", "</s>"),
        ("TURN_TOKEN", "[END]"),
        ("USE_AUTH_TOKEN", "True"),
    ],
)
def test_a_path_or_a_marker_is_no_secret(name: str, value: str) -> None:
    assert environment.is_secret(name)  # as long as nobody knows the value
    assert not environment.is_secret(name, value)
    assert environment.env_file({name: value}) == (f"{name}={value}\n", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "hf_abcdefgh"),
        ("HF_TOKEN", "eyJhbGciOi.eyJzdWIi.SflKxwRJ"),
        ("HF_TOKEN", "/abcdefghijkl0123456789+/=="),
        ("HF_TOKEN", ""),
        ("X_CREDENTIALS", "user:password"),
        ("MAD_SECRETS_HFTOKEN", "/secrets/token"),
        ("DB_PASSWORD", "/pass/word"),
        ("SSH_PRIVATE_KEY", "<key>"),
    ],
)
def test_what_is_neither_a_path_nor_a_marker_stays_a_secret(name: str, value: str) -> None:
    assert environment.is_secret(name, value)


def test_masking_replaces_the_longer_secret_first_and_leaves_short_values_alone() -> None:
    assert environment.mask("x abcdef abcd 1 y", ["abcd", "abcdef", "1", ""]) == f"x {environment.MASK} {environment.MASK} 1 y"


def test_docker_gets_names_and_no_value() -> None:
    assert environment.docker_args(["A", "B"]) == ["--env", "A", "--env", "B"]


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES))
def test_an_env_file_holds_every_byte_of_every_value_and_no_secret(values: dict[str, str]) -> None:
    text, refused = environment.env_file(values)
    assert refused == {}
    lines = dict(line.partition("=")[::2] if "=" in line else (line, None) for line in text.split("\n")[:-1])
    assert lines == {name: None if environment.is_secret(name) else value for name, value in values.items()}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("A", "a\nb", "a newline cannot be in an env file"),
        ("A", "a\r", "a newline cannot be in an env file"),
        ("A", "a\0b", "a NUL cannot be in an environment"),
        ("A", "x" * 65534, "longer than 65535 bytes"),
        ("A", "é" * 32767, "longer than 65535 bytes"),
        ("A", "\udc80", "not UTF-8"),
        ("A B", "x", "not a name"),
        ("", "x", "not a name"),
        ("1A", "x", "not a name"),
        ("A=B", "x", "not a name"),
    ],
)
def test_what_an_env_file_cannot_hold_is_refused_by_name(name: str, value: str, reason: str) -> None:
    assert environment.env_file({name: value, "GOOD": "1"}) == ("GOOD=1\n", {name: reason})


def test_what_just_fits_is_not_refused() -> None:
    text, refused = environment.env_file({"A": "x" * 65533, "B": "a\rb \t#'\"\\$="}, by_name=["C"])
    assert (len(text), refused) == (65536 + len("B=a\rb \t#'\"\\$=\n") + 2, {})


def test_a_bad_name_to_pass_by_name_is_refused_too() -> None:
    assert environment.env_file({}, by_name=["A B", "C"]) == ("C\n", {"A B": "not a name"})


def test_a_secret_passes_by_name_whatever_its_bytes() -> None:
    assert environment.env_file({"MAD_SECRETS_KEYFILE": "a\nb"}) == ("MAD_SECRETS_KEYFILE\n", {})


def test_a_task_gets_chosen_values_exported_and_the_others_fixed() -> None:
    given_values = {"NCCL_DEBUG": "INFO", "PATH": "/opt/bin", "MAD_SECRETS_X": "never", "NODE_RANK": "3", "BAD": "a\nb", "MY_FLAG": "1"}
    found = environment.for_task(given_values)
    assert found["exports"] == {"NCCL_DEBUG": "INFO"}
    # Behind its value the name alone: what the user has set wins. A host's PATH is of no use in a container.
    assert found["fixed"] == ["MY_FLAG=1", "MY_FLAG", "PATH=/opt/bin"]
    assert found["refused"] == {"BAD": "a newline cannot be in an env file"}
    assert found["when_set"] == {"HIP_VISIBLE_DEVICES": "RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES"}
    assert {"MAD_SECRETS_X", "NODE_RANK", "MASTER_ADDR"} <= set(found["names"])
    assert "NCCL_*" in found["globs"]
    assert "never" not in json.dumps(found)


def test_what_the_site_takes_away_reaches_no_task_in_any_way() -> None:
    found = environment.for_task(
        {"NCCL_DEBUG": "INFO", "PATH": "/opt/bin", "HF_TOKEN": "x"}, without=["@fabric", "PATH", "HF_TOKEN", "HIP_VISIBLE_DEVICES"]
    )
    assert (found["exports"], found["fixed"], found["when_set"]) == ({}, [], {})
    assert not {"NCCL_DEBUG", "HF_TOKEN", "HIP_VISIBLE_DEVICES"} & set(found["names"])
    assert "NCCL_*" not in found["globs"]
    assert "NCCL_*" in found["without"]


def test_what_a_container_gets_is_the_runtime_first_then_the_manifest() -> None:
    available = {"NCCL_DEBUG": "WARN", "HOME": "/home/alice", "HIP_VISIBLE_DEVICES": "0", "A_FLAG": "mine", "MY_FLAG": "2", "OTHER": "3"}
    declared = {"NCCL_DEBUG": "INFO", "NCCL_IB_HCA": "mlx5_0", "MY_FLAG": "1", "HOME": "/root", "A_FLAG": "the manifest's"}
    assert environment.passing(available, declared, without=["MY_*"]) == {
        "NCCL_DEBUG": "WARN",
        "NCCL_IB_HCA": "mlx5_0",
        "HOME": "/root",
        "A_FLAG": "mine",
        "HIP_VISIBLE_DEVICES": "0",
        "RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES": "",
    }


def test_a_variable_that_takes_its_value_from_a_secret_passes_by_name_whatever_it_is_called() -> None:
    task = environment.for_task({"MY_LOGIN": "", "X": "1"}, sources={"MY_LOGIN": ["MAD_SECRETS_T"]})
    assert "MY_LOGIN" in task["names"]
    assert task["sources"] == {"MY_LOGIN": ["MAD_SECRETS_T"]}
    assert not [line for line in task["fixed"] if line.startswith("MY_LOGIN")]
