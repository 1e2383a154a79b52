"""Whether a loss asks a model for something otherwise than by the logits that the models give.

B rows   S positions   V vocabulary   D model width

The step is run once more with d loss / d logits set to zero for every model: what then still comes back to a layer of
one of them comes by a road of the wire's own, such as `F.linear(hidden, head.weight)`. A model that only reads, and
whose states are handed to another one that answers, is reached through that one's logits alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wirecheck import zoo
from wirecheck.wires import reach
from wirecheck.wires.calls import BSD
from wirecheck.wires.contract import Batch, HasBackward, SideName, Wire, WiredModel
from wirecheck.wires.failure import part
from wirecheck.wires.watch import seeded, terms


def reached_past_logits(
    wire: Wire, models: tuple[WiredModel, WiredModel], batch: Batch, *, seed: int = 0
) -> frozenset[SideName]:
    """The models to whose layers a gradient comes back though none comes through logits.

    One step, differentiated; what it leaves in the wire's module are no gradients of the loss. Raises StepFailed,
    MemoryError, CannotRun as `part` does.
    """
    found: set[SideName] = set()
    with zoo.quiet(), _deaf(models, found), seeded(models, seed), torch.enable_grad():
        if isinstance(wire, HasBackward):
            with part("step"):
                wire.backward(batch)
        else:
            with part("loss"):
                losses = terms(wire.loss(batch))
            with part("backward"):
                torch.autograd.backward(tuple(losses.values()))
    return frozenset(found)


@contextmanager
def _deaf(models: tuple[WiredModel, WiredModel], found: set[SideName]) -> Iterator[None]:
    """Inside, no gradient passes logits; `found` takes the sides whose layers one comes back to."""
    with ExitStack() as stack:
        for one in models:
            model: Any = one.model  # its getters are not typed
            head = model.get_output_embeddings()
            for module in [model, *([head] if isinstance(head, nn.Module) else [])]:
                stack.callback(module.register_forward_hook(_shut).remove)
            for layer in reach.layers(one):
                stack.callback(layer.register_forward_hook(partial(_listen, one.side, found)).remove)
        yield


def _shut(_module: nn.Module, _args: Any, output: Any) -> None:
    """The output of a head, or what a whole model gives: a tensor, a tuple, or a record with `logits`."""
    for logits in _tensors(getattr(output, "logits", output)):
        if logits.requires_grad:
            _hook(logits, torch.zeros_like)


def _listen(side: SideName, found: set[SideName], _module: nn.Module, _args: Any, output: Any) -> None:
    def note(grad: Tensor) -> None:
        if bool(grad.any()):
            found.add(side)

    for states in _tensors(output):
        if states.requires_grad:
            _hook(states, note)


def _tensors(output: Any) -> list[Tensor]:
    """The tensor itself, or the first of a tuple with rows, positions and a width."""
    items = output if isinstance(output, tuple) else (output,)
    return [item for item in items if isinstance(item, Tensor) and item.dim() >= BSD - 1][:1]


def _hook(tensor: Tensor, hook: Any) -> None:
    register: Any = tensor.register_hook  # not typed in torch
    register(hook)
