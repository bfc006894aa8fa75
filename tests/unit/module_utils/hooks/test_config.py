# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site's settings: whatever an admin mistypes is named, and nothing keeps a cluster's jobs from starting."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core import process
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config
from helpers.hooks import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

COLLECTION = REPOSITORY / "collections/ansible_collections/rocm/madengine"
# Key, a good value, what it means, and a bad twin (None where every text is a value).
TABLE = [
    ("Enabled", "no", False, "perhaps"),
    ("ImageStore", "/shared/images", "/shared/images", "shared/images"),
    ("Transport", "SBCAST", "sbcast", "ftp"),
    ("Compression", "zstd", "zstd", "rar"),
    ("DockerSocket", "/run/user/%U/docker.sock", "/run/user/%U/docker.sock", "/run/user/%i/docker.sock"),
    ("DockerAccess", "service", "service", "root"),
    ("AllowImages", "rocm/*, mad/* ,", ("rocm/*", "mad/*"), None),
    ("OnConflict", "Leader", "leader", "oldest"),
    ("DefaultRegistry", "no", False, "maybe"),
    ("AllowBuild", "0", False, "2"),
    ("Deadline", "0.5", 0.5, "0"),
    ("PortRange", "2000 - 2001", (2000, 2001), "2001-2000"),
    ("ArrivalGrace", "12.5", 12.5, "soon"),
    ("KeyFile", "/etc/madengine/key", "/etc/madengine/key", "key"),
    ("Auth", "munge", "munge", "none"),
    ("DrainOn", "Disk,docker", ("disk", "docker"), "docker,weather"),
    ("PassEnv", "MY_*,-NCCL_DEBUG", ("MY_*", "-NCCL_DEBUG"), "MY-NAME"),
    ("ResultsPolicy", "merge", "merge", "newest"),
    ("ResultsWait", "2.5", 2.5, "never"),
    ("KeepWorkspace", "True", True, ""),
    ("MetricsDir", "", "", "./metrics"),
    ("LogLevel", "debug", "debug", "loud"),
    ("Python", "/opt/python/bin/python3.11", "/opt/python/bin/python3.11", "python3"),
    ("SlurmDir", "/opt/slurm", "/opt/slurm", "slurm"),
]
_FIELDS = {field.metadata["key"]: field for field in dataclasses.fields(config.Site) if field.metadata}


@pytest.mark.parametrize(
    ("text", "ports"), [("288-307", (288, 307)), ("600", (600, 600)), ("1-1023", (1, 1023)), ("1024-65535", (1024, 65535))]
)
def test_a_range_of_ports_lies_on_one_side_of_those_that_users_can_bind(text: str, ports: Any) -> None:
    assert config.parse(f"PortRange={text}", strict=True).port_range == ports


@pytest.mark.parametrize(
    ("text", "path", "is_own"),
    [("/run/docker.sock", "/run/docker.sock", False), ("/run/%u/%U.sock", "/run/alice/1001.sock", True), ("/%u%u", "/alicealice", True)],
)
def test_where_docker_listens_can_hang_on_who_asks(text: str, path: str, is_own: bool) -> None:
    site, alice = config.parse(f"DockerSocket={text}", strict=True), process.Account("alice", 1001, 100, (), "/home/alice")
    assert (site.socket_of(alice), site.has_own_dockers) == (path, is_own)
    assert not dataclasses.replace(site, docker_access="service").has_own_dockers
    with pytest.raises(JobFault, match="no part of a path"):
        site.socket_of(dataclasses.replace(alice, name="../root"))


@pytest.mark.parametrize("text", ["run/%u", "/run/%", "/run/%%u", "/run/%x/%u", ""])
def test_a_socket_that_cannot_be_expanded_is_refused(text: str) -> None:
    with pytest.raises(JobFault, match="not a value"):
        config.parse(f"DockerSocket={text}", strict=True)


def test_the_table_of_this_test_knows_every_key() -> None:
    assert tuple(key for key, _text, _value, _bad in TABLE) == config.KEYS


@pytest.mark.parametrize("key", config.KEYS)
def test_a_key_is_told_wherever_keys_are_told(key: str) -> None:
    """With its default in the module's documentation; tuning.rst's table is held against this one by the test of the guides."""
    default = config.settings_of(config.Site())[key]
    told = f"{default:g}" if isinstance(default, float) else config.render({key: default}).strip().partition("=")[2]
    module = (COLLECTION / "plugins/modules/hooks_config.py").read_text()
    assert f"- V({key}) ({f'V({told})' if told else 'none'})" in module


@pytest.mark.parametrize(("key", "text", "value", "bad"), TABLE, ids=[row[0] for row in TABLE])
def test_a_key_takes_its_value_in_any_case_and_touches_no_other(key: str, text: str, value: Any, bad: object) -> None:
    expected = dataclasses.replace(config.Site(), **{_FIELDS[key].name: value})
    for spelling in (key, key.lower(), key.upper()):
        assert config.parse(f"  {spelling} = {text}  # why") == expected
        assert config.parse(f"{spelling}={text}", strict=True) == expected


@pytest.mark.parametrize(("key", "bad"), [(row[0], row[3]) for row in TABLE if row[3] is not None])
def test_a_value_that_means_nothing_is_refused_strictly_and_warned_of_otherwise(key: str, bad: str) -> None:
    text = f"LogLevel=error\n{key}={bad}\n"
    with pytest.raises(JobFault) as raised:
        config.parse(text, "here", strict=True)
    assert raised.value.what == "config: not a value for this key"
    assert raised.value.seen == {"key": key, "value": bad, "place": "here:2"}
    assert raised.value.remedy == "give " + _FIELDS[key].metadata["expected"]
    site = config.parse(text, "here")
    assert site.warnings == (str(raised.value),)
    assert dataclasses.replace(site, warnings=()) == config.Site(log_level="error")


@pytest.mark.parametrize(("key", "value"), [
    ("Deadline", "nan"), ("Deadline", "inf"), ("Deadline", "-1"), ("Deadline", "86400"), ("Deadline", ""),
    ("Deadline", "1e400"),
    ("PortRange", "0"), ("PortRange", "1023-1024"), ("PortRange", "1024-65536"), ("PortRange", "a-b"), ("PortRange", ""),
    ("PortRange", "-2000"),
    ("PortRange", "2000-"),
    ("PassEnv", "*"), ("PassEnv", "A,-@nothing"), ("PassEnv", "1ST"),
    ("Enabled", ""), ("Transport", ""), ("Auth", "key,munge"),
])  # fmt: skip
def test_the_edges_of_a_value_are_watched(key: str, value: str) -> None:
    with pytest.raises(JobFault, match="not a value"):
        config.parse(f"{key}={value}", strict=True)


@pytest.mark.parametrize("line", ["Dedline=20", "Dedline", "=20", "Deadline 20", "warnings=x", "_KEYS=1", "enabled_=no"])
def test_a_key_that_nobody_knows_is_named_with_its_place_and_all_keys_there_are(line: str) -> None:
    with pytest.raises(JobFault) as raised:
        config.parse(f"# first\n\n{line}", "/etc/x", strict=True)
    assert raised.value.what == "config: unknown key"
    assert raised.value.seen == {"key": line.partition("=")[0], "place": "/etc/x:3"}
    assert all(key in raised.value.remedy for key in config.KEYS)
    assert config.parse(f"# first\n\n{line}", "/etc/x") == config.Site(warnings=(str(raised.value),))


def test_a_key_without_a_value_is_told_how_to_be_written() -> None:
    with pytest.raises(JobFault) as raised:
        config.parse("Deadline", "here", strict=True)
    assert (raised.value.what, raised.value.seen) == ("config: a key without a value", {"key": "Deadline", "place": "here:1"})


@given(st.text())
def test_no_text_whatever_stops_a_job_and_every_warning_is_one_line(text: str) -> None:
    site = config.parse(text)
    assert isinstance(site, config.Site)
    assert all("\n" not in warning for warning in site.warnings)


@given(st.lists(st.sampled_from([f"{key}={text}" for key, text, _value, _bad in TABLE]), unique=True))
def test_the_order_of_lines_means_nothing_and_twice_is_once(lines: list[str]) -> None:
    there, back = config.parse("\n".join(lines), strict=True), config.parse("\r\n".join(reversed(lines)), strict=True)
    assert there == back == config.parse("\n".join(lines + lines), strict=True)


def test_the_last_of_two_values_holds_as_in_slurm_conf() -> None:
    assert config.parse("Deadline=20\nDEADLINE=30").deadline_seconds == 30.0


def test_a_file_is_read_and_a_missing_one_leaves_the_defaults_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "hooks.conf"
    missing = config.read(str(path))
    assert dataclasses.replace(missing, warnings=()) == config.Site()
    assert len(missing.warnings) == 1
    assert missing.warnings[0].endswith("; the defaults hold")
    assert str(path) in missing.warnings[0]
    path.write_bytes(b"\xef\xbb\xbfEnabled=no\n# caf\xe9\n")  # an editor's byte order mark, a comment in Latin-1
    assert config.read(str(path)) == config.Site(enabled=False)


def test_what_is_no_plain_file_leaves_the_defaults_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        site = config.read(str(path))
        assert dataclasses.replace(site, warnings=()) == config.Site()
        assert "the defaults hold" in site.warnings[0]


@pytest.mark.parametrize(("patterns", "reference", "allowed"), [
    ("", "rocm/vllm:1", False),
    ("rocm/*", "rocm/vllm:1", True),
    ("rocm/*", "docker.io/rocm/vllm:1", True),
    ("rocm/*", "registry.example.org/rocm/vllm:1", False),
    ("docker.io/rocm/*,library/x,debian", "debian:12", True),
    ("rocm/*,mad/x:1", "mad/x:1", True),
    ("rocm/*,mad/x:1", "mad/x:11", False),
])  # fmt: skip
def test_an_image_is_allowed_by_a_pattern_that_covers_all_of_its_name(patterns: str, reference: str, allowed: bool) -> None:
    assert config.parse(f"AllowImages={patterns}", strict=True).allows(reference) is allowed
    assert config.Site().allows(reference)


@pytest.mark.parametrize("patterns", ["Rocm/*", "rocm/*,https://r.io/a", "rocm/x@1.0"])
def test_a_pattern_that_is_for_no_image_is_refused_by_the_role_and_opens_nothing_in_a_file(patterns: str) -> None:
    with pytest.raises(JobFault, match="not a value for this key"):
        config.parse(f"AllowImages={patterns}", strict=True)
    site = config.parse(f"AllowImages={patterns}")
    assert "not a value for this key" in site.warnings[0]
    assert (site.allows("mad/x:1"), site.allows("rocm/vllm:1")) == (False, "rocm/*" in patterns)


@given(st.lists(st.sampled_from(TABLE), unique=True))
def test_what_is_rendered_is_read_back_and_stands_in_the_table_s_order(rows: list[Any]) -> None:
    settings = {key.upper(): text for key, text, _value, _bad in rows}
    text = config.render(settings)
    assert config.parse(text, strict=True) == config.parse("\n".join(f"{key}={given}" for key, given in settings.items()), strict=True)
    written = [line.partition("=")[0] for line in text.splitlines()]
    assert written == [key for key in config.KEYS if key.upper() in settings]
    assert config.render(dict(reversed(settings.items()))) == text


@given(st.lists(st.sampled_from(TABLE), unique=True))
def test_the_settings_that_hold_can_be_written_again(rows: list[Any]) -> None:
    site = config.parse("\n".join(f"{key}={text}" for key, text, _value, _bad in rows), strict=True)
    assert config.parse(config.render(config.settings_of(site)), strict=True) == site
    assert tuple(config.settings_of(site)) == config.KEYS


@pytest.mark.parametrize(("value", "line"), [
    ({"Enabled": True}, "Enabled=yes"),
    ({"Enabled": False}, "Enabled=no"),
    ({"deadline": 20}, "Deadline=20"),
    ({"DEADLINE": 0.5}, "Deadline=0.5"),
    ({"DrainOn": ["docker", "disk"]}, "DrainOn=docker,disk"),
    ({"DrainOn": []}, "DrainOn="),
    ({"ImageStore": ""}, "ImageStore="),
    ({"AllowImages": " rocm/* , mad/* "}, "AllowImages=rocm/* , mad/*"),
])  # fmt: skip
def test_values_of_a_playbook_become_values_of_the_file(value: dict[str, Any], line: str) -> None:
    assert config.render(value) == line + "\n"


@pytest.mark.parametrize(("settings", "what", "seen"), [
    ({"Dedline": 20}, "config: unknown key", {"key": "Dedline", "place": "settings"}),
    ({"Deadline=20\nEnabled": 1}, "config: unknown key", {"key": "Deadline=20\nEnabled", "place": "settings"}),
    ({"Deadline": 20, "deadline": 30}, "config: a key is given twice", {"key": "Deadline", "place": "settings"}),
    ({"Deadline": True}, "config: not a value for this key", {"key": "Deadline", "value": "yes", "place": "settings"}),
    ({"Deadline": None}, "config: not a value for this key", {"key": "Deadline", "value": "None", "place": "settings"}),
    ({"AllowImages": {"a": 1}}, "config: not a value for this key", {"key": "AllowImages", "value": "{'a': 1}", "place": "settings"}),
    ({"AllowImages": ["a,b"]}, "config: not a value for this key", {"key": "AllowImages", "value": "['a,b']", "place": "settings"}),
    ({"AllowImages": [None]}, "config: not a value for this key", {"key": "AllowImages", "value": "[None]", "place": "settings"}),
    ({"AllowImages": "a\nAllowBuild=yes"}, "config: not a value for this key",
     {"key": "AllowImages", "value": "a\nAllowBuild=yes", "place": "settings"}),
    ({"AllowImages": "a\u2028b"}, "config: not a value for this key", {"key": "AllowImages", "value": "a\u2028b", "place": "settings"}),
    ({"AllowImages": "a # b"}, "config: not a value for this key", {"key": "AllowImages", "value": "a # b", "place": "settings"}),
])  # fmt: skip
def test_what_cannot_be_written_is_refused_and_named(settings: dict[str, Any], what: str, seen: dict[str, str]) -> None:
    with pytest.raises(JobFault) as raised:
        config.render(settings)
    assert (raised.value.what, raised.value.seen) == (what, seen)
    assert "\n" not in raised.value.line()
