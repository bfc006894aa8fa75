#!/bin/bash
# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# In the container, on every node. The names are those of AMD's MLPerf training image; see the README inside it.
set -euo pipefail
cd /workspace/code
# shellcheck disable=SC1091 # it is in the image
source config_MI300X_2x8x1.sh
exec torchrun --nnodes="$NNODES" --node-rank="$NODE_RANK" --nproc-per-node="$NPROC_PER_NODE" \
    --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" src/train.py
