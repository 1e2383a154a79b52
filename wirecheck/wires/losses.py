"""What is summed over a model's answer: three losses on the same frozen model and the same prefix.

    B batch   L answer tokens (the longest row's)   K first of them   V vocabulary   N labelled tokens of all rows

    answer     Σ -log p(y_t | prefix, anchor, y_<t) / N          one forward; the model's own `labels=` loss
    first-k    the same sum over t < K alone                     K forwards, the t-th given y_<t and nothing behind it
    kd         Σ KL(p_teacher ‖ p_student) / N over t < K        K forwards more; the teacher is the same model reading
                                                                 source, anchor and y as text, in one no-grad pass

Every forward keeps its graph until the backward: with all three, 1 + 2 K of them. Tokens are weighed alike across rows,
so that a batch's loss is that of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from wirecheck.wires.contract import Batch
from wirecheck.wires.receiver import Receiver, Tokens

Loss = Callable[[Receiver, Tensor, Batch, int], Tensor]
"""(model, prefix_BMD, batch, K) -> scalar, float32."""


def answer_loss(model: Receiver, prefix_BMD: Tensor, batch: Batch, _k: int) -> Tensor:
    """Teacher-forced cross-entropy, as the model's own `labels=` makes it."""
    loss: Tensor = model.forward(*model.sequence(prefix_BMD, model.answers(batch))).loss
    return loss


def first_k_loss(model: Receiver, prefix_BMD: Tensor, batch: Batch, k: int) -> Tensor:
    """Cross-entropy of the first K answer tokens, one forward each."""
    answers = model.answers(batch)
    total, count = prefix_BMD.new_zeros(()), answers.mask_BL[:, :k].sum()
    for t, logits_BV in enumerate(student_logits(model, prefix_BMD, answers, k)):
        y_B, mask_B = answers.ids_BL[:, t], answers.mask_BL[:, t]
        log_p_B = logits_BV.log_softmax(dim=-1).gather(-1, y_B[:, None])[:, 0]
        total = total - log_p_B[mask_B].sum()
    return total / count


def kd_loss(model: Receiver, prefix_BMD: Tensor, batch: Batch, k: int) -> Tensor:
    """KL(teacher ‖ student) of the first K answer tokens, one forward of the student each."""
    answers = model.answers(batch)
    teacher_BKV = teacher_logits(model, batch, answers, k).log_softmax(dim=-1)
    total, count = prefix_BMD.new_zeros(()), answers.mask_BL[:, :k].sum()
    for t, logits_BV in enumerate(student_logits(model, prefix_BMD, answers, k)):
        log_q_BV, log_p_BV = logits_BV.log_softmax(dim=-1), teacher_BKV[:, t]
        kl_B = (log_p_BV.exp() * (log_p_BV - log_q_BV)).sum(dim=-1)
        total = total + kl_B[answers.mask_BL[:, t]].sum()
    return total / count


def student_logits(model: Receiver, prefix_BMD: Tensor, answers: Tokens, k: int) -> Iterator[Tensor]:
    """K times logits_BV, float32: of token t, given the prefix, the anchor and the answer's true tokens before t.

    Rows that have ended are fed padding behind their end; what they predict is not scored.
    """
    for t in range(min(k, answers.ids_BL.shape[1])):
        before = Tokens(answers.ids_BL[:, :t], answers.mask_BL[:, :t])
        embeds_BSD, mask_BS, _ = model.sequence(prefix_BMD, before)
        yield model.forward(embeds_BSD, mask_BS).logits[:, -1].float()


@torch.no_grad()
def teacher_logits(model: Receiver, batch: Batch, answers: Tokens, k: int) -> Tensor:
    """logits_BKV, float32: of the first K answer tokens, the source read as text.

    One pass over whole rows: the logits of all positions stand in the model's dtype while it lasts, B S V of them; only
    the K rows read are made float32. Where a row has fewer than K tokens its last position is repeated, unscored.
    """
    prompts = model.prompts(batch)
    lengths = answers.mask_BL.sum(dim=1).tolist()
    rows = [[*p, *ids[:n]] for p, ids, n in zip(prompts, answers.ids_BL.tolist(), lengths, strict=True)]
    logits_BSV = model.read(rows)[0].logits
    K = min(k, answers.ids_BL.shape[1])
    places = [[len(p) - 1 + min(t, n - 1) for t in range(K)] for p, n in zip(prompts, lengths, strict=True)]
    logits_BKV: Tensor = torch.stack([logits_SV[at] for logits_SV, at in zip(logits_BSV, places, strict=True)]).float()
    return logits_BKV


LOSSES: dict[str, Loss] = {"answer": answer_loss, "first-k": first_k_loss, "kd": kd_loss}
"""By the names of `WireSpec.losses`."""
