# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a daemon's answers mean: errors of the Docker SDK and of what it stands on become faults, here alone.

Source: docker.errors.APIError of the SDK 5.0.3 and 7.1; requests, urllib3; moby's progress streams (``error``, ``message``).
"""

from __future__ import annotations

import errno
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Tuple

from ..core.errors import Fault, JobFault, NodeFault, Part, ShareFault
from ..core.text import cut

_LONGEST_ANSWER = 290  # with its quotes, no longer than what a fault shows of a value


class Refused(JobFault):
    """The daemon is well and said no."""


def readable(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give *chunks*; an error of their source is the share's, and not the daemon's whom they are for.

    :raises ShareFault: they cannot be read.
    """
    source = iter(chunks)
    while True:
        try:
            chunk = next(source)
        except StopIteration:
            return
        except OSError as error:
            seen = {"error": error.strerror or str(error), "path": str(error.filename or "")}
            raise ShareFault("engine: cannot read what was to be loaded", "look at the share", **seen) from error
        yield chunk


def fault_of(error: Exception, doing: str, seen: Mapping[str, Any]) -> Optional[Fault]:
    """Return what *error* of the SDK, requests, urllib3 or the system means, or None if it is a defect of ours."""
    chain = list(_chain(error))
    numbers = [each.errno for each in chain if isinstance(each, OSError)]
    if errno.EACCES in numbers or errno.EPERM in numbers:
        return JobFault("engine: no Docker access", "ask the admin to let this account use Docker", **seen)
    text = " ".join(str(error).split())
    if "no space left on device" in text or errno.ENOSPC in numbers:
        return NodeFault(f"engine: no space left for docker {doing}", "free space on this node", part=Part.DISK, **seen)
    if getattr(error, "response", None) is not None and hasattr(error, "explanation"):  # docker.errors.APIError
        return Refused(f"engine: docker {doing} was refused", "read the daemon's answer", answer=_answer(error), **seen)
    if any(type(each).__module__.split(".")[0] in ("docker", "requests", "urllib3", "http") for each in chain) or numbers:
        return NodeFault(
            f"engine: no answer to docker {doing}",
            "see that the Docker daemon runs",
            part=Part.DOCKER,
            error=cut(text, _LONGEST_ANSWER),
            **seen,
        )
    return None


def is_hung_up(error: Optional[BaseException]) -> bool:
    return any(isinstance(each, (BrokenPipeError, ConnectionResetError)) for each in _chain(error))


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    """Give *error*, what it holds and what caused it: urllib3 and requests wrap the system's error in arguments."""
    seen: List[BaseException] = []
    waiting: List[Any] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            waiting += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
            yield each


def _answer(error: Any) -> str:
    text = error.explanation
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text or error)
    return cut(" ".join(words.split()), _LONGEST_ANSWER)


def or_none(ask: Any, absent: Tuple[int, ...] = (404,)) -> Any:
    """Return the answer, or None if the daemon says that there is no such thing."""
    try:
        return ask()
    except Exception as error:
        response: Any = getattr(error, "response", None)
        if getattr(response, "status_code", None) not in absent:
            raise
        response.close()  # a streamed answer would keep its connection open
        return None


def follow(answers: Any, doing: str, image: str = "") -> None:
    """Read a stream of progress to its end; the daemon reports an error in it, with HTTP status 200."""
    text = ""
    for answer in answers or ():  # also what follows an error: only behind the end is the connection free for another question
        text = text or str((answer.get("error") or answer.get("message") or "") if isinstance(answer, Mapping) else "")
    seen = cut(text, _LONGEST_ANSWER)
    if "no space left on device" in text:
        raise NodeFault(f"engine: no space left for docker {doing}", "free space on this node", part=Part.DISK, answer=seen)
    if text:
        raise Refused(f"engine: docker {doing} was refused", "read the daemon's answer", answer=seen, image=image)
