"""The shipped wires between the tiny models of `tiny_wires`, and a tiny sentence encoder made by code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests import tiny_wires
from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.wires import WIRES
from wirecheck.wires.contract import Batch, Settings, WiredModel
from wirecheck.wires.prefix_wire import PrefixWire
from wirecheck.wires.samples import SAMPLES

SIZES: dict[str, Any] = {"latent_length": 4, "latent_width": 64, "max_bytes": 128}
Pair = tuple[WiredModel, WiredModel]


def made(
    name: str = "bytes", *, pair: Pair | None = None, seed: int = 0, train: dict[str, Any] | None = None, **spec: Any
) -> tuple[PrefixWire, Pair]:
    """That wire, and the models it is hung between, every parameter of which asked for a gradient before."""
    pair = pair or tiny_wires.models()
    for one in pair:
        one.model.requires_grad_(True)
    asked = Settings(
        wire=WireSpec(name=name, **(SIZES | spec)), train=TrainSpec(**({"dtype": "float32"} | (train or {}))), seed=seed
    )
    wire = WIRES[name].factory(*pair, asked)
    assert isinstance(wire, PrefixWire)
    return wire, pair


def gradients(wire: PrefixWire, batch: Batch = SAMPLES) -> dict[str, torch.Tensor]:
    """Of one step, by the names of the wire's module."""
    for p in wire.module.parameters():
        p.grad = None
    if hasattr(wire, "backward"):
        wire.backward(batch)
    else:
        torch.autograd.backward(tuple(wire.loss(batch).values()))
    return {name: p.grad.clone() for name, p in wire.module.named_parameters() if p.grad is not None}


def sentence_folder(folder: Path, *, width: int = 32, max_tokens: int | None = None) -> Path:
    """A random two-layer BERT that reads 48 characters at most, saved as sentence-transformers save theirs."""
    letters = [chr(code) for code in range(32, 127)]
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters])}
    core = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=512, **special)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        sizes = {"hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = BertConfig(**sizes, vocab_size=len(vocabulary), max_position_embeddings=48, initializer_range=0.3)
        model = BertModel(config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    if max_tokens is not None:
        (folder / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {max_tokens}}}', encoding="utf-8")
    return folder
