"""Do sound models predict plain text better when read otherwise? What EMB13's readings leave of their loss.

python benchmarks/other_readings.py [--steps N] [FAMILY ...]

Small models of many families (0.3 M parameters) are trained on the demo's corpus, and asked on the way, while they know
little and when they know more. All of them are sound, as the real ones are: below `BETTER` is a false alarm. Some
45 s for each family of 500 steps; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import random
import sys
import warnings
from math import cos, pi
from typing import Any

import torch
from stopwatch import ROOT
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import make_demo_models as demo  # noqa: E402 - the checkout's own, after its path is set

from wirecheck import zoo  # noqa: E402
from wirecheck.other_readings import BETTER, compare  # noqa: E402
from wirecheck.plain_text import predict  # noqa: E402

ROWS, WINDOW, PEAK_RATE, SEED = 4, 128, 4e-3, 3
SHAPE: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
GPT2: dict[str, Any] = {"vocab_size": 1024, "n_embd": 96, "n_layer": 3, "n_head": 6, "n_positions": 512}
LONG = {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SHAPE | LONG),
    "llama, gelu": ("llama", SHAPE | {"hidden_act": "gelu_pytorch_tanh"}),
    "llama, relu": ("llama", SHAPE | {"hidden_act": "relu"}),
    "gemma": ("gemma", SHAPE | {"head_dim": 16}),
    "gemma2": ("gemma2", SHAPE | {"head_dim": 16, "query_pre_attn_scalar": 16}),
    "qwen3": ("qwen3", SHAPE | {"head_dim": 16}),
    "mistral": ("mistral", SHAPE | {"sliding_window": 64}),
    "glm": ("glm", SHAPE | {"head_dim": 16}),
    "gpt2": ("gpt2", GPT2),
    **{name: (name, SHAPE) for name in ("phi", "olmo2", "gpt_neox", "cohere", "stablelm", "smollm3", "granite")},
}


def main() -> int:
    """1 where a sound model is taken for one that is read wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--steps", type=int, default=500)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    recipe = demo.RECIPES[0]
    tokenizer = AutoTokenizer.from_pretrained(demo.DEMO_MODELS / recipe.folder)
    text = (demo.DEMO_MODELS / "corpus.txt").read_text(encoding="utf-8")
    texts = demo.encoded_texts(recipe, tokenizer, text)
    lowest = {name: _lowest(name, tokenizer, list(texts), asked.steps) for name in asked.families or FAMILIES}
    least = min(lowest, key=lambda name: lowest[name])
    print(f"lowest of all: {lowest[least]:.3f} ({least}); a warning takes less than {BETTER}")
    return int(lowest[least] < BETTER)


def _lowest(name: str, tokenizer: Any, texts: list[list[int]], steps: int) -> float:
    kind, shape = FAMILIES[name]
    special = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **special))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    windows = demo.batches(texts, random.Random(SEED))  # noqa: S311 - an order, not secrets
    least = float("inf")
    for step in range(1, steps + 1):
        rate = PEAK_RATE * min(1.0, step / 20) * 0.5 * (1 + cos(pi * (step - 1) / steps))
        optimizer.param_groups[0]["lr"] = rate
        ids = next(windows)[:ROWS, :WINDOW]
        model.train()(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step in (steps // 10, steps // 4, steps // 2, steps):
            least = min(least, _asked(f"{name}, step {step}", model.eval(), tokenizer))
    return least


def _asked(name: str, model: Any, tokenizer: Any) -> float:
    prediction = predict(model, tokenizer, seed=0, quiet=zoo.quiet)
    compared = compare(model, tokenizer, prediction, quiet=zoo.quiet)
    assert compared.nearest is not None
    part = compared.others[compared.nearest] / compared.own
    knows = compared.own / prediction.chance
    print(f"{name:22s} loss {knows:.3f} of chance; {part:.3f} of it with {compared.nearest}", flush=True)
    return part


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
