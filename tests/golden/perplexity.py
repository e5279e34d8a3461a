#!/usr/bin/env python3
"""Reference perplexities and argmax tokens of whole models, from llama.cpp on the same files and text.

usage: tests/golden/perplexity.py LLAMA_PERPLEXITY [OUTPUT_DIRECTORY]

LLAMA_PERPLEXITY is that tool's binary of a llama.cpp build for CPUs. The models are those of the
cache (`./dev model`, `./dev model gemma`); one that is not there is left out. Needs numpy.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy

HERE = pathlib.Path(__file__).resolve().parent
MODELS = {"smollm2-135m-instruct": "smollm2-135m-instruct-q4_1.gguf",
          "gemma-3-270m": "gemma-3-270m-q4_k_m.gguf"}
WINDOW = 512


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("QUIRE_CACHE") or os.path.join(home, "quire")) / "models"


def read_argmax(path):
    """The most likely token of each scored position, by chunk, from a file of --kl-divergence-base.

    The file: "_logits_", three int32 (window, vocabulary, chunks), the tokens, then for each scored
    position two floats and the log-probabilities as 16-bit steps, padded to an even number.
    """
    data = path.read_bytes()
    assert data[:8] == b"_logits_", data[:8]
    window, vocabulary, chunks = numpy.frombuffer(data, "<i4", 3, 8)
    rows = window - 1 - window // 2
    row = 2 * ((vocabulary + 1) // 2) + 4
    start = 8 + 12 + 4 * window * chunks
    values = numpy.frombuffer(data, "<u2", chunks * rows * row, start).reshape(chunks, rows, row)
    return values[:, :, 4:4 + vocabulary].argmax(axis=2)


# Settings of the reference that change nothing but the order and precision of its own arithmetic.
VARIANTS = ([], ["-fa", "off"], ["-fa", "off", "-ctk", "f32", "-ctv", "f32"])


def choices(tool, model, text, flags):
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory) / "base"
        done = subprocess.run([tool, "-m", str(model), "-f", str(text), "-c", str(WINDOW), *flags,
                               "--kl-divergence-base", str(base)],
                              capture_output=True, text=True, check=True)
        found = re.search(r"Final estimate: PPL = ([\d.]+)", done.stdout + done.stderr)
        return float(found.group(1)), read_argmax(base)


def measure(tool, model, text):
    """With the choices of the reference's default settings, the positions where its other settings
    choose otherwise: there its own rounding decides, and nobody can be asked to agree with it."""
    runs = [choices(tool, model, text, flags) for flags in VARIANTS]
    ppl, argmax = runs[0]
    contested = numpy.zeros(argmax.shape, bool)
    for _, other in runs[1:]:
        contested |= other != argmax
    return {"window": WINDOW, "chunks": argmax.shape[0], "tokens": int(argmax.size), "ppl": ppl,
            "self_agreement": round(float((runs[1][1] == argmax).mean()), 4),
            "contested": [numpy.flatnonzero(row).tolist() for row in contested],
            "argmax": argmax.tolist()}


def main():
    tool = sys.argv[1]
    output = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "perplexity"
    for name, file in MODELS.items():
        model = cache() / file
        if not model.exists():
            print(f"{model} is missing; {name} is left as it is", file=sys.stderr)
            continue
        reference = {"model": file, "reference": "llama.cpp, llama-perplexity, f16 cache",
                     **measure(tool, model, HERE / "perplexity" / "english.txt")}
        (output / f"{name}.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")
        print(name, reference["ppl"], reference["tokens"], file=sys.stderr)


if __name__ == "__main__":
    main()
