"""One wire called so that two of its calls can be compared: the same random numbers, nothing on the screen.

B batch   S positions of a forward   D model width   V vocabulary   N positions a loss is taken on
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from wirecheck import zoo
from wirecheck.wires.contract import Batch, SideName, Wire, WiredModel
from wirecheck.wires.failure import part
from wirecheck.wires.targets import asked_rows
from wirecheck.wires.watch import Call, Observation, observe, seeded, terms, watching

REORDERED = 256
"""Rounding steps of float32, at the size of the largest log-probability, that another order of the same sums may cost:
other rows in the batch, padding and a cache all sum in another order. A few steps are seen."""
REORDERED_NARROW = 2
"""The same of bfloat16 and float16, where a wire has an autocast of its own: sums are float32's there and rounded once
an operation. A sixth of a step is seen in a sound wire of two layers, three and more where padding is read."""
SAME_LOSS = 1e-5
"""Relative difference of one loss computed in two ways in float32; 1e-6 is seen."""


@dataclass(frozen=True, eq=False)
class Forward:
    """One forward of the wire, not differentiated."""

    losses: dict[str, float]
    """Terms of the loss by name."""
    calls: tuple[Call, ...]

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return sum(self.losses.values())

    def of(self, side: SideName) -> tuple[Call, ...]:
        """The forwards of one model that a gradient could come back through."""
        return tuple(call for call in self.calls if call.side == side and call.with_grad and call.logits_BSV.numel())


def forward_of(seen: Observation) -> Forward:
    """The forward of a step that was differentiated as it is: what of it came before the backward pass."""
    losses = {name: float(term) for name, term in seen.losses.items()}
    return Forward(losses, tuple(call for call in seen.calls if not call.is_again))


@dataclass(frozen=True, eq=False)
class SteadyWire:
    """A wire between two models. Every call draws the random numbers of `seed`; torch's own state is left as it was."""

    wire: Wire
    models: tuple[WiredModel, WiredModel]
    seed: int

    def observe(self, batch: Batch) -> Observation:
        """One step, differentiated and watched; gradients are left in the module. Raises as `watch.observe` does."""
        with zoo.quiet():
            return observe(self.wire, self.models, batch, seed=self.seed)

    def forward(self, batch: Batch) -> Forward:
        """The loss of a batch, and what the models were handed for it. Raises StepFailed, MemoryError, CannotRun."""
        with self.steady(), torch.enable_grad(), watching(self.models) as calls, part("loss"):
            losses = {name: float(term.detach()) for name, term in terms(self.wire.loss(batch)).items()}
        return Forward(losses, tuple(calls))

    @contextmanager
    def steady(self) -> Iterator[None]:
        """The same random numbers inside, every time."""
        with zoo.quiet(), seeded(self.models, self.seed):
            yield


@dataclass(frozen=True, eq=False)
class Said:
    """What one model says at every position of one row that the loss rests on, forward after forward."""

    logp_NV: Tensor
    """Log-probabilities, float32."""
    grad_NV: Tensor
    """d loss / d logits there."""
    call_N: Tensor
    """int64: the forward each position belongs to, by its number among those of this model."""
    position_N: Tensor
    """int64: the position in what that forward was handed."""
    dtype: torch.dtype = torch.float32
    """Of the logits as the model gave them: the narrowest, where forwards differ."""

    @property
    def token_N(self) -> Tensor:
        """int64: the token that the loss would have more of: of cross-entropy, the one asked for."""
        return self.grad_NV.argmin(dim=-1)


def said(calls: Sequence[Call], row: int, num_rows: int) -> Said | None:
    """Of one row of a batch of `num_rows`; `calls` are one model's, differentiated.

    None where no loss rests on any position, or where a forward does not hold the batch's rows one by one, so that none
    of them can be told to be this row.
    """
    logp, grad, number, position, dtypes = [], [], [], [], []
    for n, call in enumerate(calls):
        if call.grad_BSV is None:
            continue
        logits_KV, grad_KV = call.logits_BSV.flatten(0, 1), call.grad_BSV.flatten(0, 1)
        asked_N = asked_rows(call.grad_BSV) if call.rows_N is None else call.rows_N
        B, S, _ = call.embeds_BSD.shape
        at_N = call.at_K[asked_N.cpu()]
        if num_rows != B or bool((at_N < 0).any()):
            return None
        asked_N, at_N = asked_N[at_N // S == row], at_N[at_N // S == row]
        logp.append(logits_KV[asked_N].float().log_softmax(dim=-1))
        grad.append(grad_KV[asked_N].float())
        number.append(torch.full_like(at_N, n))
        position.append(at_N % S)
        dtypes.append(call.logits_BSV.dtype)
    if not logp or not sum(len(one) for one in logp):
        return None
    narrowest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return Said(torch.cat(logp), torch.cat(grad), torch.cat(number), torch.cat(position), narrowest)


def real_positions(call: Call) -> Tensor:
    """real_BS bool: the positions of a forward that attention does not mask; a tensor of its own."""
    B, S, _ = call.embeds_BSD.shape
    mask = call.mask_BS
    if mask is None or mask.dim() != 2 or mask.shape[0] != B or mask.shape[1] < S:  # noqa: PLR2004  # rows, positions
        return torch.ones(B, S, dtype=torch.bool, device=call.embeds_BSD.device)
    return mask[:, -S:].bool().clone()


def reordered(dtype: torch.dtype) -> int:
    """Rounding steps of a floating type that another order of the same sums may cost."""
    return REORDERED if torch.finfo(dtype).eps <= torch.finfo(torch.float32).eps else REORDERED_NARROW


def rounding(*logp_NV: Tensor, dtype: torch.dtype = torch.float32) -> float:
    """What another order of the same sums may make of log-probabilities of this size, of logits of `dtype`."""
    largest = max((float(one.abs().max()) for one in logp_NV if one.numel()), default=0.0)
    return reordered(dtype) * torch.finfo(dtype).eps * max(largest, 1.0)


def apart(left: Tensor, right: Tensor) -> float:
    """Largest difference of two tensors over their common RMS; infinite where their shapes differ."""
    if left.shape != right.shape:
        return float("inf")
    if left.numel() == 0:
        return 0.0
    rms = (0.5 * (left.float().square().mean() + right.float().square().mean())).sqrt().clamp_min(1e-12)
    return float((left.float() - right.float()).abs().max() / rms)
