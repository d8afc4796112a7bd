# What every process of a node has in its environment, by way of `ray start`. Sourced by cluster.yaml's commands.
# shellcheck shell=bash

# The NVMe disks: temporary files, splitray's cache of shards, the cache of torch.compile, models from the hub.
export TMPDIR=/opt/dlami/nvme/tmp
export HF_HOME=/opt/dlami/nvme/huggingface

# EFA: the AMI's plugin has NCCL use it. Where a node has none, NCCL says so once and uses TCP.
export LD_LIBRARY_PATH=/opt/amazon/ofi-nccl/lib:/opt/amazon/ofi-nccl/lib/x86_64-linux-gnu:/opt/amazon/efa/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export FI_PROVIDER=efa
export FI_EFA_USE_DEVICE_RDMA=1 # p4d and p4de: from GPU to GPU, not through the host's memory
export NCCL_SOCKET_IFNAME=^lo,docker # what NCCL talks over before it uses EFA
export NCCL_DEBUG=WARN

# A group of 64 workers waits for its nodes longer than Ray Train's 60 s.
export RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=1800
# Time between SIGTERM and SIGKILL of `ray job stop`: checkpoints of a large model want more than Ray's 3 s.
export RAY_JOB_STOP_WAIT_TIME_S=60
