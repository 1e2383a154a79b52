"""Which tokens a loss asks a model for, read from its gradient with respect to the logits alone.

    B rows   S positions   V vocabulary   K rows of logits   N of those that the loss asks something of

For cross-entropy with weight w on target t, d loss / d logits = w (p - onehot(t)), p = softmax(logits): one entry is
negative, the target's; the others are w p. Label smoothing takes the same small constant from every entry. Neither
labels nor masks are read, so nothing the wire says of them is believed; the shift shows by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

ROWS_AT_ONCE = 16
"""Rows of logits brought to float32 at once: 16 x 262,144 x 4 B = 17 MB a copy."""
LESSER = 0.1
"""A second negative entry above this share of the first: a distribution is asked for, not one token."""
UNEVEN = 0.05
"""Relative residual of smoothed cross-entropy's line through the other entries; bfloat16 leaves 0.004."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What one loss asks of one forward: N rows of logits with a gradient. All on the CPU."""

    at_N: Tensor
    """int64: where the row stands in the embeddings, b S + s; -1 where unknown."""
    token_N: Tensor
    """int64: the token asked for; -1 where no single one is (a teacher's distribution)."""
    weight_N: Tensor
    """float32: w, the row's share of the loss."""
    nll_N: Tensor
    """float32: -log p of the token."""
    early_N: Tensor
    """float32: -log p of the same token one position before; NaN where there is none."""

    @property
    def hard_N(self) -> Tensor:
        """Which rows ask for one token, at a known place."""
        return (self.token_N >= 0) & (self.at_N >= 0)

    @property
    def value(self) -> float:
        """Σ w (-log p): the loss, if it is cross-entropy on these tokens and nothing else."""
        hard_N = self.token_N >= 0
        return float((self.weight_N * self.nll_N)[hard_N].sum())

    def and_also(self, other: Asked) -> Asked:
        """Both together."""
        return Asked(*(torch.cat((getattr(self, f.name), getattr(other, f.name))) for f in fields(Asked)))


@torch.no_grad()
def asked_rows(grad_BSV: Tensor) -> Tensor:
    """rows_N int64: the rows of logits, flattened, with a gradient that is not zero, a NaN among them.

    By the extremes of each row: two reads of the tensor, and no other of its size.
    """
    grad_KV = grad_BSV.flatten(0, 1)
    return ((grad_KV.amax(dim=-1) != 0) | (grad_KV.amin(dim=-1) != 0)).nonzero()[:, 0]


@torch.no_grad()
def read_asked(
    logits_BSV: Tensor, grad_BSV: Tensor, at_K: Tensor, num_positions: int, rows_N: Tensor | None = None
) -> Asked:
    """What a gradient with respect to these logits asks for; rows without a gradient are asked nothing.

    `rows_N`: those with one, where they are known (`asked_rows`).
    """
    logits_KV, grad_KV = logits_BSV.flatten(0, 1), grad_BSV.flatten(0, 1)
    rows_N = asked_rows(grad_BSV) if rows_N is None else rows_N
    before_K = _row_before(at_K, num_positions).to(rows_N.device)
    found = [
        _read_rows(logits_KV, grad_KV, rows_N[start : start + ROWS_AT_ONCE], before_K)
        for start in range(0, len(rows_N), ROWS_AT_ONCE)
    ]
    if not found:
        none = torch.empty(0)
        return Asked(none.long(), none.long(), none, none, none)
    return Asked(at_K.cpu()[rows_N.cpu()], *(torch.cat(column) for column in zip(*found, strict=True)))


def _row_before(at_K: Tensor, S: int) -> Tensor:
    """For each row of logits, the row of the position before it; -1 where there is none."""
    place = {int(at): k for k, at in enumerate(at_K.tolist()) if at >= 0}
    return torch.tensor([place.get(at - 1, -1) if at > 0 and at % S else -1 for at in at_K.tolist()], dtype=torch.long)


def _read_rows(logits_KV: Tensor, grad_KV: Tensor, rows_N: Tensor, before_K: Tensor) -> tuple[Tensor, ...]:
    x_NV, g_NV = logits_KV[rows_N].float(), grad_KV[rows_N].float()
    least_N1, token_N1 = g_NV.min(dim=-1, keepdim=True)
    logp_NV = x_NV.log_softmax(dim=-1)
    nll_N = -logp_NV.gather(-1, token_N1)[:, 0]
    p_NV = logp_NV.exp()
    hard_N = _asks_for_one(g_NV, p_NV, least_N1, token_N1)
    left_N = 1 - p_NV.gather(-1, token_N1)[:, 0]
    weight_N = -least_N1[:, 0] / left_N.clamp_min(1e-6)
    earlier_NV = logits_KV[before_K[rows_N].clamp_min(0)].float()
    early_N = earlier_NV.logsumexp(dim=-1) - earlier_NV.gather(-1, token_N1)[:, 0]
    early_N[before_K[rows_N] < 0] = torch.nan
    token_N = token_N1[:, 0].masked_fill(~hard_N, -1)
    return token_N.cpu(), weight_N.cpu(), nll_N.cpu(), early_N.cpu()


def _asks_for_one(g_NV: Tensor, p_NV: Tensor, least_N1: Tensor, token_N1: Tensor) -> Tensor:
    """bool, per row: one entry is negative; or it dwarfs the others and those lie on g = w p - c, as smoothing's do."""
    others_NV = g_NV.scatter(-1, token_N1, 0.0)
    rival_N = others_NV.min(dim=-1).values
    least_N = least_N1[:, 0]
    alone_N = (least_N < 0) & (rival_N >= 0)
    if bool(alone_N.all()):
        return alone_N
    rest_NV = p_NV.scatter(-1, token_N1, 0.0)
    count = max(g_NV.shape[-1] - 1, 1)
    mean_p, mean_g = rest_NV.sum(-1) / count, others_NV.sum(-1) / count
    cov = (rest_NV * others_NV).sum(-1) - count * mean_p * mean_g
    w_N = cov / (rest_NV.square().sum(-1) - count * mean_p.square()).clamp_min(1e-30)
    c_N = w_N * mean_p - mean_g
    line_NV = (w_N[:, None] * p_NV - c_N[:, None]).scatter(-1, token_N1, 0.0)
    rough_N = (others_NV - line_NV).norm(dim=-1) / others_NV.norm(dim=-1)
    even_N = (c_N > 0) & (rival_N >= -1.1 * c_N) & (rough_N <= UNEVEN) & (rival_N >= LESSER * least_N)
    asks_N: Tensor = alone_N | ((least_N < 0) & even_N)
    return asks_N
