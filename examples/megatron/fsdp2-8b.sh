#!/bin/bash
# The same 8B with PyTorch's FSDP2.
python pretrain_gpt.py --num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336 \
  --num-attention-heads 32 --group-query-attention --num-query-groups 8 --swiglu \
  --normalization RMSNorm --disable-bias-linear --untie-embeddings-and-output-weights \
  --position-embedding-type rope --seq-length 8192 --vocab-size 128256 \
  --use-torch-fsdp2 --micro-batch-size 1 --global-batch-size 128 --bf16
