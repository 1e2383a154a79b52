"""Tiny frozen pairs to hang a wire on: random Llama and Qwen2 models, byte tokenizers made by code, benches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from wirecheck.probe import ModelBench, PairBench
from wirecheck.schema import Policy, TrainSpec, WireSpec
from wirecheck.snapshot import ModelRef, Snapshot

SPEC = WireSpec(latent_length=4, latent_width=64, max_bytes=128)
BOS, EOS, VOCABULARY = 256, 257, 264


def tokenizer(*, bos: bool) -> PreTrainedTokenizerFast:
    """One token per byte and two special ones; `bos`: plain text is encoded with the BOS in front."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>"])
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def llama(seed: int = 0, vocabulary: int = VOCABULARY) -> LlamaForCausalLM:
    """Grouped-query attention, width 48, untied head; frozen, float32, eval."""
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(seed)
    config = LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=vocabulary)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def qwen(seed: int = 1) -> Qwen2ForCausalLM:
    """Biased projections, width 64, tied head; frozen, float32, eval."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(seed)
    config = Qwen2Config(**sizes, num_key_value_heads=2, vocab_size=VOCABULARY, tie_word_embeddings=True)
    return Qwen2ForCausalLM(config).eval().requires_grad_(False)


def saved_pair(root: Path) -> dict[str, Path]:
    """The tiny Llama and the tiny Qwen2, with their tokenizers, in a folder each by side."""
    for side, model, bos in (("a", llama(), True), ("b", qwen(), False)):
        model.save_pretrained(root / side)
        tokenizer(bos=bos).save_pretrained(root / side)
    return {side: root / side for side in "ab"}


def bench(spec: WireSpec = SPEC, train: TrainSpec | None = None, model_a: Any = None, model_b: Any = None) -> PairBench:
    """A pair on the bench: the same tiny models stand in for the twins, the skeletons and the real weights."""
    asked: dict[str, Any] = {"wire": spec, "train": train or TrainSpec(dtype="float32"), "policy": Policy(), "seed": 0}
    parts = {
        "a": (model_a or llama(), tokenizer(bos=True)),
        "b": (model_b or qwen(), tokenizer(bos=False)),
    }
    sides: dict[str, ModelBench] = {}
    for side, (model, tok) in parts.items():
        snapshot = Snapshot(ModelRef(side, "folder", side), "sha256:0", Path(), (), ())
        one = ModelBench(**asked, side=side, snapshot=snapshot)
        one.__dict__ |= {"tokenizer": tok, "twin": SimpleNamespace(model=model), "skeleton": model, "weights": model}
        sides[side] = one
    return PairBench(**asked, a=sides["a"], b=sides["b"])
