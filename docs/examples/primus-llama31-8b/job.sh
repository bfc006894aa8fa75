#!/bin/bash
# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Primus, Megatron-LM backend: Llama-3.1 8B training on 2 nodes with 8 GPUs each.
# Submit it from the directory above: sbatch primus-llama31-8b/job.sh [COMMAND]; without a command it runs run.sh.
#SBATCH --job-name=primus-llama31-8b
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --output=%x-%j.out
#SBATCH --comment=madengine:manifest=primus-llama31-8b/build_manifest.json
set -euo pipefail

export DATA_DIR=${DATA_DIR:-/shared/data}
export NPROC_PER_NODE=8 GPUS_PER_NODE=8 WORLD_SIZE=$((SLURM_NNODES * 8))
[ $# -gt 0 ] || set -- bash primus-llama31-8b/run.sh
srun ./in-container "$@"
