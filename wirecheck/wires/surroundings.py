"""What stands around the embeddings of one training forward: keys and values from outside, a mask over them, autocast.

B rows, one here   S positions of a forward   M positions held by a cache that is handed in

Also the state in which a model decodes: eval mode, with no checkpointing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wirecheck.wires.contract import Batch, WiredModel
from wirecheck.wires.failure import StepFailed, part
from wirecheck.wires.steady import SteadyWire, apart, reordered, rounding
from wirecheck.wires.watch import Call

SAME_HANDED = 1e-4
"""Difference, over their RMS, of the same embeddings made twice."""
_CACHES = ("past_key_values", "cache_params")
_TRAINS = ("training", "gradient_checkpointing")
_POSITIONS = 2
"""Dimensions of a mask over positions: rows, positions."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Surroundings:
    """Of a forward of one row."""

    caches: Mapping[str, Any] = field(default_factory=dict)
    """By the name it is handed under; without a gradient."""
    mask_1M: Tensor | None = None
    """What attention is told of the cache's positions; None where the wire gives no mask over them."""
    autocast: torch.dtype | None = None

    @contextmanager
    def entered(self, device: torch.device) -> Iterator[None]:
        """The autocast, where there was one."""
        with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
            yield

    def given(self, mask_1S: Tensor) -> dict[str, Any]:
        """What a forward over S more positions is called with beside them. Caches are copies: models write there."""
        if not self.caches:
            return {"attention_mask": mask_1S, "use_cache": False}
        masks = {} if self.mask_1M is None else {"attention_mask": torch.cat((self.mask_1M, mask_1S), dim=1)}
        return {name: deepcopy(cache) for name, cache in self.caches.items()} | masks | {"use_cache": True}

    def allowed(self, *logp_NV: Tensor) -> float:
        """What another order of the same sums may make of log-probabilities of this size."""
        return rounding(*logp_NV, dtype=self.autocast or torch.float32)

    @property
    def rounding(self) -> str:
        """`allowed` in words."""
        if self.autocast is None:
            return f"{reordered(torch.float32)} rounding steps of float32"
        name = str(self.autocast).removeprefix("torch.")
        return f"{reordered(self.autocast)} rounding steps of {name}, the wire's autocast,"


PLAIN = Surroundings()


def surroundings(steady: SteadyWire, one: WiredModel, batch: Batch, call: Call) -> Surroundings | None:
    """Those of the forward that was handed what `call` was, in the loss of a batch of one row, run once more.

    None where no such forward is seen, or what it is handed cannot be copied.
    """
    found: list[Surroundings] = []

    def note(_model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        handed_BSD = _embeds(one, args, kwargs)
        if not found and handed_BSD is not None and apart(handed_BSD, call.embeds_BSD) <= SAME_HANDED:
            found.append(_around(handed_BSD, kwargs))

    handle = one.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with steady.steady(), torch.no_grad(), part("loss"):  # a cache in the graph cannot be copied
            steady.wire.loss(batch)
    except StepFailed:  # it ran with gradients: nothing is wrong with the wire, and nothing is shown here
        return None
    finally:
        handle.remove()
    return found[0] if found else None


def _embeds(one: WiredModel, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    embeds, ids = kwargs.get("inputs_embeds"), kwargs.get("input_ids", args[0] if args else None)
    if embeds is None and ids is not None:
        embeds = one.model.get_input_embeddings()(ids)
    return embeds if isinstance(embeds, Tensor) else None


def _around(handed_BSD: Tensor, kwargs: Mapping[str, Any]) -> Surroundings:
    device, mask, S = handed_BSD.device.type, kwargs.get("attention_mask"), handed_BSD.shape[1]
    over_cache = isinstance(mask, Tensor) and mask.dim() == _POSITIONS and mask.shape[1] > S
    return Surroundings(
        caches={name: deepcopy(kwargs[name]) for name in _CACHES if kwargs.get(name) is not None},
        mask_1M=mask[:, :-S].long() if over_cache and mask is not None else None,
        autocast=torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None,
    )


@contextmanager
def decoding(*models: WiredModel) -> Iterator[None]:
    """The models in eval mode and with no checkpointing, as one decodes; afterwards as they were."""
    modules = [module for one in models for module in one.model.modules()]
    held = [(module, {name: vars(module)[name] for name in _TRAINS if name in vars(module)}) for module in modules]
    try:
        for module, values in held:
            vars(module).update(dict.fromkeys(values, False))
        yield
    finally:
        for module, values in held:
            vars(module).update(values)
