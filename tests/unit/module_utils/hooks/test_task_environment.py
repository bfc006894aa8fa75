# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tasks get: a line a value whatever a manifest holds, no secret, and for the job's user alone."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import task_environment
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.job_state import JobState
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks.request import Request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import environment
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest.job_spec import JobSpec
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.results.provenance import Wanted
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.allocation import Allocation
from helpers import manifests
from hypothesis import given, settings
from hypothesis import strategies as st

UID, GID = os.getuid(), os.getgid()
OFFER = {"reference": "rocm/vllm:1", "identity": "sha256:" + "4f" * 32}
PASSING = {"exports": {}, "names": [], "globs": [], "without": [], "when_set": {}, "sources": {}, "fixed": []}
MODELS = ["pyt/llama"]


@pytest.fixture
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def job(**fields: Any) -> Allocation:
    usual: Dict[str, Any] = {
        "cluster": "lab", "job_id": 4711, "attempt": 0, "user": "alice", "uid": UID, "gid": GID, "node": "n2", "nodes": ("n1", "n2"),
        "work_dir": "/home/alice", "stdout": "/home/alice/slurm-%j.out", "comment": "madengine", "extra": "",
    }  # fmt: skip
    return Allocation(**{**usual, **fields})


def begun(base: Path) -> JobState:
    here = JobState(4711, str(base))
    here.begin(UID, GID, "/opt/r")
    return here


def lines(here: JobState, name: str) -> List[str]:
    text = here.text(name)
    assert text is not None
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def handed_over(base: Path, document: Any, offers: Any = (OFFER,)) -> JobState:
    """Hand over what a job with the manifest *document* gets."""
    path = base / "build_manifest.json"
    path.write_text(json.dumps(document))
    told = json.loads(json.dumps(task_environment.wanted(Request((str(path),)), ())))  # it comes out of a child process
    here = begun(base)
    task_environment.write(here, job(), JobSpec.of(told), list(offers), "/var/lib/madengine/jobs/4711/results")
    return here


NAMES = st.one_of(
    st.text(max_size=8), st.sampled_from(["NCCL_DEBUG", "NCCL_X\nEVIL", "PATH", "HF_TOKEN", "MAD_SECRETS_A", "MASTER_ADDR", "=", ""])
)
ODD = ["a\nEVIL=1", "\n", "a\r", "\0", "$(id)", "'", "\u2028x", "\x0b", "é"]
VALUES = st.one_of(st.text(max_size=12), st.sampled_from(ODD), st.integers(), st.none(), st.lists(st.text(max_size=3), max_size=2))


@settings(max_examples=150, deadline=None)
@given(given_env=st.dictionaries(NAMES, VALUES, max_size=5))
def test_a_value_is_never_more_than_one_line_and_never_of_another_name(given_env: Dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        try:
            here = handed_over(Path(folder), manifests.built(context={"docker_env_vars": given_env}))
        except JobFault:
            return
        allowed = {"MAD_GUEST_OS": "UBUNTU", **{name: str(value) for name, value in given_env.items()}}
        ours = set(task_environment.variables(job(), [OFFER], ["m"], "r"))
        for file in ("exports", "fixed"):
            for line in lines(here, file):
                name, equals, value = line.partition("=")
                assert equals or file == "fixed"
                assert environment.is_name(name)
                assert not environment.is_secret(name, allowed.get(name))
                assert not equals or name in ours or allowed[name] == value
        names = [line.partition("=")[0] for line in lines(here, "exports")]
        assert len(names) == len(set(names))


def test_a_manifest_s_values_of_passing_names_are_exported_and_others_are_a_container_s_alone(base: Path) -> None:
    here = handed_over(
        base, manifests.built(context={"docker_env_vars": {"NCCL_DEBUG": "INFO", "A_PATH": "/x:/y", "HF_TOKEN": manifests.TOKEN}})
    )
    assert "NCCL_DEBUG=INFO" in lines(here, "exports")
    assert lines(here, "fixed") == ["A_PATH=/x:/y", "A_PATH", "MAD_GUEST_OS=UBUNTU", "MAD_GUEST_OS"]
    assert "HF_TOKEN" in lines(here, "names")
    for path in Path(here.path).rglob("*"):
        assert path.is_dir() or manifests.TOKEN not in path.read_text()


@pytest.mark.parametrize(("given_env", "expected"), [
    ({"HF_TOKEN": "${MAD_SECRETS_HFTOKEN}", "HUGGING_FACE_HUB_TOKEN": "$HF_TOKEN"},
     ["HF_TOKEN MAD_SECRETS_HFTOKEN", "HUGGING_FACE_HUB_TOKEN HF_TOKEN MAD_SECRETS_HFTOKEN"]),
    ({"HF_TOKEN": "${HF_TOKEN:-${MAD_SECRETS_HFTOKEN}}"}, ["HF_TOKEN MAD_SECRETS_HFTOKEN"]),
    ({"A_TOKEN": "$B_TOKEN", "B_TOKEN": "$A_TOKEN"}, ["A_TOKEN B_TOKEN", "B_TOKEN A_TOKEN"]),
    ({"HF_TOKEN": "$HF_TOKEN", "B_TOKEN": "$(cat /x)", "C_TOKEN": "Bearer $D", "D_TOKEN": "${E:?no}", "F": "x$MAD_SECRETS_A"}, []),
    ({"MY_LOGIN": "$MAD_SECRETS_A", "X": "$NAME"}, ["MY_LOGIN MAD_SECRETS_A"]),
    ({"HF_TOKEN": manifests.TOKEN, "X_TOKEN": "$A\nB"}, []),
])  # fmt: skip
def test_a_secret_s_sources_are_the_names_that_the_manifest_refers_to(base: Path, given_env: Dict[str, str], expected: List[str]) -> None:
    here = handed_over(base, manifests.built(context={"docker_env_vars": given_env}))
    assert lines(here, "sources") == expected


def test_the_files_are_the_job_s_user_s_alone(base: Path) -> None:
    here = handed_over(base, manifests.built())
    for name in ("exports", "names", "globs", "without", "when_set", "sources", "fixed", "manifest.json"):
        status = os.stat(here.file(name))
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o400, UID, GID), name
    assert json.loads(here.text("manifest.json") or "")["built_models"]


def test_every_task_learns_where_its_job_is(base: Path) -> None:
    assert task_environment.variables(job(), [OFFER, {**OFFER, "reference": "b:1"}], ["/run/m.json", "/run/m.2.json"], "/results") == {
        "MASTER_ADDR": "n1",
        "MASTER_PORT": "30211",
        "NNODES": "2",
        "NODE_RANK": "1",
        "MAD_RESULTS_DIR": "/results",
        "MAD_SETUP_MODEL_DIR": "false",
        "MAD_IMAGE": "rocm/vllm:1",
        "MAD_IMAGE_ID": OFFER["identity"],
        "MAD_IMAGES": "rocm/vllm:1 b:1",
        "MAD_MANIFEST": "/run/m.json",
        "MAD_MANIFESTS": "/run/m.json /run/m.2.json",
    }
    one = task_environment.variables(job(), [OFFER], ["/run/m.json"], "/results")
    assert {"MAD_IMAGES", "MAD_MANIFESTS"}.isdisjoint(one)
    bare = task_environment.variables(job(), [], [], "/results")
    assert {"MAD_IMAGE", "MAD_IMAGE_ID", "MAD_MANIFEST"}.isdisjoint(bare)


def test_the_run_s_own_values_beat_those_of_a_file(base: Path) -> None:
    env = {"MASTER_PORT": "1", "NNODES": "9", "MASTER_ADDR": "elsewhere", "NODE_RANK": "7"}
    found = dict(line.split("=", 1) for line in lines(handed_over(base, manifests.built(context={"docker_env_vars": env})), "exports"))
    assert (found["MASTER_ADDR"], found["MASTER_PORT"], found["NNODES"], found["NODE_RANK"]) == ("n1", "30211", "2", "1")


@given(number=st.integers(1, 10**9))
def test_the_port_is_below_the_ephemeral_ones(number: int) -> None:
    assert 29500 <= int(task_environment.variables(job(job_id=number), [], [], "")["MASTER_PORT"]) < 30500


@pytest.mark.parametrize("field", ["reference", "identity"])
def test_an_offer_with_a_newline_is_refused_and_nothing_is_exported(base: Path, field: str) -> None:
    here = begun(base)
    with pytest.raises(JobFault, match="a value of more than one line"):
        task_environment.write(here, job(), JobSpec(environment=PASSING), [{**OFFER, field: "a:1\nLD_PRELOAD=/evil.so"}], "/results")
    assert here.text("exports") is None
    task_environment.write(here, job(), JobSpec(environment=PASSING), [OFFER], "/results")
    assert lines(here, "names") == []
    assert not os.path.exists(here.file("manifest.json"))


# What a job wants.


def spec(asked: Request, pass_env: Any = ()) -> JobSpec:
    return JobSpec.of(task_environment.wanted(asked, pass_env))


def implicit(tmp_path: Path, model: str = "llama", script: str = "") -> Request:
    """What a job of madengine's is taken to ask, with the job script that madengine has written."""
    path = tmp_path / "out" / f"madengine_{model}.sh"
    path.parent.mkdir(exist_ok=True)
    if script:
        path.write_text(script)
    return Request((str(tmp_path / "build_manifest.json"),), is_explicit=False, model=model, script=str(path))


def test_the_manifest_that_madengine_wrote_into_its_job_script_is_the_job_s(tmp_path: Path) -> None:
    manifests.write(tmp_path, manifests.use_image("stale/image:1"))
    manifests.write(tmp_path, manifests.use_image("rocm/vllm:2"), "run_manifest_x.json")
    script = f'#!/bin/bash\nSUBMISSION_DIR={tmp_path}\nORIGINAL_MANIFEST="run_manifest_x.json"\n'
    assert [image["reference"] for image in spec(implicit(tmp_path, script=script)).images] == ["rocm/vllm:2"]
    assert [image["reference"] for image in spec(implicit(tmp_path, script="#!/bin/bash\n")).images] == ["stale/image:1"]


def test_a_manifest_that_was_guessed_and_is_of_another_model_is_never_obeyed(tmp_path: Path) -> None:
    manifests.write(tmp_path, manifests.use_image())
    assert spec(implicit(tmp_path)).names == ("llama",)
    for model in ("mixtral", "llama2", "llam"):
        with pytest.raises(JobFault, match="the manifest is of another model") as caught:
            spec(implicit(tmp_path, model))
        assert (caught.value.seen["model"], caught.value.seen["manifest_has"]) == (model, "llama")
    assert spec(Request((str(tmp_path / "build_manifest.json"),), model="mixtral")).names == ("llama",)


@pytest.mark.parametrize("name", ["pyt/llama", "local-llama", "llama"])
def test_a_model_is_known_by_the_name_that_its_files_have(tmp_path: Path, name: str) -> None:
    written = manifests.use_image()
    written["built_models"]["llama"]["name"] = name
    manifests.write(tmp_path, written)
    assert spec(implicit(tmp_path, name.replace("/", "_").replace("local-", ""))).names == (name,)


def test_a_job_that_asked_for_nothing_and_has_no_manifest_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(JobFault, match="no manifest found"):
        spec(implicit(tmp_path))
    with pytest.raises(JobFault, match="cannot read"):
        spec(Request((str(tmp_path / "build_manifest.json"),)))
    (tmp_path / "build_manifest.json").symlink_to("nowhere")
    with pytest.raises(JobFault, match="cannot read"):
        spec(implicit(tmp_path))


def test_words_in_the_request_beat_the_manifest(tmp_path: Path) -> None:
    path = manifests.write(tmp_path, manifests.built())
    plain = spec(Request((path,)))
    assert ([image["reference"] for image in plain.images], plain.results) == (["ci-llama_llama.ubuntu.amd:latest"], ("perf_llama.csv",))
    asked = spec(Request((path,), images=("rocm/vllm:1", "rocm/vllm:2"), results="mine.csv"))
    assert (asked.images, asked.results) == (({"reference": "rocm/vllm:1"}, {"reference": "rocm/vllm:2"}), ("mine.csv",))


def test_a_job_with_an_image_needs_no_manifest() -> None:
    found = spec(Request(images=("rocm/vllm:1",)), ("MY_*", "-NCCL_*"))
    assert (found.images, found.models, found.results, found.documents) == (({"reference": "rocm/vllm:1"},), (), (), ())
    assert "MY_*" in found.environment["globs"]
    assert "NCCL_*" in found.environment["without"]


def test_a_job_that_compares_two_manifests_gets_both(base: Path) -> None:
    first = manifests.write(base, manifests.use_image("rocm/vllm:1"), "a.json")
    second = manifests.write(base, manifests.use_image("rocm/vllm:2"), "b.json")
    found = spec(Request((first, second)))
    here = begun(base)
    offers = [{**OFFER, "reference": image["reference"]} for image in found.images]
    task_environment.write(here, job(), found, offers, "/results", ["builds"])
    exports = dict(line.split("=", 1) for line in lines(here, "exports"))
    assert exports["MAD_IMAGES"] == "rocm/vllm:1 rocm/vllm:2"
    paths = exports["MAD_MANIFESTS"].split()
    assert [next(iter(json.loads(Path(path).read_text())["built_images"])) for path in paths] == ["rocm/vllm:1", "rocm/vllm:2"]
    assert paths[0] == exports["MAD_MANIFEST"]
    assert (lines(here, "keep"), lines(here, "leader")) == (["builds"], ["n1"])


def test_a_site_s_pattern_that_cannot_be_is_named() -> None:
    with pytest.raises(JobFault, match="no name, pattern or group"):
        spec(Request(images=("a:1",)), ("A B",))


# Where the results go.


@pytest.mark.parametrize(("stdout", "models", "expected"), [
    ("/home/alice/slurm-%j.out", MODELS, "/home/alice/madengine-4711"),
    ("", MODELS, "/home/alice/madengine-4711"),
    ("/out/slurm_results/madengine-llama_%j.out", MODELS, "/out/slurm_results/pyt_llama/4711"),
    ("results/madengine-llama_%j.out", MODELS, "/home/alice/results/pyt_llama/4711"),
    ("/out/madengine-llama_%j.out", [], "/home/alice/madengine-4711"),
])  # fmt: skip
def test_results_come_together_where_an_unmodified_collector_looks(stdout: str, models: Any, expected: str) -> None:
    assert task_environment.collection_dir(job(stdout=stdout), models) == expected


@pytest.mark.parametrize("name", ["..", ".", "", "../..", "/etc", "a\0b", "a\nb", "x" * 300, "\udcff"])
def test_a_model_s_name_leads_nowhere_else(name: str) -> None:
    found = task_environment.collection_dir(job(stdout="/out/madengine-x.out"), [name])
    folder, model, job_id = found.rsplit("/", 2)
    assert (folder, job_id) == ("/out", "4711")
    assert model not in ("", ".", "..")
    assert model.isprintable()
    assert len(model) <= 255


@pytest.mark.parametrize(("stdout", "spec", "expected"), [
    ("", JobSpec(models=({"name": "llama"},), output_dir="out"), "/home/alice/out/llama/4711"),
    ("/x/slurm-%j.out", JobSpec(models=({"name": "pyt/llama"},), output_dir="/data/out"), "/data/out/pyt_llama/4711"),
    ("", JobSpec(models=({"name": "llama"},)), "/home/alice/madengine-4711"),
    ("", JobSpec(output_dir="out"), "/home/alice/madengine-4711"),
    ("/out/madengine-llama_%j.out", JobSpec(models=({"name": "llama"},), output_dir="elsewhere"), "/out/llama/4711"),
])  # fmt: skip
def test_a_run_inside_an_allocation_has_its_results_where_its_own_collector_looks(stdout: str, spec: JobSpec, expected: str) -> None:
    assert task_environment.run_base(job(stdout=stdout), spec) == expected


LEAVES = (Wanted("llama", "a.csv"), Wanted("org/qwen", "b.csv"), Wanted("phi", ""), Wanted("llama", "c.csv"))


@pytest.mark.parametrize(("collection", "expected"), [
    ("/out/llama/4711", {"b.csv": "/out/org_qwen/4711"}),
    ("/out/llama/4711_20261006120000_a1b2c3/", {"b.csv": "/out/org_qwen/4711_20261006120000_a1b2c3"}),
    ("/home/alice/madengine-4711", {}),
])  # fmt: skip
def test_a_further_model_s_csv_goes_where_the_first_one_s_has_its_like(collection: str, expected: Dict[str, str]) -> None:
    assert task_environment.model_dirs(collection, LEAVES) == expected
    assert task_environment.model_dirs(collection, ()) == {}
