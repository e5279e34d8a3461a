#!/usr/bin/env python3
"""Writes a GGUF file with random weights in the shape of a llama model, to measure speed at a size for
which no file is at hand. The tokenizer is copied from a model that has one.

    bench/random_model.py TOKENIZER.gguf OUT.gguf                    # the shape of Llama-3.2-1B, Q4_0
    bench/random_model.py --type f16 TOKENIZER.gguf OUT.gguf         # input for llama-quantize (Q4_K_M)

Needs the packages `gguf` and `numpy`. The text that such a model writes means nothing.
"""

import argparse

import gguf
import numpy


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", help="a GGUF file whose tokenizer is copied")
    parser.add_argument("out")
    parser.add_argument("--type", choices=["f16", "q8_0", "q4_0", "q4_1"], default="q4_0")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--feed-forward", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def copy_tokenizer(reader, writer):
    for field in reader.fields.values():
        if not field.name.startswith("tokenizer."):
            continue
        kind, *inner = field.types
        writer.add_key_value(field.name, field.contents(), kind, inner[0] if inner else None)


def weight_shapes(arguments, vocabulary):
    """(name, shape) of every matrix, outermost dimension first."""
    width, kv_width = arguments.width, arguments.width // arguments.heads * arguments.kv_heads
    yield "token_embd", (vocabulary, width)
    for layer in range(arguments.layers):
        yield f"blk.{layer}.attn_q", (width, width)
        yield f"blk.{layer}.attn_k", (kv_width, width)
        yield f"blk.{layer}.attn_v", (kv_width, width)
        yield f"blk.{layer}.attn_output", (width, width)
        yield f"blk.{layer}.ffn_gate", (arguments.feed_forward, width)
        yield f"blk.{layer}.ffn_up", (arguments.feed_forward, width)
        yield f"blk.{layer}.ffn_down", (width, arguments.feed_forward)


def main():
    arguments = parse_arguments()
    kind = gguf.GGMLQuantizationType[arguments.type.upper()]
    reader = gguf.GGUFReader(arguments.tokenizer)
    vocabulary = len(reader.fields["tokenizer.ggml.tokens"].data)

    writer = gguf.GGUFWriter(arguments.out, "llama", use_temp_file=True)
    writer.add_name(f"random llama, {arguments.layers} layers, {arguments.width} wide")
    writer.add_context_length(arguments.context)
    writer.add_block_count(arguments.layers)
    writer.add_embedding_length(arguments.width)
    writer.add_feed_forward_length(arguments.feed_forward)
    writer.add_head_count(arguments.heads)
    writer.add_head_count_kv(arguments.kv_heads)
    writer.add_rope_dimension_count(arguments.width // arguments.heads)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    copy_tokenizer(reader, writer)

    source = numpy.random.default_rng(arguments.seed)
    for name, shape in weight_shapes(arguments, vocabulary):
        # The usual scale of an initialised model: every layer keeps the size of its input.
        weights = source.standard_normal(shape, dtype=numpy.float32) / numpy.sqrt(shape[1])
        data = weights.astype(numpy.float16) if arguments.type == "f16" else gguf.quants.quantize(weights, kind)
        writer.add_tensor(name + ".weight", data, raw_dtype=None if arguments.type == "f16" else kind)
        print(f"{name} {shape}", flush=True)
    norms = [f"blk.{layer}.{which}_norm" for layer in range(arguments.layers) for which in ("attn", "ffn")]
    for name in [*norms, "output_norm"]:
        writer.add_tensor(name + ".weight", numpy.ones(arguments.width, dtype=numpy.float32))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=True)
    writer.close()


if __name__ == "__main__":
    main()
