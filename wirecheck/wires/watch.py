"""One step of any wire, watched from outside: what each frozen model was handed, and what the loss asks of it.

    B batch   S positions of a forward   D model width   V vocabulary

Nothing of the wire is known but its contract. Forward hooks on the two models note the embeddings they are handed and
the logits they give; hooks on those logits note the gradient that comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wirecheck.wires.contract import Batch, HasBackward, SideName, Wire, WiredModel
from wirecheck.wires.failure import StepFailed, part


@dataclass(eq=False)
class Call:
    """One forward of a frozen model."""

    side: SideName
    embeds_BSD: Tensor
    """What block 0's input is made of, detached: `inputs_embeds`, or the embedding of `input_ids`."""
    ids_BS: Tensor | None
    """`input_ids` where they were given."""
    mask_BS: Tensor | None
    logits_BSV: Tensor
    """Detached. Where the wire keeps the last positions only, S is smaller here than in the embeddings."""
    with_grad: bool
    """Whether a gradient can come back: not for a teacher under no_grad."""
    grad_BSV: Tensor | None = None
    """d loss / d logits, once the step has been differentiated; None where none came."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One step from cleared gradients, watched."""

    losses: dict[str, Tensor]
    """Terms of the loss by name, detached; `loss` where the wire gives a single tensor."""
    calls: tuple[Call, ...]
    """Forwards of the two models in their order."""
    strays: tuple[str, ...]
    """Tensors that received a gradient and are in no module: neither trained by name nor saved. Shapes in words."""

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return float(sum(float(term) for term in self.losses.values()))

    def of(self, side: SideName) -> tuple[Call, ...]:
        """The forwards of one model that a gradient can come back through."""
        return tuple(call for call in self.calls if call.side == side and call.with_grad)


@dataclass(eq=False)
class _Notes:
    calls: list[Call] = field(default_factory=list)


def observe(
    wire: Wire, models: tuple[WiredModel, WiredModel], batch: Batch, *, keep_logits: bool = True
) -> Observation:
    """Run and differentiate one step from cleared gradients. Raises StepFailed, MemoryError, CannotRun as `part` does.

    Gradients are left in the wire's module (and, where the wire does not freeze them, in the models).
    """
    for p in (*wire.module.parameters(), *(p for m in models for p in m.model.parameters())):
        p.grad = None
    strays: tuple[str, ...] = ()
    with watching(models, keep_logits=keep_logits) as calls, torch.enable_grad():
        if isinstance(wire, HasBackward):
            with part("step"):
                losses = dict(wire.backward(batch))
        else:
            with part("loss"):
                losses = terms(wire.loss(batch))
            strays = _strays(losses, wire, models)
            with part("backward"):
                torch.autograd.backward(tuple(losses.values()))
    return Observation({name: loss.detach() for name, loss in losses.items()}, tuple(calls), strays)


def terms(loss: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms of a loss by name. Raises StepFailed where it is no scalar that can be differentiated."""
    named = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    for name, term in named.items():
        if not isinstance(term, Tensor):
            raise StepFailed("loss", f"{name} is a {type(term).__name__}, not a tensor")
        if term.numel() != 1 or not term.requires_grad:
            raise StepFailed("loss", f"{name} has shape {list(term.shape)} and requires_grad {term.requires_grad}")
    if not named:
        raise StepFailed("loss", "no term was returned")
    return named


@contextmanager
def watching(models: tuple[WiredModel, WiredModel], *, keep_logits: bool = True) -> Iterator[list[Call]]:
    """Notes every forward of the two models inside, in order."""
    notes = _Notes()
    handles = [
        one.model.register_forward_hook(_noting(one, notes, keep_logits=keep_logits), with_kwargs=True)
        for one in models
    ]
    try:
        yield notes.calls
    finally:
        for handle in handles:
            handle.remove()


def _noting(one: WiredModel, notes: _Notes, *, keep_logits: bool) -> Any:
    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        embeds = kwargs.get("inputs_embeds")
        logits = getattr(output, "logits", None)
        if logits is None or (ids is None and embeds is None):
            return
        if embeds is None:
            with torch.no_grad():
                embeds = one.model.get_input_embeddings()(ids)
        call = Call(
            side=one.side,
            embeds_BSD=embeds.detach().clone(),  # some classes scale their caller's tensor in place
            ids_BS=None if kwargs.get("inputs_embeds") is not None else ids,
            mask_BS=kwargs.get("attention_mask"),
            logits_BSV=logits.detach() if keep_logits else logits.detach()[:, :0],
            with_grad=bool(logits.requires_grad),
        )
        if logits.requires_grad:
            logits.register_hook(lambda grad: _keep(call, grad))
        notes.calls.append(call)

    return note


def _keep(call: Call, grad_BSV: Tensor) -> None:
    call.grad_BSV = grad_BSV.detach().clone() if call.grad_BSV is None else call.grad_BSV + grad_BSV


def _strays(losses: Mapping[str, Tensor], wire: Wire, models: tuple[WiredModel, WiredModel]) -> tuple[str, ...]:
    """Leaves of the graph that get a gradient and belong neither to the wire's module nor to a model."""
    known = {id(p) for p in wire.module.parameters()} | {id(p) for m in models for p in m.model.parameters()}
    found: dict[int, str] = {}
    seen: set[Any] = set()
    nodes = [loss.grad_fn for loss in losses.values()]
    while nodes:
        node: Any = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor) and id(leaf) not in known:
            kind = "parameter" if isinstance(leaf, nn.Parameter) else "tensor"
            found[id(leaf)] = f"{kind} of shape {' x '.join(str(size) for size in leaf.shape) or 'scalar'}"
        nodes.extend(parent for parent, _ in node.next_functions)
    return tuple(sorted(found.values()))


def handed_ids(one: WiredModel, embeds_BSD: Tensor) -> Tensor:
    """ids_BS int64: the token whose embedding each position holds; -1 where no token's does (a soft token).

    Read from the vectors alone, by comparing them with `embed(every id)`, so that no word of the wire is taken for it.
    Rows of the table that are equal to one another are told by the first of them.
    """
    embedding = one.model.get_input_embeddings()
    num_rows = next(embedding.parameters()).shape[0]
    flat_ND = embeds_BSD.flatten(0, 1)
    found_N = torch.full((len(flat_ND),), -1, dtype=torch.long, device=flat_ND.device)
    D = flat_ND.shape[1]
    few = sorted({0, D // 3, 2 * D // 3, D - 1})  # where these dimensions agree, all of them are compared
    with torch.no_grad():
        for start in range(0, num_rows, ROWS_AT_ONCE):
            ids_R = torch.arange(start, min(start + ROWS_AT_ONCE, num_rows), device=flat_ND.device)
            rows_RD = embedding(ids_R).to(flat_ND.dtype)
            near_NR = torch.stack([flat_ND[:, None, d].isclose(rows_RD[None, :, d], rtol=1e-5) for d in few]).all(dim=0)
            for n, r in near_NR.nonzero().tolist():
                if found_N[n] < 0 and torch.allclose(flat_ND[n], rows_RD[r], rtol=1e-5, atol=1e-8):
                    found_N[n] = start + r
    return found_N.view(embeds_BSD.shape[:2])


ROWS_AT_ONCE = 8192
"""Rows of the table compared at once: a 262,144-row table is never copied whole."""
