# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight_info's action: how far a node's clock is from the controller's, and how sure that is."""

from __future__ import annotations

from ansible_collections.rocm.madengine.plugins.action import preflight_info
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(-1e5, 1e5), st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
def test_the_clocks_true_offset_always_lies_within_the_bounds(true: float, there: float, working: float, back: float) -> None:
    sent = 1e6
    began, ended = sent + there + true, sent + there + working + true
    measured = preflight_info.offset(sent, began, ended, sent + there + working + back)
    assert abs(measured["offset_seconds"] - true) <= measured["uncertainty_seconds"] + 0.002
