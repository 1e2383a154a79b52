"""Wires `examples/outside`, a module that knows nothing of wirecheck, unchanged.

wirecheck pair READER ANSWERER --wire examples.own_wire:factory
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from examples.outside import train
from examples.outside.bridge import SoftPromptBridge
from examples.outside.data import QACollator
from wirecheck.wires.contract import Batch, Settings, SideName, WiredModel


class BridgeWire:
    """The bridge from `a`, the reader, to `b`, the answerer."""

    def __init__(self, a: WiredModel, b: WiredModel, settings: Settings) -> None:
        self.models, self.eos = (a.model, b.model), b.tokenizer.eos_token_id
        train.freeze(a.model)
        train.freeze(b.model, settings.train.grad_checkpointing)
        # Sizes are read off the models handed in: tiny twins first, the real ones later.
        config, table = a.model.config.get_text_config(), b.model.get_input_embeddings().weight
        self.layer = config.num_hidden_layers * 2 // 3
        spec, options = settings.wire, dict(settings.wire.options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            rms = float(table.float().square().mean().sqrt())
            sizes = (config.hidden_size, table.shape[1], spec.latent_length, spec.latent_width)
            self.bridge = SoftPromptBridge(*sizes, embedding_rms=rms).to(table.device)
        shift = bool(options.get("shift_labels", False))  # a mistake with models that shift labels themselves
        self.collate = QACollator(a.tokenizer, b.tokenizer, max_answer=settings.train.answer, shift_labels=shift)

    @property
    def module(self) -> nn.Module:
        """What is trained and saved."""
        return self.bridge

    def loss(self, batch: Batch) -> Tensor:
        """The module's own loss, on the rows as it wants them."""
        return train.compute_loss(self.bridge, *self.models, self._rows(batch), self.layer)

    def prefix(self, batch: Batch) -> Mapping[SideName, Tensor]:
        """The soft prompts the answerer gets; the reader gets none."""
        rows = self._rows(batch)
        return {"b": self.bridge(train.read(self.models[0], rows, self.layer), rows["passage_mask"])}

    def generate(self, batch: Batch, max_new_tokens: int) -> Mapping[SideName, list[list[int]]]:
        """The module's own decoding loop."""
        rows = self._rows(batch)
        return {"b": train.generate(self.bridge, *self.models, rows, self.layer, max_new_tokens, self.eos)}

    def _rows(self, batch: Batch) -> dict[str, Tensor]:
        pairs = zip(batch.sources, batch.answers, strict=True)
        rows = self.collate([{"passage": source, "answer": answer} for source, answer in pairs])
        device = self.models[1].device
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in rows.items()}


def factory(a: WiredModel, b: WiredModel, settings: Settings) -> BridgeWire:
    """What `--wire examples.own_wire:factory` names."""
    return BridgeWire(a, b, settings)
