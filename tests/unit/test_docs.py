# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides say what is true: each example is read by what it is meant for, each message quoted is one of ours.

What has to run on a cluster is run there, by tests/cluster/default/test_guides.py.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.rocm.madengine.plugins.module_utils import _options
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import JobFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config, request
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import job_spec
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import allocation
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.slurm import settings as slurm
from helpers import guides
from helpers.hooks import REPOSITORY

COLLECTION = REPOSITORY / "collections/ansible_collections/rocm/madengine"
PREFIX = "rocm.madengine."
INSTALLED = "/opt/madengine-hooks/current/"
TEXTS = guides.texts()


def named(kind: str) -> Any:
    found = guides.blocks(kind)
    assert found, f"no guide shows a {kind}: does the parser still find them?"
    return pytest.mark.parametrize("block", found, ids=[block.name for block in found])


# --- Nothing goes unread ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", TEXTS)
def test_every_code_block_is_of_a_kind_that_a_test_reads_or_runs(guide: str) -> None:
    assert guides.unclaimed(guide, TEXTS[guide]) == []


@pytest.mark.parametrize(
    "text",
    [
        "\n.. code-block:: bash\n\n   rm -rf /\n",
        "\n.. code-block:: bash\n   :name: tuning-wonder\n\n   rm -rf /\n",
        "\n.. code-block:: yaml\n   :name: tuning-job\n\n   - a\n",
        "\n.. code-block:: bash\n   :caption: x\n   :name: tuning-job\n\n   a\n",
        "\nRun this::\n\n   rm -rf /\n",
        "\n::\n\n   rm -rf /\n",
        "\n.. code:: bash\n\n   rm -rf /\n",
    ],
    ids=["no-name", "no-kind", "wrong-language", "other-option", "literal", "bare-literal", "code"],
)
def test_a_block_that_no_test_claims_is_found(text: str) -> None:
    assert guides.unclaimed("bad", text)


def test_names_of_blocks_are_unique_and_tell_their_guide() -> None:
    found = [block for guide, text in TEXTS.items() for block in guides.blocks_in(guide, text)]
    assert len({block.name for block in found}) == len(found) > 10
    assert [block.name for block in found if not block.name.startswith(block.guide.replace("_", "-"))] == []


def test_every_guide_is_in_the_table_of_contents() -> None:
    sections = yaml.safe_load((guides.FOLDER.parent / "extra-docs.yml").read_text())["sections"]
    assert sorted(name for section in sections for name in section["toctree"]) == sorted(TEXTS)


# --- Messages -----------------------------------------------------------------------------------------------------------


def pattern(node: ast.expr) -> str:
    """Return a text of the code as a regular expression: what is put in at run time may be anything."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(pattern(part) if isinstance(part, ast.Constant) else ".+" for part in node.values)
    return ""


def sources() -> Iterator[Path]:
    yield from (COLLECTION / "plugins/module_utils").rglob("*.py")
    yield from (REPOSITORY / name for name in ("prolog/prolog.py", "epilog/epilog.py"))


def texts_of_the_code() -> Set[str]:
    """Return each text in the code, as a pattern."""
    found = {pattern(node) for path in sources() for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.expr)}
    shell = (REPOSITORY / "prolog/task_environment.sh").read_text()
    return found | {re.escape(text) + ".*" for text in re.findall(r"print (madengine: [^;\"]+)", shell)}


ALL = texts_of_the_code()
# A pattern that would match nearly anything proves nothing.
SAID = {each for each in ALL if len(re.sub(r"\.\+|[^a-zA-Z]", "", each)) >= 6}
SAYINGS = [re.compile(each) for each in SAID]


def is_said(text: str) -> bool:
    """Say whether the code holds *text*, in one piece or as a noun and a fact that it puts together."""
    noun, _colon, fact = text.partition(": ")
    return any(each.fullmatch(text) for each in SAYINGS) or (noun + ":\\ .+" in ALL and re.escape(fact) in SAID)


@pytest.mark.parametrize("guide", TEXTS)
def test_every_message_that_a_guide_quotes_is_one_that_the_code_can_say(guide: str) -> None:
    unknown = [what for what, remedy in guides.messages(TEXTS[guide]) if not is_said(what) or (remedy and not is_said(remedy))]
    assert unknown == []


def test_a_message_that_nobody_says_is_found() -> None:
    quoted = guides.messages(
        "If it says ``engine: Docker is on holiday (since=1); call it back``, or ``madengine: job: image: nobody has it``"
    )
    assert quoted == [("engine: Docker is on holiday", "call it back"), ("image: nobody has it", "")]
    assert [is_said(what) for what, _remedy in quoted] == [False, True]
    assert not is_said("call it back")


def test_the_troubleshooting_guide_knows_the_faults_of_every_noun_that_users_meet_most() -> None:
    nouns = {what.partition(":")[0] for what, _remedy in guides.messages(TEXTS["troubleshooting"])}
    assert nouns >= {"request", "handover", "manifest", "image", "engine", "rendezvous", "credential", "store", "config", "release"}


# --- Settings -----------------------------------------------------------------------------------------------------------


def test_the_tuning_guide_tells_every_key_with_its_default() -> None:
    rows = re.findall(r"   \* - ``([A-Z][A-Za-z]+)``\n     - (.+)\n", TEXTS["tuning"])
    site = config.settings_of(config.Site())
    assert dict(rows).keys() == site.keys()
    for key, told in rows:
        given = config.parse("" if told == "nothing" else f"{key}={told.strip('`')}", strict=True)
        assert config.settings_of(given)[key] == site[key], key
        assert (told == "nothing") == (site[key] in ("", [])), key


@named("hooks-conf")
def test_settings_that_a_guide_shows_are_settings(block: guides.Block) -> None:
    assert config.parse(block.text, strict=True) != config.Site()
    with pytest.raises(JobFault, match="unknown key"):
        config.parse(block.text + "Dedline=3\n", strict=True)


@named("slurm-conf")
def test_settings_of_slurm_are_enough_for_the_deadline_that_the_guide_speaks_of(block: guides.Block) -> None:
    settings = dict(line.split("=", 1) for line in block.text.splitlines())
    deadlines = re.findall(r"``Deadline=(\d+)``", TEXTS[block.guide]) or ["600"]
    paths = ("/etc/slurm/prolog.d/*", "/etc/slurm/epilog.d/*", "/etc/slurm/task_prolog")
    assert slurm.judge(settings, *paths, float(deadlines[0])) == []
    assert slurm.judge(settings, *paths, 10 * float(deadlines[0])) != []


# --- Ansible ------------------------------------------------------------------------------------------------------------


def role_options(role: str) -> Dict[str, Any]:
    """Return the options of all entry points of *role*."""
    specs = yaml.safe_load((COLLECTION / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    return {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}


def known_variables() -> Set[str]:
    """Return what may stand in an inventory or behind ``-e``: options of the roles, and what the playbooks themselves read."""
    roles = {name for path in (COLLECTION / "roles").iterdir() for name in role_options(path.name)}
    playbooks = "".join(path.read_text() for path in (COLLECTION / "playbooks").rglob("*.yml"))
    return roles | set(re.findall(r"\bmadengine_[a-z_]+\b", playbooks))


def refused(options: Dict[str, Any], given: Dict[str, Any]) -> List[str]:
    """Return what the argument specification *options* has against *given*; a template is whatever it has to be."""
    spec = {name: {key: value for key, value in option.items() if key in ("type", "required", "choices", "aliases", "elements")}
            for name, option in options.items()}  # fmt: skip
    plain = {name: value for name, value in given.items() if "{{" not in str(value)}
    return list(ArgumentSpecValidator(spec).validate(plain).error_messages)


def module_options(module: str) -> Dict[str, Any]:
    """Return the documented options of one of our modules, its fragments' included."""
    text = (COLLECTION / f"plugins/modules/{module}.py").read_text()
    documented = yaml.safe_load(re.search(r'DOCUMENTATION = r"""\n(.*?)"""', text, re.DOTALL)[1])  # type: ignore[index]
    options = dict(documented.get("options") or {})
    for fragment in documented.get("extends_documentation_fragment", []):
        name, _dot, part = fragment[len(PREFIX) :].partition(".")
        source = (COLLECTION / f"plugins/doc_fragments/{name}.py").read_text()
        shared = re.search(rf'{(part or "documentation").upper()} = r"""\n(.*?)"""', source, re.DOTALL)
        options.update(yaml.safe_load(shared[1])["options"])  # type: ignore[index]
    return options


def fragments() -> List[str]:
    """Return the fragments that have options."""
    return sorted(path.stem for path in (COLLECTION / "plugins/doc_fragments").glob("*.py") if path.stem != "attributes")


def documented_options(path: str) -> Dict[str, Any]:
    """Return the options that a module or a fragment itself documents."""
    text = re.search(r'DOCUMENTATION = r"""\n(.*?)"""', (COLLECTION / "plugins" / path).read_text(), re.DOTALL)
    options = yaml.safe_load(text[1]).get("options") or {}  # type: ignore[index]
    return {name: {key: value for key, value in option.items() if key != "description"} for name, option in options.items()}


@pytest.mark.parametrize("fragment", fragments())
def test_a_fragment_describes_what_its_argument_spec_takes(fragment: str) -> None:
    assert documented_options(f"doc_fragments/{fragment}.py") == getattr(_options, fragment.upper())


def test_no_module_has_an_option_of_its_own_that_a_fragment_describes() -> None:
    shared = [(name, option) for fragment in fragments() for name, option in getattr(_options, fragment.upper()).items() if len(option) > 1]
    for path in (COLLECTION / "plugins/modules").glob("*.py"):
        twice = [name for name, option in documented_options(f"modules/{path.name}").items() if (name, option) in shared]
        assert twice == [], path.name


def wrong_in(play: Dict[str, Any]) -> List[str]:
    """Return what the roles and modules of ours would refuse of what *play* gives them."""
    wrong = []
    for role in play.get("roles", []):
        name = role["role"][len(PREFIX) :]
        wrong += refused(role_options(name), role.get("vars", {}))
        settings = role.get("vars", {}).get("slurm_hooks_settings")
        if settings:
            config.render(settings)
    for task in play.get("tasks", []):
        for action in (key for key in task if key.startswith(PREFIX)):
            wrong += refused(module_options(action[len(PREFIX) :]), task[action])
    return wrong


@named("playbook")
def test_a_playbook_of_a_guide_is_sound_and_gives_our_roles_and_modules_what_they_take(block: guides.Block, tmp_path: Path) -> None:
    path = tmp_path / "play.yml"
    path.write_text(block.text)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_LOCALHOST_WARNING": "false"}
    command = [Path(sys.executable).with_name("ansible-playbook"), "--syntax-check", "-i", "localhost,", path]
    checked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    for play in yaml.safe_load(block.text):
        assert wrong_in(play) == []


def test_an_option_that_does_not_exist_is_found() -> None:
    assert wrong_in({"roles": [{"role": "rocm.madengine.image_store", "vars": {"image_store_path": "/x", "image_store_colour": "red"}}]})
    assert wrong_in({"roles": [{"role": "rocm.madengine.image_store", "vars": {}}]})
    assert wrong_in({"tasks": [{"rocm.madengine.image_prune": {"store": "/x", "max_gib": 3}}]})
    assert wrong_in({"tasks": [{"rocm.madengine.image_info": {"store": "/x", "docker_socket": "/run/docker.sock"}}]}) == []


@named("inventory")
def test_an_inventory_of_a_guide_has_the_groups_and_variables_that_the_playbooks_ask_for(block: guides.Block, tmp_path: Path) -> None:
    path = tmp_path / "inventory"
    path.write_text(block.text)
    command = [Path(sys.executable).with_name("ansible-inventory"), "-i", path, "--list"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {"slurm_controller", "slurm_compute"} <= listed.keys()
    assert len(listed["slurm_compute"]["hosts"]) > 1
    given = {name for variables in listed["_meta"]["hostvars"].values() for name in variables}
    assert given <= known_variables()


@named("variables")
def test_variables_of_a_guide_are_known(block: guides.Block) -> None:
    given = yaml.safe_load(block.text)
    assert given.keys() <= known_variables()
    assert config.render(given["madengine_settings"])


@named("manifest")
def test_a_manifest_of_a_guide_can_be_read(block: guides.Block, tmp_path: Path) -> None:
    path = tmp_path / "build_manifest.json"
    path.write_text(block.text)
    assert job_spec.load_for_job(str(path)).images


# --- Commands -----------------------------------------------------------------------------------------------------------


def wrong_with(command: str) -> List[str]:
    """Return what is wrong with a command of a guide; one that nobody here can judge belongs on the cluster."""
    words = shlex.split(command)
    options = dict(zip(words, [*words[1:], ""]))
    if words[0] == "ansible-playbook":
        given = {words[at + 1].partition("=")[0] for at, word in enumerate(words) if word == "-e"}
        exists = [(COLLECTION / f"playbooks/{word[len(PREFIX) :]}.yml").is_file() for word in words if word.startswith(PREFIX)]
        return sorted(given - known_variables()) + ["no such playbook"] * (exists != [True])
    if words[0] == "ansible":
        return refused(module_options(options["-m"][len(PREFIX) :]), json.loads(options["-a"]))
    if words[0].startswith(INSTALLED):
        return [] if os.access(REPOSITORY / words[0][len(INSTALLED) :], os.X_OK) else ["no such program"]
    if words[0] == "sbatch":
        comment = re.findall(r"--comment=(\S+)", command)[0]
        job = allocation.Allocation("c", 1, 0, ("n1", "n2"), "n1", work_dir="/home/alice", comment=comment)
        return [] if request.is_off(comment) or (request.concerns_us(job) and request.read(job)) else ["not understood"]
    return [] if words[:3] == ["ansible-galaxy", "collection", "install"] and "rocm.madengine" in words else ["nobody can judge it"]


@named("command")
def test_commands_of_a_guide_name_what_exists(block: guides.Block) -> None:
    assert block.commands()
    for command in block.commands():
        assert wrong_with(command) == [], command


@pytest.mark.parametrize(
    "command",
    [
        "ansible-playbook -i inventory rocm.madengine.sites",
        "ansible-playbook -i inventory rocm.madengine.site -e madengine_bach=1",
        'ansible localhost -m rocm.madengine.manifest_restore -a \'{"source": "x"}\'',
        "/opt/madengine-hooks/current/bin/madengine-restored build_manifest.json",
        "rm -rf /",
    ],
)
def test_a_command_that_cannot_work_is_found(command: str) -> None:
    assert wrong_with(command)


def test_a_comment_that_cannot_work_is_found() -> None:
    with pytest.raises(JobFault, match="unknown key"):
        wrong_with("sbatch --comment=madengine:colour=red job.sh")


# --- What an execution environment is told ------------------------------------------------------------------------------


def test_the_execution_environment_gets_the_sdk_that_the_documentation_asks_for() -> None:
    told = yaml.safe_load((COLLECTION / "meta/execution-environment.yml").read_text())["dependencies"]
    lines = [line for line in (COLLECTION / told["python"]).read_text().splitlines() if not line.startswith("#")]
    documented = re.search(r"Docker SDK for Python .*, ([0-9.]+) or newer", (COLLECTION / "plugins/doc_fragments/docker.py").read_text())
    assert documented
    assert lines == [f"docker>={documented[1]}"]


@named("program")
def test_a_program_that_guards_a_node_makes_what_is_missing_and_leaves_what_is_there(block: guides.Block, tmp_path: Path) -> None:
    place = tmp_path / "etc/slurm/task_prolog"
    text = block.text.replace("=/etc/slurm", f"={tmp_path}/etc/slurm")
    for _ in range(2):
        assert subprocess.run(["sh", "-c", text], check=False, capture_output=True).stderr == b""
        assert (subprocess.run([place], check=False).returncode, sorted(place.parent.iterdir())) == (0, [place])
    place.write_text("the site's")
    assert subprocess.run(["sh", "-c", text], check=False).returncode == 0
    assert place.read_text() == "the site's"


# --- What a user could try ----------------------------------------------------------------------------------------------


def _attempts() -> List[List[str]]:
    """Return the rows of the security guide's tables of what somebody could try, each as its cells."""
    text = (COLLECTION / "docs/docsite/rst/security.rst").read_text()
    tables = re.findall(r"\n\.\. list-table::\n(?:   :.*\n)*\n((?:   .*\n)+)", text)
    found = [[re.split(r"\n     - ", row.rstrip()) for row in table.split("   * - ")[1:]] for table in tables]
    return [row for table in found if table[0][0].endswith("…") for row in table[1:]]


def test_whatever_a_user_could_try_is_tried_by_a_test_that_is_there() -> None:
    known = {path.stem for path in (REPOSITORY / "tests").rglob("test_*.py")}
    attempts = _attempts()
    tried = {row[0]: set(re.findall(r"``(test_\w+)``", row[2])) if len(row) == 3 else set() for row in attempts}
    assert {what: tests for what, tests in tried.items() if not tests or tests - known} == {}
    assert len(tried) == len(attempts) > 40
