# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for ansible-test's own get-pip script where it cannot be fetched: ``get_pip.py [OPTIONS] PACKAGE...``.

The pip that Python itself carries installs the one that is asked for, from wherever this machine's pip is told to.
Both are processes of their own: ensurepip within this one would switch off pip's configuration.
"""

from __future__ import annotations

import subprocess
import sys

_OURS = ("--no-setuptools", "--no-wheel")  # get-pip knows them, pip does not

words = [word for word in sys.argv[1:] if word not in _OURS]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *words], check=False).returncode)
