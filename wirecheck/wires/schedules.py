"""Does a wire's own `backward` do what its `loss` says: the gradients and the terms of the one against the other's.

    g own gradient   h gradient of the loss   c = <g, h> / <h, h> of the middle tensor

A schedule may scale what it differentiates: c is any positive number. Beyond that every trained tensor's g is c h.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import median_low

import torch
from torch import Tensor

from wirecheck import zoo
from wirecheck.wires.contract import Batch
from wirecheck.wires.steady import SAME_LOSS, SteadyWire
from wirecheck.wires.watch import Observation, observe, trained_module


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One step by the wire's own `backward`, against the same step by its `loss`."""

    by_loss: Observation
    """The step whose loss was differentiated by us."""
    factor: float
    """By which the own gradients are those of the loss: c, or 0 where there is none."""
    apart: dict[str, float]
    """By trained tensor: |g - c h|, over the larger of |g| and |c h|."""
    allowed: float
    """Of `apart`: the root of the rounding step of the narrowest type that the logits have."""
    told: tuple[float, float]
    """Sum of the terms that `backward` returns (those of `loss`, where it returns them all), and of the loss."""

    @property
    def differing(self) -> tuple[str, ...]:
        """Trained tensors whose own gradient is not that of the loss, the furthest first."""
        if self.factor <= 0:
            return tuple(self.apart)
        found = [name for name, distance in self.apart.items() if not distance <= self.allowed]
        return tuple(sorted(found, key=lambda name: -self.apart[name]))

    @property
    def is_told(self) -> bool:
        """Whether the terms are the loss, as it is or scaled as the gradients are."""
        told, loss = self.told
        return any(abs(told - scale * loss) <= SAME_LOSS * abs(scale * loss) for scale in (1.0, self.factor))


def schedule(steady: SteadyWire, batch: Batch) -> Schedule:
    """Both steps on one batch, from the same random numbers. Raises StepFailed, MemoryError, CannotRun."""
    with zoo.quiet():
        by_loss = observe(steady.wire, steady.models, batch, seed=steady.seed, own_schedule=False)
    wanted = _gradients(steady)
    by_own = steady.observe(batch)
    own = _gradients(steady)
    size = sum(float(h.square().sum()) for h in wanted.values())
    narrowest = max((torch.finfo(call.logits_BSV.dtype).eps for call in by_loss.calls), default=2.0**-23)
    allowed = sqrt(narrowest)
    real = [name for name, h in wanted.items() if float(h.norm()) > allowed * sqrt(size)]
    factors = [float((own[name] * wanted[name]).sum() / wanted[name].square().sum()) for name in real]
    factor = median_low(factors) if factors else 0.0
    floor = narrowest * sqrt(size) * abs(factor)  # a gradient that is zero but for rounding
    told = by_own.losses
    if by_loss.losses.keys() <= told.keys():
        told = {name: told[name] for name in by_loss.losses}
    return Schedule(
        by_loss=by_loss,
        factor=factor,
        apart={name: _apart(own[name], factor * wanted[name], floor / allowed) for name in wanted},
        allowed=allowed,
        told=(sum(float(term) for term in told.values()), by_loss.loss),
    )


def _gradients(steady: SteadyWire) -> dict[str, Tensor]:
    """In float64; zeros where there is none."""
    trained = trained_module(steady.wire).named_parameters()
    held = {name: torch.zeros_like(p) if p.grad is None else p.grad.detach() for name, p in trained if p.requires_grad}
    return {name: gradient.double() for name, gradient in held.items()}


def _apart(own: Tensor, wanted: Tensor, least: float) -> float:
    size = max(float(own.norm()), float(wanted.norm()), least)
    return float((own - wanted).norm()) / size if size else 0.0
