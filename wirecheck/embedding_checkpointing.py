"""Gradient checkpointing on a frozen model fed by `inputs_embeds`: the gradient, and whether anything was recomputed.

A layer's forward that runs again while backward runs is seen by hooks on the modules inside it: a module called in
backward is the proof; a flag that is set is none. B rows, T positions, D width.
"""
# ruff: noqa: N803, N806, N815  # shape-suffixed tensor names

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wirecheck.embedding_trial import Trial
from wirecheck.limits import within_means

if TYPE_CHECKING:
    import torch

_KEPT = ("training", "gradient_checkpointing", "_gradient_checkpointing_func", "p")
"""Attributes of a module that this file sets, and puts back."""


@dataclass(frozen=True, eq=False)
class Backward:
    """One forward and backward."""

    grad_BTD: torch.Tensor | None
    """d next-token loss / d embeds; None where none came."""
    layers: int
    """Layers that ran in forward."""
    recomputed: int
    """Those of them in which something ran again during backward."""


@contextmanager
def training(trial: Trial) -> Iterator[None]:
    """Train mode with every dropout at zero; afterwards everything is as it was, checkpointing and hooks included."""
    from torch import nn

    model: Any = trial.model
    held = [(module, {k: vars(module)[k] for k in _KEPT if k in vars(module)}) for module in model.modules()]
    hooks = [(module, dict(module._forward_hooks)) for module in model.modules()]
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    try:
        yield
    finally:
        for module, values in held:
            for key in _KEPT:
                vars(module).pop(key, None)
            vars(module).update(values)
        for module, before in hooks:  # checkpointing hangs a hook on the embedding, and does not take it off
            for number in [n for n in module._forward_hooks if n not in before]:
                del module._forward_hooks[number]


def enable(trial: Trial, *, use_reentrant: bool) -> None:
    """Turn checkpointing on. Raises as the class does; call inside `training`."""
    model: Any = trial.model
    with trial.quiet():
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})


def backward(trial: Trial, embeds_BTD: torch.Tensor) -> Backward:
    """The gradient in the mode the model is in, random numbers the same each time. Raises as the class does."""
    import torch
    from torch.nn.functional import cross_entropy

    layers = [layer for m in trial.model.modules() if isinstance(m, torch.nn.ModuleList) for layer in m]
    leaf_BTD = embeds_BTD.clone().requires_grad_()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), within_means(), trial.quiet():
        torch.default_generator.manual_seed(trial.seed)
        with _called(layers) as forward:
            # a product, so that what the model is given is no leaf: classes may change it in place
            logits_BTV = trial.model(inputs_embeds=leaf_BTD * 1.0, use_cache=False).logits
        loss = cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), trial.ids_BT[:, 1:].flatten())
        with _called(layers) as again:
            if loss.requires_grad:  # else nothing leads back to the embeds, which is the answer and no error
                loss.backward()  # type: ignore[no-untyped-call]
    return Backward(leaf_BTD.grad, len(forward), len(again))


@contextmanager
def _called(layers: list[torch.nn.Module]) -> Iterator[set[int]]:
    """Numbers of the layers in which a module is called inside; hooks may stand outside what is checkpointed, so every
    module of a layer is watched.
    """
    seen: set[int] = set()
    handles = [
        module.register_forward_pre_hook(lambda *_, number=number: seen.add(number))
        for number, layer in enumerate(layers)
        for module in layer.modules()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
