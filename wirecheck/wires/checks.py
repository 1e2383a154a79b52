"""What can be seen of a wire by running one step of it: plain observations; the probes put them into words.

B batch   M latent slots   D model width   A anchor tokens   L answer tokens   S = M + A + L   V vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wirecheck.wires.adapter import read_table, root_mean_square
from wirecheck.wires.bytes_encoder import SourceBytes, read_bytes
from wirecheck.wires.failure import StepFailed, part
from wirecheck.wires.rig import Rig, Side
from wirecheck.wires.step import Step, encode

SAME_LOSS = 1e-5
"""Relative difference of one loss computed twice in float32, as nearly every class does; 1e-6 is seen."""
ROUNDED_LOSS = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""The same where a class takes the loss in its own dtype, and so rounds every logit."""

TWO_SOURCES = ("Keys are under the red stone.", "A cow sleeps by the old gate.")
"""Equal in bytes, so that the length given to the adapters cannot tell them apart; different from the first byte on."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One step, watched from outside."""

    losses: dict[str, Tensor]
    prefixes: dict[str, Tensor]
    """By side: prefix_BMD as the frozen model was handed it, in that model's dtype."""


def observe(rig: Rig, step: Step) -> Observation:
    """Run `step` from cleared gradients and note the soft tokens each model is handed. Raises StepFailed."""
    prefixes: dict[str, Tensor] = {}
    for tensor in rig.trainable().values():
        tensor.grad = None
    hooks = [_note_prefix(side, rig.latent_length, prefixes) for side in rig.sides]
    try:
        with part("step"):
            losses = step(rig)
    finally:
        for hook in hooks:
            hook.remove()
    for side in rig.sides:
        if side.name not in prefixes:
            raise StepFailed(f"model {side.name}", "its forward was not given inputs_embeds")
    return Observation({name: loss.detach() for name, loss in losses.items()}, prefixes)


def _note_prefix(side: Side, M: int, prefixes: dict[str, Tensor]) -> RemovableHandle:
    def note(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs.get("inputs_embeds") is not None:
            prefixes[side.name] = kwargs["inputs_embeds"][:, :M].detach().clone()  # some classes scale it in place

    return side.model.register_forward_pre_hook(note, with_kwargs=True)


def thawed(side: Side) -> list[str]:
    """Parameters of the frozen model that ask for a gradient or hold one."""
    return [name for name, p in side.model.named_parameters() if p.requires_grad or p.grad is not None]


def not_finite(rig: Rig, observation: Observation) -> list[str]:
    """Losses and trainable tensors' gradients that hold NaN or an infinity."""
    tensors: dict[str, Tensor | None] = {f"loss of {side}": loss for side, loss in observation.losses.items()}
    tensors |= {f"gradient of {name}": p.grad for name, p in rig.trainable().items()}
    return [name for name, tensor in tensors.items() if tensor is not None and not bool(tensor.isfinite().all())]


def dead(rig: Rig) -> list[str]:
    """Trainable tensors that got no gradient, or zeros only."""
    return [name for name, p in rig.trainable().items() if p.grad is None or not bool(p.grad.any())]


class Alignment(StrEnum):
    """What a step's loss says of its labels."""

    ONCE = "shifted once"
    """It is the next-token loss: right."""
    TWICE = "shifted twice"
    """It is the loss of predicting the token after the next."""
    OTHER = "something else"
    UNTOLD = "cannot be told"
    """Shifted once or twice, this model's loss is the same to within rounding."""


class NextTokenLoss(NamedTuple):
    """Mean -log p of the answer's tokens, read one position before each (right) and two before (a shift made twice)."""

    aligned: float
    shifted_twice: float

    def alignment(self, loss: float, dtype: torch.dtype) -> Alignment:
        """Which of the two `loss` is, made by a model of that dtype."""
        same, rounded = SAME_LOSS * abs(self.aligned), ROUNDED_LOSS[dtype] * abs(self.aligned)
        gap = abs(self.aligned - self.shifted_twice)
        to_once, to_twice = abs(loss - self.aligned), abs(loss - self.shifted_twice)
        if gap > 2 * same and to_twice <= same:
            return Alignment.TWICE
        if to_once > rounded:
            return Alignment.OTHER
        return Alignment.ONCE if gap > 2 * same and to_once <= max(same, gap / 4) else Alignment.UNTOLD


@torch.no_grad()
def next_token_loss(side: Side, prefix_BMD: Tensor) -> NextTokenLoss:
    """Recomputed in float32 from logits_BSV, with no labels and none of the step's sequence code. Raises StepFailed."""
    B = prefix_BMD.shape[0]
    L = side.answer_BL.shape[1]
    embed = side.model.get_input_embeddings()
    anchor_BAD = embed(side.anchor_A)[None].expand(B, -1, -1)
    embeds_BSD = torch.cat((prefix_BMD, anchor_BAD, embed(side.answer_BL)), dim=1)
    first = embeds_BSD.shape[1] - L  # where the answer begins
    mask_BS = torch.ones(embeds_BSD.shape[:2], dtype=torch.long, device=embeds_BSD.device)
    mask_BS[:, first:] = side.mask_BL
    with part(f"model {side.name} without labels", embeds=embeds_BSD, mask=mask_BS):
        logits_BSV = side.model(inputs_embeds=embeds_BSD, attention_mask=mask_BS, use_cache=False).logits

    def read(back: int) -> float:
        logits_BLV = logits_BSV[:, first - back : first - back + L].float()
        chosen_BL = logits_BLV.gather(-1, side.answer_BL[..., None])[..., 0] - logits_BLV.logsumexp(dim=-1)
        return -float(chosen_BL[side.mask_BL].mean())

    return NextTokenLoss(read(1), read(2))


class Scale(NamedTuple):
    """RMS of the soft tokens over the RMS of the model's embeddings of real tokens."""

    before: float
    """As the adapter's last LayerNorm leaves them."""
    after: float
    """As the model was handed them."""


@torch.no_grad()
def scale(rig: Rig, side: Side, prefix_BMD: Tensor) -> Scale:
    """Both against the table as it is now, read afresh: not against what the adapter keeps of it."""
    table = read_table(side.model.get_input_embeddings(), side.num_tokens).rms
    x_BMD = side.adapter.body(encode(rig), rig.source.lengths_B)
    return Scale(float(root_mean_square(x_BMD) / table), float(root_mean_square(prefix_BMD) / table))


@torch.no_grad()
def distances(rig: Rig, max_bytes: int) -> dict[str, float]:
    """How far apart TWO_SOURCES lie, in latent and prefixes: largest difference over the RMS. Raises StepFailed."""
    device = rig.source.bytes_BT.device
    source = SourceBytes(*(tensor.to(device) for tensor in read_bytes(TWO_SOURCES, max_bytes)))
    with part("encoder", bytes=source.bytes_BT):
        z_BMZ = rig.encoder(*source)
    found = {"latent": _apart(z_BMZ)}
    for side in rig.sides:
        with part(f"adapter {side.name}", z=z_BMZ):
            found[f"prefix of {side.name}"] = _apart(side.adapter(z_BMZ, source.lengths_B))
    return found


def _apart(x_BMD: Tensor) -> float:
    return float((x_BMD[0] - x_BMD[1]).abs().max() / root_mean_square(x_BMD).clamp_min(1e-12))
