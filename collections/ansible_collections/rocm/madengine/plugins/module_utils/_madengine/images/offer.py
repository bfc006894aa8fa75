# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the leader offers to the other nodes, and what a publication or a load has moved: written and read here alone.

An offer travels as JSON over the wire and into the job's state, so what comes from there is read with care.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, Mapping, Sequence

from ..core.errors import ShareFault
from ..oci.image import Reference, is_digest
from ..oci.image_manifest import Layer


@dataclass(frozen=True)
class Figures:
    """What was moved, how, and how long that took.

    :param method: of a publication ``none``, ``graph``, ``save`` or ``registry``; of a load ``none``, ``pull`` or ``load``.
    :param reason: why a load was no pull, or why another transport was not taken; "" mostly.
    """

    method: str = "none"
    bytes_total: int = 0
    bytes_moved: int = 0
    layers_total: int = 0
    layers_moved: int = 0
    seconds: float = 0.0
    reason: str = ""

    @classmethod
    def since(cls, started: float, method: str, layers: Sequence[Layer] = (), moved: Sequence[int] = (0, 0), reason: str = "") -> Figures:
        """Return the figures of what began at *started*, by the steady clock.

        :param moved: layers and bytes.
        """
        seconds = round(time.monotonic() - started, 3)
        return cls(method, sum(each.size_bytes for each in layers), moved[1], len(layers), moved[0], seconds, reason)

    def to_dict(self) -> Dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "reason" or value}


COMING = "is_coming"  # of an offer whose image is not whole yet
_OF_THE_WAY = (COMING, "instead_of")  # what a member's image does not depend on
FIGURES = tuple(each.name for each in fields(Figures))


@dataclass(frozen=True)
class Offer:
    """One image and how to come by it.

    :param identity: what it is, as `Identity.digest` says it.
    :param transport: a name of `transports.TRANSPORTS`.
    :param source: where the leader had it from, one of `sources.SOURCES`.
    :param decision: why it is this one, where several had its name.
    :param details: what the transport needs at the other end; it alone writes and reads it.
    """

    reference: Reference
    identity: str
    transport: str
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    figures: Figures = Figures()
    decision: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Offer:
        """Return the offer that `to_dict` wrote on another node.

        :raises ShareFault: it is none.
        :raises JobFault: it is of something that is no image name.
        """
        reference, identity, transport = (document.get(name) for name in ("reference", "identity", "transport"))
        if not is_digest(identity) or not isinstance(transport, str):
            raise ShareFault("transport: not an offer", "install the same release on all nodes", offer=str(dict(document))[:200])
        known = ("reference", "identity", "transport", "source", "decision", *FIGURES)
        details = {name: value for name, value in document.items() if name not in known}
        figures = {name: document[name] for name in FIGURES if type(document.get(name)) is type(getattr(Figures, name))}
        source, decision = (str(document.get(name, "")) for name in ("source", "decision"))
        return cls(Reference.parse(str(reference)), str(identity), transport, source, details, Figures(**figures), decision)

    @property
    def is_coming(self) -> bool:
        """Say whether the image is still on its way, so that its layers are to be waited for."""
        return self.details.get(COMING) is True

    def is_kept_by(self, other: Offer) -> bool:
        """Say whether who takes this one gets what *other* offers."""
        return self._promise() == other._promise()

    def _promise(self) -> object:
        return self.reference, self.identity, self.transport, {key: self.details[key] for key in self.details if key not in _OF_THE_WAY}

    def to_dict(self) -> Dict[str, Any]:
        """Return what fits into JSON; all stands on one level."""
        heads = {"reference": str(self.reference), "identity": self.identity, "transport": self.transport, "source": self.source}
        return {**heads, **({"decision": self.decision} if self.decision else {}), **self.details, **self.figures.to_dict()}
