#!/bin/bash
# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# vLLM, disaggregated serving of Llama-3.1 8B on 3 nodes: a proxy, xP prefill and yD decode servers.
# Submit it from the directory above: sbatch vllm-disagg-llama31-8b/job.sh [COMMAND]; without a command it runs run.sh.
#SBATCH --job-name=vllm-disagg-llama31-8b
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --output=%x-%j.out
#SBATCH --comment=madengine:manifest=vllm-disagg-llama31-8b/build_manifest.json
set -euo pipefail

export DATA_DIR=${DATA_DIR:-/shared/data}
export NPROC_PER_NODE=8 GPUS_PER_NODE=8 HIP_VISIBLE_DEVICES=0,1,2,3,4,5,6,7
export PD_RUN_ID=$SLURM_JOB_ID OUTPUT_DIR=${OUTPUT_DIR:-$PWD/run_logs/$SLURM_JOB_ID}
mkdir -p "$OUTPUT_DIR/sync"
[ $# -gt 0 ] || set -- bash vllm-disagg-llama31-8b/run.sh
srun ./in-container "$@"
