# SPDX-License-Identifier: GPL-3.0-or-later
"""Other versions of this collection, installed side by side, each with its playbooks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from . import playbooks
from .hooks import REPOSITORY
from .playbooks import Played

WHERE = "ansible_collections/rocm/madengine"
# Each hook says which release it is of, before it does anything.
LOG = "/run/hooks.log"
_MAIN = 'if __name__ == "__main__":\n'
_SAY = '    with open("{log}", "a") as log:\n        log.write(f"{hook} {version} {{os.environ[\'SLURM_JOB_ID\']}}\\n")\n'


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
        """Run this version's playbook *name* on the lab."""
        return playbooks.play(name, *options, collections=self.root, **variables)


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
