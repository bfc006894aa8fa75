# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import schema
from helpers import manifests
from hypothesis import given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SECTIONS = st.dictionaries(
    st.sampled_from(["built_images", "built_models", "context", "deployment_config"]),
    st.dictionaries(st.sampled_from(["x", "docker_env_vars", "docker_mounts", "env_vars", "name", "docker_image"]), JSON, max_size=4)
    | JSON,
)


def parsed(value: Any) -> dict[str, Any]:
    return schema.parse(json.dumps(value).encode(), "m.json")


def with_value(place: str, value: Any) -> dict[str, Any]:
    """A good manifest with one thing that is not."""
    made = copy.deepcopy(manifests.by_hand(context=manifests.context(), deployment_config={"env_vars": {}}))
    holder, keys = made, place.split(".")
    for key in keys[:-1]:
        holder = holder.setdefault(key, {})
    holder[keys[-1]] = value
    return made


@pytest.mark.parametrize(("shape", "write"), manifests.SHAPES.items())
def test_each_of_madengines_shapes_is_read_as_what_it_is(shape: str, write: Any) -> None:
    (entry,) = schema.entries(parsed(write()))
    assert (entry.shape, entry.name) == (shape, "llama")


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        (manifests.built(), "ci-llama_llama.ubuntu.amd:latest"),
        (manifests.container_image(), "rocm/vllm:1"),
        (manifests.use_image("docker.io/rocm/vllm"), "rocm/vllm:latest"),
        (manifests.build_on_compute(), "registry.example.org:5000/team/llama:7"),
        (manifests.by_hand(), "debian:trixie"),
        ({"built_images": {"debian:12": {}}}, "debian:12"),
    ],
)
def test_each_shape_names_its_exact_image(written: Any, reference: str) -> None:
    assert [entry.reference for entry in schema.entries(parsed(written))] == [reference]


def test_what_nobody_reads_is_carried_along() -> None:
    written = manifests.by_hand(anything={"at": ["all", 1, None, 1.5]}, context={"odd": {}})
    assert parsed(written) == written


@given(SECTIONS)
@settings(max_examples=100, deadline=None)
def test_any_json_is_either_a_manifest_or_refused_in_one_line(value: Any) -> None:
    try:
        read = parsed(value)
    except JobFault as fault:
        line = fault.line()
    else:
        line = ""
        assert read == value
    assert "\n" not in line
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("place", "value", "found", "expected"),
    [
        ("built_images", [], "a list", "an object {key: image}"),
        ("built_images", {}, "nothing", "at least one image"),
        ("built_images", None, "nothing", "at least one image"),
        ("built_images.x", "debian", "text", "an object"),
        ("built_images.my run.docker_image", 3, "a number", "an image reference"),
        ("built_images.my run.local_image", {}, "an object", "true, false or a name"),
        ("built_models", 1.5, "a number", "an object {key: model}"),
        ("built_models.my run", [], "a list", "an object"),
        ("built_models.my run.name", True, "true or false", "text"),
        ("built_models.my run.additional_docker_run_options", ["--rm"], "a list", "text"),
        ("built_models.my run.timeout", True, "true or false", "a number of seconds"),
        ("context", "x", "text", "an object"),
        ("context.docker_env_vars", ["A=1"], "a list", "an object {name: value}"),
        ("context.docker_env_vars.A", {"b": 1}, "an object", "text or a number"),
        ("context.docker_env_vars.MAD_SECRETS_X", [manifests.TOKEN], "a list", "text or a number"),
        ("context.docker_mounts./data", 7, "a number", "a host path"),
        ("context.docker_build_arg", "A=1", "text", "an object {name: value}"),
        ("deployment_config.env_vars.A", [], "a list", "text or a number"),
        ("context.docker_env_vars.A B", "1", "the name 'A B'", "a name such as NCCL_DEBUG"),
        ("context.docker_env_vars.A;id", "1", "the name 'A;id'", "a name such as NCCL_DEBUG"),
        ("deployment_config.env_vars.A", "$(touch /tmp/x)", "a command or a newline, which the job script would run", "plain text"),
        ("deployment_config.env_vars.A", "`id`", "a command or a newline, which the job script would run", "plain text"),
        ("deployment_config.env_vars.A", "a\nid", "a command or a newline, which the job script would run", "plain text"),
        ("built_models.my run.multiple_results", "/etc/passwd", "a path that leaves the model's directory", "a file name"),
        ("built_models.my run.multiple_results", "a/../../b.csv", "a path that leaves the model's directory", "a file name"),
        ("built_models.my run.multiple_results", "a\tb", "a path that leaves the model's directory", "a file name"),
        ("built_models.my run.name", "../x", "a name that no directory can have", "a plain name"),
        ("built_models.my run.name", "a\x1b[31m", "a name that no directory can have", "a plain name"),
        ("summary.text", "a\0b", "a NUL or half a character", "text"),
        ("summary.list", [["\ud800"]], "a NUL or half a character", "text"),
        ("summary.key", {"a\0b": 1}, "a NUL or half a character in a key", "text"),
    ],
)
def test_a_fault_says_where_what_was_found_and_what_was_expected(place: str, value: Any, found: str, expected: str) -> None:
    with pytest.raises(JobFault) as caught:
        parsed(with_value(place, value))
    assert caught.value.what == "manifest: not as expected"
    assert str(caught.value.seen["where"]).startswith(place.rpartition(".")[0] or place)
    assert (caught.value.seen["found"], caught.value.seen["expected"]) == (found, expected)
    assert manifests.TOKEN not in caught.value.line()


@pytest.mark.parametrize(
    "place", ["context", "context.docker_env_vars", "context.docker_env_vars.A", "built_models", "deployment_config.slurm"]
)
def test_a_null_is_the_same_as_nothing(place: str) -> None:
    assert schema.entries(parsed(with_value(place, None)))


@pytest.mark.parametrize("reference", ["", " ", "a/UPPER", "a b", "x:" + "t" * 200, "../x", "x@sha256:12"])
def test_an_image_that_is_none_is_named_with_its_place(reference: str) -> None:
    (entry,) = schema.entries({"built_images": {"My Run": {"docker_image": reference}}})
    with pytest.raises(JobFault) as caught:
        _ = entry.reference
    assert caught.value.seen["where"] == "built_images.My Run.docker_image"


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "line 1 column 1"),
        (b"built_images: {}", "line 1 column 1"),
        (b'{"built_images": {\n"a": {,}}}', "line 2 column 7"),
        (b"\xff\xfe{}", "byte 0"),
        (b"[]", "found='a list', expected='an object'"),
        (b'"x"', "found='text', expected='an object'"),
        (b"null", "found='null', expected='an object'"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "where='a.a.a.a.a.a…', found='a deeper nesting'"),
        (b'{"a":' + b"[" * 50 + b"1" + b"]" * 50 + b"}", "a deeper nesting"),
        (b"[" * 100_000, "a deeper nesting"),
        (b'{"a":NaN}', "NaN, which JSON does not know"),
        (b'{"a":1e999}', "a number beyond a double"),
        (b'{"a":' + b"1" * 100_000 + b"}", "a number of more than 20 digits"),
        (b"[" + b"[]," * 250_000, "more values than any manifest has"),
    ],
)
def test_what_is_no_json_or_hostile_json_is_refused_with_its_place(data: bytes, fact: str) -> None:
    with pytest.raises(JobFault) as caught:
        schema.parse(data, "m.json")
    assert fact in caught.value.line()
    assert "path='m.json'" in caught.value.line()


def hostile_files(folder: Path) -> dict[str, Path]:
    """Files that somebody might leave in place of a manifest."""
    huge = folder / "huge"
    with huge.open("wb") as stream:
        stream.truncate(100 << 20)
    deep = folder / "deep"
    deep.write_bytes(b'{"a":' * 700_000)
    wide = folder / "wide"
    wide.write_bytes(b"[" + b'{"":0},' * 590_000 + b"0]")
    good = Path(manifests.write(folder, manifests.by_hand()))
    link = folder / "link"
    link.symlink_to(good)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    text = folder / "text"
    text.write_text("not json")
    return {
        "huge": huge,
        "deep": deep,
        "wide": wide,
        "link": link,
        "fifo": fifo,
        "text": text,
        "folder": folder,
        "missing": folder / "none",
        "device": Path("/dev/zero"),
    }


READ_MEASURED = r"""
import json, re, sys
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec as manifest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])  # of this program alone; ru_maxrss knows its parent's
before = peak()
calls = 0
def count(frame, event, argument):
    global calls
    calls += 1
sys.setprofile(count)
try:
    manifest.load_for_job(sys.argv[1])
    line = ""
except JobFault as fault:
    line = fault.line()
sys.setprofile(None)
print(json.dumps([line, calls, peak() - before]))
"""


def measured(path: Path) -> tuple[str, int, int]:
    """Return what is said of a manifest, how many calls of functions that took and how much memory, in KiB."""
    command = [sys.executable, "-c", READ_MEASURED, str(path)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("collections"))}
    result = subprocess.run(command, capture_output=True, check=True, env=environ, text=True, timeout=30)
    line, calls, kilobytes = json.loads(result.stdout)
    return line, calls, kilobytes


@pytest.mark.parametrize("name", ["huge", "deep", "wide", "link", "fifo", "text", "folder", "missing", "device"])
def test_a_hostile_file_costs_one_line_few_steps_and_little_memory(tmp_path: Path, name: str) -> None:
    line, calls, kilobytes = measured(hostile_files(tmp_path)[name])  # one that is waited for runs into its time limit
    assert line.startswith("madengine: job: ")
    assert "\n" not in line
    assert calls < 1000
    assert kilobytes < 128 << 10


def test_the_largest_manifest_that_is_let_in_is_bounded_too(tmp_path: Path) -> None:
    wide = [{"": "x"}] * 40_000
    path = Path(
        manifests.write(tmp_path, json.dumps(manifests.by_hand(junk=wide, context=manifests.context(docker_env_vars={"A": "x" * 10**6}))))
    )
    line, calls, kilobytes = measured(path)
    assert line == ""
    assert (calls < 8 * path.stat().st_size, 0 < kilobytes < 256 << 10) == (True, True), (calls, kilobytes)


def test_an_unreadable_manifest_is_the_jobs_fault(tmp_path: Path) -> None:
    path = Path(manifests.write(tmp_path, manifests.by_hand()))
    path.chmod(0)
    reader = process.of(65534, 65534) if os.geteuid() == 0 else process.of(os.getuid(), os.getgid())
    with pytest.raises(JobFault, match="files: cannot read"):
        process.run(reader, schema.read, str(path))


def test_a_missing_section_is_made_where_it_is_needed() -> None:
    made: dict[str, Any] = {"context": None}
    schema.section(made, "context", "docker_env_vars")["A"] = 1
    assert made == {"context": {"docker_env_vars": {"A": 1}}}


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    written = manifests.with_token_everywhere()
    path = manifests.write(tmp_path, schema.text(written))
    assert schema.read(path) == written
