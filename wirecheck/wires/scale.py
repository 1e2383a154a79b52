"""How large the soft tokens are beside the model's own.

B rows   S positions   M soft tokens   D model width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wirecheck.wires.alignment import Handed
from wirecheck.wires.contract import WiredModel
from wirecheck.wires.watch import ROWS_AT_ONCE, Call

FURTHEST = 3.0
"""A factor between the RMS of the soft tokens and that of the model's tokens which is still like a token.

Tokens of one trained table differ by nearly as much: from 0.55 to 2.3 times their RMS in SmolLM2-135M-Instruct, 0.58
to 1.28 in stories260K. The wires lost in practice were off by 73 to 370 (an
adapter that ends in a LayerNorm, on tables of RMS 0.0027 to 0.014) and by 115 (empty generations); a wire 20 % off
is not in danger.
"""


class Scale(NamedTuple):
    """Root mean squares, of the soft tokens over the model's embeddings of real tokens."""

    ratio: float
    num_soft: int
    """Soft tokens seen."""

    @property
    def is_off(self) -> bool:
        """Whether no token of the model is as large, or as small."""
        return not 1 / FURTHEST <= self.ratio <= FURTHEST


@torch.no_grad()
def table_rms(one: WiredModel) -> float:
    """Of what the embedding module gives for real tokens, now: not of what the wire keeps of it.

    The module is called, its weight is not read: Gemma's multiplies by √D on the way out.
    """
    embedding = one.model.get_input_embeddings()
    table = next(embedding.parameters())
    num_tokens = min(len(one.tokenizer), table.shape[0])
    squares, width = 0.0, 0
    for ids_R in torch.split(torch.arange(num_tokens, device=table.device), ROWS_AT_ONCE):
        rows_RD = embedding(ids_R).float()
        squares, width = squares + float(torch.linalg.vector_norm(rows_RD)) ** 2, rows_RD.shape[1]
    return float((squares / (num_tokens * width)) ** 0.5)


@torch.no_grad()
def soft_scale(calls: Sequence[Call], handed: Sequence[Handed], rms: float) -> Scale:
    """Of every vector handed that is no token's and not masked. NaN where there is none."""
    squares, total, num_soft = 0.0, 0, 0
    distinct = {id(call.embeds_BSD): (call.embeds_BSD, ids) for call, ids in zip(calls, handed, strict=True)}
    for embeds_BSD, ids in distinct.values():
        soft_BS = ((ids.ids_BS < 0) & ids.real_BS).to(embeds_BSD.device)
        soft_ND = embeds_BSD[soft_BS].double()
        squares += float(soft_ND.square().sum())
        total += soft_ND.numel()
        num_soft += len(soft_ND)
    return Scale(_over((squares / total) ** 0.5, rms) if total else float("nan"), num_soft)


@torch.no_grad()
def raw_scale(x_BMD: Tensor, rms: float) -> float:
    """Of soft tokens before they are calibrated."""
    return _over(float(x_BMD.double().square().mean().sqrt()), rms)


def _over(value: float, rms: float) -> float:
    return value / rms if rms else float("inf") if value else float("nan")
