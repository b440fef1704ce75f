#!/bin/bash
# A llama-like 7B on 32 GPUs: tensor parallelism inside half a node, data parallelism over the rest.
export CUDA_DEVICE_MAX_CONNECTIONS=1
GPUS_PER_NODE=8
NNODES=${NNODES:-4}

torchrun --nproc_per_node $GPUS_PER_NODE --nnodes $NNODES pretrain_gpt.py \
    --use-mcore-models --transformer-impl transformer_engine \
    --num-layers 32 --hidden-size 4096 --ffn-hidden-size 11008 --num-attention-heads 32 \
    --swiglu --normalization RMSNorm --untie-embeddings-and-output-weights --disable-bias-linear \
    --position-embedding-type rope --rotary-base 10000 \
    --seq-length 4096 --max-position-embeddings 4096 \
    --tokenizer-type Llama2Tokenizer --tokenizer-model tokenizer.model \
    --tensor-model-parallel-size 4 --sequence-parallel \
    --micro-batch-size 1 --global-batch-size 256 \
    --use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather \
    --bf16 --lr 3.0e-4 --min-lr 3.0e-5 --lr-decay-style cosine --weight-decay 0.1 --clip-grad 1.0 \
    --train-iters 100000 --data-path "1.0 corpus_text_document" --split 99,1,0 --seed 1234
