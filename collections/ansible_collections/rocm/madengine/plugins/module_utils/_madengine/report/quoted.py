# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the report quotes what a job wrote: as text that shows as what it is, bounded, and without secrets."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ..core.text import visible
from ..manifest.quoting import masked


def shown(text: str, keeps_lines: bool = False) -> str:
    """Return *text* as the report quotes it: it shows as what it is, and what looks like a secret is masked."""
    return visible(masked(text), keeps_lines)


def field(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return "" if value is None else shown(str(value)[:2000])


def number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18 else 0.0


def dicts(value: Any) -> List[Dict[str, Any]]:
    return [item for item in (value if isinstance(value, list) else []) if isinstance(item, dict)]


def named(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
