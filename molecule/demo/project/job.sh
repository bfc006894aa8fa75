#!/bin/bash
# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Train the tiny model on three nodes, a container on each. The image is on one node only; rocm.madengine sees to the
# others, and to what stands in the variables that begin with MAD_.
#SBATCH --job-name=tiny-llama
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.out
#SBATCH --comment=madengine:manifest=build_manifest.json
set -euo pipefail

srun bash -c 'docker run --rm --network=host --env-file "$MAD_ENV_FILE" --volume "$MAD_RESULTS_DIR:/results" \
    --label madengine.job="$SLURM_JOB_ID" "$MAD_IMAGE"'
