"""What a step reaches: the tensors it trains, and the frozen models it must leave alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from wirecheck.wires.contract import SideName, WiredModel

Models = tuple[WiredModel, WiredModel]

MARKS = 64
"""Numbers noted of each frozen tensor: a page of the file each, where weights are mapped from disk."""


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """What an optimizer is given of the module, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def dead(module: nn.Module) -> list[str]:
    """Trainable tensors that hold no gradient, or zeros only."""
    return [name for name, p in trainable(module).items() if p.grad is None or not bool(p.grad.any())]


def not_finite(module: nn.Module, losses: Mapping[str, Tensor]) -> list[str]:
    """Losses and trainable tensors' gradients that hold NaN or an infinity."""
    tensors: dict[str, Tensor | None] = {_loss(name): loss for name, loss in losses.items()}
    tensors |= {f"gradient of {name}": p.grad for name, p in trainable(module).items()}
    return [name for name, tensor in tensors.items() if tensor is not None and not bool(tensor.isfinite().all())]


def _loss(name: str) -> str:
    return "loss" if name == "loss" else f"loss of {name}"


def thawed(models: Models) -> list[str]:
    """Parameters of the frozen models that ask for a gradient or hold one: `a.model.layers.0…`."""
    return [name for name, p in _parameters(models) if p.requires_grad or p.grad is not None]


def inside(module: nn.Module, models: Models) -> list[str]:
    """Parameters of the frozen models that the wire's module holds, itself or their memory: they would be trained."""
    held = {id(p) for p in module.parameters()}
    stores = {p.untyped_storage().data_ptr() for p in module.parameters() if p.numel()}
    return [
        name
        for name, p in _parameters(models)
        if id(p) in held or (p.numel() and p.untyped_storage().data_ptr() in stores)
    ]


def _parameters(models: Models) -> Iterator[tuple[str, nn.Parameter]]:
    return ((f"{one.side}.{name}", p) for one in models for name, p in one.own_parameters().items())


@torch.no_grad()
def marks(models: Models) -> dict[str, Tensor]:
    """MARKS numbers of every frozen tensor, evenly spread: what an update of it would change."""
    return {name: p.flatten()[:: max(1, p.numel() // MARKS)].clone() for name, p in _parameters(models)}


def moved(before: Mapping[str, Tensor], models: Models) -> list[str]:
    """Frozen tensors whose numbers are no longer those noted."""
    now = marks(models)
    return [name for name, mark in before.items() if name in now and not torch.equal(mark, now[name])]


@torch.no_grad()
def nudge(module: nn.Module, size: float = 1e-3) -> None:
    """One descent step in place, without an optimizer's state: each tensor by `size` at most in any element."""
    for p in trainable(module).values():
        if p.grad is not None:
            largest = p.grad.abs().max().clamp_min(1e-30)
            p.addcmul_(p.grad, (size / largest).to(p.grad), value=-1.0)


@contextmanager
def counting_recomputes(models: Models) -> Iterator[dict[SideName, int]]:
    """How many layers of each model are run in a backward pass inside: what checkpointing does, and nothing else.

    Told by the parts of a layer: what recomputes it may call its `forward` and not the module.
    """
    rerun: dict[SideName, set[int]] = {one.side: set() for one in models}
    counts: dict[SideName, int] = dict.fromkeys(rerun, 0)

    def note(side: SideName, layer: int) -> None:
        if torch._C._current_graph_task_id() != -1:  # -1 outside of a backward pass
            rerun[side].add(layer)
            counts[side] = len(rerun[side])

    with ExitStack() as stack:
        for one in models:
            for number, layer in enumerate(layers(one)):
                for module in layer.modules():
                    noting = partial(_call, note, one.side, number)
                    stack.callback(module.register_forward_pre_hook(noting).remove)
        yield counts


def _call(note: Callable[[SideName, int], None], side: SideName, layer: int, *_: object) -> None:
    note(side, layer)


def layers(one: WiredModel) -> list[nn.Module]:
    """The modules of the largest list in the model that is as long as its depth; where none is, of its largest."""
    depth = getattr(one.model.config.get_text_config(), "num_hidden_layers", None)
    lists = [m for m in one.model.modules() if isinstance(m, nn.ModuleList) and len(m)]
    fitting = [m for m in lists if len(m) == depth] or lists
    largest = max(fitting, key=_size, default=None)
    return [] if largest is None else list(largest)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
