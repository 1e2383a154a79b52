"""Wires of a user's own with one fault each; more of them stand in the tests of the wire's probes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.tiny_wires import TinyWire
from tests.wire_cases import Decoding
from wirecheck.wires.contract import Batch


class Thousandfold(TinyWire):
    """Soft tokens a thousand times as large as words: the calibration was left out."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x * 1000 for side, x in super().prefix(batch).items()}


class OneSide(TinyWire):
    """B's adapter is made and not used: B is fed A's soft tokens, cut to its width or filled up."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        made = super().prefix(batch)
        width = made["b"].shape[-1]
        fed = torch.nn.functional.pad(made["a"], (0, max(0, width - made["a"].shape[-1])))[..., :width]
        return made | {"b": fed}


class LogOfZero(TinyWire):
    """A weight of the loss is log(0) times nothing."""

    def loss(self, batch: Batch) -> Any:
        return {side: term + 0 * torch.log(torch.zeros(())) for side, term in super().loss(batch).items()}


class InfiniteGradient(TinyWire):
    """A norm whose root is taken at zero: the value is fine, the gradient is not."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x + (x - x).square().sum(-1, keepdim=True).sqrt() for side, x in super().prefix(batch).items()}


class WrongWidth(TinyWire):
    """B's soft tokens have A's width."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        made = super().prefix(batch)
        return made | {"b": made["b"][..., :-3]}


class Ahead(TinyWire):
    """Labels one position late: each token is asked of the one two before it."""

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        inputs = super().sequence(side, batch, prefix_BMD)
        return inputs | {"labels": inputs["labels"].roll(1, dims=1)}


class SumOfRows(TinyWire):
    """The loss is a sum over rows where a mean was meant."""

    def loss(self, batch: Batch) -> Any:
        return {side: term * len(batch.sources) for side, term in super().loss(batch).items()}


class AcrossRows(TinyWire):
    """The latent is centred over the batch: a row depends on its neighbours."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return {side: x - x.mean(0, keepdim=True) * 0.9 for side, x in super().prefix(batch).items()}


class FirstByte(TinyWire):
    """The encoder reads the length of its source and nothing else."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return super().prefix(batch._replace(sources=tuple("a" * len(s) for s in batch.sources)))


class EightBytes(TinyWire):
    """The encoder reads eight bytes of its source."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return super().prefix(batch._replace(sources=tuple(source[:8] for source in batch.sources)))


class Uncheckpointed(TinyWire):
    """Takes the gradient through no_grad'ed layers' neighbours: checkpointing is switched off by the wire."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for one in self.models.values():
            one.model.gradient_checkpointing_disable()


class NoStop(TinyWire):
    """Answers end without a stop token: nothing learns to stop."""

    def answer_ids(self, side: str, answer: str) -> list[int]:
        return super().answer_ids(side, answer)[:-1]


class OfTheOther(TinyWire):
    """A is asked for answers in the ids of B's tokenizer."""

    def answer_ids(self, side: str, answer: str) -> list[int]:
        return super().answer_ids("b", answer)


class EndInAnchor(TinyWire):
    """The anchor ends the turn before the answer."""

    def anchor_ids(self, side: str) -> list[int]:
        return [*super().anchor_ids(side), self.models[side].tokenizer.eos_token_id]


class NoBos(TinyWire):
    """The anchor is encoded without special tokens, BOS included."""

    def anchor_ids(self, side: str) -> list[int]:
        return list(self.models[side].tokenizer.encode(self.anchor, add_special_tokens=False))


class OldCache(Decoding):
    """Each cached step sees the first step's cache."""

    def step(self, side: str, mask_BS: Tensor, **fed: Any) -> Any:
        if "input_ids" in fed:
            fed["input_ids"] = torch.zeros_like(fed["input_ids"])
        return super().step(side, mask_BS, **fed)
