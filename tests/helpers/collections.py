# SPDX-License-Identifier: GPL-3.0-or-later
"""Other versions of this collection, installed side by side, and the lab's playbooks run with one of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Tuple

from .hooks import REPOSITORY

WHERE = "ansible_collections/rocm/madengine"
# Each hook says which release it is of, before it does anything.
LOG = "/run/hooks.log"
_MAIN = 'if __name__ == "__main__":\n'
_SAY = '    with open("{log}", "a") as log:\n        log.write(f"{hook} {version} {{os.environ[\'SLURM_JOB_ID\']}}\\n")\n'


@dataclass(frozen=True)
class Played:
    """What a playbook did."""

    status: int
    output: str
    recap: Dict[str, Dict[str, int]] = field(default_factory=dict)

    def changed(self) -> Dict[str, int]:
        return {host: counts["changed"] for host, counts in self.recap.items()}

    def failed(self) -> List[str]:
        return sorted(host for host, counts in self.recap.items() if counts["failed"] or counts["unreachable"])


@dataclass(frozen=True)
class Collection:
    """One version of the collection in a directory of its own."""

    root: Path
    version: str

    def file(self, name: str) -> Path:
        return self.root / WHERE / name

    def hook(self, name: str) -> Path:
        """Return the file of a hook, such as ``prolog/prolog.py``."""
        return self.file(f"roles/slurm_hooks/files/{name}")

    def play(self, name: str, *options: str, **variables: object) -> Played:
        """Run the playbook *name* on the lab, and return what it did, well or not."""
        done = self.command(name, *options, **variables)
        finished = subprocess.run(done, capture_output=True, text=True, check=False, env=self.environment(), cwd=REPOSITORY)
        return Played(finished.returncode, finished.stdout + finished.stderr, _recap(finished.stdout))

    def command(self, name: str, *options: str, **variables: object) -> List[str]:
        program = str(Path(sys.executable).parent / "ansible-playbook")
        inventory = ["--inventory", str(REPOSITORY / "molecule/shared/inventory")]
        return [program, *inventory, f"rocm.madengine.{name}", *options, "--extra-vars", json.dumps(variables)]

    def environment(self) -> Dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        plain = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "NO_COLOR": "1"}  # molecule asks for colour
        return {**os.environ, **plain, "PATH": path, "ANSIBLE_COLLECTIONS_PATH": str(self.root)}


def this(root: Path, version: str) -> Collection:
    """Return this tree's collection, as built (`make installed`), with another *version*."""
    shutil.copytree(REPOSITORY / "build/collections" / WHERE, root / WHERE)
    return _made(root, version)


def tagged(root: Path, tag: str) -> Collection:
    """Return the collection of a git *tag*, built as it was released."""
    source = root / "source"
    source.mkdir(parents=True)
    archive = root / "source.tar"
    subprocess.run(["git", "-C", str(REPOSITORY), "archive", f"--output={archive}", tag], check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data") if sys.version_info >= (3, 12) else tar.extractall(source)
    galaxy = str(Path(sys.executable).parent / "ansible-galaxy")
    built = ["collection", "build", str(source / "collections" / WHERE), "--output-path", str(root)]
    subprocess.run([galaxy, *built], check=True, capture_output=True)
    (tarball,) = root.glob("rocm-madengine-*.tar.gz")
    # By force: the same version may be known elsewhere already.
    install = ["collection", "install", str(tarball), "--collections-path", str(root), "--offline", "--force"]
    subprocess.run([galaxy, *install], check=True, capture_output=True)
    return _made(root, tag.lstrip("v"))


def has_tag(tag: str) -> bool:
    known = subprocess.run(["git", "-C", str(REPOSITORY), "tag", "--list", tag], capture_output=True, text=True, check=False)
    return known.returncode == 0 and known.stdout.strip() == tag


def _made(root: Path, version: str) -> Collection:
    made = Collection(root, version)
    manifest = made.file("MANIFEST.json")
    document = json.loads(manifest.read_text())
    document["collection_info"]["version"] = version
    manifest.write_text(json.dumps(document))
    for hook in ("prolog", "epilog"):
        path = made.hook(f"{hook}/{hook}.py")
        text = path.read_text()
        assert text.count(_MAIN) == 1
        path.write_text(text.replace(_MAIN, _MAIN + _SAY.format(log=LOG, hook=hook, version=version)))
    return made


def _recap(output: str) -> Dict[str, Dict[str, int]]:
    lines: List[Tuple[str, str]] = re.findall(r"^(\S+) +: (ok=.*)$", output, re.MULTILINE)
    return {host: {name: int(count) for name, count in (pair.split("=") for pair in text.split())} for host, text in lines}
