# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of one job on one node, as the hook sees them: what is to be done is done by children that are the user.

Source: architecture.md, "Identities": root forks, it does not work.
"""

from __future__ import annotations

import dataclasses
import os
from itertools import zip_longest
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from ..core import locks, process
from ..core.deadline import Deadline
from ..core.errors import Fault, JobFault, PeerFault, ShareFault
from ..docker import engine, layer_server
from ..images import distribute, sources, transports
from ..images.distribute import Image
from ..images.offer import COMING
from ..images.request import ImageRequest
from ..images.transports import TransportOptions
from ..oci import lease
from ..oci.image import Reference
from .config import Site

FLOCKS = "/run/madengine/locks"
_MOST_NAMED = 3  # nodes, of those who could not take an offer


class JobImages:
    """What the leader publishes and the other nodes load.

    :param store: the image store's directory, or "" for the site's, if there is one.
    :param user: whom the children are: the job's user, or the site's service account.
    :param within: the time for all of it.
    :param transport: what the job asks for, or "" for the site's choice.
    :param job_id: SLURM's, without which there is no sbcast.
    :param work_dir: the manifest's directory, without which nothing is built.
    :param nodes: how many nodes the job has.
    """

    def __init__(
        self,
        site: Site,
        store: str,
        user: process.Account,
        within: Deadline,
        transport: str = "",
        job_id: Union[int, str] = "",
        work_dir: str = "",
        nodes: int = 1,
    ) -> None:
        self._site, self._store, self._user, self._within = site, store or site.image_store, user, within
        self._transport, self._job_id, self._work_dir = transport or site.transport, str(job_id), work_dir
        self._nodes = nodes
        self._engine = engine.Engine(site.socket_of(user))

    @property
    def may_broadcast(self) -> bool:
        """Whether the image may have to travel by SLURM's own broadcast, which wants to know what the nodes have."""
        return transports.wants_layers(self._transport, bool(self._store))

    def have(self) -> List[str]:
        """Return the chain ids of the layers of this node's daemon, where it may matter.

        :raises Fault: Docker does not answer, or not to the job's user.
        """
        if not self.may_broadcast:
            return []
        chains: List[str] = process.run(self._user, self._engine.chains, deadline=self._within)
        return chains

    def prepare(self) -> None:
        """Get ready for a child's work while there is still somebody to wait for."""
        engine.preload()

    def stage(
        self, images: Sequence[Image], alone: bool, held: Sequence[str] = (), declined: Optional[Mapping[str, Mapping[str, str]]] = None
    ) -> process.Child:
        """Begin to get the images onto the leader and, unless it is *alone*, to the others' reach; the result is the offers.

        The child may tell of the offers before, as soon as they can be taken.

        :param images: names, or entries of ``manifest.images``.
        :param held: chain ids of layers that every other node has (its `have`).
        :param declined: as in `TransportOptions`.
        :raises JobFault: the site does not allow one of *images*, or a store of the job's own.
        """
        if self._is_service and self._store != self._site.image_store:
            raise JobFault("image: no store of a job's own on this cluster", "leave store= out of the comment", store=self._store)
        wanted = [self._recipe(image) for image in images]
        self._allow(name for image in wanted for name in (image["reference"], image.get("registry_image")) if name)
        options = TransportOptions(
            self._sources(), self._transport, job_id=self._job_id, held=tuple(held), nodes=self._nodes,
            compression=self._site.compression, slurm_dir=self._site.slurm_dir, on_conflict=self._site.on_conflict,
            is_site_s=self._is_service, declined=declined or {},
        )  # fmt: skip
        arguments = (self._engine, self._store, wanted, str(self._user.uid), self._within)
        with locks.open_flocks(FLOCKS, self._user.uid) as flocks:
            options = dataclasses.replace(options, flocks=flocks)
            if alone:
                return process.start(self._user, distribute.ensure_all, *arguments, options, keep=flocks)
            if self._site.has_own_dockers:  # root would read wherever the user's daemon says that its layers are
                return process.start(self._user, distribute.publish_all, *arguments, options, keep=flocks)
            handle = layer_server.start(self._engine.socket)
            try:
                return process.start_telling(self._user, _published, handle, options, *arguments, keep=(handle, *flocks))
            finally:
                os.close(handle)

    def load(self, offers: Sequence[Mapping[str, Any]]) -> process.Child:
        """Begin to load what the leader offers, on another node; the child's result has one entry an offer."""
        self._allow(str(offer.get("reference")) for offer in offers)
        with locks.open_flocks(FLOCKS, self._user.uid) as flocks:
            return process.start(self._user, distribute.obtain_all, self._engine, list(offers), self._within, flocks, keep=flocks)

    def release(self, offers: Sequence[Mapping[str, Any]]) -> process.Child:
        """Begin to give the store's leases back, once every node has its images or the job is over."""
        return process.start(self._user, distribute.release, list(offers))

    def _recipe(self, image: Image) -> Dict[str, Any]:
        entry = {"reference": image} if isinstance(image, str) else dict(image)
        recorded = ImageRequest.of({**entry, "dockerfile": ""}).recorded
        if recorded is not None and not self._site.allows(str(recorded)):  # a tag is allowed, and what it names, but no digest
            entry["image_digest"] = ""
        return {"work_dir": self._work_dir, **entry}

    def _sources(self) -> Sequence[str]:
        left_out = {"build"} if not (self._site.allow_build and self._work_dir) else set()
        left_out |= {"hub"} if not self._site.default_registry else set()
        return tuple(source for source in sources.SOURCES if source not in left_out)

    @property
    def _is_service(self) -> bool:
        """Whether the site's account works for the job: it has what users have not, so nothing that a user has written is used with it."""
        return self._site.docker_access == "service"

    def _allow(self, names: Iterable[str]) -> None:
        for name in {str(Reference.parse(text)) for text in names}:
            if not self._site.allows(name):
                raise JobFault("image: not allowed on this cluster", "use one that matches AllowImages", image=name)


class Offering:
    """What the leader tells the others of its images: once as soon as they can begin, and anew where it turns out otherwise.

    :param publish: tells them.
    :ivar offers: what they have been told last.
    """

    def __init__(self, publish: Callable[[Sequence[Any]], None]) -> None:
        self._publish, self._is_told = publish, False
        self._told: List[Dict[str, Any]] = []
        self.offers: List[Dict[str, Any]] = []

    @property
    def leased(self) -> List[Dict[str, Any]]:
        """The offers that hold a lease of a store, those that were withdrawn among them."""
        offers = {(str(offer.get("where")), str(offer["lease"])): offer for offer in [*self._told, *self.offers] if offer.get("lease")}
        return list(offers.values())

    def begin(self, offers: List[Dict[str, Any]]) -> None:
        """Tell of images that are still on their way; the first word counts, for a user's child may say it without end."""
        if not self._is_told:
            self._tell(offers)

    def complete(self, offers: List[Dict[str, Any]]) -> None:
        """Tell of the images that are there, unless that is what the others know already."""
        if not self._is_told or not distribute.are_kept(self.offers, offers):
            self._tell(offers)
        self.offers[:] = offers

    def _tell(self, offers: List[Dict[str, Any]]) -> None:
        self._is_told = True
        self._told += offers
        self._publish(offers)
        self.offers[:] = offers


def _published(
    tell: Callable[[Any], None], handle: int, options: TransportOptions, docker: engine.Engine, *arguments: Any
) -> List[Dict[str, Any]]:
    """Publish as the user what root reads, and tell of it."""
    store, images, namespace, within = arguments
    options = dataclasses.replace(options, reader=layer_server.LayerClient(handle))
    return distribute.publish_all(docker, store, images, namespace, within, options, tell)


def has_another_way(offers: Iterable[Mapping[str, Any]], fault: Fault) -> bool:
    """Say whether *fault* keeps a node from taking one of *offers* in a way to which there is another."""
    return fault.what == transports.DECLINED and any(offer.get(transports.OTHERWISE) is True for offer in offers)


def may_decline(offers: Sequence[Mapping[str, Any]], fault: Fault) -> bool:
    """Say whether the leader may have something else for this node, which *fault* keeps from taking *offers*.

    What is still on its way may be withdrawn yet, so who found it wrong waits for the leader's word; but a node that sees another
    store than the leader would wait for minutes for what will hardly come.
    """
    is_coming = any(offer.get(COMING) is True for offer in offers)
    return has_another_way(offers, fault) or (is_coming and isinstance(fault, ShareFault) and fault.what != lease.ANOTHER_STORE)


def declined(offers: Iterable[Mapping[str, Any]], faults: Sequence[PeerFault]) -> Dict[str, Dict[str, str]]:
    """Return way → node → why it cannot take it, of those ways of *offers* to which there is another."""
    why = {fault.node: str(fault.seen.get("answer") or fault) for fault in faults[:_MOST_NAMED]}
    return {str(offer["transport"]): why for offer in offers if offer.get(transports.OTHERWISE) is True}


def decisions(offers: Iterable[Mapping[str, Any]]) -> List[str]:
    """Return what the job's user should know of how its images were chosen, a line each."""
    return [f"madengine: {offer['decision']}" for offer in offers if offer.get("decision")]


def decided(offers: Sequence[Mapping[str, Any]], loaded: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return *offers* with what was decided here, where each was *loaded*, behind what the first node has decided."""
    found: List[Dict[str, Any]] = []
    nothing: Mapping[str, Any] = {}
    for offer, load in zip_longest(offers, loaded[: len(offers)], fillvalue=nothing):
        both = "; ".join(str(each["decision"]) for each in (offer, load) if each.get("decision"))
        found.append({**offer, **({"decision": both} if both else {})})
    return found


def totals(reports: Iterable[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the figures of several offers or loads as one, for the timeline."""
    known = list(reports)
    added = ("bytes_total", "bytes_moved", "layers_total", "layers_moved")
    methods = ",".join(dict.fromkeys(str(each.get("method")) for each in known))
    # Why an image was loaded and not pulled, or went another way than the first; and why it is this one of several.
    said = {"reason": ("reason", "instead_of"), "decision": ("decision",)}
    words = {
        key: "; ".join(dict.fromkeys(str(each[name]) for each in known for name in names if each.get(name))) for key, names in said.items()
    }
    sums = {name: sum(int(each.get(name) or 0) for each in known) for name in added}
    return {"images": len(known), "method": methods, **sums, **{key: text for key, text in words.items() if text}}
