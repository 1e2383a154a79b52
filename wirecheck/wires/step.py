"""The joint training step: one latent, two frozen models, the loss of both back into encoder and adapters.

    B batch   T source bytes   M latent slots   Z latent width   D model width   V vocabulary
    A anchor tokens   L answer tokens   N = A + L   S = M + N

    bytes_BT -> z_BMZ -> prefix_BMD -> logits_BSV, once per model
    sequence:   [prefix M][anchor A][answer L]       labels: -100 on prefix, anchor and padding
    loss:       sum over the models of the mean next-token cross-entropy of the answer

The labels are shifted once, inside the model's own loss; nobody shifts them here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wirecheck.schema import TrainSpec
from wirecheck.wires.failure import part
from wirecheck.wires.rig import Rig, Side

IGNORED = -100  # the label HF's losses leave out
CLIP_NORM = 1.0

Step = Callable[[Rig], dict[str, Tensor]]
"""One forward and backward: the loss of each side, by its name. Gradients are left in the tensors."""


# --- forward -----------------------------------------------------------------------------------------------------


def encode(rig: Rig) -> Tensor:
    """-> z_BMZ, float32."""
    with part("encoder", bytes=rig.source.bytes_BT):
        z_BMZ: Tensor = rig.encoder(*rig.source)
    return z_BMZ


def soft_tokens(rig: Rig, side: Side, z_BMZ: Tensor) -> Tensor:
    """-> prefix_BMD, float32."""
    with part(f"adapter {side.name}", z=z_BMZ):
        prefix_BMD: Tensor = side.adapter(z_BMZ, rig.source.lengths_B / rig.encoder.max_bytes)
    return prefix_BMD


def sequence(side: Side, prefix_BMD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[prefix][anchor][answer] -> embeds_BSD in the embedding's dtype, mask_BS int64, labels_BS int64."""
    B, M, _ = prefix_BMD.shape
    anchor_BA = side.anchor_A.expand(B, -1)
    context = M + anchor_BA.shape[1]
    with part(f"sequence of {side.name}", prefix=prefix_BMD, anchor=anchor_BA, answer=side.answer_BL):
        text_BND = side.model.get_input_embeddings()(torch.cat((anchor_BA, side.answer_BL), dim=1))
        embeds_BSD = torch.cat((prefix_BMD.to(text_BND), text_BND), dim=1)
        mask_BS = torch.cat((side.mask_BL.new_ones(B, context), side.mask_BL), dim=1).long()
        answer_BL = side.answer_BL.masked_fill(~side.mask_BL, IGNORED)
        labels_BS = torch.cat((answer_BL.new_full((B, context), IGNORED), answer_BL), dim=1)
    return embeds_BSD, mask_BS, labels_BS


def side_loss(rig: Rig, side: Side, z_BMZ: Tensor) -> Tensor:
    """Mean cross-entropy of this side's answer tokens, as the model's own `labels=` makes it."""
    embeds_BSD, mask_BS, labels_BS = sequence(side, soft_tokens(rig, side, z_BMZ))
    with part(f"model {side.name}", embeds=embeds_BSD, mask=mask_BS, labels=labels_BS):
        output = side.model(inputs_embeds=embeds_BSD, attention_mask=mask_BS, labels=labels_BS, use_cache=False)
        loss: Tensor = output.loss
    return loss


# --- backward: two schedules of one gradient ---------------------------------------------------------------------


def joint_step(rig: Rig) -> dict[str, Tensor]:
    """Both models' graphs alive until one backward of the sum. Peak: both models' activations together."""
    z_BMZ = encode(rig)
    losses: dict[str, Tensor] = {side.name: side_loss(rig, side, z_BMZ) for side in rig.sides}
    with part("backward"):
        torch.autograd.backward(tuple(losses.values()))
    return {name: loss.detach() for name, loss in losses.items()}


def sequential_step(rig: Rig) -> dict[str, Tensor]:
    """The same gradient, model after model: dL/dz adds up in a leaf, and one backward through the encoder ends it.

    L = Σ L_i(z), hence dL/dθ = (Σ dL_i/dz) dz/dθ. Peak: the larger model's activations, not both.
    """
    z_BMZ = encode(rig)
    leaf_BMZ = z_BMZ.detach().requires_grad_()
    losses: dict[str, Tensor] = {}
    for side in rig.sides:
        loss = side_loss(rig, side, leaf_BMZ)
        with part(f"backward of {side.name}"):
            torch.autograd.backward(loss)
        losses[side.name] = loss.detach()
    with part("backward of encoder", z=z_BMZ):
        torch.autograd.backward(z_BMZ, leaf_BMZ.grad)
    return losses


STEPS: dict[str, Step] = {"joint": joint_step, "sequential": sequential_step}
"""By `TrainSpec.resident`."""


# --- update ------------------------------------------------------------------------------------------------------


def optimizer(rig: Rig, train: TrainSpec) -> torch.optim.Optimizer:
    """The optimizer over encoder and adapters; the frozen models are not in it."""
    trainable = list(rig.trainable().values())
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW(trainable, lr=train.learning_rate)
        case "sgd":
            return torch.optim.SGD(trainable, lr=train.learning_rate)


def train_step(rig: Rig, step: Step, update: torch.optim.Optimizer) -> float:
    """One step as users run it: gradients, clip to norm 1, update. Returns the joint loss before the update."""
    update.zero_grad(set_to_none=True)
    losses = step(rig)
    nn.utils.clip_grad_norm_(rig.trainable().values(), CLIP_NORM)
    update.step()
    return sum(float(loss) for loss in losses.values())
