# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node needs, for those who bake images: ``bundle.py DIRECTORY`` makes a tarball and a .deb of it, byte for byte the same
for the same sources.

Both hold the release as the role would install it, the files that SLURM starts, and a hooks.conf of defaults. They
install without Ansible and without a network; the .deb asks for python3-docker. slurm.conf is the site's.

Source: Debian Policy, chapters 5 (control fields) and 10.7 (configuration files); dpkg-deb(1); reproducible-builds.org.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from typing import Dict, Iterator, Tuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.rocm.madengine.plugins.action import hook_release
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import config, release

HOOKS = "opt/madengine-hooks"
# Where SLURM starts them, and as what they lie in the release.
STARTED = {
    "etc/slurm/prolog.d/00-noop": "prolog/00-noop",
    "etc/slurm/prolog.d/50-madengine": "prolog/50-madengine",
    "etc/slurm/epilog.d/00-noop": "epilog/00-noop",
    "etc/slurm/epilog.d/50-madengine": "epilog/50-madengine",
    "etc/slurm/task_prolog": "prolog/task_prolog",
}
SETTINGS = "etc/madengine/hooks.conf"
CONTROL = """\
Package: rocm-madengine-hooks
Version: {version}
Architecture: all
Maintainer: The rocm.madengine authors <maintainers@rocm-madengine.invalid>
Depends: python3 (>= 3.9), python3-docker
Recommends: pigz, zstd
Section: admin
Priority: optional
Homepage: https://github.com/rocm/madengine-collection
Description: SLURM prolog and epilog for multi-node madengine runs
 An image is on every node before the job step starts, every node's results are
 gathered when it ends. slurm.conf must name the hooks: see the guide "Baking
 into images".
"""
# A release is compiled where it lies, so that no prolog has to do it.
POSTINST = f'#!/bin/sh\nset -e\n[ "$1" != configure ] || python3 -I -m compileall -q /{HOOKS}/releases\n'
PRERM = f"#!/bin/sh\nset -e\nfind /{HOOKS}/releases -name __pycache__ -type d -exec rm -rf {{}} +\n"
# SLURM drains a node whose prolog directory is empty, and fails every task without its TaskProlog: what does nothing stays.
POSTRM = """#!/bin/sh
set -e
[ "$1" = purge ] || exit 0
for path in /etc/slurm/prolog.d/00-noop /etc/slurm/epilog.d/00-noop /etc/slurm/task_prolog; do
    if [ -d "${path%/*}" ] && { [ "${path##*/}" = task_prolog ] || [ -z "$(ls "${path%/*}")" ]; } && [ ! -e "$path" ]; then
        printf '#!/bin/sh\\nexit 0\\n' >"$path"
        chmod 0755 "$path"
    fi
done
"""
CONFFILES = "".join(f"/{name}\n" for name in (SETTINGS, *STARTED))

Files = Dict[str, Tuple[bytes, int]]


def contents() -> Tuple[str, Files, Dict[str, str]]:
    """Return the release's name; each file of a node's image with its mode; and the links."""
    members = sorted(hook_release.members())
    name = release.name_of(hook_release.version(), hashlib.sha256(hook_release.archive()).hexdigest())
    held = {member: pathlib.Path(path).read_bytes() for member, path in members}
    modes = {member: 0o755 if os.stat(path).st_mode & 0o100 else 0o644 for member, path in members}
    files = {f"{HOOKS}/releases/{name}/{member}": (data, modes[member]) for member, data in held.items()}
    files.update({target: (held[source], 0o755) for target, source in STARTED.items()})
    files[SETTINGS] = (config.render({}).encode(), 0o644)
    return name, files, {f"{HOOKS}/current": f"releases/{name}"}


def tarball(path: pathlib.Path) -> None:
    """Write the node's files as a tarball, to be unpacked at ``/``."""
    _name, files, links = contents()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in _members(files, links):
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))


def deb(path: pathlib.Path) -> None:
    """Write the node's files as a Debian package; needs ``dpkg-deb``."""
    _name, files, links = contents()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        files = {**files, "DEBIAN/control": (CONTROL.format(version=hook_release.version()).encode(), 0o644)}
        files["DEBIAN/conffiles"] = (CONFFILES.encode(), 0o644)
        scripts = {"postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}
        files.update({f"DEBIAN/{name}": (text.encode(), 0o755) for name, text in scripts.items()})
        for name, (data, mode) in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
            (root / name).chmod(mode)
        for name, target in links.items():
            (root / name).symlink_to(target)
        for place, _folders, _names in os.walk(root):
            os.chmod(place, 0o755)  # noqa: S103 - whatever the umask is
        epoch = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", folder, str(path)], check=True, env=epoch, stdout=subprocess.DEVNULL)


def _members(files: Files, links: Dict[str, str]) -> Iterator[Tuple[tarfile.TarInfo, bytes]]:
    for name in sorted({*files, *links}):
        member = tarfile.TarInfo(name)
        if name in links:
            member.type, member.linkname = tarfile.SYMTYPE, links[name]
            yield member, b""
        else:
            data, member.mode = files[name]
            member.size = len(data)
            yield member, data


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    version = hook_release.version()
    made = [folder / f"rocm-madengine-hooks-{version}.tar.gz", folder / f"rocm-madengine-hooks_{version}_all.deb"]
    tarball(made[0])
    deb(made[1])
    for path in made:
        print(f"{path}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
