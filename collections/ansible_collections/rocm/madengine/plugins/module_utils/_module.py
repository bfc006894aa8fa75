# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module of this collection ends: with its result, or with a fault in one line.

Source: ansible-core's developer guide, "Ansible module development".
"""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule

from ._madengine.core.errors import Fault


def finish(module: AnsibleModule, work: Callable[[], Dict[str, Any]]) -> None:
    """Do *work* and exit with what it returns; a fault becomes the failure's ``msg`` and ``fault``."""
    try:
        result = work()
    except Fault as fault:
        module.fail_json(msg=fault.line(), fault=fault.to_dict())
    module.exit_json(**result)
