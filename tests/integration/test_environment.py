# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``docker run --env-file`` really does, and that our env files get every byte through it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import environment
from helpers import containers

CLIENTS = containers.clients()
ODD = {
    "SPACES": "  lead and trail  ",
    "QUOTES": "'\"it's\"",
    "EQUALS": "a=b==c",
    "HASH": "a # b",
    "DOLLAR": "$HOME ${X} $(id) `id`",
    "BACKSLASH": "a\\nb\\",
    "TAB": "a\tb\t",
    "UNICODE": "grüße 日本 😀",
    "CR_INSIDE": "a\rb",
    "FORMFEED": "\x0b\x0c",
    "EMPTY": "",
    "LONGEST": "x" * (environment.LONGEST_LINE_BYTES - len("LONGEST=")),
}


@pytest.fixture(params=CLIENTS, ids=[containers.version(client) for client in CLIENTS])
def client(request: Any) -> str:
    return str(request.param)


def passed(client: str, folder: Path, text: str | bytes, **environ: str) -> dict[str, str]:
    file = folder / "env"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return containers.variables(client, ["--env-file", str(file)], environ)


def test_every_value_reaches_the_container_byte_for_byte(client: str, tmp_path: Path) -> None:
    text, refused = environment.env_file(ODD)
    assert refused == {}
    assert passed(client, tmp_path, text) == ODD


def test_by_name_even_a_newline_reaches_the_container(client: str, tmp_path: Path) -> None:
    values = {**ODD, "NEWLINE": "a\nNCCL_DEBUG=b\n", "CR": "a\r"}
    text, _ = environment.env_file({}, by_name=values)
    assert passed(client, tmp_path, text, **values) == values


def test_a_name_that_is_not_set_passes_nothing_and_takes_nothing_away(client: str, tmp_path: Path) -> None:
    assert passed(client, tmp_path, "UNSET\nA=1\nA\n") == {"A": "1"}


def test_a_users_value_wins_over_a_fixed_one_if_its_name_comes_last(client: str, tmp_path: Path) -> None:
    assert passed(client, tmp_path, "A=1\nA\n", A="mine") == {"A": "mine"}
    assert passed(client, tmp_path, "A\nA=1\n", A="mine") == {"A": "1"}


def test_an_option_wins_over_the_file_and_an_unset_name_there_takes_away(client: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=1\nB=1\n")
    arguments = ["-e", "A=2", "-e", "B", "--env-file", str(tmp_path / "env")]
    assert containers.variables(client, arguments, {}) == {"A": "2", "B": "1"}


@pytest.mark.parametrize(
    ("name", "value"), [("A", "a\nb"), ("A", "a\r"), ("A", "a\0b"), ("A", "x" * 65534), ("A B", "x"), ("", "x"), ("A", "\udcff")]
)
def test_what_we_refuse_docker_refuses_or_changes(client: str, tmp_path: Path, name: str, value: str) -> None:
    assert environment.env_file({name: value})[1]
    line = f"{name}={value}\n".encode("utf-8", "surrogateescape")
    try:
        found = passed(client, tmp_path, line)
    except subprocess.CalledProcessError:
        return
    assert found != {name: value}


def test_one_bad_line_would_cost_all_the_others(client: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        passed(client, tmp_path, "GOOD=1\nA B=2\n")


def test_a_comment_is_a_line_and_never_the_end_of_a_value(client: str, tmp_path: Path) -> None:
    assert passed(client, tmp_path, "#A=1\n  # B=2\nC=3 # no\n") == {"C": "3 # no"}


def test_a_secret_reaches_the_container_and_is_in_no_argument_and_no_file(client: str, tmp_path: Path) -> None:
    token = "hf_planted\ntoken"
    log = containers.logging_docker(tmp_path, client)
    text, _ = environment.env_file({"MAD_SECRETS_X": token, "NCCL_DEBUG": "INFO"})
    found = passed(str(tmp_path / "docker"), tmp_path, text, MAD_SECRETS_X=token)
    assert found == {"MAD_SECRETS_X": token, "NCCL_DEBUG": "INFO"}
    assert token not in log.read_text()
    assert token not in (tmp_path / "env").read_text()
    arguments = environment.docker_args(["MAD_SECRETS_X"])
    assert containers.variables(client, arguments, {"MAD_SECRETS_X": token}) == {"MAD_SECRETS_X": token}
