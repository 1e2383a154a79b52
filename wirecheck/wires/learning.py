"""Can the wire learn at all: one batch, a few updates by the user's kind of optimizer, the loss before and after.

    θ <- θ - lr · update(clip(dL/dθ, norm 1))      until L <= (1 - FALL) L_0

Sound wires on random twins take two to five updates; where the gradient does not reach the loss, or has the wrong
sign, no number of them is enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from wirecheck.wires.contract import Batch, HasBackward, SideName
from wirecheck.wires.failure import part
from wirecheck.wires.steady import SteadyWire
from wirecheck.wires.watch import Observation, terms

FALL = 0.01
"""Part of the first loss that is to go. Sound wires lose a tenth to a third in as many updates, broken ones nothing."""
SIDE_FALL = 0.002
"""The same of each model's own part, at the least: the other model's may fall first."""
CLIP_NORM = 1.0
PACE: dict[str, tuple[float, ...]] = {"adamw": (*[1e-3] * 8, *[1e-2] * 16), "sgd": (*[0.1] * 8, *[1.0] * 16)}
"""The learning rate of each update: the first ones do for a sound wire, a gate that starts shut needs the others."""
LEAST_STEPS = 2
"""Updates made in any case, so that every tensor leaves its start, also behind a gate that starts shut."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Learned:
    """How far one batch's loss came down."""

    before: float
    after: float
    """Once it had fallen, or after all updates."""
    sides_before: dict[SideName, float]
    """Cross-entropy of the tokens asked of each model, as far as single tokens are asked for."""
    sides_after: dict[SideName, float]
    steps: int
    learning_rate: float
    """Of the last update."""
    last: Observation
    """The step after all updates."""

    @property
    def fall(self) -> float:
        """Part of the first loss that is gone; negative where it rose, NaN where it is not finite."""
        return _fall(self.before, self.after)

    @property
    def behind(self) -> tuple[SideName, ...]:
        """Models whose own part has not fallen."""
        both = self.sides_before.keys() & self.sides_after.keys()
        return tuple(s for s in sorted(both) if not _fall(self.sides_before[s], self.sides_after[s]) >= SIDE_FALL)

    @property
    def has_learned(self) -> bool:
        """Whether the loss fell by `FALL` or more, and no model's part stayed behind."""
        return self.fall >= FALL and not self.behind


def _fall(first: float, last: float) -> float:
    return (first - last) / abs(first) if first else 0.0


def overfit(steady: SteadyWire, batch: Batch, kind: Literal["adamw", "sgd"]) -> Learned:
    """Trains the wire on one batch until its loss has fallen. Raises StepFailed, MemoryError, CannotRun."""
    trained = [p for p in steady.wire.module.parameters() if p.requires_grad]
    first = steady.observe(batch)
    if not trained:
        return _learned(first, first, 0, 0.0)
    update = torch.optim.AdamW(trained) if kind == "adamw" else torch.optim.SGD(trained)
    for steps, rate in enumerate(PACE[kind], start=1):
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        for group in update.param_groups:
            group["lr"] = rate
        update.step()
        # Of a sound wire the loss has fallen by then: that step is watched at once, and not run for its loss first.
        seen = steady.observe(batch) if steps == LEAST_STEPS else None
        now = seen.loss if seen else _differentiate(steady, batch, trained)
        if not math.isfinite(now):
            break
        if steps >= LEAST_STEPS and _fall(first.loss, now) >= FALL:
            learned = _learned(first, seen or steady.observe(batch), steps, rate)
            if learned.has_learned:
                return learned
    return _learned(first, steady.observe(batch), steps, rate)


def _learned(first: Observation, last: Observation, steps: int, rate: float) -> Learned:
    return Learned(
        before=first.loss,
        after=last.loss,
        sides_before=_sides(first),
        sides_after=_sides(last),
        steps=steps,
        learning_rate=rate,
        last=last,
    )


def _sides(seen: Observation) -> dict[SideName, float]:
    found: dict[SideName, float] = {}
    for call in seen.calls:
        for asked in call.asked.values():
            if bool((asked.token_N >= 0).any()):
                found[call.side] = found.get(call.side, 0.0) + asked.value
    return found


def _differentiate(steady: SteadyWire, batch: Batch, trained: list[nn.Parameter]) -> float:
    """Forward and backward as the wire's own step makes them; the loss."""
    wire = steady.wire
    for p in trained:
        p.grad = None
    with steady.steady(), torch.enable_grad():
        if isinstance(wire, HasBackward):
            with part("step"):
                return float(sum(float(term) for term in wire.backward(batch).values()))
        with part("loss"):
            losses = terms(wire.loss(batch))
        with part("backward"):
            torch.autograd.backward(tuple(losses.values()))
    return float(sum(float(loss.detach()) for loss in losses.values()))
