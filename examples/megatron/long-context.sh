#!/bin/bash
# A 13B at 64k tokens: context parallelism over rings inside groups, two virtual stages a rank.
torchrun --nproc_per_node=8 --nnodes=16 pretrain_gpt.py \
  --num-layers=40 --hidden-size=5120 --num-attention-heads=40 --swiglu --normalization=RMSNorm \
  --disable-bias-linear --untie-embeddings-and-output-weights --position-embedding-type=rope \
  --seq-length=65536 --vocab-size=64000 \
  --context-parallel-size 8 --hierarchical-context-parallel-sizes 2 4 --cp-comm-type a2a+p2p \
  --tensor-model-parallel-size 4 --sequence-parallel \
  --pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2 \
  --microbatch-group-size-per-virtual-pipeline-stage 4 \
  --use-distributed-optimizer --micro-batch-size 1 --global-batch-size 64 --bf16
