# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of one job on one node, as the hook sees them: what is to be done is done by children that are the user.

Source: architecture.md, "Identities": root forks, it does not work.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable, List, Mapping, Sequence

from . import account, feed, transport
from .config import Site
from .deadline import Deadline
from .errors import JobFault
from .image import Reference


class Images:
    """What the leader publishes and the other nodes load.

    :param store: the image store's directory, or "" if the job's nodes share none.
    :param user: whom the children are: the job's user, or the site's service account.
    :param within: the time for all of it.
    """

    def __init__(self, site: Site, store: str, user: account.Account, within: Deadline) -> None:
        self._site, self._store, self._user, self._within = site, store or site.image_store, user, within
        self._engine = engine.Engine(site.docker_socket)

    def prepare(self) -> None:
        """Get ready for a child's work while there is still somebody to wait for."""
        engine.preload()

    def stage(self, references: Sequence[str], alone: bool) -> account.Child:
        """Begin to get the images onto the leader and, unless it is *alone*, into the store; the result is the offers.

        :raises JobFault: the site does not allow one of *references*.
        """
        names = self._allowed(references)
        arguments = (self._engine, self._store, names, str(self._user.uid), self._within)
        if alone:
            return account.start(self._user, transport.ensure_all, *arguments)
        handle = feed.start(self._site.docker_socket)
        try:
            return account.start(self._user, _published, handle, *arguments, keep=(handle,))
        finally:
            os.close(handle)

    def load(self, offers: Sequence[Mapping[str, Any]]) -> account.Child:
        """Begin to load what the leader offers, on another node; the child's result has one entry an offer."""
        self._allowed([str(offer.get("reference")) for offer in offers])
        return account.start(self._user, transport.obtain_all, self._engine, list(offers), self._within)

    def release(self, offers: Sequence[Mapping[str, Any]]) -> account.Child:
        """Begin to give the store's leases back, once every node has its images or the job is over."""
        return account.start(self._user, transport.release, list(offers))

    def _allowed(self, references: Sequence[str]) -> List[str]:
        names = list(dict.fromkeys(str(Reference.parse(text)) for text in references))
        for name in names:
            if not self._site.allows(name):
                raise JobFault("image: not allowed on this cluster", "use one that matches AllowImages", image=name)
        return names


def _published(handle: int, *arguments: Any) -> List[Dict[str, Any]]:
    """Publish as the user what root reads."""
    return transport.publish_all(*arguments, reader=feed.Remote(handle))


def totals(reports: Iterable[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the figures of several offers or loads as one, for the timeline."""
    known = list(reports)
    added = ("bytes_total", "bytes_moved", "layers_total", "layers_moved")
    methods = ",".join(dict.fromkeys(str(each.get("method")) for each in known))
    return {"images": len(known), "method": methods, **{name: sum(int(each.get(name) or 0) for each in known) for name in added}}
