"""Gradient checkpointing on a frozen model: on while the step's forward runs, and really obeyed.

transformers skips checkpointing in eval mode without a word, so the model is put in train mode; so that train mode
changes nothing else, every dropout and jitter is at zero meanwhile. All of it is put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from wirecheck import zoo

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SET = ("training", "gradient_checkpointing", "_gradient_checkpointing_func")
"""Attributes of a module that switching checkpointing and mode sets."""
_NOISE = ("drop", "jitter")
"""What the names of noise rates hold; `nn.Dropout` calls its own `p`."""


@contextmanager
def recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Within it, layers called are run again in backward. Raises as the class does where it cannot.

    Only the forward needs to stand inside: what a layer does when it is run again is fixed when it is first run.
    """
    held = [(module, {key: vars(module)[key] for key in _SET if key in vars(module)}) for module in model.modules()]
    rates = list(_noise_rates(model))
    try:
        for holder, name, _ in rates:
            setattr(holder, name, 0.0)
        _enable(model)
        nn.Module.train(model)
        yield
    finally:
        for module, values in held:
            for key in _SET:
                vars(module).pop(key, None)
            vars(module).update(values)
        for holder, name, rate in rates:
            setattr(holder, name, rate)


def _enable(model: PreTrainedModel) -> None:
    """Checkpointing on, without the hook by which the library makes every embedded token ask for a gradient: the prefix
    asks for its own, and one for the frozen text would be computed for nothing.
    """
    before = [(module, set(module._forward_hooks)) for module in model.modules()]
    with zoo.quiet():  # a deprecated name, the only one that all releases of transformers 5 have
        model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
    for module, hooks in before:
        for number in set(module._forward_hooks) - hooks:
            del module._forward_hooks[number]


def _noise_rates(model: PreTrainedModel) -> Iterator[tuple[Any, str, float]]:
    """(module or config, attribute, rate) of everything random that train mode would switch on."""
    holders: dict[int, Any] = {}
    for module in model.modules():
        holders[id(module)] = module
        config = getattr(module, "config", None)
        if config is not None:
            holders[id(config)] = config
    for holder in holders.values():
        for name, value in list(vars(holder).items()):
            is_rate = any(word in name for word in _NOISE) or (isinstance(holder, nn.Dropout) and name == "p")
            if is_rate and isinstance(value, float) and value:
                yield holder, name, value
