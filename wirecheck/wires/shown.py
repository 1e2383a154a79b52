"""The soft tokens a wire shows, beside the embeddings it hands the models.

B rows   M soft tokens   K positions handed   D model width
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wirecheck.wires.contract import Batch, HasPrefix, SideName
from wirecheck.wires.decoding import by_side
from wirecheck.wires.failure import StepFailed, part
from wirecheck.wires.steady import SteadyWire
from wirecheck.wires.surroundings import surroundings
from wirecheck.wires.watch import Observation

STEPS = 4
"""Rounding steps of the widest cast on the way, at the size of the largest entry."""
_BMD = 3
"""Dimensions of soft tokens: rows, tokens, width."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Soft tokens of one row, by itself, for one model."""

    side: SideName
    row: int
    num_tokens: int
    difference: float
    """Largest difference of an entry of a vector from the handed vector nearest to it, over the vectors' RMS."""
    allowed: float
    rounding: str
    """`allowed` in words."""
    is_drawn: bool
    """Whether another seed gives other soft tokens."""

    @property
    def is_same(self) -> bool:
        """Whether every vector is handed."""
        return self.difference <= self.allowed


def shown(steady: SteadyWire, batch: Batch, alone: Sequence[Observation]) -> list[Shown]:
    """Of every row and every model that `prefix` names; `alone`: the steps on each row by itself.

    Raises StepFailed where `prefix` raises, or gives other than B x M x D by model.
    """
    _prefixes(steady, batch)  # all rows: one each
    found: list[Shown] = []
    for row, (source, answer, seen) in enumerate(zip(*batch, alone, strict=True)):
        one_row = Batch((source,), (answer,))
        given, drawn = (
            _prefixes(steady, one_row),
            _prefixes(SteadyWire(steady.wire, steady.models, steady.seed + 1), one_row),
        )
        for side, prefix_BMD in given.items():
            handed = [call.embeds_BSD.flatten(0, 1) for call in seen.of(side)]
            is_drawn = drawn[side].shape != prefix_BMD.shape or not torch.equal(drawn[side], prefix_BMD)
            each = _compared(side, row, prefix_BMD[0], handed, is_drawn=is_drawn)
            cast = None if each.is_same else _autocast(steady, side, one_row, seen)
            found.append(_compared(side, row, prefix_BMD[0], handed, cast, is_drawn=is_drawn) if cast else each)
    return found


def _prefixes(steady: SteadyWire, batch: Batch) -> dict[SideName, Tensor]:
    wire: Any = steady.wire
    assert isinstance(wire, HasPrefix)
    with steady.steady(), torch.no_grad(), part("prefix"):
        made: dict[Any, Any] = dict(wire.prefix(batch))
    given, B = by_side("prefix", made), len(batch.sources)
    for one in steady.models:
        x_BMD, D = given.get(one.side), one.model.get_input_embeddings().embedding_dim
        if x_BMD is None:
            continue
        if not isinstance(x_BMD, Tensor):
            raise StepFailed("prefix", f"{one.side} is a {type(x_BMD).__name__}, not a tensor")
        if x_BMD.dim() != _BMD or x_BMD.shape[0] != B or x_BMD.shape[2] != D or not x_BMD.is_floating_point():
            shape, dtype = list(x_BMD.shape), str(x_BMD.dtype).removeprefix("torch.")
            raise StepFailed("prefix", f"{one.side} is {shape} {dtype}, for {B} rows of soft tokens of width {D}")
    return given


def _autocast(steady: SteadyWire, side: SideName, batch: Batch, seen: Observation) -> torch.dtype | None:
    """In what type the wire makes its soft tokens where that is an autocast of its own, told at the model's forward."""
    (one,) = (each for each in steady.models if each.side == side)
    found = (surroundings(steady, one, batch, call) for call in seen.of(side))
    return next((around.autocast for around in found if around is not None), None)


def _compared(
    side: SideName, row: int, x_MD: Tensor, handed: Sequence[Tensor], cast: torch.dtype | None = None, *, is_drawn: bool
) -> Shown:
    dtypes = {x_MD.dtype, *(one_KD.dtype for one_KD in handed), *({cast} if cast else ())}
    dtype = max(dtypes, key=lambda one: torch.finfo(one).eps)
    x_MD = x_MD.double()
    rms = float(x_MD.square().mean().sqrt().clamp_min(1e-12)) if x_MD.numel() else 1.0
    largest = float(x_MD.abs().max()) / rms if x_MD.numel() else 1.0
    near = [_nearest(x_MD, one_KD.double()) for one_KD in handed if one_KD.shape[-1] == x_MD.shape[1] and len(one_KD)]
    least_M = torch.stack(near).amin(dim=0) if near else x_MD.new_full((len(x_MD),), float("inf"))
    return Shown(
        side=side,
        row=row,
        num_tokens=len(x_MD),
        difference=float(least_M.max()) / rms if len(least_M) else 0.0,
        allowed=STEPS * torch.finfo(dtype).eps * max(largest, 1.0),
        rounding=f"{STEPS} rounding steps of {str(dtype).removeprefix('torch.')} at the largest entry",
        is_drawn=is_drawn,
    )


def _nearest(x_MD: Tensor, handed_KD: Tensor) -> Tensor:
    """least_M: of each vector, the largest difference of an entry from the handed vector where that is smallest."""
    return torch.stack([(x_D - handed_KD).abs().amax(dim=1).min() for x_D in x_MD])
