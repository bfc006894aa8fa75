# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at one node: small functions that gather facts and judge nothing. Only the store is written to, and tidied up.

Each is meant to run in a child process with a limit of its own (`gather`), so it takes plain values, returns what JSON can
hold, and raises a `Fault` where it can see nothing. What hangs (a dead share, a deaf daemon) costs its own answer alone.

Source: proc(5), Docker Engine API v1.41 ("GET /info"), ip-sysctl (``ip_local_port_range``).
"""

from __future__ import annotations

import contextlib
import glob
import grp
import hashlib
import ipaddress
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from ..core import files, process
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, NodeFault
from ..docker import daemon
from ..hooks import config, release
from ..peers import addresses, credential, reserved
from ..slurm import node_addresses
from ..slurm import nodes as slurm_nodes
from ..slurm import settings as slurm

PYTHON = "/usr/bin/python3"
_GIB = 1 << 30
_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_CONTAINERD = "/var/lib/containerd"
_CONTAINERD_CONFIG = "/etc/containerd/config.toml"
_CONTAINERD_ROOT = re.compile(r"""\s*root\s*=\s*(["'])(.*?)\1""")
_MOST_PEERS = 8

Probe = Tuple[Callable[..., Dict[str, Any]], Tuple[Any, ...], float]


def gather(probes: Mapping[str, Probe]) -> Dict[str, Any]:
    """Return what each probe found, or the `Fault` that kept it from finding anything.

    :param probes: by name: a function, its arguments and its limit in seconds. All begin at once.
    """
    started = {name: (_started(name, work, arguments), Deadline(seconds)) for name, (work, arguments, seconds) in probes.items()}
    return {name: _outcome(child, within) for name, (child, within) in started.items()}


def docker(site: config.Site, users: Sequence[str], seconds: float) -> Dict[str, Any]:
    """Return the daemon's version and image store, and the free space where it keeps and unpacks images.

    :param users: where each has a daemon of their own, that of the first whom this node knows is asked.
    :returns: nothing where it knows none of them.
    :raises NodeFault: it does not answer (part ``docker``).
    """
    path = next(iter(_sockets(site, users).values()), "") if "%" in site.docker_socket else site.docker_socket
    if not path:
        return {}
    info = daemon.info(path, seconds)
    roots = containerd_roots(info.root_dir) if info.is_containerd_store else []
    places = [info.root_dir, docker_temporary(info.root_dir), *roots]
    return {
        "version": info.version,
        "driver": info.driver,
        "is_containerd": info.is_containerd_store,
        "free_gib": free_gib(places),
    }


def docker_temporary(root: str, pid_file: str = "/run/docker.pid", proc: str = "/proc") -> str:
    """Return where the daemon unpacks what it loads: its ``DOCKER_TMPDIR``, or ``tmp`` in its root."""
    with contextlib.suppress(OSError, ValueError):
        with open(pid_file, encoding="ascii") as stream:
            pid = int(stream.read())
        with open(f"{proc}/{pid}/environ", "rb") as environ:
            for pair in environ.read().split(b"\0"):
                if pair.startswith(b"DOCKER_TMPDIR="):
                    return os.fsdecode(pair.partition(b"=")[2])
    return os.path.join(root, "tmp")


def containerd_roots(root: str, path: str = _CONTAINERD_CONFIG) -> List[str]:
    """Return where containerd may keep what Docker gives it: where its configuration has moved it to, and where Docker runs its own."""
    moved = [match.group(2) for match in map(_CONTAINERD_ROOT.match, _lines(path)) if match]
    return [*(moved[:1] or [_CONTAINERD]), os.path.join(root, "containerd")]


def free_gib(paths: Iterable[str]) -> Dict[str, float]:
    """Return the free space of each filesystem that *paths* lie on, under the first path on it; what is not there is left out."""
    free: Dict[str, float] = {}
    filesystems: Set[int] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            device, status = os.stat(path).st_dev, os.statvfs(path)
            if device not in filesystems:
                filesystems.add(device)
                free[path] = status.f_bavail * status.f_frsize / _GIB
    return free


def pigz() -> Dict[str, Any]:
    """Return where the unpacker is that Docker prefers, if there is one."""
    return {"path": shutil.which("unpigz") or ""}


def python(program: str, seconds: float) -> Dict[str, Any]:
    """Return the version of the Python that runs the hooks, and of the Docker SDK that it finds.

    :raises NodeFault: it does not run.
    """
    code = (
        "import sys; print('%d.%d' % sys.version_info[:2])\n"
        "try:\n import docker; print(getattr(docker, '__version__', 'unknown'))\nexcept ImportError: pass"
    )
    done = _run([program, "-I", "-c", code], seconds)
    lines = done.stdout.split()
    if done.returncode != 0 or not lines:
        raise NodeFault("python: it does not run", "repair the package python3", program=program, said=_end(done.stderr))
    return {"version": lines[0], "docker": lines[1] if len(lines) > 1 else ""}


def users(names: Sequence[str], site: config.Site, invoking: str = "") -> Dict[str, Any]:
    """Return who of *names* may use the daemon's socket, which may be another for each.

    :param invoking: one more, who is nobody where this node does not know the name.
    :raises NodeFault: there is no such socket.
    """
    names = list(dict.fromkeys([*names, *([invoking] if invoking else [])]))
    if not names:
        return {"may": [], "barred": [], "unknown": [], "group": ""}
    status = None if "%" in site.docker_socket else _stat_of_socket(site.docker_socket)
    found: Dict[str, Any] = {"may": [], "barred": [], "unknown": [], "group": _group(status.st_gid) if status else ""}
    for name in names:
        try:
            user = process.named(name)
        except JobFault:
            found["unknown"] += [name] if name != invoking else []
        else:
            found["may" if _may_ask(user, site, status) else "barred"].append(name)
    return found


def _stat_of_socket(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise NodeFault("users: no Docker socket", "start docker on this node", path=path, error=error.strerror) from error


def _may_ask(user: process.Account, site: config.Site, status: Optional[os.stat_result]) -> bool:
    with contextlib.suppress(Fault):
        return _may_write(user, status or _stat_of_socket(site.socket_of(user)))
    return False


def _sockets(site: config.Site, names: Iterable[str]) -> Dict[str, str]:
    """Return the socket of each of *names* that this node knows."""
    found = {}
    for name in names:
        with contextlib.suppress(JobFault):
            found[name] = site.socket_of(process.named(name))
    return found


def settings(path: str, disabled: str) -> Dict[str, Any]:
    """Return whether hooks.conf is there, and a digest of what holds by it, which is the same on nodes that agree.

    :raises JobFault: a key in it is unknown, or a value means nothing.
    """
    is_there = os.path.lexists(path)
    site = config.parse(files.read(path, 1 << 20).decode("utf-8-sig", "replace"), path, strict=True) if is_there else config.Site()
    shown = json.dumps(config.settings_of(site), sort_keys=True)
    digest = hashlib.sha256(shown.encode()).hexdigest()[:12]
    return {"path": path, "is_there": is_there, "is_disabled": os.path.lexists(disabled), "digest": digest}


def hook_release(root: str, places: Sequence[str], seconds: float, python_path: str = PYTHON) -> Dict[str, Any]:
    """Return the release that new jobs run, what it says of itself, and which files that SLURM starts are not there.

    :param places: what SLURM starts, each with its full path.
    :returns: ``broken``: why this node's Python cannot run the release, by its own proof; empty if it can.
    """
    releases = release.Releases(root)
    current = releases.named("current") or ""
    broken = _disproved(releases.path(current), seconds, python_path) if current else ""
    return {"current": current, "broken": broken, "missing": [path for path in places if not os.path.isfile(path)]}


def slurm_settings(program: str, seconds: float) -> Dict[str, Any]:
    """Return what the controller says of its settings, and the names of its nodes: two questions for the whole cluster.

    :returns: ``nodes``: their NodeNames; ``names``: those, and the names and addresses that lead to them as well;
        ``is_exclusive``: whether no two jobs ever share a node, asked only where it matters.
    :raises NodeFault: it does not answer.
    """
    found = slurm.parse(_scontrol(program, ["show", "config"], seconds))
    known = slurm_nodes.parse(_scontrol(program, ["--oneliner", "show", "nodes"], seconds))
    is_serial = "serial" in found.get("PrologFlags", "").lower()
    partitions = _scontrol(program, ["--oneliner", "show", "partitions"], seconds) if is_serial else ""
    return {
        "settings": found,
        "nodes": [node.name for node in known],
        "names": sorted({name for node in known for name in node.names}),
        "is_exclusive": slurm.is_exclusive(found, partitions),
    }


def key(auth: str, path: str, session: str) -> Dict[str, Any]:
    """Return a fingerprint of the cluster's key that is good for this *session* alone; equal keys have equal fingerprints.

    :raises NodeFault: the key cannot be used, or MUNGE does not answer (part ``key``).
    """
    if auth == "munge":
        munge = credential.Munge()
        munge.secret(munge.challenge(60))
        # With MUNGE the hooks need not read its key; where root can, it is compared all the same.
        with contextlib.suppress(NodeFault):
            return {"fingerprint": _fingerprint("", session)}
        return {"fingerprint": ""}
    return {"fingerprint": _fingerprint(path, session)}


def ports(low: int, high: int, proc: str = "/proc") -> Dict[str, Any]:
    """Return which ports of the range are listened on and by whom, how many of them the kernel hands out to anybody, and
    whether users can bind some of a range that is meant for root.

    Nothing is bound: that could take its port from a job that starts at this moment. Who meets for a job is no stranger.
    """
    inodes = _listening(proc, low, high)
    holders = _holders(proc, set(inodes.values())) if inodes else {}
    taken = {str(port): holders.get(inode, "") for port, inode in sorted(inodes.items())}
    return {
        "taken": {port: holder for port, holder in taken.items() if holder != _OURS},
        "handed_out": _handed_out(proc, low, high),
        "is_open_to_users": reserved.is_reserved(high) and _first_of_users(proc) <= high,
    }


def names(node: str, conf: str = "", proc: str = "/proc") -> Dict[str, Any]:
    """Return this node's own addresses, and where its own name leads.

    :param conf: slurm.conf, whose ``NodeAddr`` stands for the name, as it does for the hooks.
    """
    address = node_addresses.of(conf, [node]).get(node, node)
    try:
        found = addresses.resolve(address)
    except (OSError, UnicodeError):
        found = []
    return {
        "node": node,
        "address": address,
        "addresses": own_addresses(proc),
        "named_so": [number for _family, number in found],
        "is_loopback": bool(found) and all(addresses.is_loopback(one) for one in found),
    }


def own_addresses(proc: str = "/proc") -> List[str]:
    """Return the addresses of this node that somebody else could reach, as the kernel lists them."""
    found = []
    last = ""
    for line in _lines(f"{proc}/net/fib_trie"):
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.append(last)
    found += [str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in _lines(f"{proc}/net/if_inet6")]
    return [address for address in dict.fromkeys(found) if not _is_internal(address)]


def peers(me: str, others: Sequence[Mapping[str, Any]], conf: str = "") -> Dict[str, Any]:
    """Return which *others* this node cannot find by their names.

    :param others: ``{"node": name, "addresses": [number]}`` each.
    :param conf: slurm.conf: a peer that has a ``NodeAddr`` there is looked for under that.
    :returns: ``unknown``: names that lead nowhere; ``wrong``: by name, addresses of which the peer has none.
    """
    unknown: List[str] = []
    wrong: Dict[str, List[str]] = {}
    known = node_addresses.of(conf, [str(other["node"]) for other in others])
    for other in others:
        name = str(other["node"])
        if name == me:
            continue
        try:
            found = [number for _family, number in addresses.resolve(known.get(name, name))]
        except (OSError, UnicodeError):
            unknown.append(name)
        else:
            if not set(found) & set(other["addresses"]):
                wrong[name] = found
    return {"unknown": unknown, "wrong": wrong}


def reach(me: str, others: Sequence[Mapping[str, Any]], ports: Tuple[int, int], conf: str = "", seconds: float = 5.0) -> Dict[str, Any]:
    """Return which of the next nodes in line do not let this one connect to a port of the range.

    Nobody need listen there: a node that refuses has been reached. What a firewall drops is silence, and what it rejects is
    "no route to host". Each node tries some that follow it, so all are tried by some, however many there are.

    :param others: ``{"node": name, "addresses": [number]}`` each, in one order on all nodes.
    :param conf: slurm.conf, for their ``NodeAddr``.
    :returns: ``blocked``: by name, what the system says; nothing where all can be reached.
    """
    names = [str(other["node"]) for other in others]
    place = names.index(me) + 1 if me in names else 0
    following = [name for name in [*names[place:], *names[:place]] if name != me][:_MOST_PEERS]
    known = node_addresses.of(conf, following)
    blocked: Dict[str, str] = {}
    within = Deadline(seconds * _MOST_PEERS)
    for name in following:
        said = _unreached(known.get(name, name), ports, min(seconds, max(0.1, within.left())))
        if said:
            blocked[name] = said
    return {"blocked": blocked} if blocked else {}


def _unreached(name: str, ports: Tuple[int, int], seconds: float) -> str:
    """Return why no packet comes back from *name*, "" if one does; a name that leads nowhere is another check's."""
    try:
        found = addresses.resolve(name)
    except (OSError, UnicodeError):
        return ""
    said = ""
    for family, number in found:
        with socket.socket(family, socket.SOCK_STREAM) as link:
            link.settimeout(seconds)
            try:
                link.connect((number, ports[0]))
            except ConnectionRefusedError:
                return ""
            except OSError as error:
                said = f"{number} port {ports[0]}: {error.strerror or 'no answer'}"
            else:
                return ""
    return said


def madengine(program: str, seconds: float) -> Dict[str, Any]:
    """Return what ``madengine --version`` says, and which files it leaves in an empty directory that is its home as well.

    ``MODEL_DIR`` is not set and ``MAD_SETUP_MODEL_DIR`` is false: else it would copy all of MODEL_DIR before it answers.
    """
    if not program:
        return {}
    with tempfile.TemporaryDirectory(prefix="madengine-preflight.") as folder:
        environment = {"PATH": process.PATH, "HOME": folder, "LC_ALL": "C.UTF-8", "MAD_SETUP_MODEL_DIR": "false"}
        done = _run([program, "--version"], seconds, cwd=folder, env=environment)
        left = sorted(os.listdir(folder))
    said = _end(done.stdout) or _end(done.stderr)
    return {"status": done.returncode, "said": said, "left": left}


def _started(name: str, work: Callable[..., Dict[str, Any]], arguments: Tuple[Any, ...]) -> process.Child:
    # Somebody else's program does not run as root.
    user = _nobody() if name == "madengine" else None
    return process.start(user or _self(), work, *arguments)


def _outcome(child: process.Child, within: Deadline) -> Any:
    try:
        return child.result(within)
    except Fault as fault:
        return fault
    except RuntimeError as error:  # a defect of one probe does not cost the others' answers
        return NodeFault("preflight: the check itself is broken", "report this", error=_end(str(error)))


def _self() -> process.Account:
    return process.Account("root", os.getuid(), os.getgid(), tuple(os.getgroups()), "/")


def _nobody() -> Optional[process.Account]:
    with contextlib.suppress(JobFault):
        return process.named("nobody") if os.getuid() == 0 else None
    return None


def _run(words: Sequence[str], seconds: float, **named: Any) -> subprocess.CompletedProcess[str]:
    try:
        return process.command(words, seconds, **named)
    except subprocess.TimeoutExpired:
        raise NodeFault("preflight: no answer in time", "look why it hangs", program=words[0], waited_seconds=seconds) from None
    except OSError as error:
        raise NodeFault("preflight: cannot start it", "look at the file", program=words[0], error=error.strerror) from error


def _end(text: str) -> str:
    """Return the last line of *text* that says something, as that is where programs put the reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _scontrol(program: str, words: Sequence[str], seconds: float) -> str:
    done = _run([program, *words], seconds, env={"PATH": process.PATH, "LC_ALL": "C"})
    if done.returncode != 0:
        raise NodeFault("slurm: the controller does not answer", "start slurmctld", said=_end(done.stderr))
    return done.stdout


def _disproved(path: str, seconds: float, python_path: str) -> str:
    # Its own library knows what belongs to it; this one may be of a newer version.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/lib')\n"
        "from ansible_collections.rocm.madengine.plugins.module_utils._madengine import release\n"
        "try: release.prove(sys.argv[1])\n"
        "except Exception as fault: sys.exit(str(fault))"
    )
    done = _run([python_path, "-I", "-B", "-c", code, path], seconds)
    return "" if done.returncode == 0 else _end(done.stderr) or f"status {done.returncode}"


def _fingerprint(path: str, session: str) -> str:
    # Derived twice, under its own label and with the session: of no use for anything, nor for another day's comparison.
    return credential.derive(credential.key(path, ("preflight", session)).secret({}), b"fingerprint", size_bytes=8).hex()


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _may_write(user: process.Account, status: os.stat_result) -> bool:
    if user.uid == status.st_uid:
        return bool(status.st_mode & stat.S_IWUSR)
    if status.st_gid in user.groups:
        return bool(status.st_mode & stat.S_IWGRP)
    return bool(status.st_mode & stat.S_IWOTH)


def _listening(proc: str, low: int, high: int) -> Dict[int, str]:
    """Return the ports of the range that somebody listens on, each with its socket's inode."""
    found: Dict[int, str] = {}
    for table in ("tcp", "tcp6"):
        for line in _lines(f"{proc}/net/{table}"):
            words = line.split()
            if len(words) > 9 and words[3] == _LISTEN and low <= int(words[1].rpartition(":")[2], 16) <= high:
                found[int(words[1].rpartition(":")[2], 16)] = words[9]
    return found


_OURS = "the hooks"


def _holders(proc: str, inodes: Set[str]) -> Dict[str, str]:
    """Return who holds the sockets *inodes*, as far as this account may look."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found = {}
    for path in glob.iglob(f"{proc}/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            inode = wanted.get(os.readlink(path))
            if inode is not None:
                found[inode] = _process(proc, path.split("/")[-3])
    return found


def _process(proc: str, pid: str) -> str:
    with open(f"{proc}/{pid}/cmdline", "rb") as stream:
        words = os.fsdecode(stream.read(4096)).split("\0")
    if any(word.endswith("/prolog/prolog.py") for word in words):
        return _OURS
    return f"{os.path.basename(words[0])} (pid {pid})"


def _first_of_users(proc: str) -> int:
    words = " ".join(_lines(f"{proc}/sys/net/ipv4/ip_unprivileged_port_start")).split()
    return int(words[0]) if words else reserved.FIRST_OF_USERS


def _handed_out(proc: str, low: int, high: int) -> int:
    words = " ".join(_lines(f"{proc}/sys/net/ipv4/ip_local_port_range")).split()
    if len(words) != 2:
        return 0
    ours = set(range(low, high + 1)) & set(range(int(words[0]), int(words[1]) + 1))
    for part in "".join(_lines(f"{proc}/sys/net/ipv4/ip_local_reserved_ports")).split(","):
        first, _dash, last = part.strip().partition("-")
        if first:
            ours -= set(range(int(first), int(last or first) + 1))
    return len(ours)


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read().splitlines()
    except OSError:
        return []


def _is_internal(address: str) -> bool:
    number = ipaddress.ip_address(address)
    return number.is_loopback or number.is_link_local
