# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node proves with that it belongs to the cluster: a key that root can read on every node, or MUNGE.

Both kinds answer the same two questions: what the leader adds to its challenge, and which secret follows from a
challenge. The secret itself never travels in the clear and never appears in a message.

Source: RFC 5869 (HKDF), munge(1), unmunge(1), slurm.conf(5) "AuthType".
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import stat
import subprocess
from typing import Any, Dict, Mapping, Sequence, Union

from ..core import process
from ..core.deadline import Deadline
from ..core.errors import NodeFault, Part

PATHS = ("/etc/munge/munge.key", "/etc/slurm/slurm.key")
_KEY_SETS = ("/etc/slurm/slurm.jwks",)  # several keys, of which SLURM takes out the old while it runs

_LABEL = b"rocm.madengine rendezvous v1"
_SHORTEST_KEY = 32  # bytes; MUNGE's own limit
_LONGEST_KEY = 65536
_MUNGE_SECONDS = 5.0
_READ_SECONDS = 10.0
_PATH = "/usr/local/bin:/usr/bin:/bin"
_CREDENTIAL = re.compile(r"MUNGE:[A-Za-z0-9+/=]{16,4000}:")
_OPENED = re.compile(r"STATUS: *(?P<status>[0-9]+)\nUID: *(?P<uid>[0-9]+)\n\n(?P<secret>[0-9a-f]{64})\n?")
_GOOD = ("0", "17")  # EMUNGE_SUCCESS, EMUNGE_CRED_REPLAYED


class Key:
    """A secret that all nodes have in advance.

    :param secret: 32 bytes, derived for this rendezvous alone.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def challenge(self, seconds: float) -> Dict[str, str]:
        """Return what the leader tells everybody who knocks: nothing."""
        return {}

    def secret(self, challenge: Mapping[str, Any]) -> bytes:
        """Return the secret that both ends share."""
        return self._secret


class Munge:
    """A secret that the leader makes up and that MUNGE shows to root on the cluster's nodes, and to nobody else.

    What was recorded is worth nothing to who cannot decode it, and freshness comes from the nonces of the session.
    So a credential that MUNGE calls replayed (a second member on the same host) is as good as a new one.

    :param uid: who may make and read credentials; another than root only in tests.
    """

    def __init__(self, uid: int = 0, path: str = _PATH) -> None:
        self._uid, self._environment = uid, {"PATH": path, "LC_ALL": "C"}
        self._mine: Dict[str, str] = {}
        self._known: Dict[str, bytes] = {}

    def challenge(self, seconds: float) -> Dict[str, str]:
        """Return the credential that goes into the challenge: made once, good for *seconds* (at most an hour).

        :raises NodeFault: MUNGE does not answer on this node (part ``key``).
        """
        if not self._mine:
            secret = secrets.token_hex(32)
            lifetime = max(60, min(int(seconds) + 60, 3600))
            # The secret goes through a pipe: a command line is for everybody to read.
            answer = self._ask(["munge", "--cipher=aes128", f"--restrict-uid={self._uid}", f"--ttl={lifetime}"], secret)
            self._mine = {"munge": answer.strip()}
            self._known[answer.strip()] = bytes.fromhex(secret)
        return self._mine

    def secret(self, challenge: Mapping[str, Any]) -> bytes:
        """Return the secret in a challenge's credential.

        :raises ValueError: this cluster's root did not make it, or not for this node's root.
        :raises NodeFault: MUNGE does not answer on this node (part ``key``).
        """
        credential = challenge.get("munge")
        if not isinstance(credential, str) or not _CREDENTIAL.fullmatch(credential):
            raise ValueError("no credential")
        if credential not in self._known:
            self._known[credential] = self._opened(credential)
        return self._known[credential]

    def _opened(self, credential: str) -> bytes:
        answer = _OPENED.fullmatch(self._ask(["unmunge", "--numeric", "--keys=STATUS,UID"], credential))
        if not answer or answer["status"] not in _GOOD or int(answer["uid"]) != self._uid:
            raise ValueError("not a credential of this cluster's root")
        return bytes.fromhex(answer["secret"])

    def _ask(self, command: Sequence[str], text: str) -> str:
        try:
            done = process.command(command, _MUNGE_SECONDS, self._environment, given=text)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _silent(command[0], str(error)) from None
        # unmunge reports a refused credential by its status too: only munge has no reason to refuse us.
        if command[0] == "munge" and done.returncode != 0:
            raise _silent("munge", done.stderr.strip())
        return done.stdout


Credential = Union[Key, Munge]


def key(path: str = "", context: Sequence[object] = (), paths: Sequence[str] = PATHS, key_sets: Sequence[str] = _KEY_SETS) -> Key:
    """Return the key of one rendezvous that follows from the cluster's own secret.

    :param path: ``KeyFile``; if empty, the first of *paths* that is there (MUNGE's key, then Slurm's).
    :param context: what it is for, e.g. cluster, job, attempt and purpose; no other rendezvous has this key.
    :param key_sets: where Slurm has a set of keys instead, from which none follows: it changes, and not on all nodes at once.
    :raises NodeFault: there is none, or it is readable for others, too short, or no plain file (part ``key``).
    """
    chosen = path or next((one for one in paths if os.path.lexists(one)), "")
    key_set = next((one for one in key_sets if os.path.lexists(one)), "")
    if not chosen and key_set:
        remedy = "set KeyFile in hooks.conf to a key of the hooks' own: the playbook rotate_key makes one"
        raise NodeFault("credential: this node has no cluster key", remedy, part=Part.KEY, looked_at=", ".join(paths), key_set=key_set)
    if not chosen:
        raise NodeFault("credential: this node has no cluster key", "set KeyFile in hooks.conf", part=Part.KEY, looked_at=", ".join(paths))
    # Children become users and begin with all that is in our memory. The cluster's own secret, and whatever would open another
    # rendezvous, is in that of a child that never does.
    return Key(bytes.fromhex(process.start_as_self(_derived, chosen, tuple(context)).result(Deadline(_READ_SECONDS))))


def of(auth: str, path: str = "", *context: object) -> Credential:
    """Return what ``Auth`` in hooks.conf asks for: ``key`` or ``munge``, whose secret is made up for each rendezvous.

    :param context: as `key`.
    :raises NodeFault: as `key`.
    """
    return Munge() if auth == "munge" else key(path, context)


def derive(secret: bytes, purpose: bytes, salt: bytes = _LABEL, size_bytes: int = 32) -> bytes:
    """Return a key for *purpose* alone, from which nobody gets back to *secret* (HKDF-SHA256)."""
    extracted = hmac.digest(salt, secret, "sha256")
    block, okm, counter = b"", b"", 0
    while len(okm) < size_bytes:
        counter += 1
        block = hmac.digest(extracted, block + purpose + bytes([counter]), "sha256")
        okm += block
    return okm[:size_bytes]


def _derived(path: str, context: Sequence[object]) -> str:
    return derive(_read(path), b"rendezvous " + json.dumps(context).encode()).hex()


def _read(path: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _unusable(path, str(getattr(error, "strerror", None) or error)) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(path, "it is not a plain file")
        if status.st_mode & 0o077:
            raise _unusable(path, f"others may use it (mode {stat.S_IMODE(status.st_mode):04o})")
        data = os.read(handle, _LONGEST_KEY + 1)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    finally:
        os.close(handle)
    if not _SHORTEST_KEY <= len(data) <= _LONGEST_KEY:
        raise _unusable(path, f"it is not between {_SHORTEST_KEY} and {_LONGEST_KEY} bytes long")
    return data


def _unusable(path: str, reason: str) -> NodeFault:
    return NodeFault(
        "credential: the cluster key cannot be used",
        "make it a file of mode 0400, the same on all nodes",
        part=Part.KEY,
        path=path,
        reason=reason,
    )


def _silent(command: str, reason: str) -> NodeFault:
    return NodeFault("credential: MUNGE does not answer", "start munged on this node", part=Part.KEY, command=command, reason=reason)
