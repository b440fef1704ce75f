"""Decoders as plain nn.Modules, read from a Hugging Face config.json: what runtime torch-eager is of.

Llama-like (model_type llama): torch.nn.RMSNorm, a Linear each for q, k, v, gate and up, rotary
embedding by halves, scaled_dot_product_attention, SwiGLU. GPT-like (gpt2): LayerNorm, one Linear for
q, k and v, biases, learned positions, GELU (tanh), head tied to the embedding. Parameters are bf16,
the loss is taken in fp32.
"""
import json

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def turn(x, cos, sin):
    """Rotary embedding by halves: x is sequences × heads × tokens × width."""
    half = x.shape[-1] // 2
    halves = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + halves * sin


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        h = config["hidden"]
        self.heads, self.kv_heads, self.width = config["heads"], config["kv_heads"], config["head_dim"]
        self.rotary = config["llama"]
        if self.rotary:
            self.q = nn.Linear(h, self.heads * self.width, bias=False)
            self.k = nn.Linear(h, self.kv_heads * self.width, bias=False)
            self.v = nn.Linear(h, self.kv_heads * self.width, bias=False)
        else:
            self.qkv = nn.Linear(h, 3 * h)
        self.out = nn.Linear(self.heads * self.width, h, bias=not self.rotary)

    def forward(self, x, cos, sin):
        b, s, h = x.shape
        each = (self.q(x), self.k(x), self.v(x)) if self.rotary else self.qkv(x).split(h, dim=-1)
        q, k, v = (t.view(b, s, -1, self.width).transpose(1, 2) for t in each)
        if self.rotary:
            q, k = turn(q, cos, sin), turn(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                           enable_gqa=self.heads != self.kv_heads)
        return self.out(y.transpose(1, 2).reshape(b, s, -1))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        h, f = config["hidden"], config["ffn"]
        self.gated = config["llama"]
        if self.gated:
            self.gate = nn.Linear(h, f, bias=False)
        self.up = nn.Linear(h, f, bias=not self.gated)
        self.down = nn.Linear(f, h, bias=not self.gated)

    def forward(self, x):
        if self.gated:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(F.gelu(self.up(x), approximate="tanh"))


def norm_of(config):
    return (nn.RMSNorm if config["llama"] else nn.LayerNorm)(config["hidden"], eps=1e-5)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention_norm, self.attention = norm_of(config), Attention(config)
        self.ffn_norm, self.ffn = norm_of(config), FeedForward(config)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.ffn(self.ffn_norm(x))


class Model(nn.Module):
    """All of a model, or the stage of a pipeline that holds `layers` of it: takes tokens if it holds
    the embedding, gives logits if it holds the head, else what the blocks hand on."""

    def __init__(self, config, again=False, layers=None, embedding=True, head=True):
        super().__init__()
        h, vocab = config["hidden"], config["vocab"]
        self.again = again  # every block is run again in the backward pass
        self.embedding = nn.Embedding(vocab, h) if embedding else None
        self.positions = None if config["llama"] or not embedding else nn.Embedding(
            config["positions"], h)
        self.blocks = nn.ModuleList(Block(config) for _ in range(
            config["layers"] if layers is None else layers))
        self.norm = norm_of(config) if head else None
        self.head = nn.Linear(h, vocab, bias=False) if head else None
        if config["tied"] and embedding and head:
            self.head.weight = self.embedding.weight
        d = config["head_dim"]
        angles = torch.outer(torch.arange(config["positions"], dtype=torch.float32),
                             10000 ** -(torch.arange(0, d, 2) / d))
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.register_buffer("places", torch.arange(config["positions"]), persistent=False)

    def forward(self, x):
        s = x.shape[1]
        if self.embedding is not None:
            x = self.embedding(x)
        if self.positions is not None:
            x = x + self.positions(self.places[:s])
        cos, sin = self.cos[:s], self.sin[:s]
        for block in self.blocks:
            if self.again:
                x = checkpoint(block, x, cos, sin, use_reentrant=False)
            else:
                x = block(x, cos, sin)
        return x if self.head is None else self.head(self.norm(x))


def loss_of(logits, targets):
    return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.view(-1))


def read_config(path):
    with open(path, encoding="utf-8") as file:
        c = json.load(file)
    if c["model_type"] == "llama":
        return {"llama": True, "layers": c["num_hidden_layers"], "hidden": c["hidden_size"],
                "heads": c["num_attention_heads"], "kv_heads": c["num_key_value_heads"],
                "head_dim": c["hidden_size"] // c["num_attention_heads"],
                "ffn": c["intermediate_size"], "vocab": c["vocab_size"],
                "positions": c["max_position_embeddings"], "tied": c["tie_word_embeddings"]}
    if c["model_type"] == "gpt2":
        return {"llama": False, "layers": c["n_layer"], "hidden": c["n_embd"],
                "heads": c["n_head"], "kv_heads": c["n_head"],
                "head_dim": c["n_embd"] // c["n_head"], "ffn": 4 * c["n_embd"],
                "vocab": c["vocab_size"], "positions": c["n_positions"], "tied": True}
    raise ValueError(f"{path}: model_type llama or gpt2, found {c['model_type']}")


def build(config, again=False):
    """On the GPU, in bf16."""
    with torch.device("cuda"):
        return Model(config, again).to(torch.bfloat16)
