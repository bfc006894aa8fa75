# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import doctest

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import docker_options, mounts
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest.mounts import Mount
from helpers import manifests
from hypothesis import given, settings
from hypothesis import strategies as st

# Each of these mounts something on /data, or makes Docker refuse or hide another mount there.
SPELLINGS = [
    "-v /tmp:/data",
    "-v=/tmp:/data",
    "-v/tmp:/data",
    "-itv /tmp:/data",
    "-tv=/tmp:/data",
    "--volume /tmp:/data",
    "--volume=/tmp:/data",
    "-v /tmp:/data/",
    "-v /tmp://data/.",
    "-v /tmp:/x/../data",
    "-v /tmp:/data:ro",
    "-v /tmp:/data:rw,z,rslave",
    "-v named:/data",
    "-v /data",
    "-v '/tmp':\"/data\"",
    "-v $HOME:/data",
    '-v "$(pwd)":/data',
    "--mount type=bind,source=/tmp,target=/data",
    "--mount=type=bind,src=/tmp,dst=/data",
    "--mount type=bind,source=/tmp,destination=/data/",
    "--mount TYPE=bind,Source=/tmp,TARGET=/data",
    "--mount 'type=bind,\"source=/a,b\",target=/data'",
    "--mount type=tmpfs,target=/data",
    "--tmpfs /data",
    "--tmpfs=/data/:rw,size=1m",
]

PARTS = st.sampled_from(["a", "b", "data set", "it's", 'q"q', "$x", "é", "..", ".", ""])
# Deep enough that no `..` leads to the root, where nothing can be mounted.
PATHS = st.lists(PARTS, max_size=4).map(lambda parts: "/m/n/o/p/q/" + "/".join(parts))


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(mounts).failed == 0


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_models_own_mount_stays_in_every_spelling_and_ours_is_dropped(spelling: str) -> None:
    text, dropped = mounts.merge(f"--rm {spelling} --init", [Mount("/data", "/ours"), Mount("/other", "/ours")])
    assert text == f"--rm {spelling} --init -v /ours:/other"
    assert [(one.target, one.source) for one in dropped] == [("/data", "/ours")]
    assert dropped[0].reason.startswith("the model's own option stays: ")


@pytest.mark.parametrize(
    "text", ["-e V=/tmp:/data", "--name /tmp:/data", "--volume-driver /data", "-w /data", "-v /data:/elsewhere", "-v /tmp:/data/x"]
)
def test_what_mounts_elsewhere_does_not_keep_ours_out(text: str) -> None:
    assert mounts.merge(text, [Mount("/data", "/ours")]) == (f"{text} -v /ours:/data", [])


@settings(deadline=None)
@given(st.lists(st.tuples(PATHS, PATHS)))
def test_merging_twice_changes_nothing_and_drops_nothing_new(pairs: list[tuple[str, str]]) -> None:
    wanted = mounts.wanted(dict(pairs))
    once, dropped = mounts.merge("--rm", wanted)
    again, still_dropped = mounts.merge(once, wanted)
    assert again == once
    assert [(one.target, one.source) for one in still_dropped] == [(one.target, one.source) for one in dropped]


@settings(deadline=None)
@given(st.lists(st.tuples(PATHS, PATHS)))
def test_no_mount_point_is_named_twice_and_each_wanted_one_is_there(pairs: list[tuple[str, str]]) -> None:
    wanted = mounts.wanted(dict(pairs))
    merged = mounts.parse(mounts.merge("-v /tmp:/m/n/o/p/q/a", wanted)[0])
    targets = [mount.target for mount in merged]
    assert len(targets) == len(set(targets))
    assert set(targets) == {"/m/n/o/p/q/a", *(mount.target for mount in wanted)}


@settings(deadline=None)
@given(PATHS, PATHS)
def test_what_is_added_is_what_was_wanted(target: str, source: str) -> None:
    (mount,) = mounts.wanted({target: source})
    assert mounts.parse(mounts.merge("", [mount])[0]) == [mount]


def test_the_mount_that_is_there_in_the_same_way_is_neither_added_nor_dropped() -> None:
    assert mounts.merge("-v /a:/b:ro", mounts.wanted({"/b/:ro": "/a/"})) == ("-v /a:/b:ro", [])


def test_the_earlier_of_two_entries_for_one_mount_point_stays() -> None:
    text, dropped = mounts.merge("", mounts.wanted({"/b": "/a", "/b/": "/c", "/b:ro": "/a"}))
    assert text == "-v /a:/b"
    assert [one.to_dict() for one in dropped] == [
        {"target": "/b", "source": "/c", "reason": "an earlier entry stays: /a:/b"},
        {"target": "/b", "source": "/a", "reason": "an earlier entry stays: /a:/b"},
    ]


def test_the_work_directory_of_madengine_is_never_mounted_over() -> None:
    text, dropped = mounts.merge("", mounts.wanted({"/myworkspace/": "/a", "/myworkspace/data": "/b"}))
    assert text == "-v /b:/myworkspace/data"
    assert dropped[0].reason == "madengine mounts its work directory there"


def test_the_real_case_keeps_its_own_infiniband_and_gets_the_devices() -> None:
    wanted = mounts.wanted({"/dev/infiniband": "/dev/infiniband", "/sys/class/infiniband": "/sys/class/infiniband"})
    text, dropped = mounts.merge(manifests.REAL_OPTIONS, wanted)
    assert text == manifests.REAL_OPTIONS + " -v /dev/infiniband:/dev/infiniband"
    assert [one.target for one in dropped] == ["/sys/class/infiniband"]


def test_a_variable_in_a_mount_is_left_for_the_shell_that_starts_the_container() -> None:
    assert mounts.merge("", mounts.wanted({"/data": "$SCRATCH/my data"}))[0] == '-v "${SCRATCH}/my data:/data"'
    assert mounts.merge("-v x:$D/a", mounts.wanted({"${D}/a/": "/b"}))[1][0].target == "${D}/a"


@pytest.mark.parametrize(
    ("docker_mounts", "what"),
    [
        ({"data": "/a"}, "mounts: no mount point"),
        ({"": "/a"}, "mounts: no mount point"),
        ({"/": "/a"}, "mounts: no mount point"),
        ({"/data/..": "/a"}, "mounts: no mount point"),
        ({"/data:no mode!": "/a"}, "mounts: no mode of a mount"),
        ({"/data": ""}, "mounts: no host path"),
        ({"/data": "/a:ro"}, "mounts: no host path"),
        ({"/data": "/$(id)"}, "options: more than a name is to be expanded"),
        ({"/`id`": "/a"}, "options: more than a name is to be expanded"),
    ],
)
def test_an_entry_that_is_no_mount_is_a_fault_that_names_it(docker_mounts: dict[str, str], what: str) -> None:
    with pytest.raises(JobFault) as caught:
        mounts.wanted(docker_mounts)
    assert caught.value.what == what
    assert caught.value.seen["where"] == "context.docker_mounts." + next(iter(docker_mounts))


def test_an_unbalanced_quote_is_a_fault_and_never_protection_off() -> None:
    with pytest.raises(JobFault, match=r"a quote or bracket is not closed \(where='here', character=4"):
        mounts.merge("-v '/a:/b", [Mount("/b", "/a")], where="here")


@pytest.mark.parametrize("text", ["--mount type=bind,source=/a", "--mount 'a\"b\"c'", "--mount '\"a'", "--mount=", "-v ''", "--tmpfs ''"])
def test_an_option_without_a_mount_point_is_left_to_docker(text: str) -> None:
    assert mounts.parse(text) == []


def test_the_last_target_of_a_mount_option_counts_as_in_docker() -> None:
    assert [mount.target for mount in mounts.parse("--mount type=bind,source=/a,target=/x,target=/y")] == ["/y"]


def test_a_mount_point_named_twice_is_known_but_not_the_same_words_twice() -> None:
    assert mounts.repeated(mounts.parse("-v /a:/x -v /b:/x/ --tmpfs /$A")) == ["/x"]
    assert mounts.repeated(mounts.parse("-v /a:/x -v /a:/x")) == []


@settings(deadline=None)
@given(PATHS)
def test_cleaning_a_path_twice_is_cleaning_it_once(path: str) -> None:
    assert mounts.clean(mounts.clean(path)) == mounts.clean(path)
    assert not docker_options.has_expansion(mounts.clean(path))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-v rel/x:/x", "-v /run/rel/x:/x"),
        ("-v ../x:/x:ro", "-v /x:/x:ro"),
        ("--mount type=bind,src=data,dst=/x", "--mount type=bind,src=/run/data,dst=/x"),
        ("--mount type=volume,src=data,dst=/x", "--mount type=volume,src=data,dst=/x"),
        ("-v data:/x -v $D/x:/x -v /a:$T", "-v data:/x -v $D/x:/x -v /a:$T"),
        ("-v /a:/b\\\n:ro,z", "-v /a:/b:ro,z"),
    ],
)
def test_what_docker_takes_for_no_path_is_made_one(text: str, found: str) -> None:
    assert mounts.resolved(text, directory="/run") == found


@pytest.mark.parametrize("text", ["-v :/x", "-v /a:", "-v /a:b", "-v a:/x", "-v ~bob/a:/x", "-v /a:/b:ro:z", "-v 'a b:/x'", "-v x"])
def test_what_docker_would_refuse_when_the_job_runs_is_refused_before(text: str) -> None:
    with pytest.raises(JobFault, match=r"mounts: no (host path|mount point)"):
        mounts.resolved(text, directory="/run")


@pytest.mark.parametrize("source", ["rel/x", "./x"])
def test_a_manifest_s_own_mounts_are_resolved_alike(source: str) -> None:
    assert mounts.wanted({"/x": source}, directory="/run")[0].source == "/run/" + source.replace("./", "")
    with pytest.raises(JobFault, match="mounts: no host path"):
        mounts.wanted({"/x": source})
