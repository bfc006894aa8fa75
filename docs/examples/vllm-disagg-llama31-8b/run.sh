#!/bin/bash
# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# In the container, on every node: node 0 is the proxy and the benchmark, the next xP serve prefill, the last yD decode.
set -euo pipefail
model=$MODEL_DIR/$MODEL_NAME
serve() { # ROLE
    exec vllm serve "$model" --port "$BENCHMARK_PORT" --tensor-parallel-size "$NPROC_PER_NODE" \
        --kv-transfer-config "{\"kv_connector\": \"NixlConnector\", \"kv_role\": \"$1\"}"
}
# shellcheck disable=SC2154 # xP is the environment's
case $NODE_RANK in
    0) exec python3 /app/proxy.py --port "$ROUTER_PORT" --sync "$PD_SYNC_ROOT/$PD_RUN_ID" ;;
    *) if [ "$NODE_RANK" -le "$xP" ]; then serve kv_producer; else serve kv_consumer; fi ;;
esac
