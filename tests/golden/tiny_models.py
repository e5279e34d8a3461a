#!/usr/bin/env python3
"""Writes tiny random models as GGUF and the logits that float64 arithmetic gives for them.

The reference below is plain numpy written from the papers (Touvron et al. 2023; Gemma Team 2025), on
purpose without any of the engine's shortcuts: whole sequences, full score matrices, no cache.
Needs: pip install numpy gguf.  Usage: tests/golden/tiny_models.py [OUTPUT_DIR]
"""
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

VOCABULARY, WIDTH, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD = 48, 32, 4, 2, 16, 64
EPSILON = 1e-5


def rms_norm(x, weight):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def rotate(x, base, halves):
    """x: (tokens, heads, HEAD_DIM)."""
    half = HEAD_DIM // 2
    angles = np.arange(len(x))[:, None] * base ** (-2.0 * np.arange(half) / HEAD_DIM)[None, :]
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    out = np.empty_like(x)
    first = np.s_[..., :half] if halves else np.s_[..., 0::2]
    second = np.s_[..., half:] if halves else np.s_[..., 1::2]
    out[first] = x[first] * cos - x[second] * sin
    out[second] = x[first] * sin + x[second] * cos
    return out


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def attend(q, k, v, window):
    tokens = len(q)
    out = np.zeros((tokens, HEADS, HEAD_DIM))
    for head in range(HEADS):
        kv = head // (HEADS // KV_HEADS)
        scores = q[:, head] @ k[:, kv].T / np.sqrt(HEAD_DIM)
        for i in range(tokens):
            low = max(0, i - window + 1) if window else 0
            row = np.exp(scores[i, low : i + 1] - scores[i, low : i + 1].max())
            out[i, head] = (row / row.sum()) @ v[low : i + 1, kv]
    return out.reshape(tokens, HEADS * HEAD_DIM)


def logits(weights, spec, tokens):
    x = weights["token_embd.weight"][tokens].astype(np.float64) * spec["embedding_scale"]
    for i in range(spec["layers"]):
        prefix = f"blk.{i}."
        w = {k[len(prefix):]: v.astype(np.float64) for k, v in weights.items() if k.startswith(prefix)}
        window, base = spec["layer"](i)
        h = rms_norm(x, w["attn_norm.weight"])
        q = (h @ w["attn_q.weight"].T).reshape(-1, HEADS, HEAD_DIM)
        k = (h @ w["attn_k.weight"].T).reshape(-1, KV_HEADS, HEAD_DIM)
        v = (h @ w["attn_v.weight"].T).reshape(-1, KV_HEADS, HEAD_DIM)
        if spec["gemma"]:
            q, k = rms_norm(q, w["attn_q_norm.weight"]), rms_norm(k, w["attn_k_norm.weight"])
        q, k = rotate(q, base, spec["gemma"]), rotate(k, base, spec["gemma"])
        branch = attend(q, k, v, window) @ w["attn_output.weight"].T
        x = x + (rms_norm(branch, w["post_attention_norm.weight"]) if spec["gemma"] else branch)
        h = rms_norm(x, w["ffn_norm.weight"])
        gate = (gelu_tanh if spec["gemma"] else silu)(h @ w["ffn_gate.weight"].T)
        branch = (gate * (h @ w["ffn_up.weight"].T)) @ w["ffn_down.weight"].T
        x = x + (rms_norm(branch, w["post_ffw_norm.weight"]) if spec["gemma"] else branch)
    x = rms_norm(x, weights["output_norm.weight"].astype(np.float64))
    return x @ weights.get("output.weight", weights["token_embd.weight"]).astype(np.float64).T


def make_weights(random, spec):
    def matrix(rows, cols):
        return (random.standard_normal((rows, cols)) / np.sqrt(cols) * 1.5).astype(np.float32)

    def norm(size):
        return (1.0 + 0.2 * random.standard_normal(size)).astype(np.float32)

    weights = {"token_embd.weight": matrix(VOCABULARY, WIDTH), "output_norm.weight": norm(WIDTH)}
    if not spec["gemma"]:
        weights["output.weight"] = matrix(VOCABULARY, WIDTH).astype(np.float16)
    for i in range(spec["layers"]):
        p = f"blk.{i}."
        weights[p + "attn_norm.weight"] = norm(WIDTH)
        weights[p + "attn_q.weight"] = matrix(HEADS * HEAD_DIM, WIDTH)
        weights[p + "attn_k.weight"] = matrix(KV_HEADS * HEAD_DIM, WIDTH)
        weights[p + "attn_v.weight"] = matrix(KV_HEADS * HEAD_DIM, WIDTH)
        weights[p + "attn_output.weight"] = matrix(WIDTH, HEADS * HEAD_DIM)
        weights[p + "ffn_norm.weight"] = norm(WIDTH)
        weights[p + "ffn_gate.weight"] = matrix(FEED_FORWARD, WIDTH)
        weights[p + "ffn_up.weight"] = matrix(FEED_FORWARD, WIDTH)
        weights[p + "ffn_down.weight"] = matrix(WIDTH, FEED_FORWARD)
        if spec["gemma"]:
            weights[p + "attn_q_norm.weight"] = norm(HEAD_DIM)
            weights[p + "attn_k_norm.weight"] = norm(HEAD_DIM)
            weights[p + "post_attention_norm.weight"] = norm(WIDTH)
            weights[p + "post_ffw_norm.weight"] = norm(WIDTH)
    return weights


def write_gguf(path, name, weights, spec):
    w = GGUFWriter(str(path), name)
    w.add_context_length(256)
    w.add_embedding_length(WIDTH)
    w.add_block_count(spec["layers"])
    w.add_feed_forward_length(FEED_FORWARD)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_key_length(HEAD_DIM)
    w.add_value_length(HEAD_DIM)
    w.add_layer_norm_rms_eps(EPSILON)
    w.add_rope_freq_base(spec["rope_base"])
    if spec["gemma"]:
        w.add_sliding_window(spec["window"])
    for tensor, values in weights.items():
        w.add_tensor(tensor, values)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


SPECS = {
    "llama": {"gemma": False, "layers": 2, "rope_base": 10000.0, "embedding_scale": 1.0,
              "layer": lambda i: (0, 10000.0)},
    "gemma3": {"gemma": True, "layers": 6, "rope_base": 1000000.0, "window": 8,
               "embedding_scale": np.sqrt(WIDTH),
               "layer": lambda i: (0, 1000000.0) if (i + 1) % 6 == 0 else (8, 10000.0)},
}


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    random = np.random.default_rng(20261121)
    for name, spec in SPECS.items():
        weights = make_weights(random, spec)
        tokens = random.integers(0, VOCABULARY, 40)
        write_gguf(out / f"tiny_{name}.gguf", name, weights, spec)
        rows = [0, 1, 7, 15, 16, 17, 31, 39]
        expected = logits(weights, spec, tokens)
        golden = {"tokens": tokens.tolist(), "rows": rows,
                  "logits": [[round(float(v), 6) for v in expected[r]] for r in rows]}
        (out / f"tiny_{name}.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
