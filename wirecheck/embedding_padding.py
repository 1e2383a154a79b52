"""What padding does to the positions of a model that is fed by `inputs_embeds`: measured, not judged.

B rows, T positions, P of them padding, D width, V vocabulary.
"""
# ruff: noqa: N803, N806, N815  # shape-suffixed tensor names

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wirecheck.embedding_trial import Trial, gap

if TYPE_CHECKING:
    import torch

PADDING = 4
Place = Literal["left", "right"]


@dataclass(frozen=True, eq=False)
class Padded:
    """A short row beside a whole one: alone, and padded to the whole one's length."""

    trial: Trial
    embeds_BTD: torch.Tensor
    """At least two rows; the first is shortened, the second is whole and lends its vectors to the padding."""
    alone_TV: torch.Tensor
    """Logits of the short row by itself, without a mask."""

    @classmethod
    def of(cls, trial: Trial, embeds_BTD: torch.Tensor) -> Padded:
        """Runs the short row alone. Raises as the class does."""
        return cls(trial, embeds_BTD, trial.logits(inputs_embeds=embeds_BTD[:1, :-PADDING])[0])

    def gap(self, place: Place, *, with_positions: bool) -> float:
        """Largest change of the short row's logits by padding under a mask. Raises as the class does."""
        import torch

        short_TD, other_TD = self.embeds_BTD[0, :-PADDING], self.embeds_BTD[1]
        filler_PD, real = other_TD[:PADDING], len(short_TD)
        row_TD = torch.cat((filler_PD, short_TD) if place == "left" else (short_TD, filler_PD))
        start = PADDING if place == "left" else 0
        mask_BT = torch.zeros(2, len(row_TD), dtype=torch.long, device=row_TD.device)
        mask_BT[0, start : start + real] = 1
        mask_BT[1] = 1
        numbers_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        positions = {"position_ids": numbers_BT} if with_positions else {}
        batch_BTD = torch.stack((row_TD, other_TD))
        out_BTV = self.trial.logits(inputs_embeds=batch_BTD, attention_mask=mask_BT, **positions)
        return gap(out_BTV[0, start : start + real], self.alone_TV)


@dataclass(frozen=True)
class MaskedRow:
    """A batch whose second row is wholly padding, the loss taken on the first: what is finite."""

    others: bool
    """Logits of the first row."""
    own: bool
    """Logits of the masked row."""
    gradient: bool
    """d loss / d embeds, both rows: what an adapter shared by them receives."""


def masked_row(trial: Trial, embeds_BTD: torch.Tensor) -> MaskedRow:
    """Forward and backward of that batch. Raises as the class does."""
    import torch
    from torch.nn.functional import cross_entropy

    leaf_BTD = embeds_BTD[:2].clone().requires_grad_()
    mask_BT = torch.ones_like(leaf_BTD[..., 0], dtype=torch.long)
    mask_BT[1] = 0
    with torch.enable_grad():
        logits_BTV = trial.logits(inputs_embeds=leaf_BTD, attention_mask=mask_BT)
        labels_BT = trial.ids_BT[:2].masked_fill(mask_BT == 0, -100)
        loss = cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), labels_BT[:, 1:].flatten())
        (grad_BTD,) = torch.autograd.grad(loss, leaf_BTD)
    others_TV, own_TV = logits_BTV.detach()
    finite = [bool(tensor.isfinite().all()) for tensor in (others_TV, own_TV, grad_BTD)]
    return MaskedRow(*finite)
