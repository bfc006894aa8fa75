# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which environment variables pass from a job into its containers, and in which form; secrets pass by name alone.

A word of a site or a job is a name, a pattern (``*`` and ``?``, the ones that a shell's ``case`` reads the same way) or
``@group``.

Source: madengine 2.1, container_runner.py; ``docker run --env-file`` measured with clients 20.10.24 and 28.2.2: a line is
``NAME`` (byte-exact from the client's environment, newlines included; nothing if unset) or ``NAME=value`` (no quoting; the
value is what follows up to the newline, less a carriage return at its end); the last line of a name wins, a bare ``NAME``
that is unset takes nothing away; not UTF-8 and 65536 bytes or more are refused.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ..core.errors import JobFault

GROUPS: Dict[str, Tuple[str, ...]] = {
    "rendezvous": (
        *("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "NODE_RANK", "LOCAL_RANK"),
        *("NNODES", "NPROC_PER_NODE", "GPUS_PER_NODE"),
    ),
    "madengine": (
        *("MAD_MULTI_NODE_RUNNER", "MAD_COLLECT_METRICS", "MAD_DEPLOYMENT_TYPE", "MAD_SLURM_JOB_ID"),
        *("MAD_NODE_RANK", "MAD_TOTAL_NODES", "MAD_LAUNCHER_TYPE", "MAD_SECRETS*"),
    ),
    "fabric": (
        *("NCCL_*", "RCCL_*", "GLOO_SOCKET_IFNAME", "UCX_*", "HSA_*", "FI_*", "MORI_*", "TORCH_NCCL_*"),
        *("RDMAV_DRIVERS", "IBV_DRIVERS", "IBV_SHOW_WARNINGS", "IB_DEVICES"),
        *("NCCL_SOCKET_IFNAME", "NCCL_DEBUG", "NCCL_IB_DISABLE", "NCCL_NET_GDR_LEVEL"),
        *("NCCL_IB_HCA", "NCCL_IB_GID_INDEX", "NCCL_NET", "NCCL_TIMEOUT"),
    ),
    "devices": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_MAX_HW_QUEUES"),
    "launchers": (
        *("PRIMUS_CONFIG_PATH", "PRIMUS_CLI_EXTRA", "BACKEND", "TORCH_ELASTIC_RDZV_TIMEOUT", "TORCHTITAN_*"),
        *("VLLM_TENSOR_PARALLEL_SIZE", "VLLM_PIPELINE_PARALLEL_SIZE", "VLLM_DISTRIBUTED_BACKEND", "SGLANG_*"),
        *("TENSOR_MODEL_PARALLEL_SIZE", "PIPELINE_MODEL_PARALLEL_SIZE", "CONTEXT_PARALLEL_SIZE", "DISTRIBUTED_BACKEND"),
        *("VLLM_HOST_IP", "JAX_COORDINATOR_*"),
    ),
    "serving": (
        *("MODEL_NAME", "MODEL_DIR", "MODEL_PATH", "xP", "yD", "PD_SYNC_ROOT", "PD_RUN_ID", "PROXY_TYPE", "ROUTER_PORT"),
        *("DP_MODE", "BENCHMARK_*"),
        *("SLURM_JOB_ID", "OUTPUT_DIR", "BARRIER_TIMEOUT_S", "PROXY_CLOSE_TIMEOUT_S", "REQUIRE_RDMA"),
        *("KV_UCX_TLS", "KV_UCX_SOCKADDR_TLS_PRIORITY"),
    ),
    "caches": ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "MAD_DATAHOME", "MIOPEN_USER_DB_PATH", "MIOPEN_FIND_MODE", "OMP_NUM_THREADS"),
}
# Where things are on a host, and who is at work there: in a container the same name means another place. Such a name passes if the
# site or the job asks for it by its own name; the value that a manifest gives is meant for the container and stays.
OF_THE_HOST = frozenset(
    (
        *("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"),
        *("PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH", "MANPATH", "INFOPATH", "MODULEPATH", "MODULESHOME", "LOADEDMODULES", "LMOD_CMD"),
        *("ROCM_PATH", "ROCM_HOME", "ROCM_DIR", "HIP_PATH", "HIP_PLATFORM_PATH", "HSA_PATH", "HIP_DEVICE_LIB_PATH", "DEVICE_LIB_PATH"),
        *("CUDA_HOME", "CUDA_PATH", "NCCL_HOME", "NCCL_PATH", "RCCL_HOME", "RCCL_PATH", "UCX_HOME", "UCX_DIR", "UCX_MODULE_DIR"),
        *("MPI_HOME", "OPAL_PREFIX", "FI_PROVIDER_PATH", "TRITON_HOME", "JAVA_HOME"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_EXE", "CONDA_DEFAULT_ENV", "PERL5LIB"),
        *("HOME", "TMPDIR", "TMP", "TEMP", "TEMPDIR", "SLURM_TMPDIR", "PWD", "OLDPWD", "SHELL", "BASH_ENV", "ENV", "TERM", "SHLVL", "IFS"),
        *("USER", "USERNAME", "LOGNAME", "MAIL", "HOSTNAME", "HOST", "DISPLAY", "XAUTHORITY", "EDITOR", "PAGER", "LS_COLORS"),
        *("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_DATA_DIRS", "DBUS_SESSION_BUS_ADDRESS"),
        *("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LOCPATH", "KRB5CCNAME", "SSH_AUTH_SOCK", "DOCKER_HOST", "DOCKER_CONFIG"),
    )
)
# What differs from node to node or from job to job; a value out of a file is some other node's or job's.
OF_THE_RUN = frozenset(
    (
        *("MASTER_ADDR", "RANK", "NODE_RANK", "LOCAL_RANK", "MAD_NODE_RANK", "MAD_SLURM_JOB_ID", "SLURM_JOB_ID", "MAD_MULTI_NODE_RUNNER"),
        *("VLLM_HOST_IP", "JAX_COORDINATOR_ADDRESS", "JAX_COORDINATOR_IP"),
    )
)
# Ray ignores HIP_VISIBLE_DEVICES where this is set, and rocm/vllm images set it.
WHEN_SET = {"HIP_VISIBLE_DEVICES": "RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES"}
LONGEST_LINE_BYTES = 65535
MASK = "********"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERN = re.compile(r"[A-Za-z0-9_*?]+")
_KEYED = "|".join(  # whose keys and tokens these are: kinds of keys first, then services
    (
        "API|APP|ACCESS|SECRET|PRIVATE|AUTH|STORAGE|ACCOUNT|ENCRYPTION|DECRYPTION|SIGNING|LICENSE|SHARED|SERVICE|SSH|DEPLOY|CLIENT",
        "KAGGLE|WANDB|COMET|NEPTUNE|CLEARML|MLFLOW|HF|HUGGINGFACE|OPENAI|ANTHROPIC|MISTRAL|COHERE|GROQ|GEMINI|GOOGLE|LANGSMITH",
        "AZURE|AWS|S3|MINIO|NGC|NVIDIA|GITHUB|GITLAB|SENTRY|DATADOG|DD|MASTER|ADMIN|APPLICATION",
    )
)
_SECRET = re.compile(
    r"MAD_SECRETS.*|(.*_)?([A-Z0-9]*(TOKEN|PASSWORD|PASSWD|PASSPHRASE)|SECRETS?|[A-Z0-9]*PWD|CREDENTIALS?|CREDS?|PAT|JWT|DSN"
    rf"|PASSCODE|(SSH|DB|PG|MYSQL|LDAP|FTP|SMTP|PROXY|USER|ROOT|ADMIN)?PASS|CONNECTION_STRING|AUTH_CONFIG|CLI_?AUTH|({_KEYED})_?KEY)(_[0-9]+)?"
    r"|REDIS(CLI)?_AUTH|(.*_)?(CLIENT|CONSUMER|APP|API|SHARED)SECRET"
    r"|(.*_)?(AUTHORIZATION|BEARER|COOKIE)|AWS_ACCESS_KEY_ID|(.*_)?WEBHOOK(_URL)?|SECRET_KEY_BASE|(.*_)?(BIND|USER|ADMIN|ROOT)_?PW"
)
# A working directory, a Kubernetes object's name, and what language models call a token.
_NO_SECRET = re.compile(
    r"(OLD)?PWD|(.*_)?(NUM|WARMUP|FORWARD|BACKWARD|FWD|BWD|FIRST|SECOND|SINGLE|MULTI|ONE|TWO)_PASS|LR_PAT"
    r"|IMAGE_PULL_SECRETS?|(.*_)?(FILE|GLOB|NAME|MATCH|LOG|SEARCH|INCLUDE|EXCLUDE|IGNORE)_PAT"
    r"|(.*_)?(BOS|EOS|EOD|EOT|PAD|UNK|SEP|CLS|MASK|STOP|MAX|MIN|NUM|IMAGE|SPECIAL|PER|NEXT|FIRST|LAST|DRAFT|PREV)_TOKEN"
)
# Names that are a file's or a marker's as often as a secret's: there the value decides.
_TOLD_BY_VALUE = re.compile(r"(?!MAD_SECRETS)(.*_)?([A-Z0-9]*TOKEN|CREDENTIALS?)(_[0-9]+)?")
_PATH_OR_MARKER = re.compile(
    r"(?:~|\.{0,2}|\$\{?[A-Za-z_][A-Za-z0-9_]*\}?)?(?:/[A-Za-z0-9_.@-]{1,64}){2,}/?"
    r"|/?(?:[A-Za-z0-9_.@-]{1,64}/)*[A-Za-z0-9_.@-]{1,64}\.(?:json|ya?ml|toml|ini|cfg|conf|txt|pem|p12)"
    r"|<[^<>]{1,40}>|\[[A-Za-z0-9_ -]{1,40}\]|(?i:true|false|yes|no|on|off|none|null|auto)"
)
_TO_BE_FILLED_IN = re.compile(
    r"<\W?(?:fill|your?|change|insert|replace|todo|enter|put|add|my|hf|hugging\w*|secret|api|access|auth|token|git\w*)(?![a-z])[^<>|]{0,60}>",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 4


@dataclass(frozen=True)
class Choice:
    """Which names pass: those that a word of *names* means, less those that one of *without* means and those *of_the_host*."""

    names: Tuple[str, ...]
    without: Tuple[str, ...]
    of_the_host: Tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        return _matches(name, self.names) and not _matches(name, self.without) and name not in self.of_the_host


def choose(add: Iterable[str] = (), without: Iterable[str] = ()) -> Choice:
    """Return the choice of all groups, and *add*, less *without*.

    What is of the host passes only if *add* has its own name; no pattern lets it in.

    :raises JobFault: a word is no name, pattern or ``@group``, or *add* would let everything through.

    >>> choose(without=["NCCL_IB_*"]).has("NCCL_DEBUG")
    True
    """
    words = tuple(add)
    if any(not word.strip("*?") for word in words):
        raise JobFault("environment: a pattern that matches everything", "name what must pass", words=" ".join(words))
    known = [word for group in GROUPS.values() for word in group]
    names = _words((*known, *words))
    return Choice(names, _words(without), tuple(sorted(name for name in OF_THE_HOST.difference(words) if _matches(name, names))))


def split(words: Iterable[str]) -> Tuple[List[str], List[str]]:
    """Return *words* as (add, without); a leading ``-`` takes a word away, as in the site's ``PassEnv``."""
    listed = list(words)
    return [word for word in listed if not word.startswith("-")], [word[1:] for word in listed if word.startswith("-")]


def select(available: Iterable[str], add: Iterable[str] = (), without: Iterable[str] = ()) -> List[str]:
    """Return those of the *available* names that pass, sorted; errors as `choose`."""
    choice = choose(add, without)
    return sorted({name for name in available if is_name(name) and choice.has(name)})


def is_name(name: str) -> bool:
    """Say whether *name* can be exported by a shell."""
    return _NAME.fullmatch(name) is not None


def is_secret(name: str, value: object = None) -> bool:
    """Say whether the variable called *name* holds a secret.

    :param value: where it is known: a path or a marker is none under a name that ends in ``TOKEN`` or ``CREDENTIALS``.

    >>> [is_secret(name) for name in ("MAD_SECRETS_HFTOKEN", "HF_TOKEN", "TOKENIZERS_PARALLELISM", "MAX_TOKENS")]
    [True, True, False, False]
    >>> is_secret("GOOGLE_APPLICATION_CREDENTIALS", "/secrets/sa.json"), is_secret("END_TOKEN", "<|eod|>")
    (False, False)
    """
    upper = name.upper()
    if _NO_SECRET.fullmatch(upper) or not _SECRET.fullmatch(upper):
        return False
    if not isinstance(value, str) or not _TOLD_BY_VALUE.fullmatch(upper) or _TO_BE_FILLED_IN.fullmatch(value):
        return True
    return not _PATH_OR_MARKER.fullmatch(value)


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return *text* with each of the *secrets* (values) replaced; the longest first, since one may hold another."""
    for secret in sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def passing(
    available: Mapping[str, str], declared: Mapping[str, str], add: Iterable[str] = (), without: Iterable[str] = ()
) -> Dict[str, str]:
    """Return the variables that a container gets: the chosen of those *available*, and what a manifest has *declared*.

    :param declared: fills the gaps, and adds names that are not in the choice; of these, too, what is available wins, unless it
        is of the host. *without* takes away from both.
    :raises JobFault: as `choose`.
    """
    choice = choose(add, without)
    found = {name: value for name, value in declared.items() if not _matches(name, choice.without)}
    found.update({name: value for name, value in available.items() if choice.has(name) or (name in found and name not in OF_THE_HOST)})
    derived = {other: "" for name, other in WHEN_SET.items() if name in found and not _matches(other, choice.without)}
    return {**derived, **found}


def docker_args(names: Iterable[str]) -> List[str]:
    """Return arguments of ``docker run`` that pass *names* out of the client's environment, without a value in argv."""
    return [word for name in names for word in ("--env", name)]


def env_file(values: Mapping[str, str], by_name: Iterable[str] = ()) -> Tuple[str, Dict[str, str]]:
    """Return the text of a file for ``docker run --env-file``, and the names that cannot be in it with the reason.

    :param values: written as ``NAME=value``, except secrets, which are written by name.
    :param by_name: written as ``NAME``.
    """
    refused = {name: reason for name, value in values.items() for reason in [_refusal(name, value)] if reason}
    refused.update({name: "not a name" for name in by_name if not is_name(name)})
    by_name = {*by_name, *(name for name, value in values.items() if is_secret(name, value))}
    lines = [name if name in by_name else f"{name}={values[name]}" for name in sorted({*values, *by_name} - set(refused))]
    return "".join(line + "\n" for line in lines), refused


def for_task(
    manifest_env: Mapping[str, str],
    add: Iterable[str] = (),
    without: Iterable[str] = (),
    sources: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Dict[str, Any]:
    """Return what the TaskProlog needs, as JSON can hold it.

    :param manifest_env: a restored manifest's variables; secrets in it are passed by name, whatever the value.
    :param sources: as ``redaction.sources`` gives it.
    :returns: ``names`` and ``globs`` pass by name, ``without`` names what the globs must leave out; ``exports`` {name: value}
        is for the task's environment where the user has not set it; ``fixed`` are finished lines, ``NAME=value`` and behind it
        ``NAME``, by which the user's own value wins where there is one;
        ``when_set`` {name: other}: where the first is set and the other is not, ``other=`` is a line; ``sources``
        {name: names}: a secret that is not set has the value of the first of them that is; ``refused`` {name: reason}.
    :raises JobFault: as `choose`.
    """
    choice = choose(add, without)
    given = {name: value for name, value in manifest_env.items() if not _matches(name, choice.without)}
    secrets = sorted(name for name, value in given.items() if is_name(name) and (name in sources or is_secret(name, value)))
    plain = {name: value for name, value in given.items() if name not in secrets and not is_secret(name, value)}
    refused = {name: reason for name, value in plain.items() for reason in [_refusal(name, value)] if reason}
    usable = {name: plain[name] for name in sorted(plain) if name not in refused and name not in OF_THE_RUN}
    return {
        "names": sorted({name for name in choice.names if is_name(name) and choice.has(name)} | set(secrets)),
        "globs": sorted(word for word in set(choice.names) - set(choice.without) if not is_name(word)),
        "without": sorted({*choice.without, *choice.of_the_host}),
        "exports": {name: value for name, value in usable.items() if choice.has(name)},
        "fixed": [line for name, value in usable.items() if not choice.has(name) for line in _yielding(name, value)],
        "when_set": {name: other for name, other in WHEN_SET.items() if choice.has(name) and not _matches(other, choice.without)},
        "sources": {name: list(sources[name]) for name in secrets if name in sources},
        "refused": refused,
    }


def _words(words: Iterable[str]) -> Tuple[str, ...]:
    found: Dict[str, None] = {}
    for word in words:
        if word.startswith("@") and word[1:] in GROUPS:
            found.update(dict.fromkeys(GROUPS[word[1:]]))
        elif _PATTERN.fullmatch(word) and not word[0].isdigit():
            found[word] = None
        else:
            raise JobFault("environment: no name, pattern or group", f"use A_NAME, A_PATTERN_* or one of {_GROUP_WORDS}", word=word)
    return tuple(found)


_GROUP_WORDS = " ".join("@" + group for group in GROUPS)


def _matches(name: str, words: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, word) for word in words)


def _yielding(name: str, value: str) -> List[str]:
    """Return a variable's lines in an env file: the last one wins where its name is set, and takes nothing away where it is not."""
    return [f"{name}={value}", *([] if name in OF_THE_HOST else [name])]


def _refusal(name: str, value: str) -> str:
    """Return why *value* cannot be in an env file, or nothing."""
    if not is_name(name):
        return "not a name"
    if is_secret(name, value):
        return ""  # passes by name, and by name every byte passes
    if "\n" in value or value.endswith("\r"):
        return "a newline cannot be in an env file"
    if "\0" in value:
        return "a NUL cannot be in an environment"
    if len(f"{name}={value}".encode("utf-8", "surrogateescape")) > LONGEST_LINE_BYTES:
        return f"longer than {LONGEST_LINE_BYTES} bytes"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return ""
