#!/bin/bash
# An 8B with everything sharded over data parallelism by Megatron's own FSDP.
ARGS="--num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336 --num-attention-heads 32
  --group-query-attention --num-query-groups 8 --swiglu --normalization RMSNorm --disable-bias-linear
  --untie-embeddings-and-output-weights --position-embedding-type rope --seq-length 8192
  --vocab-size 128256"
SHARDING="--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads_params
  --outer-dp-sharding-strategy no_shard"
torchrun pretrain_gpt.py $ARGS $SHARDING --micro-batch-size 1 --global-batch-size 128 --bf16
