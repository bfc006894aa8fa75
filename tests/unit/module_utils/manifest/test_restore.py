# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import doctest
import json
import subprocess
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import docker_options, environment, restore, schema
from helpers import manifests
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN = manifests.TOKEN
ENVIRONMENTS = st.dictionaries(manifests.NAMES, st.sampled_from(["1", "x y", "$A", ""])).map(
    lambda given: {name: TOKEN if environment.is_secret(name) else value for name, value in given.items()}
)
FORMS = st.sampled_from(["neutral", "keep"])
MODELS = [
    {"name": "llama", "multiple_results": "perf.csv", "timeout": 60, "args": "--steps 3", "additional_docker_run_options": "--shm-size 1G"}
]


def variables(made: restore.Restored) -> dict[str, Any]:
    return dict(made.document["context"]["docker_env_vars"])


def option_string(made: restore.Restored) -> str:
    (entry,) = schema.entries(made.document)
    return str(entry.model["additional_docker_run_options"])


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(restore).failed == 0


@settings(deadline=None)
@given(manifests.MANIFESTS, ENVIRONMENTS, FORMS, st.sampled_from([(), MODELS]))
def test_restoring_a_restored_manifest_changes_nothing(written: Any, runtime: dict[str, str], form: str, models: Any) -> None:
    once = restore.restore(written, runtime, models, form)
    again = restore.restore(once.document, runtime, models, form)
    assert again.document == once.document
    assert again.restored == []


@settings(deadline=None)
@given(manifests.MANIFESTS, ENVIRONMENTS, FORMS)
def test_a_restored_manifest_is_a_manifest_and_the_given_one_is_left_alone(written: Any, runtime: dict[str, str], form: str) -> None:
    before = copy.deepcopy(written)
    made = restore.restore(written, runtime, (), form)
    assert written == before
    assert schema.parse(schema.text(made.document).encode()) == made.document


@settings(deadline=None)
@given(manifests.MANIFESTS, ENVIRONMENTS, FORMS)
def test_no_secret_stays_in_a_restored_manifest_or_its_report(written: Any, runtime: dict[str, str], form: str) -> None:
    runtime["MAD_SECRETS_KNOWN"] = TOKEN
    made = restore.restore(written, runtime, (), form)
    assert TOKEN not in json.dumps([made.document, made.restored, made.dropped_env, made.dropped_mounts])


@settings(deadline=None)
@given(manifests.MANIFESTS, ENVIRONMENTS)
def test_no_literal_and_nothing_of_another_run_reaches_a_container(written: Any, runtime: dict[str, str]) -> None:
    given_values = {str(value) for value in runtime.values()}
    for name, value in variables(restore.restore(written, runtime)).items():
        assert name not in environment.OF_THE_RUN
        assert value in given_values or not restore.LITERAL.search(str(value))


@settings(deadline=None)
@given(manifests.MANIFESTS, ENVIRONMENTS)
def test_every_secret_of_the_manifest_is_passed_by_name_with_an_empty_value_behind_it(written: Any, runtime: dict[str, str]) -> None:
    made = restore.restore(written, runtime)
    secrets = {name for name in variables(made) if environment.is_secret(name)}
    passed = {str(option.value).partition("=")[0] for option in docker_options.parse(option_string(made)) if option.name == "env"}
    assert secrets <= passed
    assert {variables(made)[name] for name in secrets} <= {""}
    given_values = [*written["context"]["docker_env_vars"].items(), *written["deployment_config"]["env_vars"].items()]
    known = {name for name, value in runtime.items() if name.startswith("MAD_SECRETS") and value}
    assert secrets == known | {name for name, value in given_values if environment.is_secret(name) and value is not None}


@settings(deadline=None)
@given(manifests.MANIFESTS)
def test_the_job_finds_its_containers_by_one_label(written: Any) -> None:
    labels = [option.value for option in docker_options.parse(option_string(restore.restore(written))) if option.name == "label"]
    assert len([label for label in labels if label and label.startswith("madengine.job=")]) >= 1
    if "madengine.job=7" not in str(written["built_models"]):
        assert option_string(restore.restore(written)).endswith("--label madengine.job=${SLURM_JOB_ID}")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (manifests.built(image={"registry_image": "r.example.org/llama:1", "registry": "r.example.org"}), "ci-llama_llama.ubuntu.amd"),
        (manifests.container_image("rocm/vllm:1"), "rocm/vllm:1"),
        (manifests.use_image("docker://rocm/vllm:1 "), "rocm/vllm:1"),
        (manifests.build_on_compute(), "registry.example.org:5000/team/llama:7"),
        (manifests.by_hand("debian:trixie"), "debian:trixie"),
    ],
)
def test_the_neutral_form_is_keyed_by_the_exact_image_and_names_no_registry(written: Any, key: str) -> None:
    made = restore.restore(written).document
    assert list(made["built_images"]) == list(made["built_models"]) == [key]
    assert made["built_images"][key]["docker_image"] == key
    assert not {"local_image", "registry_image", "registry"} & set(made["built_images"][key])


def test_where_the_image_can_be_had_is_not_forgotten() -> None:
    made = restore.restore(manifests.build_on_compute()).document
    (image,) = made["built_images"].values()
    assert image["source_image"] == "registry.example.org:5000/team/llama:7"


def test_two_models_of_one_image_each_keep_a_key_that_docker_reads_as_that_image() -> None:
    written = manifests.use_image()
    for number in (2, 3):
        written["built_images"][f"m{number}"] = dict(written["built_images"]["llama"])
        written["built_models"][f"m{number}"] = {"name": f"m{number}"}
    made = restore.restore(written).document
    assert list(made["built_images"]) == ["rocm/vllm:1", "docker.io/rocm/vllm:1", "index.docker.io/rocm/vllm:1"]
    assert [entry.reference for entry in schema.entries(made)] == ["rocm/vllm:1"] * 3
    assert [entry.name for entry in schema.entries(made)] == ["llama", "m2", "m3"]


def test_more_models_than_an_image_has_names_are_refused_and_kept_on_request() -> None:
    written = manifests.use_image("r.example.org/x:1")
    written["built_images"]["m2"] = dict(written["built_images"]["llama"])
    with pytest.raises(JobFault, match="too many models share an image"):
        restore.restore(written)
    assert list(restore.restore(written, image_form="keep").document["built_images"]) == ["llama", "m2"]


def test_a_model_without_an_image_is_carried_along() -> None:
    written = manifests.by_hand()
    written["built_models"]["other"] = {"name": "other"}
    assert restore.restore(written).document["built_models"]["other"] == {"name": "other"}


def test_models_json_fills_what_the_shape_has_lost_and_nothing_else() -> None:
    written = manifests.use_image()
    written["built_models"]["llama"].update(args="", timeout=0)
    (entry,) = schema.entries(restore.restore(written, models=MODELS).document)
    assert {name: entry.model[name] for name in ("multiple_results", "args", "timeout")} == {
        "multiple_results": "perf.csv",
        "args": "--steps 3",
        "timeout": 0,
    }
    assert entry.model["additional_docker_run_options"] == "--shm-size 1G --label madengine.job=${SLURM_JOB_ID}"


def test_models_json_finds_the_model_of_a_local_key_too() -> None:
    written = manifests.container_image()
    del written["built_models"]["local-llama"]["name"]
    assert restore.restore(written, models=MODELS).document["built_models"]["rocm/vllm:1"]["multiple_results"] == "perf.csv"


def test_the_runtime_wins_and_the_manifest_fills_the_gaps() -> None:
    written = manifests.built(context={"docker_env_vars": {"NCCL_DEBUG": "INFO", "NCCL_IB_HCA": "mlx5_0", "PATH": "/opt/bin", "NNODES": 2}})
    runtime = {"NCCL_DEBUG": "WARN", "PATH": "/usr/bin", "UCX_TLS": "rc"}
    assert variables(restore.restore(written, runtime)) == {
        "NCCL_DEBUG": "WARN",
        "NCCL_IB_HCA": "mlx5_0",
        "PATH": "/opt/bin",
        "NNODES": 2,
        "MAD_GUEST_OS": "UBUNTU",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${HF_HOME}", "/scratch/hf"),
        ("$HF_HOME", "/scratch/hf"),
        ("${HF_HOME}/a", "/scratch/hf/a"),
        ("${NONE:-/d}", "/d"),
        ("/x:$HF_HOME/a", "/x:/scratch/hf/a"),
        ("a$HF_HOME", "a$HF_HOME"),
        ('{"$ref": "$defs"}', '{"$ref": "$defs"}'),
        ("costs $5 `now`", "costs $5 `now`"),
        ('it\'s "a" $HOME = b', 'it\'s "a" $HOME = b'),
    ],
)
def test_an_unexpanded_literal_becomes_the_runtimes_value(value: str, expected: str) -> None:
    made = restore.restore(manifests.built(context={"docker_env_vars": {"X": value}}), {"HF_HOME": "/scratch/hf"})
    assert variables(made)["X"] == expected


@pytest.mark.parametrize("value", ["${NONE}", "$NONE", "a${NONE}b", "a${MAD_SECRETS_X}", "${NODE_RANK}"])
def test_a_literal_that_nobody_knows_is_dropped_and_said_so(value: str) -> None:
    runtime = {"MAD_SECRETS_X": TOKEN, "NODE_RANK": "1"}
    made = restore.restore(manifests.built(context={"docker_env_vars": {"X": value}, "docker_build_arg": {"Y": value}}), runtime)
    assert "X" not in variables(made)
    literal = value.strip("ab")
    reason = f"{literal} was never expanded, and the runtime does not know it"
    assert made.dropped_env == [
        {"name": "X", "where": "context.docker_env_vars", "reason": reason},
        {"name": "Y", "where": "context.docker_build_arg", "reason": reason},
    ]


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("${A%%,*}", "${A%%,*}"),
        ("${A:?}", "${A:?}"),
        ("${#A}", "${#A}"),
        ("x ${A[0]} y", "${A[0]}"),
        ("${!A}", "${!A}"),
        ("${A", "${A"),
        ("$(hostname -i)", "$(hostname -i)"),
        ("`hostname`", "`hostname`"),
        ("$((1 + 1))", "$((1 + 1)"),
        ("$NONE/lib:/x", "$NONE"),
    ],
)
def test_a_form_that_only_a_shell_expands_never_reaches_a_container(value: str, form: str) -> None:
    for group in ("docker_env_vars", "docker_build_arg"):
        made = restore.restore(manifests.built(context={group: {"X": value}}), {"A": "1,2"})
        assert "X" not in made.document["context"][group]
        (dropped,) = made.dropped_env
        assert (dropped["name"], dropped["where"]) == ("X", f"context.{group}")
        assert dropped["reason"].startswith(form + " was never expanded")


def run_by_sh(options: str, **env: str) -> dict[str, str]:
    """Return what a container would get of *options* whose shell has *env*: Docker takes a bare name from there."""
    result = subprocess.run(["sh", "-c", f"printf '%s\\0' {options}"], capture_output=True, check=True, env=env)
    words = result.stdout.decode().split("\0")
    pairs = [word.partition("=") for before, word in zip(words, words[1:]) if before in ("-e", "--env")]
    return {name: value if equals else env[name] for name, equals, value in pairs if equals or name in env}


def test_a_token_that_comes_from_another_variable_reaches_the_container() -> None:
    text = '-e HF_TOKEN=$MAD_SECRETS_HFTOKEN --env "HUGGING_FACE_HUB_TOKEN=$HF_TOKEN" --ipc=host'
    for runtime in ({}, {"MAD_SECRETS_HFTOKEN": TOKEN}):
        made = restore.restore(manifests.built(model={"additional_docker_run_options": text}), runtime)
        assert TOKEN not in json.dumps(made.document)
        found = run_by_sh(option_string(made), MAD_SECRETS_HFTOKEN=TOKEN)
        assert found == dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MAD_SECRETS_HFTOKEN"), TOKEN)
        assert variables(made)["MAD_SECRETS_HFTOKEN"] == ""  # else madengine puts the value on a command line


def test_a_token_that_the_manifest_takes_from_another_variable_reaches_the_container() -> None:
    given_values = {"HF_TOKEN": "${MAD_SECRETS_HFTOKEN}", "HUGGING_FACE_HUB_TOKEN": "$HF_TOKEN"}
    made = restore.restore(manifests.built(context={"docker_env_vars": given_values}))
    assert {variables(made)[name] for name in given_values} == {""}
    names = (*given_values, "MAD_SECRETS_HFTOKEN")
    assert run_by_sh(option_string(made), MAD_SECRETS_HFTOKEN=TOKEN) == dict.fromkeys(names, TOKEN)
    mine = run_by_sh(option_string(made), MAD_SECRETS_HFTOKEN=TOKEN, HF_TOKEN="mine")
    assert mine["HF_TOKEN"] == "mine"


@pytest.mark.parametrize(
    ("variable", "option"),
    [
        ({"HF_TOKEN": "${MAD_SECRETS_HFTOKEN}"}, "-e HUGGING_FACE_HUB_TOKEN=$HF_TOKEN"),
        ({"HUGGING_FACE_HUB_TOKEN": "$HF_TOKEN"}, "-e HF_TOKEN=$MAD_SECRETS_HFTOKEN"),
    ],
)
def test_a_token_is_followed_between_the_manifests_variables_and_a_models_options(variable: dict[str, str], option: str) -> None:
    made = restore.restore(manifests.built(context={"docker_env_vars": variable}, model={"additional_docker_run_options": option}))
    found = run_by_sh(option_string(made), MAD_SECRETS_HFTOKEN=TOKEN)
    assert found == dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MAD_SECRETS_HFTOKEN"), TOKEN)
    assert restore.restore(made.document).document == made.document


@pytest.mark.parametrize(
    ("variables", "options", "name", "value"),
    [
        ({"MY_LOGIN": "${MAD_SECRETS_T}"}, "", "MY_LOGIN", TOKEN),
        ({"MY_LOGIN": "${A:-$MAD_SECRETS_T}"}, "", "MY_LOGIN", TOKEN),
        ({}, "-e MY_LOGIN=$MAD_SECRETS_T", "MY_LOGIN", TOKEN),
        ({}, '-e "AUTHORIZATION=Bearer $MAD_SECRETS_T"', "AUTHORIZATION", f"Bearer {TOKEN}"),
        ({}, "-e HF_TOK\\\nEN=$MAD_SECRETS_T", "HF_TOKEN", TOKEN),
        ({}, f"-e HF_TOKEN={TOKEN[:5]}\\\n{TOKEN[5:]} -e X=$MAD_SECRETS_T", "X", TOKEN),
        ({}, f"-e HF_TOKEN='{TOKEN[:5]}'{TOKEN[5:]} -e X=$MAD_SECRETS_T", "X", TOKEN),
    ],
)
def test_a_token_of_another_variable_arrives_under_any_name_and_in_any_spelling(
    variables: dict[str, str], options: str, name: str, value: str
) -> None:
    written = manifests.built(model={"additional_docker_run_options": options}, context={"docker_env_vars": variables})
    made = restore.restore(written)
    assert TOKEN not in json.dumps(made.document)
    assert TOKEN[5:] not in json.dumps(made.document)
    assert run_by_sh(option_string(made), MAD_SECRETS_T=TOKEN)[name] == value
    assert restore.restore(made.document).document == made.document


FORMED = "hf_ABCDEFGHIJKLMNOPqrstuv12"


@pytest.mark.parametrize(
    "place",
    [
        {"context": {"docker_env_vars": {"FOO": FORMED}}},
        {"context": {"docker_env_vars": {"FOO": json.dumps({"hf_token": FORMED})}}},
        {"context": {"docker_build_arg": {"FOO": f"x {FORMED}"}}},
        {"context": {"docker_mounts": {"/x": f"/a/{FORMED}"}}},
        {"model": {"additional_docker_run_options": f"--label x={FORMED} -e 'H=Authorization: Bearer {FORMED}'"}},
        {"model": {"additional_docker_run_options": f"-e HF_TOKEN=$(echo {FORMED})"}},
        {"model": {"args": f"--hub {FORMED}"}},
    ],
)
def test_a_secret_that_its_form_alone_gives_away_is_taken_out_and_said_so(place: dict[str, Any]) -> None:
    made = restore.restore(manifests.built(**place))
    assert FORMED not in json.dumps(made.document)
    assert made.masked or made.dropped_env
    with pytest.raises(JobFault) as caught:
        restore.restore(manifests.built(model={"additional_docker_run_options": f"-v {FORMED}:/x:/y:/z"}))
    assert FORMED not in str(caught.value)


def test_who_clones_needs_what_is_in_a_url() -> None:
    url = "https://ghp_abcdefghijklmnopqrst@github.com/x/y"
    assert restore.restore(manifests.built(model={"url": url})).document["built_models"].popitem()[1]["url"] == url


@pytest.mark.parametrize("written", ["<your token>", "<HF_TOKEN>", "<FILL IN>"])
def test_what_was_to_be_filled_in_does_not_beat_the_shell_s_own(written: str) -> None:
    made = restore.restore(manifests.built(context={"docker_env_vars": {"HF_TOKEN": written, "END_TOKEN": "<|eod|>"}}))
    assert variables(made)["END_TOKEN"] == "<|eod|>"
    assert run_by_sh(option_string(made), HF_TOKEN="mine")["HF_TOKEN"] == "mine"


def test_what_is_masked_is_said_by_its_name_and_place_and_only_once() -> None:
    written = manifests.built(
        model={"additional_docker_run_options": f"-e HF_TOKEN={TOKEN}"},
        context={"docker_env_vars": {"WANDB_KEY": "a-key-of-wandb"}, "docker_build_arg": {"GITHUB_PAT": "ghp_1234567"}},
        deployment_config={"env_vars": {"SSHPASS": "hunter22"}},
    )
    once = restore.restore(written)
    where = "built_models.ci-llama_llama.ubuntu.amd"
    assert {(one["name"], one["where"]) for one in once.masked} == {
        ("WANDB_KEY", "context.docker_env_vars"),
        ("GITHUB_PAT", "context.docker_build_arg"),
        ("SSHPASS", "deployment_config.env_vars"),
        ("additional_docker_run_options", where),
        ("HF_TOKEN", where + ".additional_docker_run_options"),
    }
    assert restore.restore(once.document).masked == []


def test_the_callers_variables_of_the_groups_pass_by_name_where_the_manifest_lacks_them() -> None:
    written = manifests.built(
        context={"docker_env_vars": {"NCCL_DEBUG": "INFO"}}, deployment_config={"env_vars": {"NCCL_IB_HCA": "mlx5_0"}}
    )
    runtime = {"NCCL_DEBUG": "WARN", "NCCL_IB_HCA": "mlx5_9", "UCX_NET_DEVICES": "mlx5_2:1", "MODEL_NAME": "llama", "yD": "2"}
    made = restore.restore(written, {**runtime, "PATH": "/bin", "ROCM_PATH": "/opt/rocm", "NODE_RANK": "1", "MY_OWN": "x"})
    assert {name: variables(made)[name] for name in ("NCCL_DEBUG", "NCCL_IB_HCA")} == {"NCCL_DEBUG": "WARN", "NCCL_IB_HCA": "mlx5_9"}
    assert made.document["deployment_config"]["env_vars"] == {"NCCL_IB_HCA": "mlx5_9"}
    assert option_string(made).startswith("-e MODEL_NAME -e UCX_NET_DEVICES -e yD --label")


def test_a_token_that_the_manifest_does_not_name_passes_by_name_too() -> None:
    made = restore.restore(manifests.built(), {"MAD_SECRETS_HFTOKEN": TOKEN, "MAD_SECRETS_EMPTY": ""})
    assert {name: value for name, value in variables(made).items() if "SECRET" in name} == {"MAD_SECRETS_HFTOKEN": ""}
    assert "-e MAD_SECRETS_HFTOKEN --label" in option_string(made)


@pytest.mark.parametrize("value", ['a"b', "$(id)", "`id`", "a\\b", "a\nb"])
def test_a_value_that_bash_would_read_is_not_written_where_bash_reads_it(value: str) -> None:
    written = manifests.built(deployment_config={"env_vars": {"NCCL_DEBUG": "INFO", "NCCL_NET": "IB"}})
    made = restore.restore(written, {"NCCL_DEBUG": value})
    assert made.document["deployment_config"]["env_vars"] in ({"NCCL_NET": "IB"}, {"NCCL_DEBUG": "INFO", "NCCL_NET": "IB"})
    assert schema.parse(schema.text(made.document).encode()) == made.document


@pytest.mark.parametrize("name", ["RDMAV_DRIVERS", "MY_OWN_FLAG"])
def test_what_the_user_sets_wins_inside_and_outside_the_groups(name: str) -> None:
    for value in ("the manifest's", "${NOBODY}"):
        for written in ({"context": {"docker_env_vars": {name: value}}}, {"deployment_config": {"env_vars": {name: value}}}):
            made = restore.restore(manifests.built(**written), {name: "mine"})
            assert variables(made)[name] == "mine"
            assert made.dropped_env == []


def test_a_mount_of_a_home_or_of_the_submit_directory_is_resolved_here_and_not_by_docker() -> None:
    written = manifests.built(
        model={"additional_docker_run_options": "-v ~/own:/own --volume=./logs:/logs"},
        context={"docker_mounts": {"/data": "~/data", "/code": "./code", "/up": "../up", "/vol": "named"}},
    )
    made = restore.restore(written, directory="/home/alice/run")
    home = '"${HOME}'
    assert option_string(made) == (
        f'-v {home}/own:/own" --volume=/home/alice/run/logs:/logs -v {home}/data:/data" -v /home/alice/run/code:/code'
        " -v /home/alice/up:/up -v named:/vol --label madengine.job=${SLURM_JOB_ID}"
    )
    assert restore.restore(made.document, directory="/elsewhere").document == made.document


@pytest.mark.parametrize("source", ["./code", "~bob/data", ".."])
def test_a_host_path_that_means_nothing_on_a_node_is_refused(source: str) -> None:
    for written in (
        manifests.built(context={"docker_mounts": {"/x": source}}),
        manifests.built(model={"additional_docker_run_options": f"-v {source}:/x"}),
        manifests.built(model={"additional_docker_run_options": f"--mount type=bind,source={source},target=/x"}),
    ):
        with pytest.raises(JobFault, match="mounts: no host path"):
            restore.restore(written)


def test_an_emptied_url_stays_empty() -> None:
    written = manifests.use_image()
    written["built_models"]["llama"].update(url="", multiple_results="")
    made = restore.restore(written, models=[{"name": "llama", "url": "https://git.example.org/x", "multiple_results": "perf.csv"}])
    (entry,) = schema.entries(made.document)
    assert (entry.model["url"], entry.model["multiple_results"]) == ("", "perf.csv")


def test_a_mount_over_two_lines_is_the_mount_that_sh_makes_of_it() -> None:
    made = restore.restore(manifests.built(model={"additional_docker_run_options": "--ipc=host -v /a:/b\\\n:ro"}))
    assert option_string(made).startswith("--ipc=host -v /a:/b:ro --label")
    with pytest.raises(JobFault, match="a word that is no option"):  # sh makes one word --ipc=host--shm-size of it
        restore.restore(manifests.built(model={"additional_docker_run_options": "--ipc=host\\\n--shm-size 64G"}))


def test_a_stale_literal_of_a_token_gives_way_to_the_real_token_by_name() -> None:
    made = restore.restore(manifests.built(context={"docker_env_vars": {"MAD_SECRETS_HFTOKEN": "${MAD_SECRETS_HFTOKEN}"}}))
    assert variables(made)["MAD_SECRETS_HFTOKEN"] == ""
    assert "-e MAD_SECRETS_HFTOKEN " in option_string(made)
    assert made.dropped_env == []


def test_what_differs_between_nodes_never_comes_out_of_a_file() -> None:
    made = restore.restore(
        manifests.built(context={"docker_env_vars": {"NODE_RANK": "0", "MASTER_ADDR": "old-node", "MASTER_PORT": 29500}})
    )
    assert variables(made) == {"MASTER_PORT": 29500, "MAD_GUEST_OS": "UBUNTU"}
    assert {one["name"] for one in made.dropped_env} == {"NODE_RANK", "MASTER_ADDR"}


def test_what_only_the_job_script_would_see_is_given_to_the_container() -> None:
    exported = {
        "NCCL_IB_HCA": "mlx5_0",
        "UCX_TLS": "rc",
        "X": "$HOME/x",
        "MIOPEN_USER_DB_PATH": "/tmp/${LOCAL_RANK}",
        "NODE_RANK": "$SLURM_PROCID",
    }
    made = restore.restore(manifests.built(deployment_config={"env_vars": exported}, context={"docker_env_vars": {"UCX_TLS": "tcp"}}))
    assert variables(made) == {"UCX_TLS": "tcp", "NCCL_IB_HCA": "mlx5_0", "MAD_GUEST_OS": "UBUNTU"}
    assert [(one["name"], one["where"]) for one in made.dropped_env] == [("X", "deployment_config.env_vars")]
    assert made.document["deployment_config"]["env_vars"] == exported


def test_mounts_move_into_the_options_of_every_model_and_the_users_own_stay() -> None:
    written = manifests.built(
        model={"additional_docker_run_options": manifests.REAL_OPTIONS},
        context={"docker_mounts": {"/dev/infiniband": "/dev/infiniband", "/sys/class/infiniband": "/sys/class/infiniband", "/d": None}},
    )
    with pytest.raises(JobFault, match=r"mounts: no host path .where='context.docker_mounts./d'"):
        restore.restore(written)
    del written["context"]["docker_mounts"]["/d"]
    made = restore.restore(written)
    assert option_string(made) == manifests.REAL_OPTIONS + " -v /dev/infiniband:/dev/infiniband --label madengine.job=${SLURM_JOB_ID}"
    assert made.document["context"]["docker_mounts"] == {}
    assert [(one["target"], one["where"]) for one in made.dropped_mounts] == [
        ("/sys/class/infiniband", "built_models.ci-llama_llama.ubuntu.amd.additional_docker_run_options")
    ]


def test_an_option_string_that_cannot_be_read_stops_the_job_and_says_where() -> None:
    written = manifests.built(model={"additional_docker_run_options": "-v '/a:/b"}, context={"docker_mounts": {"/b": "/c"}})
    with pytest.raises(JobFault, match=r"not closed \(where='built_models.ci-llama_llama.ubuntu.amd.additional_docker_run_options'"):
        restore.restore(written)


def test_a_token_is_taken_out_of_every_place_and_its_name_is_kept() -> None:
    written = manifests.with_token_everywhere()
    made = restore.restore(written, models=[{"name": "llama", "note": TOKEN}])
    text = json.dumps(made.document)
    assert TOKEN not in text
    passed = [option.value for option in docker_options.parse(option_string(made)) if option.name == "env"]
    assert passed == ["HF_TOKEN", "MAD_SECRETS_B", "WANDB_API_KEY", "MAD_SECRETS_HFTOKEN"]
    assert made.document["context"]["docker_build_arg"] == {"MAD_SECRETS_HFTOKEN": ""}
    assert made.document["deployment_config"]["env_vars"] == {"NCCL_DEBUG": "INFO"}


def test_a_token_that_only_models_json_holds_does_not_come_in_with_it() -> None:
    listed = [{"name": "llama", "additional_docker_run_options": f"-e HF_TOKEN={TOKEN}", "args": f"--hub {TOKEN}"}]
    made = restore.restore(manifests.use_image(), models=listed)
    assert TOKEN not in json.dumps(made.document)
    assert option_string(made).startswith("-e HF_TOKEN --label")


def test_a_token_under_a_harmless_name_is_dropped_and_said_so() -> None:
    made = restore.restore(manifests.with_token_everywhere())
    assert "COPY" not in variables(made)
    assert [(one["name"], one["where"]) for one in made.dropped_env] == [("COPY", "context.docker_env_vars")]


@pytest.mark.parametrize(
    "breaks",
    [
        {"context": {"docker_env_vars": {"HF_TOKEN": TOKEN}, "docker_mounts": {"/x": f"/a:{TOKEN}"}}},
        {"context": {"docker_env_vars": {"HF_TOKEN": TOKEN}, "docker_mounts": {f"x{TOKEN}": "/a"}}},
        {"context": {"docker_env_vars": {"HF_TOKEN": TOKEN}}, "image": {"docker_image": f"A B {TOKEN}"}},
    ],
)
def test_a_fault_about_what_holds_a_token_does_not_show_it(breaks: Any) -> None:
    with pytest.raises(JobFault) as caught:
        restore.restore(manifests.built(**breaks))
    assert TOKEN not in caught.value.line()
    assert TOKEN not in json.dumps(caught.value.to_dict())


def test_what_was_restored_is_listed_by_its_place() -> None:
    written = manifests.built(context={"docker_env_vars": {"X": "${NONE}"}})
    assert restore.restore(written).restored == [
        "built_models.ci-llama_llama.ubuntu.amd.additional_docker_run_options",
        "context.docker_env_vars.MAD_GUEST_OS",
        "context.docker_env_vars.X",
    ]
