#!/bin/bash
# Sixteen experts a layer, every second layer, with a capacity that drops tokens; LayerNorm and GELU.
OPTIONS="--num-layers 24 --hidden-size 2048 --ffn-hidden-size 8192 --num-attention-heads 16 \
  --normalization LayerNorm --position-embedding-type learned_absolute --max-position-embeddings 2048"
OPTIONS="$OPTIONS --seq-length 2048 --tokenizer-type GPT2BPETokenizer"
OPTIONS+=" --num-experts 16 --moe-layer-freq 2 --moe-router-topk 1 --moe-expert-capacity-factor 1.25"
OPTIONS+=" --moe-pad-expert-input-to-capacity --moe-token-drop-policy probs --moe-z-loss-coeff 1e-3"
OPTIONS+=" --moe-shared-expert-intermediate-size 8192 --moe-shared-expert-gate"
OPTIONS+=" --moe-token-dispatcher-type allgather --expert-model-parallel-size 16"
OPTIONS+=" --micro-batch-size 4 --global-batch-size 512 --fp16"

if [ -n "$DEBUG" ]; then
  OPTIONS="$OPTIONS --log-interval 1"
fi
python -m torch.distributed.run --nproc_per_node=8 pretrain_gpt.py $OPTIONS
