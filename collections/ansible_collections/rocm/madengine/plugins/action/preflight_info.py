# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of the same name, and measure the node's clock by this machine's on the way.

Source: NTP's on-wire protocol (RFC 5905, section 8): four times, two of each clock, give the offset and its bounds.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core is not typed
    """Adds ``clock`` to the module's facts."""

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        sent = time.time()
        result.update(self._execute_module(task_vars=task_vars))
        received = time.time()
        if isinstance(result.get("facts"), dict) and isinstance(result.get("time"), dict):
            result["facts"]["clock"] = offset(sent, float(result["time"]["began"]), float(result["time"]["ended"]), received)
        return dict(result)


def offset(sent: float, began: float, ended: float, received: float) -> Dict[str, float]:
    """Return by how much the node's clock is ahead of ours, and how wrong that can be at most.

    >>> offset(100.0, 160.5, 161.0, 101.5)
    {'offset_seconds': 60.0, 'uncertainty_seconds': 0.5}
    """
    travel = (received - sent) - (ended - began)
    return {
        "offset_seconds": round(((began - sent) + (ended - received)) / 2, 3),
        "uncertainty_seconds": round(max(0.0, travel) / 2, 3),
    }
