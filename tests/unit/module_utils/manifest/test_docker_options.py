# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import doctest
import re
import shlex
import subprocess
import time

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import docker_options
from hypothesis import example, given, settings
from hypothesis import strategies as st

QUOTING = st.text(alphabet="ab :,=/'\"\\$x{}-~*!%\t", max_size=20)


def values(text: str) -> list[str]:
    return [docker_options.shown(word.value) for word in docker_options.words(text)]


def read_by_sh(text: str) -> list[str]:
    result = subprocess.run(["sh", "-c", f"printf '%s\\0' {text}"], capture_output=True, check=True, env={"HOME": "/root", "x": "X"})
    return result.stdout.decode().split("\0")[:-1]


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(docker_options).failed == 0


@settings(deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0", max_codepoint=0xEFFFF, exclude_categories=["Cs"]))))
def test_what_shlex_quotes_comes_back_word_by_word(given_words: list[str]) -> None:
    assert values(" ".join(shlex.quote(word) for word in given_words)) == given_words


def expanded(value: str) -> str:
    """Return *value* as sh makes it where `x` is X and nothing else is set."""
    return re.sub(r"\$\{([a-z]+)\}", lambda name: "X" if name.group(1) == "x" else "", docker_options.shown(value))


PIECES = st.lists(
    st.sampled_from(
        ["a", "b", ":", ",", "=", "/", "-", " ", "\t", "'", '"', "\\", "\\\n", "\n", "$", "x", "{", "}", "${x}", "\\\\", "-v "]
    ),
    max_size=14,
).map("".join)


@given(PIECES)
@settings(max_examples=400, deadline=None)
@example("--ipc=host\\\n--shm-size 64G")
@example("-v /a:/b\\\n:ro")
@example("-v '/a\\\n:/b'")
@example('-e "A=1\\\n2" -e A=\\\\')
@example('-e "A=it\'s\\\n" -e B')
@example("$\\\n{x} $\\\nx ${x\\\n} \\\n-v")
def test_words_are_cut_as_sh_cuts_them_or_refused(text: str) -> None:
    try:
        words = docker_options.words(text)
    except JobFault:
        return
    forms = [form for word in words for form in re.findall(r"\$\{[^}]*\}|\$\(|`", docker_options.shown(word.value))]
    if set(forms) <= {"${x}"} and not any(set(word.value) & set("*~$") for word in words):
        assert [expanded(word.value) for word in words] == (read_by_sh(text) if words else [])


@given(PIECES.filter(lambda text: "$$" not in text.replace("\\\n", "")))
@settings(deadline=None)
def test_joining_lines_changes_nothing_for_sh_and_nothing_the_second_time(text: str) -> None:
    whole = docker_options.joined(text)
    assert docker_options.joined(whole) == whole
    ways = [subprocess.run(["sh", "-c", f"printf '%s\\0' {each}"], capture_output=True, env={"x": "X"}) for each in (text, whole)]
    assert (ways[0].stdout, ways[0].returncode) == (ways[1].stdout, ways[1].returncode)


@given(PIECES)
@settings(deadline=None)
def test_what_is_added_behind_a_string_is_a_word_of_its_own(text: str) -> None:
    try:
        words = docker_options.words(text)
    except JobFault:
        return
    assert [word.value for word in docker_options.words(f"{docker_options.trimmed(text)} -z")] == [*(word.value for word in words), "-z"]


def test_a_fault_names_the_place_in_what_was_written_not_in_the_joined_lines() -> None:
    with pytest.raises(JobFault) as caught:
        docker_options.parse("--rm\\\n --init\\\n -v '/a")
    assert caught.value.seen["character"] == 20


@given(QUOTING.filter(lambda text: "$" not in text))
@settings(max_examples=100, deadline=None)
def test_a_quoted_value_is_one_word_for_sh_and_keeps_every_byte(value: str) -> None:
    assert read_by_sh(docker_options.quoted(value)) == [value]


def test_an_expansion_is_expanded_by_sh_and_what_only_looks_like_one_is_not() -> None:
    value = docker_options.expandable("/a b/$x/${x}/end", "here")
    assert read_by_sh(docker_options.quoted(value)) == ["/a b/X/X/end"]
    assert read_by_sh(docker_options.quoted("$x `id` $(id)")) == ["$x `id` $(id)"]


@pytest.mark.parametrize("text", ["$(id)", "`id`", "${x:-y}", "a$", "a\nb", "$1", "a\0b", chr(0xF0041)])
def test_no_path_may_run_a_command(text: str) -> None:
    with pytest.raises(JobFault, match="more than a name is to be expanded"):
        docker_options.expandable(text, "context.docker_mounts./x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--name x", [("name", "x")]),
        ("--name=x", [("name", "x")]),
        ("--name=", [("name", "")]),
        ("--name ''", [("name", "")]),
        ("--rm --privileged=true", [("rm", None), ("privileged", "true")]),
        ("-dit", [("detach", None), ("interactive", None), ("tty", None)]),
        ("-itv /a:/b", [("interactive", None), ("tty", None), ("volume", "/a:/b")]),
        ("-tv=/a:/b", [("tty", None), ("volume", "/a:/b")]),
        ("-v/a:/b", [("volume", "/a:/b")]),
        ("-t=false -v /x", [("tty", "false"), ("volume", "/x")]),
        ("--memory-swap -1 --pids-limit -1", [("memory-swap", "-1"), ("pids-limit", "-1")]),
        ("--name -v", [("name", "-v")]),
        ("--ulimit memlock=-1", [("ulimit", "memlock=-1")]),
        ("-X y", [("X", "y")]),
        ('-v "/a b":/c', [("volume", "/a b:/c")]),
        ("-v $PWD:/c", [("volume", "${PWD}:/c")]),
        ("-v '$PWD':/c", [("volume", "$PWD:/c")]),
        ('--name "x-$(hostname -s):1"', [("name", "x-$(hostname -s):1")]),
        ("--name `hostname`", [("name", "`hostname`")]),
        ("-v ${A:-/x:/y}:/c", [("volume", "${A:-/x:/y}:/c")]),
        ('-e "A=$(echo ")" \\) ${B})"', [("env", 'A=$(echo ")" \\) ${B})')]),
        ('-e "A=\\a\\$B\\"\\`\\\\"', [("env", 'A=\\a$B"`\\')]),
        ('-e "A=1\\\n2"', [("env", "A=12")]),
        ("-e A=1 \\\n -e B=2", [("env", "A=1"), ("env", "B=2")]),
        ("$EXTRA --rm", [("", "${EXTRA}"), ("rm", None)]),
        ("", []),
        (" \t ", []),
    ],
)
def test_every_spelling_of_an_option_is_understood_as_docker_does(text: str, expected: list[tuple[str, str | None]]) -> None:
    found = [(option.name, None if option.value is None else docker_options.shown(option.value)) for option in docker_options.parse(text)]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "fact", "character"),
    [
        ("-v '/a:/b", "a quote or bracket is not closed", 4),
        ('--rm -v "/a:/b', "a quote or bracket is not closed", 9),
        ('-e "a\\"', "a quote or bracket is not closed", 4),
        ("-e $(id", "a quote or bracket is not closed", 5),
        ("-e $(id '", "a quote or bracket is not closed", 9),
        ("-e ${A", "a quote or bracket is not closed", 5),
        ("-e `id", "a quote or bracket is not closed", 4),
        ("--rm; rm -rf /", "sh would end the command at ';'", 5),
        ("--rm | cat", "sh would end the command at '|'", 6),
        ("--rm\n--init", "sh would end the command at '\\\\n'", 5),
        ("-e A=(b)", "sh would end the command at '('", 6),
        ("--rm # why", "sh takes the rest for a comment", 6),
        ("--rm a:b", "a word that is no option", 6),
        ("--rm ''", "a word that is no option", 6),
        ("--rm -- x", "a word that is no option", 6),
        ("--rm - x", "a word that is no option", 6),
        ("--rm -v", "an option without its value", 6),
        ("--rm -itv", "an option without its value", 6),
        ("--rm --mount", "an option without its value", 6),
        ("-e A=\\", "a backslash at the end", 6),
        ("--rm \\\r\n--init", "sh joins no lines that end with a carriage return", 6),
    ],
)
def test_what_sh_or_docker_would_misread_is_a_fault_that_names_the_place(text: str, fact: str, character: int) -> None:
    with pytest.raises(JobFault) as caught:
        docker_options.parse(text, "built_models.x.additional_docker_run_options")
    assert caught.value.what == "options: " + fact.replace("\\\\n", "\\n")
    assert caught.value.seen["where"] == "built_models.x.additional_docker_run_options"
    assert caught.value.seen["character"] == character


def test_a_fault_never_shows_the_string_since_a_token_may_stand_in_it() -> None:
    with pytest.raises(JobFault) as caught:
        docker_options.parse("-e HF_TOKEN=hf_secret -e 'B=hf_secret")
    assert "hf_secret" not in caught.value.line()
    assert "after='-e'" in caught.value.line()


@pytest.mark.parametrize("text", ["-v a\0b", "-v " + chr(0xF0041)])
def test_characters_that_no_shell_takes_are_refused(text: str) -> None:
    with pytest.raises(JobFault, match="a character that no shell takes"):
        docker_options.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-e A=1 --rm", "-e B --rm"),
        ("--env 'A=1 2' --rm", "--env B --rm"),
        ("--env='A=1 2'  --rm", "--env=B  --rm"),
        ("-iteA=1 --rm", "-iteB --rm"),
        ("-e=A=1", "-e=B"),
    ],
)
def test_a_change_touches_one_value_and_nothing_else(text: str, expected: str) -> None:
    option = next(option for option in docker_options.parse(text) if option.name == "env")
    assert docker_options.replaced(text, [(option, "B")]) == expected


def test_several_changes_do_not_get_into_each_others_way() -> None:
    text = "--env=A=1111 -e 'B=2' --rm -eC=3"
    changes = [(option, "X") for option in docker_options.parse(text) if option.name == "env"]
    assert docker_options.replaced(text, changes) == "--env=X -e X --rm -eX"


def test_an_option_string_that_an_expansion_may_add_to_is_known_as_such() -> None:
    assert docker_options.has_opaque("$EXTRA --rm")
    assert not docker_options.has_opaque("-v $PWD:/x --rm")


@pytest.mark.parametrize("text", ["$(" * 5000, "${" * 5000, "'" * 9999, '"' * 9999, "\\" * 9999, "-v " * 9999, "`" * 9999, '"$(' * 3000])
def test_a_hostile_string_is_read_or_refused_at_once(text: str) -> None:
    # What backtracks takes thousands of times as long, what reads on takes as long as a harmless text; on any machine.
    assert spent(text) < 100 * max(spent("a " * (len(text) // 2)), 1e-4)


def spent(text: str) -> float:
    started = time.process_time()
    with contextlib.suppress(JobFault):
        docker_options.parse(text)
    return time.process_time() - started
