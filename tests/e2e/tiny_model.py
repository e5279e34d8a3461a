"""Writes a complete GGUF model of a few hundred kilobytes with random weights: byte-level vocabulary,
chat template, two layers. It says nothing sensible, but it goes through every part of loading and one
step of generation in milliseconds. Source of the layout: the GGUF specification, version 3."""

import random
import struct

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_F32, TENSOR_F16, TENSOR_Q4_0, TENSOR_Q8_0 = 0, 1, 2, 8
ALIGNMENT = 32
WIDTH, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, LAYERS = 64, 4, 2, 16, 128, 2


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack(
        {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + scalar(kind, value)


def array(key, kind, values):
    head = text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + b"".join(scalar(kind, value) for value in values)


def byte_characters():
    """The printable stand-ins of the 256 bytes in byte-level vocabularies (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


def metadata():
    pieces = byte_characters() + ["he", "ll", "hell", "hello", "<|start|>", "<|end|>"]
    merges = ["h e", "l l", "he ll", "hell o"]
    first_special = len(pieces) - 2
    return [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, "tiny"),
        entry("llama.context_length", U32, 256),
        entry("llama.embedding_length", U32, WIDTH),
        entry("llama.block_count", U32, LAYERS),
        entry("llama.feed_forward_length", U32, FEED_FORWARD),
        entry("llama.attention.head_count", U32, HEADS),
        entry("llama.attention.head_count_kv", U32, KV_HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        entry("llama.rope.dimension_count", U32, HEAD_DIM),
        entry("llama.rope.freq_base", F32, 10000.0),
        entry("llama.vocab_size", U32, len(pieces)),
        entry("tokenizer.ggml.model", STRING, "gpt2"),
        entry("tokenizer.ggml.pre", STRING, "smollm"),
        array("tokenizer.ggml.tokens", STRING, pieces),
        array("tokenizer.ggml.token_type", I32,
              [1] * first_special + [3] * (len(pieces) - first_special)),
        array("tokenizer.ggml.merges", STRING, merges),
        entry("tokenizer.ggml.bos_token_id", U32, first_special),
        entry("tokenizer.ggml.eos_token_id", U32, first_special + 1),
        entry("tokenizer.ggml.add_bos_token", BOOL, True),
        entry("tokenizer.chat_template", STRING,
              "{% for m in messages %}<|start|>{{ m['role'] + '\\n' + m['content'] }}<|end|>"
              "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\\n{% endif %}"),
    ], len(pieces)


def random_values(kind, count, source):
    """The bytes of `count` small random values of one tensor type."""
    if kind == TENSOR_F32:
        return struct.pack(f"<{count}f", *(source.uniform(-0.2, 0.2) for _ in range(count)))
    if kind == TENSOR_F16:
        return struct.pack(f"<{count}e", *(source.uniform(-0.2, 0.2) for _ in range(count)))
    quants = 32 if kind == TENSOR_Q8_0 else 16
    scale = 0.2 / (127 if kind == TENSOR_Q8_0 else 8)
    return b"".join(struct.pack("<e", scale) + source.randbytes(quants) for _ in range(count // 32))


def tensors(vocabulary):
    """(name, dims with the fastest first, type)."""
    kv = KV_HEADS * HEAD_DIM
    yield "token_embd.weight", (WIDTH, vocabulary), TENSOR_Q8_0
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (WIDTH,), TENSOR_F32
        yield block + "attn_q.weight", (WIDTH, HEADS * HEAD_DIM), TENSOR_Q4_0
        yield block + "attn_k.weight", (WIDTH, kv), TENSOR_Q8_0
        yield block + "attn_v.weight", (WIDTH, kv), TENSOR_F16
        yield block + "attn_output.weight", (HEADS * HEAD_DIM, WIDTH), TENSOR_Q4_0
        yield block + "ffn_norm.weight", (WIDTH,), TENSOR_F32
        yield block + "ffn_gate.weight", (WIDTH, FEED_FORWARD), TENSOR_Q4_0
        yield block + "ffn_up.weight", (WIDTH, FEED_FORWARD), TENSOR_Q8_0
        yield block + "ffn_down.weight", (FEED_FORWARD, WIDTH), TENSOR_F32
    yield "output_norm.weight", (WIDTH,), TENSOR_F32


def tiny_model(seed=1):
    """Returns the file's bytes and where its tensor data begins."""
    source = random.Random(seed)
    entries, vocabulary = metadata()
    infos, data = b"", b""
    listed = list(tensors(vocabulary))
    for name, dims, kind in listed:
        infos += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        infos += struct.pack("<IQ", kind, len(data))
        count = 1
        for dim in dims:
            count *= dim
        data += random_values(kind, count, source)
        data += b"\0" * (-len(data) % ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(entries)) + b"".join(entries) + infos
    head += b"\0" * (-len(head) % ALIGNMENT)
    return head + data, len(head)


def soft_spots(data):
    """Walks the header of a well-formed file and yields (kind, offset, length) of what can be changed
    without the rest losing its place: kinds text, value, dim, type, offset."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, U32: 4, I32: 4, F32: 4, BOOL: 1, 10: 8, 11: 8, 12: 8}
    num_tensors, num_entries = struct.unpack_from("<QQ", data, 8)
    at = 24

    def string():
        nonlocal at
        length, = struct.unpack_from("<Q", data, at)
        spot = ("text", at + 8, length)
        at += 8 + length
        return spot

    def value(kind):
        nonlocal at
        if kind == STRING:
            return string()
        at += sizes[kind]
        return ("value", at - sizes[kind], sizes[kind])

    for _ in range(num_entries):
        yield string()
        kind, = struct.unpack_from("<I", data, at)
        at += 4
        if kind != ARRAY:
            yield value(kind)
            continue
        kind, count = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(count):
            yield value(kind)
    for _ in range(num_tensors):
        yield string()
        dims, = struct.unpack_from("<I", data, at)
        at += 4
        for _ in range(dims):
            yield ("dim", at, 8)
            at += 8
        yield ("type", at, 4)
        yield ("offset", at + 4, 8)
        at += 12
