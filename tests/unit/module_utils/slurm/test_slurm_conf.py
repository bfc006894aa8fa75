# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm.conf: what the hooks need goes in, the rest stays, and what was there comes back."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import List, Optional

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings, slurm_conf
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm.slurm_conf import MARK
from hypothesis import given
from hypothesis import strategies as st

WANTED = slurm_conf.Wanted("/etc/slurm/prolog.d/*", "/etc/slurm/epilog.d/*", "/etc/slurm/task_prolog", 240)
SITE = """\
# The site's own; do not reorder.
ClusterName=lab

#Prolog=/old/one
Prolog=/site/prolog.sh   # since 2019
prologflags = X11,\\
Contain
Include nodes.conf
AuthInfo=socket=/run/munge/s,cred_expire=60 BatchStartTimeout=20
PrologEpilogTimeout=65534
NodeName=n[1-3] CPUs=2
"""


def test_what_the_hooks_need_goes_in_where_it_belongs_and_nothing_else_moves() -> None:
    assert (
        slurm_conf.merged(SITE, WANTED)
        == f"""\
# The site's own; do not reorder.
ClusterName=lab

#Prolog=/old/one
{MARK} Prolog=/site/prolog.sh   # since 2019
Prolog=/etc/slurm/prolog.d/* # since 2019
{MARK} prologflags = X11,\\
{MARK} Contain
PrologFlags=X11,Contain,Alloc,DeferBatch
Include nodes.conf
{MARK} AuthInfo=socket=/run/munge/s,cred_expire=60 BatchStartTimeout=20
AuthInfo=socket=/run/munge/s,cred_expire=270 BatchStartTimeout=270
PrologEpilogTimeout=65534
NodeName=n[1-3] CPUs=2
{MARK} (no such line)
Epilog=/etc/slurm/epilog.d/*
{MARK} (no such line)
TaskProlog=/etc/slurm/task_prolog
"""
    )


def test_a_judge_of_what_came_out_finds_nothing_to_say() -> None:
    """The names are those of ``scontrol show config``."""
    names = {name.lower(): name for name in ("PrologFlags", "AuthInfo", "BatchStartTimeout", "PrologEpilogTimeout", *slurm_conf.PROGRAMS)}
    found = {names.get(key, key): value for key, value in slurm_conf.values(slurm_conf.merged(SITE, WANTED)).items()}
    assert settings.judge(found, WANTED.prolog, WANTED.epilog, WANTED.task_prolog, WANTED.deadline_seconds) == []


@pytest.mark.parametrize(("before", "after"), [
    ("PrologFlags=Alloc,DeferBatch", None),
    ("PrologFlags=alloc,deferbatch,X11", None),
    ("PrologFlags=Serial", "PrologFlags=Serial,Alloc,DeferBatch"),
    ("BatchStartTimeout=270", None),
    ("BatchStartTimeout=269", "BatchStartTimeout=270"),
    ("PrologEpilogTimeout=100", "PrologEpilogTimeout=270"),
    ("PrologEpilogTimeout=unlimited", None),
    ("PrologTimeout=9", "PrologTimeout=270"),
    ("AuthInfo=cred_expire=270", None),
    ("AuthInfo=cred_expire=x,ttl=5", None),  # as the judge of running settings: it is SLURM's to refuse
    ("AuthInfo=ttl=5", "AuthInfo=ttl=5,cred_expire=270"),
    ('Epilog="/site/epilog"', "Epilog=/etc/slurm/epilog.d/*"),
    ("Prolog=/etc/slurm/prolog.d/*", None),
    ("Prolog=/site/a\nProlog=/etc/slurm/prolog.d/*", None),
    ("AuthType=auth/munge PrologFlags=X11 # both", "AuthType=auth/munge PrologFlags=X11,Alloc,DeferBatch # both"),
])  # fmt: skip
def test_a_setting_is_changed_only_where_it_does_not_fit(before: str, after: Optional[str]) -> None:
    lines = slurm_conf.merged(before + "\n", WANTED).splitlines()
    assert lines[: before.count("\n") + 1] == before.split("\n") if after is None else lines[:2] == [f"{MARK} {before}", after]


def test_what_is_not_there_and_has_a_good_default_is_not_added() -> None:
    added = slurm_conf.values(slurm_conf.merged("", WANTED))
    assert set(added) == {"prologflags", "prolog", "epilog", "taskprolog", "batchstarttimeout", "authinfo"}


def test_the_sites_own_programs_are_known_before_and_after() -> None:
    for text in (SITE, slurm_conf.merged(SITE, WANTED)):
        assert slurm_conf.displaced(slurm_conf.merged(text, WANTED)) == {"Prolog": "/site/prolog.sh"}
    assert slurm_conf.displaced(slurm_conf.merged("Prolog=/etc/slurm/prolog.d/*\n", WANTED)) == {}
    assert slurm_conf.programs("Prolog=/a\nProlog=/b\nepilog=/c\n") == {"Prolog": "/a,/b", "Epilog": "/c", "TaskProlog": ""}


@pytest.mark.parametrize("text", ["Prolog=/a\nProlog=/b\n", "PrologFlags=X11\nprologflags=Serial\n", "Epilog=/a Epilog=/b\n"])
def test_a_setting_that_stands_there_twice_is_refused(text: str) -> None:
    with pytest.raises(JobFault, match=r"stands there more than once .*leave one line of it"):
        slurm_conf.merged(text, WANTED)


def test_a_deadline_that_grows_raises_the_timers_and_the_first_line_comes_back() -> None:
    text = "BatchStartTimeout=20\n"
    longer = slurm_conf.Wanted(WANTED.prolog, WANTED.epilog, WANTED.task_prolog, 1000)
    twice = slurm_conf.merged(slurm_conf.merged(text, WANTED), longer)
    assert slurm_conf.values(twice)["batchstarttimeout"] == "1030"
    assert twice.count(f"{MARK} BatchStartTimeout") == 1
    assert slurm_conf.restored(twice) == text


def test_what_others_change_in_between_stays() -> None:
    changed = slurm_conf.merged(SITE, WANTED).replace("CPUs=2", "CPUs=4") + "PartitionName=p Nodes=ALL\n"
    assert slurm_conf.restored(changed) == SITE.replace("CPUs=2", "CPUs=4") + "PartitionName=p Nodes=ALL\n"


def test_where_somebody_took_our_line_away_no_line_of_theirs_goes() -> None:
    text = slurm_conf.merged(SITE, WANTED).replace("PrologFlags=X11,Contain,Alloc,DeferBatch\n", "")
    assert "Include nodes.conf\n" in slurm_conf.restored(text)
    assert slurm_conf.restored(f"{MARK} Prolog=/a\n") == "Prolog=/a\n"


def test_a_setting_in_a_file_that_is_included_is_found_with_its_place() -> None:
    tree = {"/etc/slurm/a.conf": "include b.conf\n", "/etc/slurm/b.conf": "Include a.conf\nEpilog=/x\nSlurmUser=slurm\n"}
    text = "Include a.conf # all\nInclude /gone.conf\nProlog=/y\n"
    assert slurm_conf.included(text, "/etc/slurm/slurm.conf", tree.get) == {"epilog": "/etc/slurm/b.conf"}


SEVERAL = dataclasses.replace(WANTED, takes_several=True)


def test_where_slurm_takes_several_the_sites_stay_and_ours_stands_beside_them_in_its_order() -> None:
    text = "Prolog=/opt/slurm/prolog.d/*.sh\nEpilog=/site/a\nProlog=prolog.sh\nEpilog=/site/b\nNodeName=n1\n"
    merged = slurm_conf.merged(text, SEVERAL)
    assert slurm_conf.programs(merged) == {
        "Prolog": "/opt/slurm/prolog.d/*.sh,prolog.sh,/etc/slurm/prolog.d/*",  # ours after theirs
        "Epilog": "/etc/slurm/epilog.d/*,/site/a,/site/b",  # ours before theirs
        "TaskProlog": "/etc/slurm/task_prolog",
    }
    assert slurm_conf.displaced(merged) == {}
    assert slurm_conf.of_the_site(merged)["Prolog"] == ["/opt/slurm/prolog.d/*.sh", "prolog.sh"]
    assert slurm_conf.merged(merged, SEVERAL) == merged
    assert slurm_conf.restored(merged) == text


def test_a_slurm_that_is_upgraded_keeps_the_line_that_gave_way() -> None:
    merged = slurm_conf.merged(SITE, WANTED)
    assert slurm_conf.merged(merged, SEVERAL) == merged
    assert slurm_conf.displaced(merged) == {"Prolog": "/site/prolog.sh"}


def test_a_task_prolog_gives_way_in_every_release_for_slurm_knows_one() -> None:
    assert slurm_conf.displaced(slurm_conf.merged("TaskProlog=/site/task\n", SEVERAL)) == {"TaskProlog": "/site/task"}


@pytest.mark.parametrize(("name", "path"), [("prolog.sh", "/etc/slurm/prolog.sh"), ("d/*", "/etc/slurm/d/*"), ("/a", "/a")])
def test_a_relative_name_is_beside_slurm_conf(name: str, path: str) -> None:
    assert slurm_conf.resolved(name, "/etc/slurm/slurm.conf") == path


_KEYS = st.sampled_from(["Prolog", "epilog", "TASKPROLOG", "PrologFlags", "BatchStartTimeout", "AuthInfo", "PrologTimeout", "ClusterName"])
_VALUES = st.sampled_from(["/a", "X11", "Alloc", "5", "900", "cred_expire=7", '"/b"', "65534"])
_ENDS = st.sampled_from(["", " # why", "  \\\n", " X=1", "\t"])
_LINES = st.one_of(st.builds("{}={}{}".format, _KEYS, _VALUES, _ENDS), st.sampled_from(["", "# Prolog=/x", "Include x.conf", "# a \\"]))


@given(st.lists(_LINES, max_size=8), st.sampled_from([WANTED, SEVERAL]))
def test_it_is_done_once_and_what_was_there_comes_back(lines: List[str], wanted: slurm_conf.Wanted) -> None:
    text = "".join(line + "\n" for line in lines)
    try:
        merged = slurm_conf.merged(text, wanted)
    except JobFault:
        return
    assert slurm_conf.merged(merged, wanted) == merged
    assert slurm_conf.restored(merged) == text
    assert slurm_conf.restored(text) == text


@given(st.text())
def test_no_file_whatever_breaks_it(text: str) -> None:
    with contextlib.suppress(JobFault):
        assert slurm_conf.programs(slurm_conf.merged(text, WANTED))["Prolog"]
    slurm_conf.restored(text)


FILTERED = slurm_conf.Wanted(WANTED.prolog, WANTED.epilog, WANTED.task_prolog, WANTED.deadline_seconds, has_cli_filter=True)


@pytest.mark.parametrize(("before", "after"), [
    ("", "cli_filter/lua"),
    ("CliFilterPlugins=cli_filter/syslog # all\n", "cli_filter/syslog,cli_filter/lua"),
    ("CliFilterPlugins=syslog,user_defaults\n", "syslog,user_defaults,cli_filter/lua"),
    ("CliFilterPlugins=lua\n", "lua"),
    ("clifilterplugins=cli_filter/lua,x\n", "cli_filter/lua,x"),
    ("PrologFlags=X11 CliFilterPlugins=syslog\n", "syslog,cli_filter/lua"),
])  # fmt: skip
def test_the_filter_is_added_to_the_sites_and_goes_alone_when_it_is_not_wanted_any_more(before: str, after: str) -> None:
    plain, filtered = slurm_conf.merged(before, WANTED), slurm_conf.merged(before, FILTERED)
    assert slurm_conf.values(filtered)["clifilterplugins"] == after
    assert slurm_conf.merged(filtered, FILTERED) == filtered
    assert slurm_conf.values(slurm_conf.merged(filtered, WANTED)) == slurm_conf.values(plain)
    assert slurm_conf.merged(slurm_conf.merged(filtered, WANTED), WANTED) == slurm_conf.merged(filtered, WANTED)
    assert slurm_conf.restored(filtered) == slurm_conf.restored(slurm_conf.merged(filtered, WANTED)) == before


def test_what_names_the_filter_is_ours_to_set_only_where_it_is_wanted() -> None:
    assert FILTERED.keys() - WANTED.keys() == {"clifilterplugins"}
    tree = {"/etc/slurm/a.conf": "CliFilterPlugins=syslog\n"}
    assert slurm_conf.included("Include a.conf\n", "/etc/slurm/slurm.conf", tree.get, WANTED.keys()) == {}
    assert slurm_conf.included("Include a.conf\n", "/etc/slurm/slurm.conf", tree.get, FILTERED.keys()) == {
        "clifilterplugins": "/etc/slurm/a.conf"
    }


def test_the_mark_of_another_setting_stays_when_the_filter_goes() -> None:
    text = slurm_conf.merged("BatchStartTimeout=20\n", FILTERED)
    assert slurm_conf.merged(text, WANTED) == slurm_conf.merged("BatchStartTimeout=20\n", WANTED)
    assert slurm_conf.restored(f"{MARK} BatchStartTimeout=20\n", {"clifilterplugins"}) == f"{MARK} BatchStartTimeout=20\n"


# As sites write it; each with the site's own programs that go on.
FORMS = {
    "a value over two lines": ("Prolog=/a/\\\nb.sh\nPrologFlags=X11,\\\nSerial\n", "/a/b.sh"),
    "a comment without a blank": ("Prolog=/a/b.sh#mine\n", "/a/b.sh"),
    "small and large letters, blanks and tabs": ("  prolog\t= /a/b.sh\nPROLOGFLAGS=alloc,contain\n", "/a/b.sh"),
    "quotes": ('Prolog="/a/b.sh"\nPrologFlags="Alloc,X11"\n', "/a/b.sh"),
    "three settings in one line": ("Prolog=/a/b.sh Epilog=/a/e.sh TaskProlog=/a/t.sh\n", "/a/b.sh"),
    "ends of lines of another system": ("Prolog=/a/b.sh\r\nPrologFlags=Alloc\r\n", "/a/b.sh"),
    "a pattern": ("Prolog=/a/*.sh\n", "/a/*.sh"),
    "all flags": ("PrologFlags=Alloc,Contain,X11,DeferBatch,Serial\n", ""),
    "a comment that seems to go on": ("# Prolog=/x \\\nProlog=/a/b.sh\n", "/a/b.sh"),
    "nodes over lines, with addresses": (
        "NodeName=n[1-2] \\\n  NodeAddr=10.0.0.[1-2]\nNodeSet=a Nodes=n[1-2]\nProlog=/a/b.sh\n",
        "/a/b.sh",
    ),
    "no end of the last line": ("ClusterName=c\nProlog=/a/b.sh", "/a/b.sh"),
    "a last line that goes on into nothing": ("ClusterName=c\nProlog=/a/b.sh \\", "/a/b.sh"),
}


@pytest.mark.parametrize("takes_several", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_however_a_site_writes_it_its_program_goes_on_and_its_text_comes_back(form: str, takes_several: bool) -> None:
    (text, program), wanted = FORMS[form], dataclasses.replace(WANTED, takes_several=takes_several)
    merged = slurm_conf.merged(text, wanted)
    assert slurm_conf.merged(merged, wanted) == merged
    assert slurm_conf.restored(merged).rstrip("\n") == text.rstrip("\n")
    kept = [*slurm_conf.programs(merged)["Prolog"].split(","), slurm_conf.displaced(merged).get("Prolog", "")]
    assert WANTED.prolog in kept
    assert program in kept
    flags = slurm_conf.values(merged)["prologflags"].lower().split(",")
    assert {"alloc", "deferbatch"} <= set(flags)
    assert set(slurm_conf.values(text).get("prologflags", "").lower().split(",")) <= {*flags, ""}
