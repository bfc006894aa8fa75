# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build manifest as a document: read within bounds, checked, and its images with their models whatever its shape.

Source: madengine 2.1, ``docker_builder.py`` (what writes it) and ``container_runner.py`` (what reads it). The four shapes of
a ``built_images`` entry are those of a normal build, MAD_CONTAINER_IMAGE, ``--use-image`` and ``--build-on-compute``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NoReturn, Tuple

from ..core import files
from ..core.errors import JobFault
from ..oci import image
from . import environment

Document = Dict[str, Any]

# A manifest of all of MAD's models has some 0.5 MB and 10 000 values; both limits together keep a hostile one below a second.
LARGEST_BYTES = 4 << 20
MOST_VALUES = 100_000
DEEPEST = 32

_SCALAR = (str, int, float, bool)
# Where, which types, and how a person calls them. "*" is every key. What is not here is carried along unread.
_SCHEMA: Tuple[Tuple[str, Tuple[type, ...], str], ...] = (
    ("built_images", (dict,), "an object {key: image}"),
    ("built_images.*", (dict,), "an object"),
    ("built_images.*.docker_image", (str,), "an image reference"),
    ("built_images.*.registry_image", (str,), "an image reference"),
    ("built_images.*.dockerfile", (str,), "a path"),
    ("built_images.*.local_image", (bool, str), "true, false or a name"),
    ("built_models", (dict,), "an object {key: model}"),
    ("built_models.*", (dict,), "an object"),
    ("built_models.*.name", (str,), "text"),
    ("built_models.*.dockerfile", (str,), "a path"),
    ("built_models.*.dockercontext", (str,), "a path"),
    ("built_models.*.multiple_results", (str,), "a file name"),
    ("built_models.*.additional_docker_run_options", (str,), "text"),
    ("built_models.*.timeout", (int, float, str), "a number of seconds"),
    ("built_models.*.distributed", (dict,), "an object"),
    ("built_models.*.distributed.launcher", (str,), "text"),
    ("context", (dict,), "an object"),
    ("context.docker_env_vars", (dict,), "an object {name: value}"),
    ("context.docker_env_vars.*", _SCALAR, "text or a number"),
    ("context.docker_build_arg", (dict,), "an object {name: value}"),
    ("context.docker_build_arg.*", _SCALAR, "text or a number"),
    ("context.docker_mounts", (dict,), "an object {container path: host path}"),
    ("context.docker_mounts.*", (str,), "a host path"),
    ("context.docker_gpus", (str, int), "text such as 0-7"),
    ("context.gpu_vendor", (str,), "text"),
    ("context.guest_os", (str,), "text"),
    ("deployment_config", (dict,), "an object"),
    ("deployment_config.env_vars", (dict,), "an object {name: value}"),
    ("deployment_config.env_vars.*", _SCALAR, "text or a number"),
    ("deployment_config.slurm", (dict,), "an object"),
    ("deployment_config.distributed", (dict,), "an object"),
)
_KINDS = ((bool, "true or false"), (str, "text"), (int, "a number"), (float, "a number"), (dict, "an object"), (list, "a list"))
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_COMMAND = re.compile(r"\$\(|`")


@dataclass(frozen=True)
class Entry:
    """One image of a manifest with its model; *key* is the same in both maps, and *model* is empty if there is none."""

    key: str
    image: Document
    model: Document

    @property
    def where(self) -> str:
        return f"built_images.{self.key}"

    @property
    def shape(self) -> str:
        """Return how it was made: ``build``, ``local`` (MAD_CONTAINER_IMAGE), ``use-image`` or ``build-on-compute``."""
        local = self.image.get("local_image")
        if isinstance(local, str):
            return "build-on-compute"
        if not local:
            return "build"
        return "local" if self.key.startswith("local-") else "use-image"

    @property
    def written(self) -> str:
        """Return the image that a container of this entry must be made of, as its author wrote it."""
        return str(self.image.get("docker_image") or self.key)

    @property
    def reference(self) -> str:
        """Return `written` in full.

        :raises JobFault: it is no image reference; the message names the place.
        """
        return reference(self.written, self.where)

    @property
    def name(self) -> str:
        return str(self.model.get("name") or self.key)


def reference(text: str, where: str) -> str:
    """Return the image *text* in full.

    :param where: the place of its entry.
    :raises JobFault: it is no image reference; the message names the place.
    """
    try:
        return str(image.Reference.parse(text))
    except JobFault as fault:
        raise JobFault(fault.what, fault.remedy, where=where + ".docker_image", **fault.seen) from None


def read(path: str) -> Document:
    """Return the manifest in *path*, checked; errors as `files.read` and `parse`."""
    return parse(files.read(path, LARGEST_BYTES), path)


def parse(data: bytes, path: str = "") -> Document:
    """Return the manifest that *data* holds.

    :raises JobFault: as `load` and `check`.
    """
    document = load(data, path)
    check(document, path, _ESCAPED.search(data) is not None)
    return dict(document)


def load(data: bytes, path: str = "") -> Any:
    """Return the JSON that *data* holds.

    :raises JobFault: it is none, or costs more to read than any of ours would; the message says where.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        _refuse(path, "", "more values than any manifest has", f"at most {MOST_VALUES}")
    try:
        return json.loads(data.decode("utf-8"), parse_int=_integer, parse_float=_number, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        _refuse(path, f"byte {error.start}", "bytes that are not UTF-8", "JSON in UTF-8")
    except json.JSONDecodeError as error:
        _refuse(path, f"line {error.lineno} column {error.colno}", "no JSON", error.msg.rstrip(":"))
    except RecursionError:
        _refuse(path, "", "a deeper nesting", f"at most {DEEPEST} levels")
    except ValueError as error:
        _refuse(path, "", str(error), "numbers that JSON knows")


def check(document: Any, path: str = "", has_escapes: bool = True) -> None:
    """Do nothing if *document* is a build manifest.

    :param has_escapes: whether there may be characters in it that only an escape can write; looking for them takes time.
    :raises JobFault: a part of it is not what it must be; the message says where it is, what was found and what was expected,
        and never shows a value.
    """
    if not isinstance(document, dict):
        _refuse(path, "the whole", _kind(document), "an object")
    _check_depth(document, path, has_escapes)
    for pattern, types, expected in _SCHEMA:
        for where, value in _at(document, pattern.split(".")):
            if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
                _refuse(path, where, _kind(value), expected)
    if not document.get("built_images"):
        _refuse(path, "built_images", "nothing", "at least one image")
    _check_names(document, path)
    _check_paths(document, path)


def entries(document: Document) -> List[Entry]:
    """Return the document's images with their models, in its order."""
    models = document.get("built_models") or {}
    return [Entry(key, entry, models.get(key) or {}) for key, entry in document["built_images"].items()]


def section(document: Document, *keys: str) -> Document:
    """Return the object at *keys*, made where it is missing or null, so that a change to it is a change to *document*."""
    found = document
    for key in keys:
        if found.get(key) is None:
            found[key] = {}
        found = found[key]
    return found


def section_of(document: Document, key: str) -> Document:
    """Return the object at *key*; an empty one where there is none."""
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def text(document: Document) -> str:
    """Return *document* as the text of a manifest file."""
    return json.dumps(document, indent=4) + "\n"


def _check_depth(document: Document, path: str, has_escapes: bool) -> None:
    """Refuse what is too deep, and text that no file, environment or argument can hold."""
    level: List[Tuple[Any, Tuple[Any, ...]]] = [(document, ())]
    for _depth in range(DEEPEST):
        below = []
        for value, keys in level:
            for key, child in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(child, (dict, list)):
                    below.append((child, (*keys, key)))
                elif has_escapes and isinstance(child, str) and not _is_plain(child):
                    _refuse(path, _dotted((*keys, key)), "a NUL or half a character", "text")
                if has_escapes and isinstance(key, str) and not _is_plain(key):
                    _refuse(path, _dotted(keys), "a NUL or half a character in a key", "text")
        level = below
    if level:
        _refuse(path, _dotted(level[0][1][:6]) + "…", "a deeper nesting", f"at most {DEEPEST} levels")


def _check_names(document: Document, path: str) -> None:
    for pattern in ("context.docker_env_vars", "context.docker_build_arg", "deployment_config.env_vars"):
        for where, variables in _at(document, pattern.split(".")):
            for name in variables or {}:
                if not environment.is_name(name):
                    _refuse(path, where, f"the name {name!r}", "a name such as NCCL_DEBUG")
    # madengine writes these into its job script between double quotes, where bash would run a command that stands in them.
    for where, value in _at(document, ["deployment_config", "env_vars", "*"]):
        if isinstance(value, str) and (_COMMAND.search(value) or "\n" in value):
            _refuse(path, where, "a command or a newline, which the job script would run", "plain text")


def _check_paths(document: Document, path: str) -> None:
    for where, value in _at(document, ["built_models", "*", "multiple_results"]):
        if value and (value.startswith("/") or ".." in value.split("/") or not value.isprintable()):
            _refuse(path, where, "a path that leaves the model's directory", "a file name")
    for where, value in _at(document, ["built_models", "*", "name"]):
        if value and (".." in value.split("/") or value.startswith("/") or not value.isprintable()):
            _refuse(path, where, "a name that no directory can have", "a plain name")


def _at(document: Any, pattern: List[str], key_path: str = "") -> Iterator[Tuple[str, Any]]:
    """Give (key path, value) for everything at *pattern* that is there."""
    if not pattern:
        yield key_path, document
    elif isinstance(document, dict):
        for key in list(document) if pattern[0] == "*" else [pattern[0]]:
            if key in document:
                yield from _at(document[key], pattern[1:], f"{key_path}.{key}" if key_path else key)


def _is_plain(value: str) -> bool:
    return "\0" not in value and not any(0xD800 <= ord(char) < 0xE000 for char in value)


def _dotted(keys: Tuple[Any, ...]) -> str:
    return ".".join(str(key) for key in keys) or "the whole"


def _kind(value: object) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")


def _integer(digits: str) -> int:
    if len(digits) > 20:  # an int of a million digits would take minutes on an old Python
        raise ValueError("a number of more than 20 digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number beyond a double")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not know")


def _refuse(path: str, where: str, found: str, expected: str) -> NoReturn:
    seen = {"path": path, "where": where, "found": found, "expected": expected}
    raise JobFault("manifest: not as expected", "correct it or build again", **{name: value for name, value in seen.items() if value})
