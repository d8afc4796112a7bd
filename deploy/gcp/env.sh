# What every process of a node has in its environment, by way of `ray start`. Sourced by cluster.yaml's commands.
# shellcheck shell=bash
export TMPDIR=/mnt/local/tmp
export HF_HOME=/mnt/local/huggingface
export NCCL_SOCKET_IFNAME=^lo,docker
export NCCL_DEBUG=WARN
export RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=1800
export RAY_JOB_STOP_WAIT_TIME_S=60
