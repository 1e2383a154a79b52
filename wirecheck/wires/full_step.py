"""One step at the size asked for, as users run it: a whole batch, forward, backward, the optimizer's update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from wirecheck.limits import one_line
from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.wires.contract import Batch, HasBackward, Wire
from wirecheck.wires.failure import part
from wirecheck.wires.samples import SAMPLES
from wirecheck.wires.watch import terms

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def attention(models: Sequence[PreTrainedModel], name: str) -> Iterator[str | None]:
    """The models with that attention, and then as they were; given: why a class does not take it, None where all do."""
    before = [model.config._attn_implementation for model in models]
    refusal = None
    try:
        for model in models:
            model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        refusal = one_line(error)
    try:
        yield refusal
    finally:
        for model, held in zip(models, before, strict=True):
            model.set_attn_implementation(held)


def full_batch(spec: WireSpec, train: TrainSpec) -> Batch:
    """As many rows as asked for; sources as long as the wire reads; of three answers one as long as the step asks for
    and two shorter, so that rows are padded unevenly.
    """
    sources, answers = [], []
    for row in range(train.batch):
        source = SAMPLES.sources[row % len(SAMPLES.sources)]
        sources.append(f"{row}. {source} " * (spec.max_bytes // len(source) + 1))
        answers.append(" ".join(f"word{n}" for n in range(1 + train.answer // (1, 5, 7)[row % 3])))
    return Batch(tuple(sources), tuple(answers))


def optimizer(wire: Wire, train: TrainSpec, *, foreach: bool | None = None) -> torch.optim.Optimizer:
    """Over what the wire trains. `foreach`: whether all tensors are updated at once; None is torch's choice here."""
    trained = [p for p in wire.module.parameters() if p.requires_grad]
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[train.optimizer]
    made: torch.optim.Optimizer = kind(trained, lr=train.learning_rate, foreach=foreach)
    return made


def train_once(wire: Wire, batch: Batch, update: torch.optim.Optimizer) -> None:
    """One step as users run it. Raises StepFailed, OutOfMemory, CannotRun."""
    update.zero_grad(set_to_none=True)
    with torch.enable_grad(), part("step"):
        if isinstance(wire, HasBackward):
            wire.backward(batch)
        else:
            torch.autograd.backward(tuple(terms(wire.loss(batch)).values()))
    with part("optimizer"):
        update.step()
