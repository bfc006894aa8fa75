# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import environment, redaction
from helpers import manifests
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN = manifests.TOKEN
LEAVES = st.sampled_from(["", "x", TOKEN, f"a {TOKEN} b", 1, None, True, f"MAD_SECRETS_Q='{TOKEN}'"])
KEYS = st.sampled_from(["MAD_SECRETS_A", "HF_TOKEN", "plain", "tokens", TOKEN])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=10)


@settings(deadline=None)
@given(TREES)
def test_masking_leaves_no_secret_and_the_same_shape(tree: Any) -> None:
    before = copy.deepcopy(tree)
    assert TOKEN not in json.dumps(redaction.masked(tree, [TOKEN]))
    assert tree == before


@settings(deadline=None)
@given(st.dictionaries(KEYS, TREES))
def test_stripping_leaves_no_secret_that_a_name_gives_away(tree: dict[str, Any]) -> None:
    tree["MAD_SECRETS_SURE"] = TOKEN
    hidden = redaction.values(tree, {})
    assert TOKEN in hidden
    redaction.strip(tree, hidden)
    assert TOKEN not in json.dumps(tree)
    assert redaction.key_paths(tree, hidden) == []


@pytest.mark.parametrize(
    "place",
    [
        {"context": {"docker_env_vars": {"HF_TOKEN": TOKEN}}},
        {"summary": {"MAD_SECRETS_X": [TOKEN]}},
        {"summary": {"secrets": {"any": {"deep": TOKEN}}}},
        {"a": f"docker build --build-arg HF_TOKEN='{TOKEN}' ."},
        {"a": f'docker build --build-arg "HF_TOKEN={TOKEN}" .'},
        {"a": f"export HF_TOKEN={TOKEN}"},
        {"a": f'export HF_TOKEN="{TOKEN}"'},
    ],
)
def test_a_secret_is_found_by_the_name_beside_it(place: dict[str, Any]) -> None:
    assert redaction.values(place, {}) == {TOKEN}


def test_a_number_can_be_a_secret() -> None:
    made: dict[str, Any] = {"context": {"docker_env_vars": {"DB_PASSWORD": 12345678, "N": 12345678}}, "x": "12345678"}
    needed, taken = redaction.strip(made, redaction.values(made, {}))
    assert needed == {"DB_PASSWORD": ""}
    assert [(one["name"], one["where"]) for one in taken] == [("DB_PASSWORD", "context.docker_env_vars"), ("x", "")]
    assert made == {"context": {"docker_env_vars": {"DB_PASSWORD": "", "N": 12345678}}, "x": "REDACTED"}


@pytest.mark.parametrize(
    "text",
    ["--pad-token=<|end_of_text|>", "--max_tokens=100000", "eos_token=</s></s>", "HF_TOKEN=$HF_TOKEN", "HF_TOKEN=${HF_TOKEN}", "HF_TOKEN="],
)
def test_what_a_model_calls_a_token_and_what_names_a_variable_is_no_secret(text: str) -> None:
    assert redaction.values({"args": text}, {}) == set()


def test_a_short_secret_is_blanked_where_its_name_is_and_not_hunted_elsewhere() -> None:
    made = {"context": {"docker_env_vars": {"MAD_SECRETS_X": "true", "Y": "true"}}}
    redaction.strip(made, redaction.values(made, {}))
    assert made == {"context": {"docker_env_vars": {"MAD_SECRETS_X": "", "Y": "true"}}}


def test_what_lies_below_a_secrets_name_is_secret_too_however_short() -> None:
    made: dict[str, Any] = {"summary": {"secrets": {"any": ["abc", 1, True], "deep": {"x": "y"}}}}
    redaction.strip(made, set())
    assert made == {"summary": {"secrets": {"any": ["", "", True], "deep": {"x": ""}}}}


def test_a_fault_that_shows_what_it_found_does_not_show_a_secret() -> None:
    with pytest.raises(JobFault) as caught, redaction.kept({TOKEN}):
        raise JobFault("x: y", "z", found=f"a{TOKEN}b", character=3)
    assert caught.value.seen == {"found": "aREDACTEDb", "character": 3}


def test_a_plain_word_that_is_somebodys_password_is_not_hunted_in_a_manifest() -> None:
    assert redaction.values({"image": "postgres:15"}, {"POSTGRES_PASSWORD": "postgres"}) == set()


def test_a_secret_of_the_runtime_is_known_too() -> None:
    assert redaction.values({}, {"HF_TOKEN": TOKEN, "HOME": "/home/alice"}) == {TOKEN}


def test_a_password_in_a_url_stays_for_the_clone_and_is_shown_to_nobody() -> None:
    made = {"built_models": {"x": {"url": "https://bob:hunter22@git.example.org/x.git"}}}
    assert redaction.url_passwords(made) == {"hunter22"}
    assert redaction.key_paths(made, {"hunter22"}) == ["built_models.x.url"]
    redaction.strip(made, redaction.values(made, {}))
    assert "hunter22" in made["built_models"]["x"]["url"]


def test_secrets_in_clear_are_found_with_their_places() -> None:
    assert redaction.key_paths(manifests.with_token_everywhere(), {TOKEN}) == [
        "built_images.ci-llama_llama.ubuntu.amd.build_command",
        "built_images.ci-llama_llama.ubuntu.amd.docker_sha",
        "built_models.ci-llama_llama.ubuntu.amd.additional_docker_run_options",
        "built_models.ci-llama_llama.ubuntu.amd.args",
        "context.docker_build_arg.MAD_SECRETS_HFTOKEN",
        "context.docker_env_vars.COPY",
        "context.docker_env_vars.HF_TOKEN",
        "context.docker_env_vars.MAD_SECRETS_HFTOKEN",
        "deployment_config.env_vars.MAD_SECRETS_HFTOKEN",
        "summary.successful_builds.0.REDACTED",
        "summary.successful_builds.0.env.MAD_SECRETS_HFTOKEN",
        "summary.successful_builds.0.text",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"-e HF_TOKEN={TOKEN} -e A=1", "-e HF_TOKEN -e A=1"),
        (f"--env 'HF_TOKEN={TOKEN} x'", "--env HF_TOKEN"),
        (f"--env=HF_TOKEN='{TOKEN}'", "--env=HF_TOKEN"),
        (f"-itdeHF_TOKEN={TOKEN}", "-itdeHF_TOKEN"),
        ("-e HF_TOKEN=${MY_TOKEN:-" + TOKEN + "}", "-e HF_TOKEN"),
        ("-e 'HF_TOKEN=$MY_TOKEN'", "-e HF_TOKEN"),
        ("-e HF_TOKEN -e TOKENIZERS_PARALLELISM=true", "-e HF_TOKEN -e TOKENIZERS_PARALLELISM=true"),
    ],
)
def test_a_secret_in_an_option_is_passed_by_name_and_all_else_stays(text: str, expected: str) -> None:
    made, taken = redaction.by_name(text, "here")
    assert made == expected
    assert [(one["name"], one["where"]) for one in taken] == ([] if made == text else [("HF_TOKEN", "here")])


@pytest.mark.parametrize(
    "text",
    [
        "-e HF_TOKEN=$MY_TOKEN",
        '--env "HF_TOKEN=${MAD_SECRETS_HFTOKEN}"',
        "-e HF_TOKEN=${A:-$B}",
        "-e HF_TOKEN=${A:?no token} --rm",
        '-e HF_TOKEN="$(cat /secrets/hf)"',
        "-e HF_TOKEN=`cat /secrets/hf`",
        "-e HF_TOKEN=${HF_TOKEN}",
        "-e GOOGLE_APPLICATION_CREDENTIALS=/secrets/sa.json -e 'END_TOKEN=<|eod|>'",
    ],
)
def test_an_expansion_a_path_and_a_marker_hold_no_secret_and_stay(text: str) -> None:
    assert redaction.by_name(text, "here") == (text, [])
    made: dict[str, Any] = {"built_models": {"m": {"additional_docker_run_options": text}}}
    assert redaction.values(made, {}) == set()


def test_a_token_behind_an_expansion_is_a_token() -> None:
    assert redaction.values({"args": f"HF_TOKEN=${{A:-{TOKEN}}}"}, {}) == {TOKEN}
    assert redaction.values({"args": f"--token ${{HF_TOKEN:-{TOKEN}}}"}, {}) == {TOKEN}


def test_what_is_exported_holds_no_emptied_secret_and_keeps_an_expansion() -> None:
    made: dict[str, Any] = {
        "deployment_config": {"env_vars": {"HF_TOKEN": TOKEN, "WANDB_KEY": "${MAD_SECRETS_W}", "K_CREDENTIALS": "/a/b.json"}},
        "built_models": {"m": {"env_vars": {"HF_TOKEN": TOKEN, "X": "1"}}},
    }
    _needed, taken = redaction.strip(made, redaction.values(made, {}))
    assert made["deployment_config"]["env_vars"] == {"WANDB_KEY": "${MAD_SECRETS_W}", "K_CREDENTIALS": "/a/b.json"}
    assert made["built_models"]["m"]["env_vars"] == {"X": "1"}
    assert [(one["name"], one["where"]) for one in taken] == [
        ("HF_TOKEN", "deployment_config.env_vars"),
        ("HF_TOKEN", "built_models.m.env_vars"),
    ]


def test_a_path_that_is_a_secret_elsewhere_is_masked_once() -> None:
    made: dict[str, Any] = {"x": {"MAD_SECRETS_X": "/s/a.json", "HF_TOKEN": "/s/a.json"}}
    for _time in range(2):
        redaction.strip(made, redaction.values(made, {}))
        assert made == {"x": {"MAD_SECRETS_X": "", "HF_TOKEN": redaction.REMOVED}}


def test_a_mask_is_no_secret() -> None:
    assert redaction.values({"HF_TOKEN": redaction.REMOVED}, {}) == set()
    assert redaction.masked({"HF_TOKEN": "", "n": 1}, []) == {"HF_TOKEN": "", "n": 1}
    assert redaction.masked({"HF_TOKEN": "abc"}, []) == {"HF_TOKEN": environment.MASK}
