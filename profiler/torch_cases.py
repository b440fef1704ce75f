"""The operators that torch_eager.py times: their points and what launches them.

Bytes are those of profiler/asks.cpp, which says how they are counted; its reader refuses others.
"""
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

CHUNK = 1 << 24  # elements of an optimizer's tensors


class Case:
    """One line: what it is called, and `make`, which builds one set of tensors and returns a shot.

    A shot launches the operator once and returns its results, which are kept until the set's next
    turn. `line` is what of it is known before the times.
    """

    def __init__(self, kind, line, make, hot_ms=60, in_graph=True):
        self.kind, self.line, self.make = kind, line, make
        self.hot_ms, self.in_graph = hot_ms, in_graph


def point(kind, phase, m, n, k, provider, bytes_):
    return {"kind": kind, "phase": phase, "precision": "bf16", "m": m, "n": n, "k": k, "groups": 1,
            "spread": "even", "provider": provider, "flops": 0, "bytes": bytes_}


def random(*shape, grad=False, dtype=None):
    x = torch.randn(*shape, dtype=dtype or torch.bfloat16, device="cuda")
    return x.requires_grad_(grad)


def forward_and_backward(kind, shape, provider, forward_bytes, backward_bytes, inputs, run,
                         backward_phase="data_grad"):
    """Two cases of one operator: `inputs()` are its tensors, run(*inputs) its result."""
    def make_forward():
        tensors = inputs()
        return lambda: run(*tensors)

    def make_backward():
        tensors = inputs()
        result = run(*tensors)
        wanted = [t for t in tensors if t.requires_grad]
        up = torch.randn_like(result)
        return lambda: torch.autograd.grad(result, wanted, up, retain_graph=True)
    cases = []
    if forward_bytes:
        cases.append(Case(kind, point(kind, "forward", *shape, provider, forward_bytes),
                          make_forward))
    if backward_bytes:
        cases.append(Case(kind, point(kind, backward_phase, *shape, provider, backward_bytes),
                          make_backward))
    return cases


def attention(m, n, heads, kv_heads, d, dv, provider, backend):
    """Causal; q, k, v as a projection leaves them: tokens × heads × width, seen as heads first."""
    flops = m * m * n * heads * (d + dv)
    bytes_ = m * n * (heads + kv_heads) * (d + dv) * 2

    def line(phase, flops, bytes_):
        return {"kind": "attention", "phase": phase, "precision": "bf16", "m": m, "n": n,
                "heads": heads, "kv_heads": kv_heads, "head_dim": d, "v_head_dim": dv,
                "provider": provider, "flops": flops, "bytes": bytes_}

    def tensors():
        return [random(n, m, h, w, grad=True)
                for h, w in ((heads, d), (kv_heads, d), (kv_heads, dv))]

    def run(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True,
                enable_gqa=heads != kv_heads)

    forward, backward = forward_and_backward("attention", (m, n, 0), provider, bytes_, 2 * bytes_,
                                             tensors, run)
    forward.line = line("forward", flops, bytes_)
    backward.line = line("data_grad", flops * 5 // 2, 2 * bytes_)
    forward.hot_ms = backward.hot_ms = 200
    return [forward, backward]


def llama_rms_norm(x, weight):
    """As LlamaRMSNorm's forward (Hugging Face transformers) computes it."""
    wide = x.to(torch.float32)
    variance = wide.pow(2).mean(-1, keepdim=True)
    wide = wide * torch.rsqrt(variance + 1e-5)
    return weight * wide.to(x.dtype)


def norms(m, n):
    def weights(count):
        return lambda: [random(m, n, grad=True)] + [random(n, grad=True) for _ in range(count)]
    size = m * n
    cases = forward_and_backward("norm", (m, n, 0), "torch-eager-rms", 36 * size, 92 * size,
                                 weights(1), llama_rms_norm)
    cases += forward_and_backward("norm", (m, n, 0), "torch-fused-rms", 4 * size, 10 * size,
                                  weights(1), lambda x, w: F.rms_norm(x, (n,), w, 1e-5))
    cases += forward_and_backward("norm", (m, n, 0), "torch-fused-layer", 4 * size, 10 * size,
                                  weights(2), lambda x, w, b: F.layer_norm(x, (n,), w, b, 1e-5))
    return cases


def rotary(m, n, d):
    """As apply_rotary_pos_emb of Hugging Face's Llama; q and k in one tensor of n/d heads."""
    def inputs():
        angles = torch.outer(torch.arange(m, device="cuda", dtype=torch.float32),
                             10000 ** -(torch.arange(0, d, 2, device="cuda") / d))
        angles = torch.cat((angles, angles), dim=-1)
        return [random(1, m, n // d, d, grad=True),
                angles.cos().to(torch.bfloat16), angles.sin().to(torch.bfloat16)]

    def run(x, cos, sin):
        x = x.transpose(1, 2)
        halves = torch.cat((-x[..., d // 2:], x[..., :d // 2]), dim=-1)
        return x * cos + halves * sin
    return forward_and_backward("rotary", (m, n, d), "torch-eager", 20 * m * n, 30 * m * n,
                                inputs, run)


def activations(m, n):
    swiglu = forward_and_backward(
        "activation", (m, n, 0), "torch-eager-swiglu", 10 * m * n, 18 * m * n,
        lambda: [random(m, n, grad=True), random(m, n, grad=True)],
        lambda gate, up: F.silu(gate) * up)
    return swiglu + forward_and_backward(
        "activation", (m, n, 0), "torch-eager-gelu", 4 * m * n, 6 * m * n,
        lambda: [random(m, n, grad=True)], lambda x: F.gelu(x, approximate="tanh"))


def residual(m, n):
    return forward_and_backward("residual", (m, n, 0), "torch-eager", 6 * m * n, 0,
                                lambda: [random(m, n), random(m, n)], torch.add)


def embedding(m, n, vocab):
    def inputs():
        return [torch.randint(vocab, (m,), device="cuda"), random(vocab, n, grad=True)]
    return forward_and_backward("embedding", (m, n, vocab), "torch-eager", 4 * m * n,
                                4 * m * n + 2 * vocab * n, inputs, F.embedding, "weight_grad")


def cross_entropy(m, vocab):
    def inputs():
        return [random(m, vocab, grad=True), torch.randint(vocab, (m,), device="cuda")]
    return forward_and_backward("cross_entropy", (m, vocab, 0), "torch-eager", 14 * m * vocab,
                                22 * m * vocab, inputs,
                                lambda logits, labels: F.cross_entropy(logits.float(), labels))


def parameters(count):
    sizes = [CHUNK] * (count // CHUNK) or [count]
    some = [torch.nn.Parameter(random(size, dtype=torch.float32)) for size in sizes]
    for p in some:
        p.grad = random(p.numel(), dtype=torch.float32)
    return some


def adam(count, **how):
    def make():
        optimizer = torch.optim.Adam(parameters(count), lr=1e-4, **how)
        return lambda: [optimizer.step()] and []
    provider = "torch-fused" if "fused" in how else "torch-foreach"
    bytes_ = (28 if "fused" in how else 72) * count
    return Case("adam", point("adam", "optimizer", count, 1, 0, provider, bytes_), make,
                in_graph=False)


def grad_norms(count):
    def make_norm():
        grads = [p.grad for p in parameters(count)]
        return lambda: [torch.nn.utils.get_total_norm(grads, foreach=True)]

    def make_clip():
        some = parameters(count)
        return lambda: [torch.nn.utils.clip_grad_norm_(some, 1e9, foreach=True)]
    return [Case("grad_norm", point("grad_norm", "optimizer", count, 1, 0, provider, bytes_),
                 make)
            for provider, bytes_, make in (("torch-foreach", 4 * count, make_norm),
                                           ("torch-foreach-clip", 12 * count, make_clip))]


def zero_fill(count):
    def make():
        optimizer = torch.optim.SGD(parameters(count), lr=1e-4, foreach=True)
        return lambda: [optimizer.zero_grad(set_to_none=False)] and []
    return Case("zero_fill", point("zero_fill", "optimizer", 4 * count, 1, 0, "torch-foreach",
                                   4 * count), make)


def accumulate(count):
    """What AccumulateGrad does with a second gradient: both read, the sum written."""
    def make():
        total, grad = random(count), random(count)
        return lambda: [total.add_(grad)]
    return Case("accumulate", {"what": "torch_accumulate_grad", "bytes": 6 * count}, make)


def all_cases():
    cases = []
    for m, n, heads, kv_heads, d, dv in (
            (4096, 2, 32, 8, 128, 128), (4096, 2, 32, 8, 64, 64), (4096, 1, 16, 16, 192, 128),
            (2048, 4, 32, 8, 128, 128), (8192, 1, 32, 8, 128, 128), (8192, 1, 32, 8, 64, 64),
            (4096, 2, 32, 32, 128, 128), (4096, 1, 32, 8, 128, 128), (2048, 4, 32, 8, 64, 64),
            (1024, 8, 12, 12, 64, 64), (8192, 1, 8, 2, 128, 128), (16384, 1, 32, 8, 128, 128),
            (4096, 1, 128, 128, 192, 128)):
        for provider, backend in (("torch-sdpa-flash", SDPBackend.FLASH_ATTENTION),
                                  ("torch-sdpa-cudnn", SDPBackend.CUDNN_ATTENTION)):
            cases += attention(m, n, heads, kv_heads, d, dv, provider, backend)
    for m, n in ((8192, 4096), (2048, 4096), (16384, 4096), (512, 4096), (8192, 8192)):
        cases += norms(m, n)
        cases += rotary(m, n + 1024, 128)
        cases += activations(m, n * 7 // 2)
        cases += residual(m, n)
        cases += embedding(m, n, 32000)
    for m, vocab in ((8192, 32000), (2048, 32000), (2048, 128256), (8192, 128256)):
        cases += cross_entropy(m, vocab)
    for count in (1 << 27, 1 << 29, 1 << 26):
        cases += [adam(count, foreach=True), adam(count, fused=True)]
        cases += grad_norms(count) + [zero_fill(count), accumulate(count)]
    return cases
