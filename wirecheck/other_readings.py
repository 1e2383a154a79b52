"""The same weights, read otherwise: would a model know plain text better by another config, or in another layout?

Weights do not say how they are to be read. A config with another activation, or a conversion that exchanged two
matrices, leaves a model that loads, runs, and is duller than it was: its loss alone hardly gives it away. But whoever
reads it as it was trained sees the loss fall. So the ways in which configs and conversions go wrong are tried on the
loaded model, one at a time, for as long as a forward takes; nothing of the model is copied.

T positions, H heads, K head size, D hidden size.
"""
# ruff: noqa: N803  # shape-suffixed tensor names

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from wirecheck.limits import within_means
from wirecheck.plain_text import losses_of, passage_ids

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from wirecheck.plain_text import Prediction, Quiet

    Applied = Callable[[PreTrainedModel], AbstractContextManager[bool]]
    Place = tuple[nn.Module, str, Any]
    """A module, the name of one of its parts, and what is put there."""

BETTER = 0.8
"""Part of the own loss below which another reading is the better one.

The lowest that another reading left of a sound model's loss: 0.95 in five of 0.3 M to 270 M parameters, 0.94 in small
ones of 14 families in training (`benchmarks/other_readings.py`). What the right reading left of a wrong one's: decision
0016.
"""
LEAST_GAIN = 0.05
"""Nats per token besides: of a text known by heart a fifth is nothing."""
ALIKE = 0.01
"""Largest difference of two activations, between -4 and 4, that are taken for one: gelu and its approximations."""
BASES = (1e4, 1e6)
"""Of rotary embeddings: that of most configs, and what stands where none was read; that of long contexts."""
FAR = 9.0
"""Factor between two bases from which they are tried: nearer ones short texts cannot tell apart."""
_ACTIVATION_HOMES = ("torch.nn.modules.activation", "transformers.activations")


class Reading(NamedTuple):
    """One other way to read the weights."""

    name: str
    """In words that follow "with"."""
    applied: Applied
    """A context in which the model is read so; gives False, and changes nothing, where it has nothing to read so."""


def readings() -> tuple[Reading, ...]:
    """Every way that is tried, in the order in which it is told."""
    return (
        *(Reading(f"{name} as its activation", _activation(name)) for name in ("silu", "gelu", "relu")),
        *(Reading(f"a rotary base of {base:,.0f}", _rotary_base(base)) for base in BASES),
        Reading("gate and up projections exchanged", _exchanged("gate_proj", "up_proj")),
        Reading("the two norms of each layer exchanged", _exchanged("input_layernorm", "post_attention_layernorm")),
        Reading("queries and keys taken from pairs to halves", _reordered(pairs=True)),
        Reading("queries and keys taken from halves to pairs", _reordered(pairs=False)),
        Reading("embeddings times the root of the hidden size", _scaled(0.5)),
        Reading("embeddings divided by the root of the hidden size", _scaled(-0.5)),
    )


@dataclass(frozen=True)
class Comparison:
    """A model's loss on plain text as it is read, and otherwise. Mean next-token losses, in nats."""

    own: float
    """On the passage that it predicts best."""
    others: dict[str, float]
    """On the same passage, by reading."""
    known: tuple[str, ...]
    """The passages on which the best other reading was held against the own, where it was better on the first."""
    own_known: float
    """Mean over these."""
    other_known: float

    @property
    def better(self) -> str | None:
        """The reading that is better by `BETTER` on the passage predicted best, and on all that the model knows."""
        name = self.nearest
        return name if self.known and _better(self.other_known, self.own_known) else None

    @property
    def nearest(self) -> str | None:
        """The reading with the lowest loss; one whose loss is no number is the worst."""
        return min(self.others, key=lambda name: (math.isnan(self.others[name]), self.others[name]), default=None)


def compare(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prediction: Prediction, *, quiet: Quiet
) -> Comparison:
    """Every reading that the model allows, on the passage predicted best; the best of them on all that it knows.

    One forward of one passage each, and one of as many as eleven where a reading is better. Raises as the class does.
    """
    import torch

    before, texts = passage_ids(tokenizer)
    rows = {name: [*before, *ids] for name, ids in texts.items()}
    own, others, ways = prediction.losses[prediction.best], {}, {one.name: one.applied for one in readings()}
    with torch.no_grad(), within_means(), quiet():
        for name, applied in ways.items():
            with applied(model) as so:
                if so:
                    others[name] = losses_of(model, [rows[prediction.best]])[0][0]
        first = Comparison(own, others, (), own, own)
        if first.nearest is None or not _better(others[first.nearest], own):
            return first
        known = tuple(
            n for n, loss in prediction.losses.items() if n == prediction.best or loss < prediction.chance / 2
        )
        with ways[first.nearest](model):
            found, _ = losses_of(model, [rows[name] for name in known])
    return Comparison(own, others, known, fmean(prediction.losses[name] for name in known), fmean(found))


def _better(other: float, own: float) -> bool:
    return other < BETTER * own and own - other > LEAST_GAIN


# --- parts put in the place of others -----------------------------------------------------------------------------


@contextmanager
def _put(places: Iterable[Place]) -> Iterator[bool]:
    held = [(module, part, getattr(module, part), new) for module, part, new in places]
    try:
        for module, part, _, new in held:
            setattr(module, part, new)
        yield bool(held)
    finally:
        for module, part, old, _ in held:
            setattr(module, part, old)


def _activation(name: str) -> Applied:
    def places(model: PreTrainedModel) -> Iterator[Place]:
        from torch import nn

        known = {"silu": nn.SiLU(), "gelu": nn.GELU(), "relu": nn.ReLU()}
        new = known[name]
        for module in model.modules():
            for part, old in module.named_children():
                if type(old).__module__ in _ACTIVATION_HOMES:
                    named = [one for one in known if _alike(old, known[one])]
                    if named and named != [name]:
                        yield module, part, new

    return lambda model: _put(places(model))


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether both do the same to a number; what has weights, or gives another shape, is no activation alone."""
    import torch

    if next(one.parameters(), None) is not None:
        return False
    grid = torch.linspace(-4, 4, 64)
    given = one(grid)
    return given.shape == grid.shape and bool((given - other(grid)).abs().max() < ALIKE)


def _rotary_base(base: float) -> Applied:
    """Frequencies are base^(-2i/K), times what scales them besides; that is left as it is."""

    def places(model: PreTrainedModel) -> Iterator[Place]:
        import torch

        for module in model.modules():
            for part, old in module.named_buffers(recurse=False):
                count = old.numel()
                if not part.endswith("inv_freq") or "original" in part or old.is_meta or count < 2:  # noqa: PLR2004
                    continue
                own = float(old[0] / old[1]) ** count
                if own > 1 and max(base / own, own / base) > FAR:
                    powers = torch.arange(count, device=old.device) / count
                    yield module, part, old * (own / base) ** powers

    return lambda model: _put(places(model))


def _exchanged(first: str, second: str) -> Applied:
    def places(model: PreTrainedModel) -> Iterator[Place]:
        for module in model.modules():
            parts = dict(module.named_children())
            if first in parts and second in parts and _shapes(parts[first]) == _shapes(parts[second]):
                yield module, first, parts[second]
                yield module, second, parts[first]

    return lambda model: _put(places(model))


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(held.shape) for name, held in module.named_parameters()}


# --- what a part gives, changed -----------------------------------------------------------------------------------


@contextmanager
def _giving(changes: Iterable[tuple[nn.Module, Callable[[Tensor], Tensor]]]) -> Iterator[bool]:
    def hook(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        return lambda _module, _given, output: change(output)

    hooks = [module.register_forward_hook(hook(change)) for module, change in changes]
    try:
        yield bool(hooks)
    finally:
        for one in hooks:
            one.remove()


def _reordered(*, pairs: bool) -> Applied:
    """A rotary embedding turns dimension i of a head with i + K/2 (halves), or, in Meta's own files, i + 1 (pairs)."""

    def change(head_size: int) -> Callable[[Tensor], Tensor]:
        split = (head_size // 2, 2) if pairs else (2, head_size // 2)

        def reordered(rows_BTHK: Tensor) -> Tensor:
            heads = rows_BTHK.view(*rows_BTHK.shape[:-1], -1, *split)
            return heads.transpose(-1, -2).reshape_as(rows_BTHK)

        return reordered

    def changes(model: PreTrainedModel) -> Iterator[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
        for module in model.modules():
            size, parts = getattr(module, "head_dim", None), dict(module.named_children())
            if isinstance(size, int) and size > 2 and size % 2 == 0 and {"q_proj", "k_proj"} <= parts.keys():  # noqa: PLR2004
                yield from ((parts[name], change(size)) for name in ("q_proj", "k_proj"))

    return lambda model: _giving(changes(model))


def _scaled(power: float) -> Applied:
    def changes(model: PreTrainedModel) -> Iterator[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
        yield model.get_input_embeddings(), lambda rows_BTD: rows_BTD * rows_BTD.shape[-1] ** power

    return lambda model: _giving(changes(model))
