# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small releases of the hooks: two stories over a library of one noun, and the shell scripts around them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Optional, Union

STORY = """import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))
import noun
if __name__ == "__main__":
    noun.work()
"""
FILES: Dict[str, str] = {
    "prolog/prolog.py": STORY,
    "epilog/epilog.py": STORY,
    "prolog/task_prolog": "#!/bin/sh\nexit 0\n",
    "prolog/task_environment.sh": "exit 0\n",
    "prolog/50-madengine": "#!/bin/sh\nexit 0\n",
    "epilog/50-madengine": "#!/bin/sh\nexit 0\n",
    "prolog/00-noop": "#!/bin/sh\nexit 0\n",
    "epilog/00-noop": "#!/bin/sh\nexit 0\n",
    "lib/noun.py": "def work():\n    pass\n",
}


@dataclass(frozen=True)
class Archive:
    """A release's archive on this node, and the digest of the tar in it."""

    path: str
    sha256: str


def packed(folder: Path, files: Optional[Dict[str, Union[str, None]]] = None, extra: Iterable[tarfile.TarInfo] = ()) -> Archive:
    """Write an archive with *files* beside or in place of the usual ones; None leaves one out.

    :param extra: members without content, as they stand.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, text in {**FILES, **(files or {})}.items():
            if text is not None:
                member = tarfile.TarInfo(name)
                data = text.encode()
                member.size, member.mode = len(data), 0o644 if name.endswith(".py") else 0o755
                tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    path = folder / f"{digest[:8]}.tar.gz"
    path.write_bytes(gzip.compress(out.getvalue()))
    return Archive(str(path), digest)


def numbered(folder: Path, number: int) -> Archive:
    """Write an archive that differs from those of other numbers."""
    return packed(folder, {"lib/noun.py": f"NUMBER = {number}\n\n\ndef work():\n    pass\n"})
