# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job script of madengine's says of its manifest, and what no script can make of us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.hooks import job_script
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(("text", "expected"), [
    ('SUBMISSION_DIR=/run/a\nORIGINAL_MANIFEST="run_manifest_x.json"\n', "/run/a/run_manifest_x.json"),
    ("SUBMISSION_DIR='/run/a b'\nORIGINAL_MANIFEST='m 1.json'\n", "/run/a b/m 1.json"),
    ("    SUBMIT_DIR=/run/a\n    MANIFEST_FILE=/run/a/m.json\n", "/run/a/m.json"),
    ('ORIGINAL_MANIFEST="m.json"\n', "/home/alice/m.json"),
    ('SUBMISSION_DIR=$PWD\nORIGINAL_MANIFEST="m.json" # the user\'s\n', "/home/alice/m.json"),
    ('ORIGINAL_MANIFEST="m.json"\nORIGINAL_MANIFEST="later.json"\n', "/home/alice/m.json"),
    ("MANIFEST_FILE=$WORKSPACE/build_manifest.json\nMANIFEST_FILE=/run/m.json\n", "/run/m.json"),
    ('ORIGINAL_MANIFEST=${MANIFEST_FILE:-build_manifest.json}\nMANIFEST_FILE=/run/m.json\n', "/run/m.json"),
    ("export ORIGINAL_MANIFEST=/a/../b/m.json\n", "/b/m.json"),
    ("#ORIGINAL_MANIFEST=no.json\nMY_ORIGINAL_MANIFEST=no.json\n", ""),
    ("ORIGINAL_MANIFEST=`cat x`\n", ""),
    ("ORIGINAL_MANIFEST='unbalanced\n", ""),
    ("ORIGINAL_MANIFEST=\n", ""),
    ("", ""),
])  # fmt: skip
def test_the_manifest_is_the_one_that_the_script_names_in_plain_words(text: str, expected: str) -> None:
    assert job_script.named_in("#!/bin/bash\n" + text, "/home/alice") == expected


@given(st.text())
def test_whatever_a_script_says_is_one_absolute_path_or_nothing(text: str) -> None:
    found = job_script.named_in("ORIGINAL_MANIFEST=" + text, "/home/alice")
    assert found == "" or (found.startswith("/") and found.isprintable() and "$" not in found)


def test_a_script_that_cannot_be_read_or_is_none_names_nothing(tmp_path: Path) -> None:
    path = tmp_path / "madengine_x.sh"
    assert job_script.manifest_of(str(path), "/w") == ""
    os.mkfifo(path)
    assert job_script.manifest_of(str(path), "/w") == ""
    path.unlink()
    path.write_bytes(b"ORIGINAL_MANIFEST=m.json\n" + b"#" * (2 << 20))
    assert job_script.manifest_of(str(path), "/w") == ""
    path.write_bytes(b"\xff\xfe\nORIGINAL_MANIFEST=m.json\n")
    assert job_script.manifest_of(str(path), "/w") == "/w/m.json"
