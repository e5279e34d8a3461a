#!/usr/bin/env python3
"""Writes quants.txt: what PyPI `gguf` (gguf.quants.dequantize) makes of deterministic blocks.

One line per tensor type: name, number, blocks, FNV-1a hash over the bits of all values (every NaN as
7fc00000), then the bits of the first 64 values after the four constant blocks. The test regenerates the same input
bytes: block b is filled with one constant for b < 4, else with the splitmix64 stream of the type's number.
"""
import pathlib
import sys

import numpy as np
import gguf
from gguf.quants import dequantize

BLOCKS = {1: 1024, 32: 256, 256: 64}
CONSTANTS = (0x00, 0x80, 0x7B, 0x01)
TYPES = "F32 F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS BF16".split()
MASK = (1 << 64) - 1


def splitmix_bytes(seed: int, count: int) -> bytes:
    out = bytearray()
    state = seed
    while len(out) < count:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out += (z ^ (z >> 31)).to_bytes(8, "little")
    return bytes(out[:count])


def main() -> None:
    lines = []
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        values, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = BLOCKS[values]
        data = b"".join(bytes([c]) * size for c in CONSTANTS)
        data += splitmix_bytes(int(kind), (blocks - len(CONSTANTS)) * size)
        with np.errstate(all="ignore"):
            out = np.ascontiguousarray(dequantize(np.frombuffer(data, np.uint8).copy(), kind), np.float32).ravel()
        bits = out.view(np.uint32).copy()
        bits[np.isnan(out)] = 0x7FC00000
        digest = 0xCBF29CE484222325
        for byte in bits.astype("<u4").tobytes():
            digest = ((digest ^ byte) * 0x100000001B3) & MASK
        first = bits[len(CONSTANTS) * values:][:64]
        lines.append(f"{name} {int(kind)} {blocks} {digest:016x} " + " ".join(f"{b:08x}" for b in first))
    target = pathlib.Path(__file__).with_name("quants.txt")
    target.write_text("\n".join(lines) + "\n")
    print(f"wrote {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
