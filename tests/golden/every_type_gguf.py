"""Writes tests/golden/models/every_type.gguf with PyPI `gguf`: every value type of the format, an array of
every element type, and tensors of several types. tests/models/gguf_test.cpp states the same values.

Usage: python3 tests/golden/every_type_gguf.py OUTPUT.gguf
"""

import sys

import gguf
import numpy as np
from gguf import GGUFValueType as T

SCALARS = [
    (T.UINT8, 200), (T.INT8, -100), (T.UINT16, 60000), (T.INT16, -30000), (T.UINT32, 4000000000),
    (T.INT32, -2000000000), (T.FLOAT32, 0.15625), (T.BOOL, True), (T.STRING, "a \u00e9 \U0001f600"),
    (T.UINT64, 2**63 + 5), (T.INT64, -(2**62)), (T.FLOAT64, 1e300),
]


def main(path):
    writer = gguf.GGUFWriter(path, "llama")
    for kind, value in SCALARS:
        writer.add_key_value(f"scalar.{kind.name.lower()}", value, kind)
    for kind, value in SCALARS:
        other = {T.BOOL: False, T.STRING: ""}.get(kind, 1)
        writer.add_key_value(f"array.{kind.name.lower()}", [value, other, value], T.ARRAY, sub_type=kind)
    writer.add_tensor("f32.2x3", np.arange(6, dtype=np.float32).reshape(3, 2))
    writer.add_tensor("f16.5", np.arange(5, dtype=np.float16))
    rows = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 64)
    q8 = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("q8_0.64x2", gguf.quants.quantize(rows, q8), raw_dtype=q8)
    writer.add_tensor("f32.1x2x3x4", np.arange(24, dtype=np.float32).reshape(4, 3, 2, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
