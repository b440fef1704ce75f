#!/bin/bash
# A llama-like 70B on 128 GPUs, flags kept in lists; full recomputation, gradients reduced in bf16.
TP=8
PP=4
LAYERS=80
export CUDA_DEVICE_MAX_CONNECTIONS=1

MODEL_ARGS=(
    --num-layers $LAYERS
    --hidden-size 8192
    --ffn-hidden-size 28672
    --num-attention-heads 64
    --group-query-attention --num-query-groups 8
    --swiglu --normalization RMSNorm
    --untie-embeddings-and-output-weights
    --disable-bias-linear
    --position-embedding-type rope
    --seq-length 8192 --max-position-embeddings 8192
    --vocab-size 128256 --make-vocab-size-divisible-by 128
)
PARALLEL_ARGS=(
    --tensor-model-parallel-size "$TP" --sequence-parallel --tp-comm-overlap
    --pipeline-model-parallel-size "$PP" --no-overlap-p2p-communication
    --use-distributed-optimizer --overlap-grad-reduce
    --ddp-bucket-size 40000000 --grad-reduce-in-bf16
)
TRAIN_ARGS=(
    --micro-batch-size 1 --global-batch-size $((128 * 4)) --rampup-batch-size 64 64 100000
    --recompute-granularity full --recompute-method uniform --recompute-num-layers 1
    --bf16 --lr 1.5e-4   # the rest of the optimizer is Megatron's
)
torchrun --nproc_per_node 8 pretrain_gpt.py "${MODEL_ARGS[@]}" "${PARALLEL_ARGS[@]}" ${TRAIN_ARGS[@]}
