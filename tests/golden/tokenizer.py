"""Writes the goldens of the tokenizers from two independent references.

- smollm: Hugging Face `tokenizers`, built from the vocabulary and merges of the GGUF file with the
  pre-tokenizer of SmolLM2's tokenizer.json (Digits individually, then ByteLevel). llama.cpp is asked
  too; every disagreement is printed, and `tokenizers` wins: it is what the model was trained with.
- gemma: llama.cpp, with raw bytes too. (No `tokenizers` model merges by score like llama.cpp does.)
- schemes: `tokenizers` with the split expressions of other models, on SmolLM2's merges.

Usage: python3 tests/golden/tokenizer.py --smollm FILE.gguf --gemma FILE.gguf --libllama libllama.so OUTPUT_DIR
"""

import argparse
import ctypes
import json
import pathlib
import random

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from tokenizer_texts import BROKEN, ordinary_texts, special_texts

CONTROL, USER_DEFINED = 3, 4

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN_HEAD = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
               r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s")
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SCHEMES = {
    "gpt-2": None,
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace("{1,3}", "")],
    "qwen35": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "tekken": [TEKKEN_HEAD % ("", "") + r"|\p{N}" + TAIL],
    "gpt-4o": [TEKKEN_HEAD % (SUFFIX, SUFFIX) + r"|\p{N}{1,3}" + TAIL],
    "deepseek-v3": [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
                    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
}
IGNORE_MERGES = {"llama-bpe", "tekken"}


class ModelParams(ctypes.Structure):
    """llama_model_params of the library version that llama-cpp-python 0.3.36 carries."""
    _fields_ = [("devices", ctypes.c_void_p), ("buffer_overrides", ctypes.c_void_p), ("ints", ctypes.c_int32 * 5),
                ("tensor_split", ctypes.c_void_p), ("callback", ctypes.c_void_p), ("user_data", ctypes.c_void_p),
                ("kv_overrides", ctypes.c_void_p), ("vocab_only", ctypes.c_bool), ("flags", ctypes.c_bool * 5)]


class Llama:
    """The vocabulary of a model in llama.cpp."""

    def __init__(self, library, path):
        self.lib = ctypes.CDLL(library)
        self.lib.llama_model_default_params.restype = ModelParams
        self.lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
        self.lib.llama_model_load_from_file.restype = ctypes.c_void_p
        self.lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        self.lib.llama_model_get_vocab.restype = ctypes.c_void_p
        self.lib.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
        for name in ("llama_vocab_is_eog", "llama_vocab_is_control"):
            getattr(self.lib, name).argtypes = [ctypes.c_void_p, ctypes.c_int32]
            getattr(self.lib, name).restype = ctypes.c_bool
        self.lib.llama_vocab_get_add_bos.argtypes = [ctypes.c_void_p]
        self.lib.llama_vocab_get_add_bos.restype = ctypes.c_bool
        self.lib.llama_token_to_piece.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int32,
                                                  ctypes.c_int32, ctypes.c_bool]
        self.lib.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32,
                                            ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
        silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self.log = silent(lambda level, text, data: None)
        self.lib.llama_log_set(self.log, None)
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = self.lib.llama_model_get_vocab(model)
        self.size = self.lib.llama_vocab_n_tokens(self.vocab)

    def encode(self, data, parse_special, add_special=False):
        buffer = (ctypes.c_int32 * (len(data) + 16))()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), buffer, len(buffer), add_special, parse_special)
        assert count >= 0
        return list(buffer[:count])

    def piece(self, token, special):
        buffer = ctypes.create_string_buffer(4096)
        count = self.lib.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        assert count >= 0
        return buffer.raw[:count]

    def facts(self):
        """What a test can compare without storing the vocabulary: a hash over the bytes of all tokens."""
        hashes = []
        for special in (False, True):
            value = 0xCBF29CE484222325  # FNV-1a, 64 bits
            for token in range(self.size):
                for byte in self.piece(token, special) + b"\xff\n":
                    value = ((value ^ byte) * 0x100000001B3) & (2**64 - 1)
            hashes.append(str(value))
        end = [t for t in range(self.size) if self.lib.llama_vocab_is_eog(self.vocab, t)]
        return {"size": self.size, "adds_bos": self.lib.llama_vocab_get_add_bos(self.vocab), "end": end,
                "bytes_fnv1a": hashes[0], "bytes_with_special_fnv1a": hashes[1],
                "hello_with_bos": self.encode(b"Hello", False, add_special=True)}


def read_vocabulary(path):
    fields = gguf.GGUFReader(path).fields
    return tuple(fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges"))


def reference(vocabulary, pre_tokenizer, ignore_merges=False, special=False):
    tokens, types, merges = vocabulary
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(tokens)},
                                     merges=[tuple(merge.split(" ")) for merge in merges], ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if special:
        tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True)
                                      for text, kind in zip(tokens, types) if kind == CONTROL])
    return tokenizer


def scheme(name, vocabulary):
    if SCHEMES[name] is None:
        stages = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    else:
        stages = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in SCHEMES[name]]
        stages.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return reference(vocabulary, pre_tokenizers.Sequence(stages), name in IGNORE_MERGES)


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{path.name}: {len(rows)} lines, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm", required=True)
    parser.add_argument("--gemma", required=True)
    parser.add_argument("--libllama", required=True)
    parser.add_argument("output", type=pathlib.Path)
    args = parser.parse_args()
    rng = random.Random(20240229)
    vocabulary = read_vocabulary(args.smollm)
    smollm_words = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    plain = reference(vocabulary, smollm_words)
    special = reference(vocabulary, smollm_words, special=True)
    llama_smollm, llama_gemma = Llama(args.libllama, args.smollm), Llama(args.libllama, args.gemma)
    assert llama_smollm.size == len(vocabulary[0])

    rows, disagreements = [], 0
    ordinary = ordinary_texts(rng)
    cases = [(text, False) for text in ordinary] + [(t, p) for t in special_texts(rng) for p in (False, True)]
    for text, parse_special in cases:
        ids = (special if parse_special else plain).encode(text, add_special_tokens=False).ids
        data = text.encode()
        other = llama_smollm.encode(data, parse_special)
        if ids != other:
            disagreements += 1
            print(f"the references disagree on {text!r}: tokenizers {ids}, llama.cpp {other}")
        row = {"text": text, "smollm": ids, "gemma": llama_gemma.encode(data, parse_special)}
        if parse_special:
            row["parse_special"] = True
        rows.append(row)
    print(f"{disagreements} disagreements in {len(cases)} cases")
    write_lines(args.output / "cases.jsonl", rows)
    write_lines(args.output / "broken.jsonl",
                [{"hex": data.hex(), "gemma": llama_gemma.encode(data, False)} for data in BROKEN])
    write_lines(args.output / "facts.jsonl", [{"model": "smollm", **llama_smollm.facts()},
                                              {"model": "gemma", **llama_gemma.facts()}])
    chosen = rng.sample(ordinary, 150)
    tokenizers = {name: scheme(name, vocabulary) for name in SCHEMES}
    write_lines(args.output / "schemes.jsonl",
                [{"text": text, **{name: t.encode(text, add_special_tokens=False).ids for name, t in tokenizers.items()}}
                 for text in chosen])


if __name__ == "__main__":
    main()
