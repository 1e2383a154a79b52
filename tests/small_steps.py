"""Steps of tiny models, to be traced in a second."""

from __future__ import annotations

import torch

from wirecheck import zoo
from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.vram.attention import Target
from wirecheck.vram.split import Spread

AMPERE = Target(capability=(8, 0))
BF16 = torch.bfloat16
GIGA = 10**9
B, S, HIDDEN = 4, 4 + 8 + 100, 64


def small(kind: str = "llama", **fields):
    """A config of that type."""
    sizes = {"vocab_size": 1000, "hidden_size": HIDDEN, "intermediate_size": 128, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False}
    return zoo.transformers_library().AutoConfig.for_model(kind, **(sizes | heads | fields))


ONE = {"a": small()}
PAIR = {"a": small(), "b": small("qwen2", hidden_size=96, vocab_size=1200)}
WIRE = WireSpec(latent_length=4, latent_width=32, max_bytes=64)
TRAIN = TrainSpec(batch=B, context=8, answer=100)
OVER = Spread(2, GIGA)


def weights(traced) -> int:
    """Bytes of weights at the peak."""
    return sum(size for part, size in traced.peak.parts.items() if part.startswith("weights"))
