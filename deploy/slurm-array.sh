#!/bin/bash
# A batch as an array of Slurm jobs, and one that joins their answers.
#
#   sbatch deploy/slurm-array.sh questions.parquet runs/x --team team.toml --strategy vote,colm
#
# The job submits the merge itself, to run after the last shard. A shard that failed or ran out of time is repeated
# with `sbatch --array=7,12 deploy/slurm-array.sh …`: it goes on where it was.
#SBATCH --job-name=colm-vl
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
# For clients in this process, also: #SBATCH --gres=gpu:1
set -euo pipefail

SHARDS="${SHARDS:-16}"   # the same number in every submission, also if only some shards are repeated
questions="$1" out="$2"
shift 2

if [ "$SLURM_ARRAY_TASK_ID" = "$SLURM_ARRAY_TASK_MIN" ]; then
  sbatch --dependency="afterany:$SLURM_ARRAY_JOB_ID" --job-name=colm-vl-merge --mem=4G --time=1:00:00 \
    --wrap="colm-vl batch merge '$out'"
fi
# Not exec: Slurm signals this shell, and colm-vl as its child.
srun colm-vl batch "$questions" --out "$out" --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" "$@"
