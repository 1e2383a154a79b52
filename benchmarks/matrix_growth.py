"""How a matrix grows with the number of its models: seconds, peak memory, bytes of the store and of the files.

python benchmarks/matrix_growth.py [--models 100 300 1000] [--depth inspected] [--folder FOLDER]

The models are made: a Llama of random sizes each, with a whole safetensors header over a file that is a hole, and one
of eight tokenizers of 32,000 to 88,000 tokens. Each number of models is run twice: cold (the models that are new since
the last number are probed), and warm (every pair judged from what is kept). Seconds are of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stopwatch import ROOT, Measure, wirecheck

DEMO = ROOT / "wirecheck" / "demo_models" / "llama-mini"
TOKENIZERS = 8
SIZES = (512, 768, 1024, 1536, 2048, 2560, 3072, 4096, 5120, 8192)
TARGET_MODELS, TARGET_S, TARGET_BYTES = 1000, 60.0, 10**9


def make(folder: Path, number: int) -> None:
    """One model, the same at each run."""
    draw = random.Random(number)  # noqa: S311 - sizes, no secrets
    hidden, layers = draw.choice(SIZES), draw.randrange(4, 80)
    heads = draw.choice([size for size in (8, 16, 32) if hidden % size == 0])
    tokenizer = tokenizer_of(draw.randrange(TOKENIZERS))
    vocab = max(tokenizer["model"]["vocab"].values(), default=0) + 1
    vocab = max(vocab, *(one["id"] + 1 for one in tokenizer["added_tokens"]))
    config = json.loads((DEMO / "config.json").read_text()) | {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": draw.choice([heads, heads // 4]),
        "head_dim": hidden // heads,
        "intermediate_size": draw.choice([2, 3, 4]) * hidden,
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        shutil.copy(DEMO / name, folder / name)
    write_hole(folder / "model.safetensors", dict(shapes(config)))


def tokenizer_of(number: int) -> dict:
    """The built-in tokenizer with ever more tokens that no merge makes."""
    made = json.loads((DEMO / "tokenizer.json").read_text())
    first = max([*made["model"]["vocab"].values(), *(one["id"] for one in made["added_tokens"])]) + 1
    made["model"]["vocab"] |= {f"\u0120tok{n}": n for n in range(first, 32_000 + 8_000 * number)}
    return made


def shapes(config: dict) -> Iterator[tuple[str, list[int]]]:
    """The tensors of a Llama, by name."""
    hidden, middle, width = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    keys = config["num_key_value_heads"] * width
    yield "model.embed_tokens.weight", [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.self_attn.q_proj.weight", [hidden, hidden]
        yield f"{at}.self_attn.k_proj.weight", [keys, hidden]
        yield f"{at}.self_attn.v_proj.weight", [keys, hidden]
        yield f"{at}.self_attn.o_proj.weight", [hidden, hidden]
        yield f"{at}.mlp.gate_proj.weight", [middle, hidden]
        yield f"{at}.mlp.up_proj.weight", [middle, hidden]
        yield f"{at}.mlp.down_proj.weight", [hidden, middle]
        yield f"{at}.input_layernorm.weight", [hidden]
        yield f"{at}.post_attention_layernorm.weight", [hidden]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [config["vocab_size"], hidden]


def write_hole(path: Path, tensors: dict[str, list[int]]) -> None:
    """A safetensors file whose header is whole and whose data takes no disk."""
    table, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * (shape[0] * (shape[1] if len(shape) > 1 else 1))
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)


def row(models: int, how: str, measure: Measure, place: Path) -> str:
    """One row of the table."""
    store = (place / "cache" / "answers.sqlite").stat().st_size
    files = sum((place / name).stat().st_size for name in ("m.json", "m.csv"))
    pairs = models * (models - 1) // 2
    told = f"| {models:,} | {pairs:,} | {how} | {measure.seconds:.1f} | {measure.seconds / pairs * 1e6:.0f} |"
    return f"{told} {measure.peak_bytes / 1e6:.0f} | {store / 1e6:.1f} | {files / 1e6:.1f} |"


def main() -> int:
    """The table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--depth", default="inspected")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as held:
        place = asked.folder or Path(held)
        os.environ["WIRECHECK_CACHE"] = str(place / "cache")
        print("| models | pairs | | seconds | µs per pair | peak MB | store MB | JSON and CSV MB |", flush=True)
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for models in sorted(asked.models):
            for number in range(models):
                if not (place / f"m{number:04}").exists():
                    make(place / f"m{number:04}", number)
            (place / "list.txt").write_text("".join(f"./m{number:04}\n" for number in range(models)))
            words = ("matrix", "--from", "list.txt", "--depth", asked.depth, "--require", asked.depth)
            words += ("--json", "m.json", "--report", "m.csv", "--report", "m.html")
            for how in ("cold", "warm"):
                measure = wirecheck(*words, cwd=place)
                print(row(models, how, measure, place), flush=True)
            if models == TARGET_MODELS and asked.depth == "inspected":
                print(f"warm: {measure.seconds / TARGET_S:.2f} x of {TARGET_S:.0f} s", end=", ")
                print(f"{measure.peak_bytes / TARGET_BYTES:.2f} x of {TARGET_BYTES / 1e9:.0f} GB")
                missed += measure.seconds > TARGET_S or measure.peak_bytes > TARGET_BYTES
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
