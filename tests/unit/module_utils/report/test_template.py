# SPDX-License-Identifier: GPL-3.0-or-later
"""No two phases look alike in the report's picture, in light and in dark mode, whatever colours a reader can see."""

from __future__ import annotations

import itertools
import math
import re
from typing import Dict, List, Sequence, Tuple

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.report import phases, template

# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
SIGHTS: Dict[str, Sequence[Sequence[float]]] = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
ENOUGH = 12.0  # in CIE 1976; about 2 is the least that can be seen side by side
Triple = Tuple[float, float, float]


def palettes() -> List[Dict[str, str]]:
    """Return the light mode's colours and the dark one's, by their names."""
    light, dark = template.STYLE.split("@media (prefers-color-scheme: dark)")[:2]
    return [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part.split("* {")[0])) for part in (light, dark)]


def linear(text: str) -> List[float]:
    parts = [int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def lab(colour: str, sight: str) -> Triple:
    red, green, blue = (min(max(sum(weight * part for weight, part in zip(row, linear(colour))), 0.0), 1.0) for row in SIGHTS[sight])
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_no_two_phases_look_alike(mode: int, sight: str) -> None:
    palette = palettes()[mode]
    seen = {number: lab(palette[f"c{number}"], sight) for number in range(phases.COLOURS)}
    pairs = {pair: math.dist(seen[pair[0]], seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert {pair: distance for pair, distance in pairs.items() if distance < ENOUGH} == {}


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_every_phase_stands_out_from_what_it_is_drawn_on(mode: int, sight: str) -> None:
    palette = palettes()[mode]
    for ground in ("track", "card"):
        for number in range(phases.COLOURS):
            assert math.dist(lab(palette[f"c{number}"], sight), lab(palette[ground], sight)) >= ENOUGH, (number, ground)


def test_each_colour_has_a_rule() -> None:
    for number in range(phases.COLOURS):
        assert re.search(rf"\.c{number}\b", template.STYLE)
