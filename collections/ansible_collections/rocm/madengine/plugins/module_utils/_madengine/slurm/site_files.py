# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site's own files in the places that SLURM knows once: its TaskProlog, Prolog and Epilog, and its filter of submissions.

- ``TaskProlog``: ours stands in its place and runs the site's, which is kept beside it. There is no instant without such a
  file: SLURM fails every task of a node on which it is missing.
- ``Prolog``, ``Epilog``: what gave way to ours goes on as a link of our chain (`chain_link`), in a directory of our own. A
  program that leads back into that directory (`leads_back`) would run itself for ever.
- ``cli_filter.lua``: ours, or the site's that calls ours. Where slurm.conf names the filter and the file is missing, every
  submission fails; so it comes first and goes last.

Source: slurm.conf(5), "TaskProlog", "Prolog", "CliFilterPlugins"; prolog/task_prolog; measured with 22.05.8 and 24.11.5: a
pattern's programs run from the last name to the first, and the first that fails ends them; the filter lies beside slurm.conf,
a command reads it before its own options, so ``sbatch --version`` fails where it cannot be loaded; 24.11 brings it to
configless hosts, 22.05 does not.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
from typing import Iterator, List, Optional, Sequence, Set, Union

from ..core import files
from ..core.errors import JobFault
from . import slurm_conf

NOTHING = "#!/bin/sh\n# Does nothing: SLURM fails every task where its TaskProlog is missing.\nexit 0\n"
MODE = 0o755
_LARGEST_BYTES = 1 << 20
# Older releases of ours are known by the place where they look.
_OURS = re.compile(rb"^_?job=/run/madengine/jobs/\$SLURM_JOB_ID$", re.MULTILINE)
_IDLE = re.compile(rb"\s*(#[^\n]*|:|true|exit( 0)?)?\s*")

Content = Union[bytes, None]


def content(path: str) -> Content:
    """Return what stands under *path*, through links; None if nothing does.

    :raises OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read(_LARGEST_BYTES)
    except FileNotFoundError:
        return None


def is_the_sites(data: Content) -> bool:
    """Say whether *data* is a program of the site's: not one of ours, and not one that does nothing.

    >>> is_the_sites(b"#!/bin/sh\\nexit 0\\n")
    False
    """
    if data is None or _OURS.search(data):
        return False
    return not all(_IDLE.fullmatch(line) for line in data.split(b"\n"))


def settled(path: str, ours: bytes) -> bool:
    """Say whether `settle` would find nothing to do."""
    with contextlib.suppress(OSError):
        return content(path) == ours and not os.path.islink(path) and os.stat(path).st_mode & 0o7777 == MODE
    return False


def settle(path: str, site: str, ours: bytes) -> None:
    """Put *ours* under *path*; a program of the site's that is there moves to *site* first.

    :raises OSError: something cannot be written; *path* is as it was, or ours.
    """
    if is_the_sites(content(path)):
        _keep(path, site)
    files.write(path, ours, mode=MODE)


def give_back(path: str, site: str) -> None:
    """Put the site's program under *path* again, or one that does nothing.

    :raises OSError: as `settle`.
    """
    if os.path.lexists(site):
        os.rename(site, path)
    elif not is_the_sites(content(path)):
        files.write(path, NOTHING.encode(), mode=MODE)


def given_back(path: str, site: str) -> Optional[bytes]:
    """Return what `give_back` leaves under *path*."""
    if os.path.lexists(site):
        return content(site)
    data = content(path)
    return data if is_the_sites(data) else NOTHING.encode()


def _keep(path: str, site: str) -> None:
    """Put what *path* is, link or file, under *site*, while it stays where it is; an older one there moves aside."""
    if os.path.lexists(site) and content(site) != content(path):
        os.rename(site, site + ".old")
    fresh = site + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    if os.path.islink(path):
        os.symlink(os.path.realpath(path), fresh)
        os.rename(fresh, site)
    else:
        status = os.stat(path)
        files.write(site, content(path) or b"", mode=status.st_mode & 0o7777, owner=(status.st_uid, status.st_gid))


# --- Prolog and Epilog: a link of our chain ----------------------------------------------------------------------------------

_PATTERN = re.compile(r"([*?\[\]]+)")
_PATH = re.compile(r"/[A-Za-z0-9_.+@:%/-]+")
_MOST_FILES = 256
# What leads back all the same (a path that a program makes up as it runs) ends at its second turn.
_LINK = """\
#!/bin/sh
# slurm.conf named this as {key} before rocm.madengine.
[ "${guard}" ] && exit 0
{guard}=yes
export {guard}
{run}
"""
_ALL = """\
set --
for program in {pattern}; do
    [ -e "$program" ] && set -- "$program" "$@"
done
for program; do
    "$program" || exit
done"""


def chain_link(key: str, program: str) -> str:
    """Return the program that runs what slurm.conf named as *key*: one path, or all that a pattern names, in SLURM's order.

    :param program: an absolute path or pattern, as slurm.conf has it.

    >>> print(chain_link("Epilog", "/site/epilog.sh").splitlines()[-1])
    exec /site/epilog.sh
    """
    run = _ALL.format(pattern=_quoted(program)) if is_pattern(program) else f"exec {shlex.quote(program)}"
    return _LINK.format(key=key, guard=f"_MADENGINE_SITE_{key.upper()}", run=run)


def is_pattern(program: str) -> bool:
    """Say whether SLURM takes *program* as a pattern of names."""
    return bool(_PATTERN.search(program))


def startable(program: str) -> List[str]:
    """Return what SLURM would start for *program*, in its order.

    :raises JobFault: nothing is there, or something that cannot be started; SLURM would drain this node for it.
    """
    found = sorted(glob.glob(program), reverse=True) if is_pattern(program) else [program]
    bad = [path for path in found if not (os.path.isfile(path) and os.access(path, os.X_OK))]
    if bad or not found:
        raise JobFault("site_program: SLURM cannot start it here", "place it, and make it executable", program=program, bad=bad)
    return found


def leads_back(program: str, ours: Sequence[str]) -> Optional[str]:
    """Return the file by which *program* leads to one of *ours* again; None if none does.

    What it names in its text by a full path is followed, files and directories of programs alike.

    :param program: a path, or a pattern of paths.
    :param ours: files and directories that SLURM is to start for us.
    """
    folder = os.path.dirname(program)
    if any(_is_below(folder, place) for place in _both(ours)):  # a pattern may name nothing as yet
        return folder
    seen: Set[str] = set()
    waiting = [(path, path) for path in (glob.glob(program) if is_pattern(program) else [program])]
    while waiting and len(seen) < _MOST_FILES:
        path, origin = waiting.pop()
        real = os.path.realpath(path)
        if any(_is_below(one, place) for one in (path, real) for place in _both(ours)):
            return origin
        if real in seen:
            continue
        seen.add(real)
        waiting += [(found, path) for found in _followed(real)]
    return None


def _followed(path: str) -> Iterator[str]:
    """Give the paths that a program names, or the programs in a directory."""
    with contextlib.suppress(OSError):
        if os.path.isdir(path):
            for entry in os.scandir(path):
                if entry.is_symlink() or (entry.is_file() and os.access(entry.path, os.X_OK)):
                    yield entry.path
        elif os.path.isfile(path):
            for name in _PATH.findall((content(path) or b"").decode("utf-8", "replace")):
                yield name.rstrip("/.:")


def _both(paths: Sequence[str]) -> List[str]:
    return [name for path in paths for name in (path, os.path.realpath(path))]


def _is_below(path: str, place: str) -> bool:
    return os.path.normpath(path) == place or os.path.normpath(path).startswith(place.rstrip("/") + "/")


def _quoted(pattern: str) -> str:
    """Return *pattern* as a word of the shell in which only the signs of a pattern mean something."""
    return "".join(part if _PATTERN.fullmatch(part) else shlex.quote(part) for part in _PATTERN.split(pattern) if part)


# --- The filter of submissions -----------------------------------------------------------------------------------------------

FILTER_PLUGIN = slurm_conf.CLI_FILTER
FILTER_NAME = "cli_filter.lua"
FILTER_SCRIPT = "/etc/madengine/cli_filter.lua"
FILTER_LINE = f'pcall(dofile, "{FILTER_SCRIPT}")'
FILTER_CONFIGLESS_SINCE = (24, 11)
_FILTER_OURS = "-- Placed by rocm.madengine"
_FILTER_CALL = re.compile(r"^(?!\s*--).*[\"']" + re.escape(FILTER_SCRIPT) + r"[\"']", re.MULTILINE)


def is_our_filter(text: Optional[str]) -> bool:
    """Say whether SLURM's file, with this *text*, is one that we have placed; None is no file."""
    return text is not None and text.startswith(_FILTER_OURS)


def calls_our_filter(text: Optional[str]) -> bool:
    """Say whether SLURM's file runs our script.

    >>> calls_our_filter(f"function slurm_cli_pre_submit() end\\n{FILTER_LINE}\\n"), calls_our_filter(f"-- {FILTER_LINE}\\n")
    (True, False)
    """
    return text is not None and bool(_FILTER_CALL.search(text))


def filter_probe(site: str) -> str:
    """Return a slurm.conf with which a command loads the filter, as it would with the *site*'s, and no more."""
    folder = slurm_conf.values(site).get("plugindir", "")
    plugin = [f"PluginDir={folder}"] if folder else []
    return "\n".join(["ClusterName=probe", "SlurmctldHost=localhost", f"CliFilterPlugins={FILTER_PLUGIN}", *plugin]) + "\n"
