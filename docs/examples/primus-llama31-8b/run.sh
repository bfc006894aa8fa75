#!/bin/bash
# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# In the container, on every node. Primus reads the rendezvous, the backend and its configuration from the environment.
set -euo pipefail
cd /workspace/Primus
# shellcheck disable=SC2086 # PRIMUS_CLI_EXTRA is words
EXP=$PRIMUS_CONFIG_PATH exec bash examples/run_pretrain.sh ${PRIMUS_CLI_EXTRA-}
